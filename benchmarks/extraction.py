"""Extraction from one noisy RGB-D look at test tables with exact ground truth.

  python benchmarks/extraction.py --quick
  python benchmarks/extraction.py --seed 0 --out benchmarks/results/extraction.json

Each scene is made from a seed (`sim.cousins.tabletop`): one to six boxes, cans, bottles, bowls and cabinets, apart or
with a touching pair (side by side, flush, leaning, stacked; one pair in five of one colour), at least 65 % of each in
sight; 640 x 480 pixels, depth with noise of 1.5 mm at 0.6 m that grows with distance squared, steps of 1 mm, lost and
flying pixels. It is written as a scan's folder and extracted from there. All settings were chosen on seeds from 1000.

A thing is found if an object overlaps it by an IoU of at least 0.5 (one to one, by the best assignment). Bars on errors
are on means over found things; median and 95th percentile stand beside them. Yaw is up to quarter turns that swap the
sizes with them, and is not asked of round things. Articulation is right if doors and drawers are counted right on the
right side.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _extraction_match import Match, match
from figures import Figure, add_arguments, write_result

from robot_rl.statistics import wilson_interval
from sim.cousins.extraction import ExtractionConfig, extract
from sim.cousins.scan import write_scan
from sim.cousins.tabletop_camera import look

SCENES, QUICK_SCENES = 200, 30
TOUCHING_SHARE = 0.3
SHARE_BARS = {"separated": 0.98, "touching": 0.90}
ERROR_BARS = {"centre_mm": 5.0, "half_extent_mm": 5.0, "yaw_deg": 5.0, "tilt_deg": None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--scenes", type=int, help=f"how many (default: {SCENES}, quick: {QUICK_SCENES})")
    parser.add_argument("--keep", type=Path, help="keep scans and what was extracted here")
    args = parser.parse_args()
    count = args.scenes or (QUICK_SCENES if args.quick else SCENES)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(args.seed, args.seed + count):
            results.append(run_scene(seed, (args.keep or Path(scratch)) / f"seed_{seed:05d}"))
            print(f"{len(results)} of {count}", end="\r", file=sys.stderr, flush=True)
    figures = summarize(results)
    write_result(args, figures, {"scenes": [_plain(one) for one in results]})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def run_scene(seed: int, folder: Path) -> dict[str, Any]:
    """Matches, found objects without one and the time of the scene made from `seed`."""
    table, scan, _ = look(seed)
    write_scan(folder, scan)
    start = time.perf_counter()
    scene = extract(folder, folder / "extraction", ExtractionConfig())
    seconds = time.perf_counter() - start
    matches, false = match(table.placed, scene.objects)
    parts_of_others = [one for one in scene.objects if one.parts and one.category != "cabinet"]
    return {
        "seed": seed,
        "touching": table.touching,
        "matches": matches,
        "false": false,
        "seconds": seconds,
        "doubtful": len(parts_of_others),
    }


def summarize(results: Sequence[dict[str, Any]]) -> list[Figure]:
    matches = [one for result in results for one in result["matches"]]
    figures = [_share("scenes.touching", [result["touching"] for result in results], TOUCHING_SHARE)]
    for group, is_touching in (("separated", False), ("touching", True)):
        true = [one for one in matches if one.touching == is_touching]
        found = [one for one in true if one.found is not None]
        false = sum(flag == is_touching for result in results for flag in result["false"])
        bar = SHARE_BARS[group]
        figures.append(_share(f"{group}.recall", [one.found is not None for one in true], bar))
        figures.append(_share(f"{group}.precision", [True] * len(found) + [False] * false, bar))
        for name, most in ERROR_BARS.items():
            figures += _errors(f"{group}.{name}", [getattr(one, name) for one in found], most)
    found = [one for one in matches if one.found is not None]
    figures.append(_share("category.accuracy", [one.category == one.found for one in found], None))
    for category in sorted({one.category for one in found}):
        right = [one.category == one.found for one in found if one.category == category]
        figures.append(_share(f"category.accuracy.{category}", right, None))
    cabinets = [one for one in matches if one.articulation is not None]
    figures.append(_share("articulation.accuracy", [bool(one.articulation) for one in cabinets], None))
    others = [one for one in found if one.category != "cabinet"]
    figures.append(_share("articulation.taken_for_cabinets", [one.found == "cabinet" for one in others], None))
    seconds = np.array([result["seconds"] for result in results])
    return [*figures, Figure("seconds", float(np.median(seconds)), "median per scene; range", None, len(seconds),
                             (float(seconds.min()), float(seconds.max())))]  # fmt: skip


def _share(name: str, flags: Sequence[bool], bar: float | None) -> Figure:
    count, total = sum(flags), len(flags)
    value = count / total if total else float("nan")
    return Figure(name, value, "share", bar, total, wilson_interval(count, total) if total else None)


def _errors(name: str, values: Sequence[float], most: float | None) -> list[Figure]:
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return []
    rng = np.random.default_rng(0)
    means = rng.choice(known, (2000, len(known))).mean(1)
    low, high = map(float, np.quantile(means, (0.025, 0.975)))
    median, tail = map(float, np.quantile(known, (0.5, 0.95)))
    unit = name.rsplit("_", 1)[-1]
    return [
        Figure(name, float(known.mean()), f"{unit}, mean", most, len(known), (low, high), at_most=True),
        Figure(f"{name}.median", median, unit, None, len(known), None),
        Figure(f"{name}.p95", tail, unit, None, len(known), None),
    ]


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    def number(value: Any) -> Any:
        return None if isinstance(value, float) and not np.isfinite(value) else value

    matches: list[Match] = result["matches"]
    return result | {"matches": [{key: number(value) for key, value in asdict(one).items()} for one in matches]}


if __name__ == "__main__":
    raise SystemExit(main())
