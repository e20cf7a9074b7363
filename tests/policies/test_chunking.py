"""Which action of which chunk is played when, with samplings that take a known number of steps."""

from concurrent.futures import Future

import numpy as np
import pytest

from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.crowd import ChunkCrowd
from robot_rl.errors import ConfigError, SpecError, StaleError
from robot_rl.types import ActionSpec, ArraySpec, Goal, ObservationSpec

SPEC = ObservationSpec({"state": ArraySpec((2,))})
ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
HORIZON = 8
PERIOD_S = 0.05


class Source:
    """Action i of the chunk sampled at step k is (k, i) / 100; a prefix stands in the beginning, as it should."""

    horizon, history = HORIZON, 2

    def __init__(self):
        self.calls, self.loaded = [], None

    def load(self, tensors):
        self.loaded = tensors

    def tell(self, goal, text, start):
        return goal | {"start": start["state"]} if goal else None

    def sample(self, observation, goal, noise, seed, prefix):
        step = float(observation["state"][-1, 0])
        self.calls.append((step, prefix, goal, observation["state"]))
        chunk = np.stack([np.full(HORIZON, step), np.arange(HORIZON)], -1) / 100
        if prefix is not None:
            chunk[: len(prefix)] = prefix
        return chunk.astype(np.float32)


class Late:
    """An executor whose work is done after `delay` further calls of `tick`."""

    def __init__(self, delay):
        self.delay, self.waiting = delay, []

    def submit(self, work):
        future = Future()
        self.waiting.append([self.delay, future, work])
        return future

    def tick(self):
        for entry in self.waiting:
            entry[0] -= 1
            if entry[0] == 0:
                try:
                    entry[1].set_result(entry[2]())
                except StaleError as error:
                    entry[1].set_exception(error)
        self.waiting = [entry for entry in self.waiting if entry[0] > 0]


def make(delay=None, source=None, **options):
    execution = ExecutionConfig(**options)
    executor = None if delay is None else Late(delay)
    source = source or Source()
    return ChunkPolicy(source, execution, SPEC, ACTION, rate_hz=1 / PERIOD_S, executor=executor), source, executor


def play(policy, executor, steps, known_delay=None):
    """(step of the observation that the action was sampled for, its place in the chunk), per step."""
    policy.reset()
    played = []
    for k in range(steps):
        if executor is not None:
            executor.tick()
        if known_delay is not None:
            policy._delays_s.append((known_delay - 0.1) * PERIOD_S)
        played.append(policy.act({"state": np.array([k, 0], np.float32)}))
    return np.round(np.array(played) * 100).astype(int)


