"""Learn a critic, and a policy from it, from recorded episodes with successes and failures: offline RL.

  robot-rl offline task=lift data=runs/mixed/lift                   implicit Q-learning on the task's rewards
  robot-rl offline task=lift data=runs/mixed/lift algorithm=cal_ql
  robot-rl offline task=lift data=runs/mixed/lift policy=score policy.horizon=16
  robot-rl offline task=cube-single data=runs/play/cube-single algorithm=gciql critic=goal batch_size=1024
  robot-rl offline task=cube-single data=runs/play/cube-single algorithm=hiql critic=hiql policy=hiql batch_size=1024
  robot-rl offline --run-dir runs/offline/lift_iql_seed0 --resume

The policy runs with `robot-rl evaluate`; the critic also steers any other policy of the task: `robot-rl steer --help`.
Ctrl-C saves; --resume goes on from there, batch by batch as if nothing had happened.
"""

from __future__ import annotations

import argparse

from robot_rl.apps import imitate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    imitate.add_arguments(parser, "offline")


def run(args: argparse.Namespace) -> int:
    return imitate.run(args, "offline")
