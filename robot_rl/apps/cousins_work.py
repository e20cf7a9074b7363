"""The stages from a scan to a policy, each made anew only when what it rests on has changed.

What they leave in the work folder: `robot_rl.apps.cousins_files`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.store import EpisodeStore
from robot_rl.apps.config import compose, make_folder
from robot_rl.apps.cousins_config import CousinsConfig
from robot_rl.apps.cousins_files import (
    COUNTS,
    EPISODES,
    EXTRACTION,
    FAMILY,
    MATCHES,
    POLICY,
    RESULTS,
    SCAN,
    SCENE,
    SCENES,
    TASK,
    UserCounts,
    files_of,
    read_json,
    write_json,
)
from robot_rl.apps.cousins_matching import Matches, keep_matches, matches_origin, objects_seen, read_library
from robot_rl.apps.evaluate import evaluate
from robot_rl.apps.gathering import Order as EpisodeOrder
from robot_rl.apps.gathering import gather
from robot_rl.apps.imitate import ImitationRun
from robot_rl.apps.imitation import ImitationExperiment
from robot_rl.apps.players import make_cousin_demonstrations
from robot_rl.apps.runs import find_checkpoint, load_policy
from robot_rl.apps.train import prepare_run_dir
from robot_rl.apps.twin_identify import POSTERIOR, identify, read_posterior
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.files import digest, file_hash, made_from, renew, write_file
from robot_rl.statistics import wilson_interval
from robot_rl.typed import to_plain
from sim.cousins.asking import read_task, suggestions
from sim.cousins.counts import read_counts
from sim.cousins.extraction import ExtractionConfig, extract
from sim.cousins.family import CousinTask, cousin_task
from sim.cousins.generate import Order, Recipe, Run, generate
from sim.cousins.looks import Looks
from sim.cousins.matching import match
from sim.cousins.physics import PhysicsPosterior, PhysicsPrior
from sim.cousins.scan import Scan, write_scan
from sim.cousins.scan_folder import read_scan
from sim.cousins.scene import Scene
from sim.cousins.scene_task import SceneTask
from sim.sysid.log import MotionLog, read_log

KEPT_CANDIDATES = 128
"""Nearest assets of an object that generation chooses from."""


class CousinsWork:
    """One work folder. Each stage makes what is missing before it."""

    def __init__(self, folder: Path, config: CousinsConfig, console: Console, jobs: int = 1, run: Run = map) -> None:
        self.folder, self.config, self.console, self.jobs, self._run = folder, config, console, jobs, run
        self._told: set[str] = set()

    def scan(self, source: Path) -> None:
        """Check the scan in `source` and take a copy of it, unless it has been taken (and perhaps corrected) before."""
        target = self.folder / SCAN
        scan = read_scan(source, self.config.depth)
        if source.resolve() == self.folder.resolve() or target.resolve() in source.resolve().parents:
            raise ConfigError(f"SCAN {source} is where WORK {self.folder} keeps its own files; name another WORK")
        if source.resolve() != target.resolve():
            self._take(source, target, scan)
        for assumption in scan.assumptions:
            self.console.print(f"[yellow]assumed:[/yellow] {assumption}")
        self.console.print(f"scan: {len(scan.views)} view(s) of {scan.views[0].view.image_hw}")

    def _take(self, source: Path, target: Path, scan: Scan) -> None:
        """Copy `source`, as files of now: what rests on another scan's is older, whenever this one was taken."""
        make_folder(self.folder)
        partial = self.folder / f".{SCAN}.partial"
        files = files_of(source, self.folder)
        said = [name for name in (TASK, COUNTS) if (self.folder / name).exists()]
        contents = [file_hash(one) for one in files.values()]
        if self._renew(target, digest(list(files), contents, self.config.depth)) and said:
            self.console.print(
                f"[yellow]{' and '.join(said)} of the former scan stay; delete what is not so now[/yellow]"
            )
        if target.is_dir():
            return
        shutil.rmtree(partial, ignore_errors=True)
        for name, one in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(one, partial / name)
        if self.config.depth is not None:
            write_scan(partial, scan)  # with what was estimated, and that it was
        partial.rename(target)

    def scene(self) -> Scene:
        """Extract what is there, where corrections by hand are kept (`sim.cousins.extraction`)."""
        source = self.folder / SCAN
        if not source.is_dir():
            raise DataError(f"{source} is not there; begin with: robot-rl cousins scan FOLDER {self.folder}")
        scene = extract(source, self.folder / EXTRACTION, self._extraction())
        if not scene.objects:
            least = self.config.extraction.separation.min_points
            raise DataError(
                f"nothing stands on anything in {source}: things are what has {least} or more points on a table"
                f" (extraction.separation.min_points); look at {self.folder / EXTRACTION}/overlay.png"
            )
        return scene

    def parts(self, texts: Sequence[str]) -> None:
        """Keep what the user says about moving parts, such as `object_0:doors=1,drawers=2`, beside what was said."""
        path, counts = self.folder / COUNTS, read_counts(texts)
        names = [one.name for one in self.scene().objects]
        for name in counts:
            if name not in names:
                raise UnknownNameError("object in --parts", name, names)
        said = read_json(path, UserCounts).counts if path.exists() else {}
        write_json(path, UserCounts(said | counts))

    def _extraction(self) -> ExtractionConfig:
        """The configuration, with the user's counts."""
        config, path = self.config.extraction, self.folder / COUNTS
        if not path.exists():
            return config
        counts = config.articulation.counts | read_json(path, UserCounts).counts
        return replace(config, articulation=replace(config.articulation, counts=counts))

    def task(self, words: str = "") -> SceneTask:
        """What is to be done: as `words` say, or as task.json does, or the first that the scene suggests."""
        path, scene = self.folder / TASK, self.scene()
        if not words and path.exists():
            return self._kept_task(path, scene)
        offered = list(suggestions(scene))
        if not words and not offered:
            raise ConfigError("nothing in this scene suggests a task; give one by --task (see --help)")
        task = read_task(words or offered[0], scene)
        if not words:
            others = f"; also there: {', '.join(offered[1:6])}" if offered[1:] else ""
            self.console.print(f"task: {offered[0]}, the first that the scene suggests{others}")
        write_json(path, task)
        return task

    def _kept_task(self, path: Path, scene: Scene) -> SceneTask:
        task, names = read_json(path, SceneTask), [one.name for one in scene.objects]
        for name in task.names:
            if name not in names:
                raise UnknownNameError(f"object in {path}", name, names)
        return task

    def candidates(self) -> Matches:
        """Each object's assets, nearest first; published in matches.json, and as that was corrected by hand."""
        scene, path, config = self.scene(), self.folder / MATCHES, self.config
        self._renew(path, self._matches_origin())
        library = read_library(config.library, self.console)
        for note in library.notes():
            self._tell(f"[dim]{note}[/dim]")
        seen = objects_seen(self.folder, scene, config.encoder is not None, self._tell)
        looks = None if config.encoder is None else Looks(config.encoder)
        found = {
            one.object.name: match(one, library.assets, config.weights, looks) for one in self._track(seen, "match")
        }
        return keep_matches(path, found)

    def _matches_origin(self) -> str:
        return matches_origin(self._scene_text(), self.config)

    def posterior(self) -> PhysicsPosterior | None:
        """What identification says of the arm: fitted to the scan's log where nobody has identified it since."""
        path, log = self.folder / POSTERIOR, read_scan(self.folder / SCAN).excitation
        if log is not None and (made_from(path) or not path.exists()):
            self._renew(path, digest(file_hash(log)))
            if not path.exists():
                self._identify(read_log(log))
        return read_posterior(path) if path.exists() else None

    def _identify(self, log: MotionLog) -> None:
        if log.robot != self.config.recipe.robot:
            raise ConfigError(f"the scan's log is of {log.robot}; say recipe.robot={log.robot}, or leave the log out")
        identify(log, self.folder, self.console, self.jobs)

    def recipe(self) -> Recipe:
        """The configured one; in place of physics' prior stands the posterior where there is one."""
        recipe = self.config.recipe
        if recipe.physics != PhysicsPrior():
            return recipe
        posterior = self.posterior()
        self._tell(f"physics: {'stated priors' if posterior is None else f'the arm as {POSTERIOR} has it'}")
        return recipe if posterior is None else replace(recipe, physics=posterior)

    def scenes(self) -> Path:
        """The family of scenes by the recipe."""
        task, target = self.task(), self.folder / SCENES
        recipe, path = self.recipe(), self.folder / MATCHES
        is_matched = path.exists() and made_from(path) == self._matches_origin()
        candidates = {} if is_matched else self.candidates()
        origin = digest(self._scene_text(), task, recipe, path.read_text())
        if made_from(target) != origin:
            candidates = candidates or self.candidates()  # before anything is removed: the file may be wrong
        self._renew(target, origin)
        missing = recipe.scenes - len(list(target.glob("scene_*/layout.json")))
        if missing:
            candidates = candidates or self.candidates()
            nearest = {name: some[:KEPT_CANDIDATES] for name, some in candidates.items()}
            order = Order(self.scene(), nearest, task, recipe, target)
            for _ in self._track(generate(order, self._run), "generate", missing):
                pass
        write_json(self.folder / FAMILY, cousin_task(target.resolve(), task, self.config.starts))
        return target

    def episodes(self) -> EpisodeStore:
        """Demonstrations by the task's expert in all scenes; failures are kept, and marked as such."""
        cousins, path = self._cousin_task(), self.folder / EPISODES
        self._renew(path, digest(made_from(self.folder / SCENES), self.config.noise, self.config.starts))
        make = partial(make_cousin_demonstrations, cousins, self.config.noise)
        order = EpisodeOrder(self.config.demonstrations, self.config.recipe.seed, self.jobs)
        store = gather(make, order, path, {"cousins": to_plain(cousins)}, self.console)
        done = [info for info in store.infos if info.success]
        self.console.print(
            f"demonstrations: {len(done)} of {len(store.infos)} succeed; failures are kept, not imitated"
        )
        if not done:
            raise DataError("no demonstration succeeds; look at gallery.html, and correct the scene or the task")
        return store

    def policy(self) -> Path:
        """Learn from the demonstrations; returns the run's folder."""
        run_dir = self.folder / POLICY
        self.episodes()
        self._renew(run_dir, digest(made_from(self.folder / EPISODES), self.config.demonstrations, self._words()))
        experiment = self._experiment()
        training = ImitationRun(experiment, run_dir)
        prepare_run_dir(run_dir, experiment, resume=True, overwrite=False)
        try:
            training.run(self.console)
        except KeyboardInterrupt:
            training.save()
            raise
        return run_dir

    def results(self) -> dict[str, Any]:
        """Success of the policy in every scene."""
        run_dir = self.policy()
        experiment, (_, checkpoint) = self._experiment(), find_checkpoint(run_dir)
        cousins = self._cousin_task()
        env = RobotEnv(cousins.build_world(""), cousins.env)
        count, each = self.config.recipe.scenes, self.config.evaluations
        records = evaluate(env, load_policy(experiment, checkpoint), count * each, 1, track_with=self.console)
        env.close()
        successes = sum(one.success for one in records)
        result = {
            "success_rate": successes / len(records),
            "success_interval_95": list(wilson_interval(successes, len(records))),
            "by_scene": [[bool(one.success) for one in records[index::count]] for index in range(count)],
        }
        write_file(self.folder / RESULTS, json.dumps(result, indent=1) + "\n")
        low, high = result["success_interval_95"]
        self.console.print(f"in its own scenes: success {result['success_rate']:.3f} [{low:.3f}, {high:.3f}]")
        return result

    def _cousin_task(self) -> CousinTask:
        return cousin_task(self.scenes(), self.task(), self.config.starts)

    def _experiment(self) -> ImitationExperiment:
        experiment = compose("imitate", self._words(), ImitationExperiment)
        return replace(experiment, task=self._cousin_task(), data=self.folder / EPISODES)

    def _words(self) -> list[str]:
        config = self.config
        learned = (f"policy={config.policy}", "policy.inputs.goal=false", f"algorithm.updates={config.updates}")
        return ["task=lift", f"data={self.folder / EPISODES}", *learned, *config.settings]

    def _scene_text(self) -> str:
        self.scene()
        return (self.folder / EXTRACTION / SCENE).read_text()

    def _renew(self, path: Path, origin: str) -> bool:
        """Empty `path` when it was made from something else than now; whether it was."""
        is_old = renew(path, origin)
        if is_old:
            self.console.print(f"{path.name}: made anew, what it rests on has changed")
        return is_old

    def _tell(self, text: str) -> None:
        """What several stages have to say is said once."""
        if text not in self._told:
            self.console.print(text)
        self._told.add(text)

    def _track(self, items: Any, title: str, total: int | None = None) -> Any:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console) as bars:
            yield from bars.track(items, total=total or len(items), description=title)


Stage = Callable[[CousinsWork], Any]
STAGES: Sequence[tuple[str, Stage]] = (
    ("extract", CousinsWork.scene),
    ("match", CousinsWork.candidates),
    ("generate", CousinsWork.scenes),
    ("demonstrate", CousinsWork.episodes),
    ("train", CousinsWork.policy),
    ("evaluate", CousinsWork.results),
)
