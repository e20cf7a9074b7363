"""Records episodes until it is killed, and says after each call that returned how far it got."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from data.recorder import EpisodeRecorder
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from tests.data.episodes import ACTION_SPEC, SPEC, events


def main() -> None:
    path, first = Path(sys.argv[1]), int(sys.argv[2])
    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC)
    print("ready", flush=True)
    for episode in range(first, first + 100_000):
        for event in events(episode, 3 + episode % 9, interventions=(1, 2), success=episode % 2 == 0):
            if isinstance(event, EpisodeStart):
                recorder.on_start(event)
            elif isinstance(event, Transition):
                recorder.on_step(event)
                print(episode, event.step, flush=True)
                time.sleep(0.005)  # a fast control loop; sealing keeps up most of the time
            else:
                recorder.on_end(event)
                assert isinstance(event, EpisodeEnd)


if __name__ == "__main__":
    main()
