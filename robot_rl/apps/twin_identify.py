"""Excite the arm within the guard's limits, fit the twin to what it did, and say what the twin cannot explain.

  robot-rl twin identify runs/arm                            robosuite's Panda, to try it
  robot-rl twin identify runs/arm --world hidden --seed 3    an arm whose joints do what no twin's do
  robot-rl twin identify runs/arm --world ros --robot fr3    the arm behind the ROS 2 topics (guard and driver are up)
  robot-rl twin identify runs/arm --log runs/arm/log.npz     fit a log again

OUT then holds log.npz, posterior.json (for `recipe.physics` of cousins and for twins) and report.html.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hardware.guard_config import GuardConfig
from robot_rl.apps.config import compose_mapping, group_choices, make_folder, not_negative, positive
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError, DataError, RobotRlError, UnknownNameError
from robot_rl.files import write_file
from robot_rl.protocols import Env
from robot_rl.typed import to_dataclass, to_plain
from robot_rl.types import FloatArray
from sim.cousins.hidden import hidden_arm_env
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior, with_arm
from sim.sysid.clearance import Clearance
from sim.sysid.excitation import ExcitationConfig, excitation
from sim.sysid.fit import fit
from sim.sysid.log import MOTION_ENV, MotionLog, Run, read_log, record, write_log
from sim.sysid.lone_arm import LoneArm
from sim.sysid.motion import MotionLimits
from sim.sysid.report import write_report
from sim.sysid.rollouts import rollouts

LOG, POSTERIOR, REPORT = "log.npz", "posterior.json", "report.html"
WAITS = "waiting for the scene (over ROS 2 for a person's call of world/reset_done)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of log, posterior and report")
    parser.add_argument("--log", type=Path, help="fit this log; nothing moves")
    parser.add_argument("--robot", default="sim_panda", help=f"of conf/robot: {', '.join(group_choices('robot'))}")
    parser.add_argument("--world", default="sim", choices=sorted(WORLDS), help="which arm is excited (default: sim)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the excitation, and of the hidden arm")
    parser.add_argument("--jobs", type=positive, default=1, help="processes of the fit (default: 1)")


def run(args: argparse.Namespace) -> int:
    make_folder(args.out)  # before anything moves
    console = Console()
    identify(read_log(args.log) if args.log else _record(args, console), args.out, console, args.jobs)
    return 0


def identify(log: MotionLog, out: Path, console: Console, jobs: int = 1) -> None:
    """Fit the twin to `log`; `out` then has the log, the posterior and a report."""
    out.mkdir(parents=True, exist_ok=True)
    write_log(out / LOG, log)
    console.print(f"log: {len(log.runs)} run(s), {sum(len(one.targets_base) for one in log.runs)} commands")
    with rollouts(log, jobs) as predict, console.status("fitting"):
        found = fit(log, predict)
    sentences = write_report(out / REPORT, log, found)
    posterior = with_arm(PhysicsPrior(), found.posterior)
    write_file(out / POSTERIOR, json.dumps(to_plain(posterior), indent=1) + "\n")
    for sentence in sentences:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"posterior: {out / POSTERIOR}\nreport: {out / REPORT}")


def read_posterior(path: Path) -> PhysicsPosterior:
    """What `identify` wrote; `DataError` when it cannot be read."""
    try:
        return to_dataclass(PhysicsPosterior, json.loads(path.read_text()))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} is no posterior: {error}") from error


def guard_limits(robot: dict[str, Any]) -> MotionLimits:
    """What the guard of a robot of conf/robot lets through, and no faster than a reduced speed."""
    guard, slow = to_dataclass(GuardConfig, robot["guard"], "guard"), MotionLimits()
    return MotionLimits(
        guard.workspace_low_m,
        guard.workspace_high_m,
        min(guard.speed_m_s, slow.speed_m_s),
        min(guard.speed_rad_s, slow.speed_rad_s),
    )


def foresee(env: Env, robot: str, seed: int) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
    """Where the TCP (7,) is after a reset, and what the nominal twin's joints (T + 1, N) do along targets (T, 7)."""
    env.reset(seed=seed)
    start = env.snapshot().arm
    twin = LoneArm(robot, PhysicsPrior().nominal())
    here, pose, rest = np.asarray(start.joint_pos_rad)[None], np.asarray(start.pose_base_tcp), np.zeros(1)
    return pose, lambda targets: twin.repeat(Run(targets, here, pose[None], rest), env.rate_hz)[0]


def plan(env: Env, robot: str, limits: MotionLimits, config: ExcitationConfig, seed: int) -> list[FloatArray]:
    """Offsets of each run from where the arm stands.

    Ways on which the nominal twin's links would come near each other, or a joint near its end, are not taken.
    """
    start, predict = foresee(env, robot, seed)
    return excitation(config, start, limits, predict, env.rate_hz, seed, Clearance(robot).obstacles)


def excite(env: Env, robot: str, limits: MotionLimits, seed: int, tell: Callable[[str], object] = str) -> MotionLog:
    """Plan within `limits` what tells most of the arm, do it, and log it; `tell` hears what is being done."""
    tell(f"{WAITS}, then choosing a movement")
    offsets = plan(env, robot, limits, ExcitationConfig(), seed)
    tell(f"{WAITS}, then moving for {sum(map(len, offsets)) / env.rate_hz:.0f} s")
    return MotionLog(robot, env.rate_hz, tuple(record(env, one, seed, limits) for one in offsets))


def _record(args: argparse.Namespace, console: Console) -> MotionLog:
    if args.robot not in group_choices("robot"):
        raise UnknownNameError("robot", args.robot, group_choices("robot"))
    robot = compose_mapping(f"robot/{args.robot}")["robot"]
    model, limits = robot["sim_robot"].lower(), guard_limits(robot)
    env = WORLDS[args.world](model, args.seed)
    try:
        return excite(env, model, limits, args.seed, console.print)
    finally:
        env.close()


def _simulated(robot: str, seed: int) -> RobotEnv:
    return RobotEnv(LoneArm(robot, Physics()), MOTION_ENV)


def _hidden(robot: str, seed: int) -> RobotEnv:
    return hidden_arm_env(seed, robot)


def _over_ros(robot: str, seed: int) -> RobotEnv:
    try:
        from hardware.ros_world import RosWorld, RosWorldConfig
    except ImportError as error:
        raise RobotRlError(f"--world ros needs ROS 2's Python packages: {error}; see docs/ros2.md") from error
    return RobotEnv(RosWorld(RosWorldConfig(reset="person", reset_timeout_s=600.0)), MOTION_ENV)


WORLDS: dict[str, Callable[[str, int], RobotEnv]] = {"sim": _simulated, "hidden": _hidden, "ros": _over_ros}
