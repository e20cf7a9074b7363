"""A policy behind a socket acts as the policy itself; whatever is wrong is said by name and harms nobody else."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from policies import remote_wire as wire
from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.inputs import InputConfig
from policies.remote import RemoteConfig, RemoteError, RemoteSource
from policies.score import ScoreConfig
from policies.serving import MAX_CANDIDATES, PolicyServer
from policies.steered import SteeredPolicy, SteeringConfig
from policies.torch_source import TorchSource
from robot_rl.errors import ConfigError, SpecError, WireError
from robot_rl.types import ActionSpec, ArraySpec, Goal, ObservationSpec
from robot_rl.wire_fields import pack

SPEC = ObservationSpec(
    {"state": ArraySpec((2,), names=("x", "y")), "image/front": ArraySpec((32, 32, 3), "uint8", 0, 255)}
)
ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
RATE_HZ = 10.0
TOKEN = "long-enough-token"


def network(horizon=4):
    torch.manual_seed(0)
    inputs = InputConfig(history=2)
    return TorchSource(ScoreConfig(inputs=inputs, horizon=horizon, max_prefix=2).build(SPEC, ACTION))


@contextmanager
def serving(source=None, token=None, spec=SPEC, port=0, version=7):
    server = PolicyServer(source or network(), spec, ACTION, rate_hz=RATE_HZ, version=version, port=port, token=token)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def remote(server, spec=SPEC, action=ACTION, rate_hz=RATE_HZ, **options):
    url = server if isinstance(server, str) else server.url
    return RemoteSource(RemoteConfig(url, **options), spec, action, rate_hz)


@pytest.fixture(scope="module")
def served():
    with serving() as server:
        yield server


def seen(seed=0, history=2):
    rng = np.random.default_rng(seed)
    return {
        "state": rng.normal(size=(history, 2)).astype(np.float32),
        "image/front": rng.integers(0, 255, (history, 32, 32, 3), np.uint8),
    }


def noise(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 4, 2), np.float32)


def request(**changes):
    given = {"observation": seen(), "goal": None, "noise": noise(1), "seed": 0, "prefix": None} | changes
    return wire.Sample(**given)


def test_chunks_are_to_the_bit_those_of_the_policy_itself(served):
    here, there = network(), remote(served)
    assert (there.horizon, there.history, there.version) == (4, 2, 7)
    goal = {key: value[-1] for key, value in seen(5).items()}
    for told, prefix in ((None, None), (goal, None), (goal, np.full((2, 2), 0.3, np.float32))):
        given, chunk = there.tell(told or {}, "", {}), None
        for count in (1, 9):
            chunk = there.sample_many(seen(1), given, noise(count), 3, prefix)
            np.testing.assert_array_equal(chunk, here.sample_many(seen(1), told, noise(count), 3, prefix))
        np.testing.assert_array_equal(
            there.sample(seen(1), given, noise(1)[0], 3, prefix), here.sample(seen(1), told, noise(1)[0], 3, prefix)
        )
    there.close()


def test_goals_in_words_are_refused_as_they_are_here(served):
    there = remote(served)
    with pytest.raises(ConfigError, match="trained without words"):
        there.tell({}, "lift it", {})
    with pytest.raises(ConfigError, match="takes no parameters"):
        there.load({"weight": 1})
    with pytest.raises(WireError, match="longer than"):
        there.tell({}, "lift it " * 100, {})
    there.load({})
    assert there.tell({}, "", {}) is None  # the connection is as good as before


class Counting:
    """Any source, and how often it was asked."""

    def __init__(self, base):
        self.base, self.asked, self.horizon, self.history = base, [], base.horizon, base.history

    def tell(self, goal, text, start):
        return self.base.tell(goal, text, start)

    def sample_many(self, observation, goal, noise, seed, prefix):
        self.asked.append(len(noise))
        return self.base.sample_many(observation, goal, noise, seed, prefix)


class LikesRight:
    """A critic that likes chunks which begin to the right."""

    told, horizon = False, 1

    def values(self, observation, goal, chunks):
        return np.stack([chunks[:, 0, 0], chunks[:, 0, 0]])


def test_steering_asks_for_all_candidates_in_one_request_and_chooses_as_it_does_here():
    counting = Counting(network())
    with serving(counting) as server:
        actions = []
        for source in (remote(server), network()):
            policy = ChunkPolicy(source, ExecutionConfig(execute=2), SPEC, ACTION, rate_hz=RATE_HZ, seed=3)
            steered = SteeredPolicy(policy, LikesRight(), SteeringConfig(samples=12))
            steered.reset(Goal({key: value[-1] for key, value in seen(5).items()}))
            actions.append([steered.act({key: value[0] for key, value in seen(i).items()}) for i in range(5)])
            assert steered.choice.samples == 12
    np.testing.assert_array_equal(*actions)
    assert counting.asked == [12, 12, 12]


def test_only_who_knows_the_token_is_let_in(tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(TOKEN + "\n")
    wrong.write_text(TOKEN[::-1])
    with serving(token=TOKEN) as server:
        assert remote(server, token_file=right).horizon == 4
        for file in (None, wrong):
            with pytest.raises(ConfigError, match="asks for a token"):
                remote(server, token_file=file)
    with pytest.raises(ConfigError, match="no token can be read"):
        remote("ws://127.0.0.1:1", token_file=tmp_path / "none")


def test_a_server_that_others_can_reach_does_not_start_without_a_token():
    for token, message in ((None, "--token-file"), ("short", "at least 12"), ("", "--token-file")):
        with pytest.raises(ConfigError, match=message):
            PolicyServer(network(), SPEC, ACTION, rate_hz=RATE_HZ, host="0.0.0.0", token=token)  # noqa: S104 - refused


def test_a_policy_for_another_task_is_refused_when_it_is_connected(served):
    other = ObservationSpec({**SPEC.arrays, "state": ArraySpec((2,), names=("x", "z"))})
    for changed in ({"spec": other}, {"action": ActionSpec(("x", "z"), 0.1, 0.1)}, {"rate_hz": 20.0}):
        with pytest.raises(SpecError, match=r"observation_spec|action_spec|rate_hz"):
            remote(served, **changed)


def test_browsers_are_refused(served):
    with pytest.raises(InvalidStatus, match="403"):
        connect(served.url, proxy=None, additional_headers={"Origin": "http://evil.example"})


WRONG = {
    "not msgpack": b"\xc1\xff" * 20,
    "nothing": b"",
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07os.exit\x94.",
    "deep": b"\x91" * 5000 + b"\x90",
    "promises a GiB": b"\xc6\x40\x00\x00\x00",
    "unknown kind": pack("load", {}, 1000),
    "unknown field": pack("describe", {"path": "/etc"}, 1000),
    "lacks all": pack("sample", {}, 1000),
    "another schema": wire.encode_request(wire.Describe()).replace(b"\x01", b"\x07"),
    "cut off": wire.encode_request(request())[:-3],
    "text": "describe",
}


@pytest.mark.parametrize("message", WRONG.values(), ids=WRONG.keys())
def test_garbage_gets_an_answer_and_the_connection_serves_on(served, message):
    with connect(served.url, proxy=None, compression=None) as connection:
        connection.send(message)
        failure = wire.decode_reply(connection.recv(timeout=5))
        assert isinstance(failure, wire.Failure) and failure.kind == "message" and failure.text
        connection.send(wire.encode_request(wire.Describe()))
        assert wire.decode_reply(connection.recv(timeout=5)) == served.description


def test_what_is_well_formed_and_does_not_fit_is_refused(served):
    wrong = [
        ({"observation": seen(history=1)}, SpecError, "observation"),
        ({"observation": {"state": seen()["state"]}}, SpecError, "observation"),
        ({"noise": noise(1)[:, :3]}, SpecError, "noise"),
        ({"noise": noise(1).astype(np.float64)}, SpecError, "noise"),
        ({"noise": noise(MAX_CANDIDATES + 1)}, SpecError, "1024"),
        ({"prefix": np.zeros((5, 2), np.float32)}, SpecError, "prefix"),
        ({"goal": {"state": np.zeros(9, np.float32)}}, RemoteError, "Error"),
        ({"noise": np.full((1, 4, 2), np.nan, np.float32)}, WireError, "NaN"),
    ]
    there = remote(served)
    for changes, error, message in wrong:
        asked = request(**changes)
        with pytest.raises(error, match=message):
            there.sample_many(asked.observation, asked.goal, asked.noise, asked.seed, asked.prefix)
    assert there.sample(seen(), None, noise(1)[0], 0, None).shape == (4, 2)


def test_an_oversize_message_is_not_read_and_others_are_served_on(served):
    there = remote(served)
    with connect(served.url, proxy=None, compression=None) as connection:
        with pytest.raises(ConnectionClosedError) as closed:
            connection.send(bytes(wire.MAX_BYTES + 1))
            connection.recv(timeout=20)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    with pytest.raises(WireError, match="exceeds the limit"):
        there.sample_many({"state": np.zeros((wire.MAX_BYTES // 4, 1), np.float32)}, None, noise(1), 0, None)
    assert there.sample(seen(), None, noise(1)[0], 0, None).shape == (4, 2)


def test_a_server_that_comes_back_is_found_again_unless_it_serves_another_policy():
    with serving() as server:
        port = int(server.url.rpartition(":")[2])
        there = remote(server)
        before = there.sample(seen(), None, noise(1)[0], 0, None)
    with pytest.raises(RemoteError, match="no policy at"):
        there.sample(seen(), None, noise(1)[0], 0, None)
    with serving(port=port):
        np.testing.assert_array_equal(there.sample(seen(), None, noise(1)[0], 0, None), before)
    with serving(port=port, version=8), pytest.raises(SpecError, match="another policy than before"):
        there.sample(seen(), None, noise(1)[0], 0, None)


class Slow(Counting):
    """Takes its time while it is told to."""

    delay_s = 0.0

    def sample_many(self, *given):
        time.sleep(self.delay_s)
        return super().sample_many(*given)


def test_a_late_answer_is_not_taken_for_the_next_one():
    slow = Slow(network())
    with serving(slow) as server:
        there = remote(server, timeout_s=0.4)
        slow.delay_s = 2.0
        began_s = time.monotonic()
        with pytest.raises(RemoteError, match="does not answer"):
            there.sample(seen(1), None, noise(1)[0], 0, None)
        assert time.monotonic() - began_s < 1.6
        slow.delay_s = 0.0
        time.sleep(1.8)
        now = there.sample(seen(2), None, noise(1)[0], 0, None)
        np.testing.assert_array_equal(now, network().sample(seen(2), None, noise(1)[0], 0, None))


SERVER = """
import numpy as np
from policies.serving import PolicyServer
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec
class Source:
    horizon, history = 4, 1
    def tell(self, goal, text, start): return None
    def sample_many(self, observation, goal, noise, seed, prefix): return np.full_like(noise, 0.5)
