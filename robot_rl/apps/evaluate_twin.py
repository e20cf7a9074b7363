"""Many policies in many twins of a scene, from the same start states: `robot-rl evaluate --twin`.

Results lie in a folder: episodes.parquet, evaluation.json, ranking.json, films/. What is whole is kept, whatever ends
the run, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hardware.guard_config import GuardConfig
from robot_rl.apps.config import compose, make_folder
from robot_rl.apps.estimates import fitted_values
from robot_rl.apps.runs import find_checkpoint
from robot_rl.apps.twin_cells import Candidate, Cell, Conditions, cells_of, run_cell
from robot_rl.apps.twin_ranking import print_ranking, summarize
from robot_rl.apps.twins import TwinScene, TwinsConfig, make_all_twins, ranked_by
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.evaluation_description import EXPERIMENT, RANKING, TABLE, table_hash
from robot_rl.evaluation_table import DESCRIPTION, EPISODES, EpisodeRow, read_table, trials_of, write_table
from robot_rl.files import write_file
from robot_rl.identity import checkpoint_hash, experiment_hash
from robot_rl.typed import to_dataclass, to_plain
from sim.cousins.generate import in_processes, on_ray
from sim.cousins.variants import VARIANTS
from sim.cousins.world import CousinWorldConfig

PACKAGES = ("robot-rl", "mujoco", "numpy", "torch", "pyarrow")
NOT_IN_TWINS = ("words", "goal", "video", "critic", "veto", "subgoals", "bundle", "remote")
STARTS = CousinWorldConfig(pose_noise_m=0.001, fixed_noise_m=0.03, fixed_noise_yaw_rad=0.15)


@dataclass(frozen=True)
class TwinEvaluation:
    """What is run; conf/evaluate_twin.yaml composes it."""

    twins: TwinsConfig = field(default_factory=TwinsConfig)
    """Which worlds."""
    episodes: int = 50
    """Start states in every world, the same ones for every policy."""
    variants: tuple[str, ...] = ()
    """Looks beside the nominal one (`sim.cousins.variants`), for policies that see images."""
    films: int = 0
    """So many of the first starts are filmed in every world."""
    together: int = 25
    """Episodes that run beside each other in one process."""
    starts: CousinWorldConfig = field(default_factory=lambda: STARTS)
    """How episodes begin and what sensors do."""
    robot: dict[str, Any] = field(default_factory=dict)
    """Whose guard's limits commands pass (conf/robot)."""
    guarded: bool = True
    """Whether they do."""
    seed: int = 0
    """Of the start states."""

    def __post_init__(self) -> None:
        if min(self.episodes, self.together) < 1 or min(self.films, self.seed) < 0:
            raise ConfigError(
                "need episodes and together at least 1, films and seed not negative; got "
                f"{self.episodes}, {self.together}, {self.films}, {self.seed}"
            )
        for name in self.variants:
            if name not in VARIANTS:
                raise UnknownNameError("variant of the appearance", name, VARIANTS)

    @property
    def conditions(self) -> Conditions:
        """What all cells have in common."""
        if self.guarded and not self.robot.get("guard"):
            raise ConfigError("this robot names no limits of the guard (robot.guard); guarded=false goes without")
        limits = to_dataclass(GuardConfig, self.robot["guard"], "robot.guard") if self.guarded else None
        return Conditions(self.starts, limits, self.seed, self.films)