def test_synchronous_chunks_follow_each_other():
    policy, _, _ = make(execute=3)
    wanted = [(3 * (k // 3), k % 3) for k in range(8)]
    np.testing.assert_array_equal(play(policy, None, 8), wanted)
    assert policy.counters.chunks == policy.counters.waited == 3 and policy.counters.held == 0


def test_a_new_chunk_is_joined_at_the_action_for_the_present_step():
    """Asked for at step 4 and 2 steps under way, it is joined at its action 2: no step is played twice or left out."""
    policy, _, executor = make(delay=2, execute=4, asynchronous=True, prefix=False)
    played = play(policy, executor, 12, known_delay=2)
    np.testing.assert_array_equal(played[:6], [(0, k) for k in range(6)])
    np.testing.assert_array_equal(played[6:10], [(4, k - 4) for k in range(6, 10)])
    assert (played.sum(1) == np.arange(12)).all()
    assert policy.counters.waited == 1 and policy.counters.held == policy.counters.late == 0


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_the_prefix_is_what_will_have_been_played(delay):
    policy, source, executor = make(delay=delay, execute=4, asynchronous=True)
    played = play(policy, executor, 5 + delay, known_delay=delay)
    step, prefix, _, _ = source.calls[1]
    assert step == 4 and len(prefix) == delay
    np.testing.assert_array_equal(np.round(prefix * 100), played[4 : 4 + delay])
    np.testing.assert_array_equal(played[4 + delay], (4, delay))


def test_a_late_chunk_is_counted_and_the_rest_of_the_old_one_is_played():
    policy, _, executor = make(delay=3, execute=4, asynchronous=True)
    played = play(policy, executor, 8, known_delay=1)
    np.testing.assert_array_equal(played[4:7], [(0, 4), (0, 5), (0, 6)])
    np.testing.assert_array_equal(played[7], (4, 3))
    assert policy.counters.late == 1 and policy.counters.held == 0


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("delay", [2, 3, HORIZON // 2])
def test_the_next_chunk_is_asked_for_before_the_rest_is_shorter_than_its_sampling(delay, prefix):
    policy, _, executor = make(delay=delay, execute=5, asynchronous=True, prefix=prefix)
    played = play(policy, executor, 40, known_delay=delay)
    assert (played.sum(1)[:8] == np.arange(8)).all() and (played[1:] != 0).any(1).all()
    assert policy.counters.held == policy.counters.late == 0


def test_one_long_sampling_does_not_have_chunks_asked_for_all_the_time():
    policy, source, executor = make(delay=1, execute=4, asynchronous=True)
    play(policy, executor, 12, known_delay=3 * HORIZON)
    assert [step for step, *_ in source.calls] == [0, 4, 8]


def test_when_the_old_chunk_is_used_up_the_arm_is_held_until_the_new_one_comes():
    policy, _, executor = make(delay=6, execute=4, asynchronous=True)
    played = play(policy, executor, 12, known_delay=1)
    np.testing.assert_array_equal(played[8:10], [(0, 0), (0, 0)])
    np.testing.assert_array_equal(played[10], (4, 6))
    assert policy.counters.held == 2


def test_a_chunk_that_is_past_when_it_comes_is_dropped_and_another_one_asked_for():
    policy, _, executor = make(delay=HORIZON + 1, execute=4, asynchronous=True)
    played = play(policy, executor, 30, known_delay=1)
    assert policy.counters.chunks == 1 and policy.counters.held == 22
    assert (played[8:] == 0).all()


def test_blending_fades_from_the_old_chunk_to_the_new_one():
    policy, _, executor = make(delay=1, execute=4, asynchronous=True, prefix=False, blend=3)
    policy.reset()
    actions = []
    for k in range(9):
        executor.tick()
        actions.append(policy.act({"state": np.array([k, 0], np.float32)}) * 100)
    old, new = np.array([(0, k) for k in (5, 6, 7)]), np.array([(4, k - 4) for k in (5, 6, 7)])
    shares = np.array([0.25, 0.5, 0.75])[:, None]
    np.testing.assert_allclose(actions[5:8], shares * new + (1 - shares) * old, rtol=1e-5)
    np.testing.assert_allclose(actions[8], (4, 4), rtol=1e-5)


def test_history_begins_with_the_first_observation_and_a_reset_forgets_it():
    policy, source, _ = make(execute=2)
    play(policy, None, 3)
    play(policy, None, 1)
    histories = [call[3][:, 0].tolist() for call in source.calls]
    assert histories == [[0, 0], [1, 2], [0, 0]]


def test_the_goal_of_the_episode_reaches_the_model():
    policy, source, _ = make(execute=8)
    policy.reset(Goal({"state": np.array([7, 8], np.float32)}))
    policy.act({"state": np.zeros(2, np.float32)})
    assert source.calls[0][2]["state"].tolist() == [7, 8]
    assert source.calls[0][2]["start"].tolist() == [0, 0]
    policy.act({"state": np.ones(2, np.float32)})
    policy.reset(None)
    policy.act({"state": np.zeros(2, np.float32)})
    assert source.calls[1][2] is None


def test_an_episode_without_a_goal_of_its_own_has_the_policys():
    default, own = (Goal({"state": np.full(2, x, np.float32)}) for x in (1, 2))
    source = Source()
    policy = ChunkPolicy(source, ExecutionConfig(execute=8), SPEC, ACTION, goal=default)
    for goal in (None, own):
        policy.reset(goal)
        policy.act({"state": np.zeros(2, np.float32)})
    assert [call[2]["state"].tolist() for call in source.calls] == [[1, 1], [2, 2]]


def test_a_thread_samples_while_the_arm_moves():
    policy, _, _ = make(execute=4, asynchronous=True, min_delay_s=0.02)
    import time

    policy.reset()
    for k in range(30):
        policy.act({"state": np.array([k, 0], np.float32)})
        time.sleep(PERIOD_S)
    policy.close()
    assert policy.counters.chunks >= 5 and policy.counters.waited == 1 and policy.counters.held == 0


def test_a_failing_model_is_reported_by_act():
    class Failing(Source):
        def sample(self, observation, goal, noise, seed, prefix):
            if len(self.calls):
                raise RuntimeError("out of memory")
            return super().sample(observation, goal, noise, seed, prefix)

    policy, _, _ = make(execute=2, asynchronous=True, source=Failing())
    with pytest.raises(RuntimeError, match="out of memory"):
        for k in range(200):
            policy.act({"state": np.array([k, 0], np.float32)})
            if policy._pending is not None:
                policy._pending.exception()


def test_actions_are_clipped():
    class Wild(Source):
        def sample(self, *args, **kwargs):
            return super().sample(*args, **kwargs) + 5.0

    policy, _, _ = make(execute=2, source=Wild())
    assert (policy.act({"state": np.zeros(2, np.float32)}) == 1.0).all()


def test_parameters_go_to_the_source_and_one_that_refuses_keeps_the_version():
    policy, source, _ = make()
    policy.load(3, {"weight": 1})
    assert policy.version == 3 and source.loaded == {"weight": 1}

    def refuse(tensors):
        raise SpecError("does not fit")

    source.load = refuse
    with pytest.raises(SpecError):
        policy.load(4, {})
    assert policy.version == 3


def test_nonsense_is_refused():
    for options in ({"execute": 0}, {"blend": -1}, {"min_delay_s": -1.0}, {"patience_s": -1.0}):
        with pytest.raises(ConfigError):
            ExecutionConfig(**options)
    with pytest.raises(ConfigError, match="horizon of 8"):
        make(execute=9)


def test_single_actions_are_not_asked_for_asynchronously():
    source = Source()
    source.horizon = 1
    alone = ExecutionConfig(execute=1, asynchronous=True)
    with pytest.raises(ConfigError, match="asynchronous=false"):
        ChunkPolicy(source, alone, SPEC, ACTION)


class Silent(Source):
    """Does not answer from one step of the episode to another."""

    def __init__(self, begin, end):
        super().__init__()
        self.begin, self.end = begin, end

    def sample(self, observation, goal, noise, seed, prefix):
        if self.begin <= observation["state"][-1, 0] < self.end:
            raise StaleError("nobody there")
        return super().sample(observation, goal, noise, seed, prefix)


def test_without_an_answer_the_old_chunk_is_played_then_the_arm_is_held_until_there_is_one():
    policy, _, executor = make(delay=1, execute=4, asynchronous=True, source=Silent(4, 11))
    played = play(policy, executor, 14, known_delay=1)
    np.testing.assert_array_equal(played[:8], [(0, k) for k in range(8)])
    assert (played[8:12] == 0).all()
    np.testing.assert_array_equal(played[12:], [(11, 1), (11, 2)])
    assert policy.counters.held == 4 and policy.counters.failed == 7 and policy.counters.late == 0


def test_while_the_arm_waits_for_chunks_it_asks_again_no_sooner_than_it_would_have():
    policy, _, _ = make(execute=3, source=Silent(3, 7))
    played = play(policy, None, 12)
    np.testing.assert_array_equal(played[:6], [(0, k) for k in range(6)])  # asked at 3 and 6
    np.testing.assert_array_equal(played[6:8], [(0, 6), (0, 7)])
    np.testing.assert_array_equal(played[8:], [(8, 0), (8, 1), (8, 2), (11, 0)])
    assert policy.counters.failed == 2 and policy.counters.held == 0


@pytest.mark.parametrize("delay", [None, 1])
def test_without_patience_or_without_any_chunk_silence_ends_the_episode(delay):
    for silent, patience_s, steps in ((Silent(4, 99), 0.0, 6), (Silent(0, 99), 60.0, 1)):
        options = {"execute": 4, "asynchronous": delay is not None, "patience_s": patience_s}
        policy, _, executor = make(delay=delay, source=silent, **options)
        with pytest.raises(StaleError, match="nobody there"):
            play(policy, executor, steps)


class Noisy(Source):
    """Plays the noise that it is given."""

    def sample(self, observation, goal, noise, seed, prefix):
        return noise / 10


def test_an_episodes_noise_comes_from_its_seed_here_and_in_a_crowd():
    def played(policy, seed):
        policy.reset(seed=seed)
        return np.array([policy.act({"state": np.zeros(2, np.float32)}) for _ in range(2 * HORIZON)])

    policy = ChunkPolicy(Noisy(), ExecutionConfig(execute=HORIZON), SPEC, ACTION)
    first, other, again = (played(policy, seed) for seed in (5, 6, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(played(policy, None), played(policy, None))
    crowd = ChunkCrowd(policy)
    crowd.begin([6, 5])
    seen = {number: {"state": np.zeros(2, np.float32)} for number in range(2)}
    together = [crowd.act(seen) for _ in range(2 * HORIZON)]
    np.testing.assert_array_equal([acted[0] for acted in together], other)
    np.testing.assert_array_equal([acted[1] for acted in together], first)