spec = ObservationSpec({"state": ArraySpec((500_000,))})
server = PolicyServer(Source(), spec, ActionSpec(("x", "y"), 0.1, 0.1), rate_hz=10.0)
print(server.url, flush=True)
server.serve_forever()
"""
LARGE = ObservationSpec({"state": ArraySpec((500_000,))})


@contextmanager
def process():
    """A server of its own; its observations are larger than what a socket takes without being read."""
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        yield server, server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.mark.parametrize("mode", [False, True], ids=["waiting", "asynchronous"])
def test_a_killed_server_lets_the_chunk_end_holds_the_arm_and_ends_the_episode_by_name(mode):
    observation = {"state": np.zeros(500_000, np.float32)}
    with process() as (server, url):
        source = remote(url, spec=LARGE)
        execution = ExecutionConfig(execute=2, asynchronous=mode, patience_s=0.5)
        policy = ChunkPolicy(source, execution, LARGE, ACTION, rate_hz=20.0)
        policy.reset()
        assert (policy.act(observation) == 0.5).all()
        server.kill()
        server.wait()
        played = []
        with pytest.raises(RemoteError, match="no policy at"):
            for _ in range(200):
                played.append(policy.act(observation)[0])
                time.sleep(0.02)
        assert played[:3] == [0.5] * 3 and len(played) > 5 and not any(played[3:])
        assert policy.counters.failed > 1 and policy.counters.held >= len(played) - 3
        with pytest.raises(RemoteError):  # an episode does not begin with a dead server
            policy.reset()
            policy.act(observation)
        policy.close()


def test_a_frozen_server_holds_nobody_for_longer_than_the_timeout():
    with process() as (server, url):
        source = remote(url, spec=LARGE, timeout_s=0.5)
        server.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        for _ in range(2):  # the second finds no connection
            with pytest.raises(RemoteError):
                source.sample({"state": np.zeros((8, 500_000), np.float32)}, None, noise(1)[0], 0, None)
        assert time.monotonic() - began_s < 3.0
        server.send_signal(signal.SIGCONT)


def test_addresses_and_timeouts_that_are_none():
    for wrong in ({"url": "http://127.0.0.1:8765"}, {"url": "ws://127.0.0.1:1", "timeout_s": 0.0}):
        with pytest.raises(ConfigError, match="ws://HOST:PORT"):
            RemoteConfig(**wrong)
    with pytest.raises(RemoteError, match="robot-rl serve starts one"):
        remote("ws://127.0.0.1:1")
