"""One change at a time: which changes are candidates, which is told, for how long, and what the policy sees of it."""

import numpy as np
import pytest
import torch

from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.inputs import InputConfig
from policies.score import ScoreConfig
from policies.sources import ManySource
from policies.steered import SteeredSource, Steering, SteeringConfig
from policies.subgoals import ChangeValueNet, Memory, SubgoalConfig, SubgoalPlanner, SubgoalSource
from policies.torch_source import TorchSource
from robot_rl.changes import ChangeConfig, Things
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, ArraySpec, Goal, ObservationSpec

NAMES = ("tcp.x", "block.x", "block.y", "lid.pos")
THINGS = Things.of(NAMES, np.array([False, True, True, True]))
MEAN, STD = np.array([1.0, 0.0, 0.0], np.float32), np.array([2.0, 1.0, 1.0], np.float32)
SPEC = ObservationSpec({"state": ArraySpec((4,), names=NAMES)})
ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
OPEN = 4.0
CHANGES = (  # before, after: (block.x, block.y, lid.pos) in standard deviations
    ((0.0, 0.0, 0.0), (0.0, 0.0, OPEN)),  # the lid is opened
    ((0.0, 0.0, OPEN), (3.0, 0.0, OPEN)),  # the block is put elsewhere, the lid being open
    ((3.0, 0.0, OPEN), (3.0, 0.0, 0.0)),  # the lid is closed over the block
    ((3.0, 0.0, OPEN), (3.0, 1.0, 0.0)),  # and once the block was pushed while it was closed
)


class ByTable(ChangeValueNet):
    """Two members that value places by (block.x, lid.pos), the second a little less."""

    def __init__(self, table):
        super().__init__(SubgoalConfig(members=1, hidden=(8,)), 3)
        self.table = table

    def forward(self, place, goal):
        found = torch.tensor([self.table.get((round(float(one[0])), round(float(one[2]))), -9.0) for one in place])
        return torch.stack([found, found - 0.2])


def planner(table=None, **options):
    before, after = (np.array(one, np.float32) for one in zip(*CHANGES, strict=True))
    memory = Memory(before, after, MEAN, STD)
    return SubgoalPlanner(SubgoalConfig(**options), ChangeConfig(), THINGS, ByTable(table or {}), memory)


def state(x=0.0, y=0.0, lid=0.0, tcp=9.0):
    """In the task's own units."""
    return np.array([tcp, x * 2.0 + 1.0, y, lid], np.float32)


def found(one, **options):
    place, goal = (planner()._scale(each) for each in one)
    return {tuple(np.round(row.astype(float), 3).tolist()) for row in planner(**options).candidates(place, goal)}


def test_candidates_are_changes_that_play_made_where_things_were_as_they_are():
    assert found((state(), state(3.0))) == {(0.0, 0.0, OPEN)}  # the lid is closed: the block has never been moved then
    assert found((state(lid=OPEN), state(9.0))) == {(3.0, 0.0, OPEN)}


def test_what_is_put_near_the_goal_may_be_put_just_there():
    goal = state(3.4, 0.2)
    assert found((state(lid=OPEN), goal)) == {(3.0, 0.0, OPEN), (3.4, 0.2, OPEN)}
    assert found((state(lid=OPEN), goal), snap=0.3) == {(3.0, 0.0, OPEN)}


def test_the_thing_that_moves_may_have_been_farther_off_than_those_left_alone():
    assert found((state(1.5, lid=OPEN), state(9.0))) == {(3.0, 0.0, OPEN)}
    assert found((state(lid=1.5), state(9.0))) == {(0.0, 0.0, OPEN)}  # half open: the block was never moved then
    assert found((state(1.5), state(9.0))) == {(9.0, 0.0, 0.0)}  # nothing alike: the goal itself


def test_things_that_move_together_must_lie_as_they_lay():
    assert (3.0, 1.0, 0.0) in found((state(3.0, 0.3, lid=OPEN), state(9.0)))
    assert (3.0, 1.0, 0.0) not in found((state(3.0, 0.7, lid=OPEN), state(9.0)))


def test_the_candidate_of_the_highest_lower_bound_is_told():
    one = planner({(3, 4): -3.0, (0, 0): -1.0}, alike=5.0, alike_moved=5.0)
    told = one.next(state(lid=OPEN), state(8.0))
    assert one.subgoal is not None and one.subgoal.moves == ("lid",)
    assert one.subgoal.value == pytest.approx(-1.1 - 0.1) and one.subgoal.candidates == 2
    np.testing.assert_allclose(told[0], 9.0)  # what goals do not speak of


def test_the_goal_itself_is_worth_most_and_is_kept_once_reached():
    one = planner({(3, 4): -0.1})
    goal = state(3.0, lid=OPEN)
    np.testing.assert_allclose(one.next(state(lid=OPEN), goal), goal)
    assert one.subgoal is not None and one.subgoal.value == 0.0
    np.testing.assert_allclose(one.next(goal, goal), goal)
    assert one.subgoal.moves == () and one.subgoal.candidates == 0


