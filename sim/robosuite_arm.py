"""robosuite's arms and grippers: where they are in a model that robosuite built, or on their own for other scenes."""

# mujoco and robosuite ship no complete type stubs.
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false
from __future__ import annotations

import logging
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import UnknownNameError
from robot_rl.types import FloatArray
from sim.arm import ArmModel
from sim.assets.decimate import decimate_spec

ROBOTS = {"panda": "Panda", "ur5e": "UR5e"}
GRIPPER = "PandaGripper"
"""On either arm. robosuite's Robotiq 85, the UR5e's default, jams on collisions among its own links when it
closes on less than about 5 cm."""
PREFIXES = ("robot0_", "gripper0_", "fixed_mount0_")
VISUAL_GROUP = 1


def check_robot(robot: str) -> str:
    """robosuite's name of one of `ROBOTS`; `UnknownNameError` lists them."""
    if robot not in ROBOTS:
        raise UnknownNameError("simulated robot", robot, ROBOTS)
    return ROBOTS[robot]


def quiet_import() -> Any:
    """The robosuite module, without the warnings of what is not needed here (the import itself prints some)."""
    logging.getLogger("robosuite_logs").addFilter(_is_error)
    import robosuite

    return robosuite


def arm_model(arm: Any, hand: Any, home_joint_rad: FloatArray, model: mujoco.MjModel) -> ArmModel:
    """Names in `model` of robosuite's robot model `arm` and its gripper model `hand`."""
    fingers = np.array([model.actuator(name).id for name in hand.actuators], np.intp) if hand.dof else None
    return ArmModel(
        base_body="robot0_base",
        tcp_site=hand.important_sites["grip_site"],
        wrist_site=f"{hand.naming_prefix}ft_frame",
        wrist_sensors=(f"{hand.naming_prefix}force_ee", f"{hand.naming_prefix}torque_ee"),
        joints=tuple(arm.joints),
        actuators=tuple(arm.actuators),
        home_joint_rad=tuple(map(float, home_joint_rad)),
        finger_actuators=tuple(hand.actuators) if hand.dof else (),
        finger_closed=() if fingers is None else _ctrl_at(hand, 1.0, model, fingers),
        finger_open=() if fingers is None else _ctrl_at(hand, -1.0, model, fingers),
    )


def robot_spec(robot: str, drawn_faces: int = 0) -> tuple[mujoco.MjSpec, ArmModel]:
    """An arm with its gripper, to attach to any scene by its base; drawn as its collision hulls.

    The detailed visual meshes (39 MB of files for the Panda) are left out: they cost 40 times the picture. With
    `drawn_faces` they are decimated to so many triangles in all.
    """
    name = check_robot(robot)
    quiet_import()
    from robosuite.models.grippers import gripper_factory
    from robosuite.models.robots import create_robot

    arm, hand = create_robot(name, idn=0), gripper_factory(GRIPPER, idn=0)
    arm.add_gripper(hand)
    spec = mujoco.MjSpec.from_string(arm.get_xml())
    drawn = [geom for geom in spec.geoms if geom.group == VISUAL_GROUP]
    if drawn_faces:
        decimate_spec(spec, {geom.meshname for geom in drawn}, drawn_faces)
        for geom in drawn:
            geom.mass = 0.0
    else:
        for geom in drawn:
            spec.delete(geom)
    used = {name for geom in spec.geoms for name in (geom.meshname, geom.material)}
    for item in (*spec.meshes, *spec.materials, *spec.textures):
        if item.name not in used:
            spec.delete(item)
    return spec, arm_model(arm, hand, arm.init_qpos, spec.compile())


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _ctrl_at(gripper: Any, sign: float, model: mujoco.MjModel, actuators: NDArray[np.intp]) -> tuple[float, ...]:
    """Actuator commands at one end of the stroke: robosuite maps +1 to closed, -1 to open."""
    gripper.current_action = action = np.zeros(len(actuators))
    for _ in range(100):
        action = gripper.format_action(np.full(gripper.dof, sign))
    low, high = model.actuator_ctrlrange[actuators].T
    return tuple(map(float, low + (np.asarray(action) + 1.0) / 2.0 * (high - low)))