def run(args: argparse.Namespace) -> int:
    console = Console(markup=False, emoji=False)  # names may hold square brackets
    paths = [args.path, *(Path(word) for word in args.overrides if "=" not in word)]
    if other := [name for name in NOT_IN_TWINS if getattr(args, name)]:
        raise ConfigError(f"--{', --'.join(other)}: not of an evaluation in twins")
    told = [f"episodes={args.episodes}", f"seed={args.seed}", *(word for word in args.overrides if "=" in word)]
    config = compose("evaluate_twin", told, TwinEvaluation)
    candidates = find_candidates(paths)
    out = args.out or Path("runs") / "evaluations" / args.twin[0].resolve().name
    trials, note = trials_of(args.real, {one.name: one.digest for one in candidates}) if args.real else ([], "")
    if note:
        console.print(note, style="yellow", soft_wrap=True)
    make_folder(out)
    places = on_ray if args.ray else in_processes(args.jobs)
    scenes = make_all_twins(args.twin, config.twins, places)
    cells = cells_of(candidates, scenes, config.episodes, config.together, config.variants)
    evaluation = Evaluation(config, candidates, scenes, cells, out)
    evaluation.begin(console)
    try:
        evaluation.run(places, console)
    except KeyboardInterrupt:
        console.print(f"{len(evaluation.rows())} episodes are kept in {out}; the same command goes on")
        raise
    finally:
        evaluation.write()
    summary = summarize(evaluation.rows(), trials)
    summary[TABLE] = table_hash(out)
    write_file(out / RANKING, json.dumps(summary, indent=1, allow_nan=False) + "\n")
    print_ranking(summary, console, fitted_values(out, {one.name: one.digest for one in candidates}))
    if fallback := ranked_by(summary["ranking"]["by"], len(summary["ranking"]["worlds"])):
        console.print(fallback)
    console.print(f"{out / EPISODES}")
    return 0


class Evaluation:
    """All cells of an evaluation and the folder of its results."""

    def __init__(
        self,
        config: TwinEvaluation,
        candidates: Sequence[Candidate],
        scenes: Sequence[TwinScene],
        cells: Sequence[Cell],
        out: Path,
    ) -> None:
        self.config, self.candidates, self.scenes, self.out = config, candidates, scenes, out
        self._cells, self._conditions = cells, config.conditions
        self._parts = [cell.part(out, self._conditions) for cell in cells]

    def begin(self, console: Console) -> None:
        """Make the folder, and say in it what is evaluated; a ranking of before is not of these episodes.

        A table of before may rest on something else: it never lies beside a description that is not its own, whatever
        ends this. Damaged parts are deleted.
        """
        make_folder(self.out)
        (self.out / RANKING).unlink(missing_ok=True)
        (self.out / DESCRIPTION).unlink(missing_ok=True)
        self._drop_damaged(console)
        self.write()
        description = {
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "configuration": to_plain(self.config),
            "policies": {
                one.name: {
                    "run_dir": str(one.run_dir),
                    "checkpoint": str(one.checkpoint),
                    "sha256": one.digest,
                    EXPERIMENT: experiment_hash(one.run_dir),
                }
                for one in self.candidates
            },
            "scenes": [to_plain(one) for one in self.scenes],
        }
        write_file(self.out / DESCRIPTION, json.dumps(description, indent=1, default=str) + "\n")

    def run(self, places: Any, console: Console) -> None:
        """Run the cells whose rows are missing."""
        missing = [number for number, part in enumerate(self._parts) if not part.exists()]
        columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task("evaluate", total=len(self._cells), completed=len(self._cells) - len(missing))
            for _ in places(partial(_run_number, self._cells, self._conditions, self.out), missing):
                bars.advance(bar)

    def rows(self) -> list[EpisodeRow]:
        """Of the cells that are whole."""
        found = [row for part in self._parts if part.exists() for row in read_table(part)]
        return sorted(found, key=lambda row: (row.policy, row.scene, row.world, row.variant, row.start))

    def _drop_damaged(self, console: Console) -> None:
        """Delete what was cut off while it was copied or written: its episodes are run again."""
        for part in (part for part in self._parts if part.exists()):
            try:
                read_table(part)
            except DataError as error:
                console.print(f"deleted, its episodes are run again: {error}", style="yellow", soft_wrap=True)
                part.unlink()

    def write(self) -> None:
        """All rows that there are, as one table."""
        write_table(self.out / EPISODES, self.rows())


def _run_number(cells: Sequence[Cell], conditions: Conditions, out: Path, number: int) -> Path:
    return run_cell(cells[number], conditions, out)


def find_candidates(paths: Sequence[Path]) -> list[Candidate]:
    """The policies at `paths` (runs or checkpoints); a name is the run's, with the checkpoint where it is named."""
    found = []
    for path in paths:
        run_dir, checkpoint = find_checkpoint(path)
        name = run_dir.name if path.resolve() == run_dir else f"{run_dir.name}_{checkpoint.name}"
        found.append(Candidate(name, run_dir, checkpoint, checkpoint_hash(checkpoint)))
    if twice := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise ConfigError(f"two policies are called {', '.join(twice)}: results go by the names of the runs' folders")
    return found
