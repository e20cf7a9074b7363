"""Checks an episode store, and repairs it without deleting anything: what must go moves to `quarantine/`."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import zarr
from numpy.typing import NDArray
from rich.table import Table

from data.cache import CACHE, fingerprint
from data.episode import OBSERVATION, Episode, EpisodeInfo, spans
from data.journal import lock_file, read_journal
from data.layout import ENDS, EPISODES, JOURNAL, LOCK, QUARANTINE, UNCOMMITTED, mend_metadata
from data.recovery import SUFFIX, journals, read_episode, recover
from data.store import UNREADABLE, EpisodeStore
from robot_rl.errors import DataError


@dataclass
class Finding:
    """One thing worth knowing; a `fault` needs repair, the rest is normal (a journal not sealed yet)."""

    where: str
    what: str
    fault: bool
    done: str = ""
    """What the repair did about it."""


@dataclass
class Report:
    """Outcome of `verify`; counts are after the repair."""

    path: Path
    episodes: int = 0
    usable: int = 0
    steps: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No fault is left."""
        return all(finding.done or not finding.fault for finding in self.findings)

    def table(self) -> Table:
        """For `rich.print`."""
        state = "sound" if self.ok else "[red]faults found[/red]"
        title = f"{self.path}: {self.episodes} episodes ({self.usable} usable), {self.steps} steps, {state}"
        table = Table("", "where", "what", "done", title=title, title_justify="left")
        for one in self.findings:
            mark = "[green]mended[/green]" if one.done else "[red]fault[/red]" if one.fault else "note"
            table.add_row(mark, one.where, one.what, one.done)
        return table


def verify(path: Path, repair: bool = False) -> Report:
    """Read everything in the store at `path` and report what is wrong with it.

    With `repair`, journals are sealed, damaged episodes are marked and so left out of training, and
    episodes whose rows are missing are cut off, their remains kept in the quarantine. Needs the
    writer's lock then; raises `DataError` while a writer has it, and when there is no store at `path`.
    `path` may also be a single journal, as the learner's: damaged, it is cut behind its last sound message.
    """
    path = Path(path)
    report = Report(path)
    if path.is_file():
        _check_journal_file(path, report, repair)
        return report
    if repair:
        _mend_metadata(path, report)
    else:
        _check_ends(path, report, repair)
    store = EpisodeStore(path)
    if repair:
        store.lock()
    try:
        _check_extent(store, report, repair)
        _check_episodes(store, report, repair)
        _check_journals(store, report, repair)
        _check_cache(store, report)
    finally:
        store.close()
    report.episodes, report.steps = len(store), store.steps
    report.usable = sum(info.usable for info in store.infos)
    return report


def _mend_metadata(path: Path, report: Report) -> None:
    """What the store cannot be opened without."""
    if not (path / "zarr.json").exists():
        return  # no store at all, as opening it will say
    lock = lock_file(path / LOCK)
    try:
        for key, kept in mend_metadata(path).items():
            done = "written anew" + (f"; what was left of it is in {kept}" if kept else "")
            report.findings.append(Finding(f"{key}/zarr.json", "cannot be read", fault=True, done=done))
        _check_ends(path, report, repair=True)
    finally:
        os.close(lock)