def test_a_subgoal_is_kept_while_things_move_and_renewed_when_it_is_reached():
    one = planner()
    goal = state(3.0)
    opening = [one.next(state(lid=lid), goal)[3] for lid in (0.0, 0.0, 1.0, 3.0)]
    assert opening == pytest.approx([OPEN] * 4)
    np.testing.assert_allclose(one.next(state(lid=3.95), goal), state(3.0, lid=3.95), atol=1e-6)


def test_something_else_that_changed_and_rests_renews_it():
    one = planner(alike=5.0, alike_moved=5.0)
    one.next(state(), state(8.0))
    first = one.subgoal
    one.next(state(y=0.5), state(8.0))
    assert one.subgoal is first  # it may still move
    one.next(state(y=0.5), state(8.0))
    assert one.subgoal is not first


def test_what_was_tried_in_vain_is_not_tried_again_from_there_while_there_is_another():
    one = planner({(0, 4): -1.0, (3, 0): -2.0}, alike=9.0, alike_moved=9.0, alike_together=9.0, patience=2)
    told = []
    for _ in range(8):
        one.next(state(), state(8.0))
        assert one.subgoal is not None
        told.append(tuple(np.round(one.subgoal.told, 1).tolist()))
    assert told[0] == told[1] == (0.0, 0.0, OPEN) and told[2] == told[3] != told[0]
    assert len({told[0], told[2], told[4]}) == 3
    one.begin()
    one.next(state(), state(8.0))
    assert one.subgoal is not None and tuple(np.round(one.subgoal.told, 1).tolist()) == told[0]


def test_once_all_was_tried_from_a_place_the_best_is_tried_again():
    one = planner({(0, 4): -1.0, (3, 0): -2.0}, alike=9.0, alike_moved=9.0, alike_together=9.0, patience=1)
    told = []
    for _ in range(2 * len(one.candidates(one._scale(state()), one._scale(state(8.0))))):
        one.next(state(), state(8.0))
        assert one.subgoal is not None
        told.append(tuple(one.subgoal.told.tolist()))
    half = len(told) // 2
    assert half > 2 and len(set(told[:half])) == half and told[half:] == told[:half]


def test_values_that_are_no_numbers_are_never_chosen_over_those_that_are():
    one = planner({(0, 4): float("nan"), (3, 0): -2.0}, alike=9.0, alike_moved=9.0, alike_together=9.0)
    one.next(state(), state(8.0))
    assert one.subgoal is not None and one.subgoal.value == pytest.approx(-2.2)


class Listens(ManySource):
    """Notes what it is told and shown."""

    horizon, history = 4, 1

    def __init__(self):
        self.told, self.sampled = [], []

    def tell(self, goal, text, start):
        self.told.append(goal)
        return {"own": goal["state"]}

    def sample_many(self, observation, goal, noise, seed, prefix):
        self.sampled.append(goal)
        return noise

    def load(self, tensors):
        self.loaded = tensors


def test_the_policy_is_told_the_subgoal_instead_of_the_goal_with_every_chunk():
    base = Listens()
    source = SubgoalSource(base, planner())
    goal = {"state": state(3.0)}
    told = source.tell(goal, "", {"state": state()})
    assert not base.told
    noise = np.ones((2, 4, 2), np.float32)
    chunks = source.sample_many({"state": state()[None]}, told, noise, 0, None)
    assert chunks is noise
    np.testing.assert_allclose(base.told[-1]["state"], state(lid=OPEN))
    np.testing.assert_allclose(base.sampled[-1]["own"], state(lid=OPEN))
    source.sample_many({"state": state(lid=OPEN)[None]}, told, noise, 0, None)
    np.testing.assert_allclose(base.told[-1]["state"], state(3.0, lid=OPEN))
    source.load({"a": 1})
    assert base.loaded == {"a": 1}


def test_goals_in_words_are_refused():
    with pytest.raises(ConfigError, match="words"):
        SubgoalSource(Listens(), planner()).tell({}, "open the lid", {})


def test_a_new_episode_forgets_the_last_ones_subgoal_and_the_critic_is_shown_the_goal_itself():
    class Critic:
        told, horizon = True, 1

        def __init__(self):
            self.goals = []

        def values(self, observation, goal, chunks):
            self.goals.append(goal["state"])
            return np.zeros((1, len(chunks)))

    torch.manual_seed(0)
    base = TorchSource(ScoreConfig(inputs=InputConfig(), horizon=4).build(SPEC, ACTION))
    one, critic = planner(), Critic()
    source = SteeredSource(SubgoalSource(base, one), Steering(critic, SteeringConfig(samples=3)))
    policy = ChunkPolicy(source, ExecutionConfig(execute=2), SPEC, ACTION)
    policy.reset(Goal({"state": state(3.0)}))
    action = policy.act({"state": state()})
    assert action.shape == (2,) and one.subgoal is not None and one.subgoal.moves == ("lid",)
    np.testing.assert_allclose(critic.goals[-1], state(3.0))
    policy.reset(Goal({"state": state(lid=OPEN)}))
    policy.act({"state": state(lid=OPEN)})
    assert one.subgoal.moves == ()


@pytest.mark.parametrize(
    "wrong", [{"members": 0}, {"hidden": ()}, {"alike": 0.0}, {"snap": float("nan")}, {"pessimism": -1.0}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigError, match="positive"):
        SubgoalConfig(**wrong)
