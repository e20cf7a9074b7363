"""What two specs differ in, in words."""

from robot_rl.spec_difference import difference
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

SEEN = ObservationSpec({"state": ArraySpec((2,), names=("tcp.x", "cube.x"))})
OTHER = ObservationSpec(
    {"state": ArraySpec((2,), names=("tcp.x", "door.x")), "image/front": ArraySpec((8, 8, 3), "uint8", 0, 255)}
)


def test_only_what_differs_is_told():
    said = difference(SEEN, OTHER, ("critic", "policy"))
    assert "with cube.x (critic)" in said and "with door.x (policy)" in said and "tcp.x" not in said
    assert "image/front: none (critic), uint8 (8, 8, 3) (policy)" in said
    assert difference(SEEN, SEEN, ("a", "b")) == ""
    said = difference(ActionSpec(("x",), 0.1, 0.1), ActionSpec(("x",), 0.2, 0.1), ("a", "b"))
    assert said == "translation_m: 0.1 (a), 0.2 (b)"
