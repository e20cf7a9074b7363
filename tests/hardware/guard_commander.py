"""A commander to be killed: steps an env over ROS 2 in +x for ever. Argument: the graph's namespace."""

from __future__ import annotations

import sys

import numpy as np

from hardware.ros_world import RosWorld, RosWorldConfig
from robot_rl.env import EnvConfig, RobotEnv


def main(namespace: str) -> None:
    world = RosWorld(RosWorldConfig(namespace=namespace, state_deadline_s=3.0, guard_timeout_s=4.0))
    env = RobotEnv(world, EnvConfig(translation_m=0.01, max_steps=10**6))
    env.reset(seed=1)
    while True:
        env.step(np.array([0.5, 0.0, 0.0, 0.0]))


if __name__ == "__main__":
    main(sys.argv[1])