def _check_ends(path: Path, report: Report, repair: bool) -> None:
    """`episode_ends` that cannot be read, or has lost episodes, is written anew from the episodes' descriptions."""
    try:
        array = cast("zarr.Array", zarr.open_group(path, mode="r+" if repair else "r")[ENDS])
    except (KeyError, TypeError, *UNREADABLE):
        return  # as opening the store will say
    described = _described_ends(path)
    try:
        known = int(np.count_nonzero(np.asarray(array[:]) != UNCOMMITTED))
        what = f"has {known} of the {len(described)} episodes that are described"
    except UNREADABLE:
        known, what = -1, "cannot be read"
    if known >= len(described):
        return
    finding = Finding(ENDS, what, fault=True)
    if repair:
        (path / QUARANTINE).mkdir(exist_ok=True)
        beyond = (one for one in (path / EPISODES).glob("*.json") if int(one.stem) >= len(described))
        for old in (*(path / ENDS / "c").glob("*"), *beyond):
            old.rename(path / QUARANTINE / ".".join((*old.relative_to(path).parts, str(time.time_ns()))))
        array.resize((-(-len(described) // array.chunks[0]) * array.chunks[0],))
        array[: len(described)] = described
        finding.done = "written anew from the episodes' descriptions; what was left of it is in quarantine/"
    report.findings.append(finding)


def _described_ends(path: Path) -> NDArray[np.int64]:
    """Ends (E,) of the episodes up to the first one that has no description, or still waits in its journal."""
    infos: list[EpisodeInfo] = []
    try:
        while (file := path / EPISODES / f"{len(infos):08d}.json").exists():
            infos.append(EpisodeInfo.from_json(file.read_text(), str(file)))
    except (OSError, UnicodeDecodeError, DataError):
        pass  # steps of the later ones are where nobody knows
    waiting = {one.name.split(".")[2] for one in (path / JOURNAL).glob(f"*{SUFFIX}")}
    sealed = list(itertools.takewhile(lambda info: info.episode_id not in waiting, infos))
    return np.cumsum([info.steps for info in sealed], dtype=np.int64)


def _check_journal_file(path: Path, report: Report, repair: bool) -> None:
    lock = lock_file(path)
    try:
        content = read_journal(path)
        if not content.damage:
            return
        if not content.good_bytes:
            raise DataError(f"{path} {content.damage}; if it was one, move it aside, and a new one is begun")
        finding = Finding(path.name, content.damage, fault=True)
        if repair:
            kept = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            shutil.copyfile(path, kept)
            os.truncate(path, content.good_bytes)
            finding.done = f"cut behind its {len(content.frames)} sound messages; the whole is kept in {kept.name}"
        report.findings.append(finding)
    finally:
        os.close(lock)


def _check_extent(store: EpisodeStore, report: Report, repair: bool) -> None:
    """The first episode whose rows cannot be there, and with it all later ones, must be cut off."""
    good = len(store)
    reason = ""
    if (backward := np.flatnonzero(np.diff(store.ends, prepend=0) < 0)).size:
        good, reason = int(backward[0]), f"episode_ends falls at episode {int(backward[0])}"
    for key, array in store.arrays.items():
        extra = np.arange(1, len(store) + 1) if key.startswith(OBSERVATION) else 0
        short = np.flatnonzero(store.ends + extra > array.shape[0])
        if short.size and short[0] < good:
            good, reason = int(short[0]), f"{key} has {array.shape[0]} rows, too few for episode {short[0]}"
    if reason:
        finding = Finding(f"episodes {good} to {len(store) - 1}", reason, fault=True)
        if repair:
            finding.done = f"cut off; what is left of them is in {_cut(store, good)}"
        report.findings.append(finding)


def _cut(store: EpisodeStore, good: int) -> Path:
    """Keep everything behind the first `good` episodes in the quarantine, then take it out of use."""
    folder = store.path / QUARANTINE / f"cut-{time.time_ns()}"
    folder.mkdir(parents=True)
    begin = int(store.ends[good - 1]) if good else 0
    for key, array in store.arrays.items():
        first = begin + good * key.startswith(OBSERVATION)
        np.save(folder / f"{key.replace('/', '.')}.npy", np.asarray(array[first:]))
    (folder / "episode_ends.json").write_text(json.dumps([int(end) for end in store.ends]))
    descriptions = [store.path / EPISODES / f"{index:08d}.json" for index in range(good, len(store))]
    store.truncate(good)
    for description in descriptions:
        if description.exists():
            description.rename(folder / description.name)
    return folder.relative_to(store.path)


def _check_episodes(store: EpisodeStore, report: Report, repair: bool) -> None:
    seen: dict[str, int] = {}
    for index, info in enumerate(store.infos):
        if info.damage and info.episode_id:
            report.findings.append(Finding(f"episode {index}", f"left out: {info.damage}", fault=False))
            continue
        faults = [info.damage] if info.damage else list(_episode_faults(store, index))
        if info.episode_id and seen.setdefault(info.episode_id, index) != index:
            faults.append(f"has the same id as episode {seen[info.episode_id]}")
        if faults and repair:
            _remove_unreadable_chunks(store, index)
        if faults:
            finding = Finding(f"episode {index}", "; ".join(faults), fault=True)
            if repair:
                # A lost description gets a name here, so that it counts as dealt with from now on.
                name = info.episode_id or f"lost-{index}"
                store.replace_info(index, replace(info, episode_id=name, damage="; ".join(faults)))
                finding.done = "marked as damaged: kept, and left out of training"
            report.findings.append(finding)


def _remove_unreadable_chunks(store: EpisodeStore, index: int) -> None:
    """Keep them in the quarantine: the next episode could not be written into the last one."""
    for key, array in store.arrays.items():
        for first, path in store.chunks(key, store.rows(index, key)).items():
            try:
                array[first : first + array.chunks[0]]
            except UNREADABLE:
                store.quarantine(path)


def _episode_faults(store: EpisodeStore, index: int) -> Iterator[str]:
    rows = store.rows(index, "reward")
    if rows.stop < rows.start or any(
        store.rows(index, key).stop > array.shape[0] for key, array in store.arrays.items()
    ):
        return  # reported by _check_extent
    try:
        episode = store.episode(index)
    except DataError as error:
        yield f"cannot be read: {error.__cause__}"
        return
    if episode.info.steps != rows.stop - rows.start:
        yield f"description says {episode.info.steps} steps, episode_ends {rows.stop - rows.start}"
        return
    for key, array in episode.arrays.items():
        if not episode.info.has_checksum(key, array):
            yield f"{key} does not have its checksum"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"{key} holds NaN or Inf"
    yield from _sequence_faults(episode)


def _sequence_faults(episode: Episode) -> Iterator[str]:
    """What cannot be in a stream of steps."""
    info, arrays = episode.info, episode.arrays
    if (np.diff(arrays["stamp_s"], prepend=info.started_s) <= 0).any():
        yield "stamps do not rise"
    done = arrays["terminated"] | arrays["truncated"]
    if done[:-1].any():
        yield "goes on after its end"
    if info.steps and not info.discarded and not done[-1]:
        yield "its last step neither terminates nor truncates"
    if info.intervention_spans != spans(arrays["is_intervention"]):
        yield "intervention spans do not fit the steps"


def _check_journals(store: EpisodeStore, report: Report, repair: bool) -> None:
    before = len(report.findings)
    for path in journals(store):
        episode, damage = read_episode(path, store)
        steps = episode.info.steps if episode else 0
        state = "not sealed yet" if episode is None or episode.info.recovered else "ended, not sealed yet"
        what = damage or f"{steps} steps, {state}"
        report.findings.append(Finding(path.name, what, fault=bool(damage)))
    if repair and len(report.findings) > before:
        recover(store)
        for finding in report.findings[before:]:
            finding.done = "sealed as far as it is sound" + (", kept in quarantine/" if finding.fault else "")


def _check_cache(store: EpisodeStore, report: Report) -> None:
    for cache in (store.path / CACHE).glob("*"):
        if cache.name != fingerprint(store):
            what = "out of date, rebuilt at the next use"
            report.findings.append(Finding(f"{CACHE}/{cache.name}", what, fault=False))
