"""A page to look at a family of scenes: the scan, what was found in it, every scene beside the others, how it went."""

from __future__ import annotations

import html
from pathlib import Path

import imageio.v3 as imageio
import mujoco
import numpy as np
from numpy.typing import NDArray

from data.store import EpisodeStore
from robot_rl.apps.cousins_files import EPISODES, EXTRACTION, MATCHES, RESULTS, SCAN, SCENE, SCENES, TASK
from robot_rl.apps.page import page, picture
from robot_rl.errors import ConfigError, DataError
from robot_rl.files import read_object, write_file
from sim.cousins.family import scene_folders
from sim.cousins.folder import read_folder
from sim.cousins.layout import Contact, PlacedAsset, Relation, SceneLayout
from sim.cousins.scene import read_scene
from sim.rendering import RenderConfig, SceneRenderer, light_model
from sim.robosuite_arm import PREFIXES

SHOWN_SCENES = 48
SHOWN_MATCHES = 8
OVERLAP_M = 0.001
"""Penetrations beyond are told, ..."""
APART_M = 0.002
"""... and wider gaps between what should touch."""
PICTURE_HW = (240, 320)


def write_gallery(folder: Path) -> Path:
    """Write gallery.html in the work folder from whatever stages are there; returns its path."""
    parts = [f"<h1>{html.escape(folder.resolve().name)}</h1>", _scan(folder), _matches(folder), _scenes(folder)]
    write_file(folder / "gallery.html", page("cousins", parts))
    return folder / "gallery.html"


def _scan(folder: Path) -> str:
    """The picture and what extraction found in it."""
    extraction = folder / EXTRACTION
    color = [*(folder / SCAN).glob("*color*"), *(folder / SCAN).glob("rgb.*")]
    pictures = [(path, "scan") for path in sorted(color)[:1]] + [(extraction / "overlay.png", "extraction")]
    figures = "".join(picture(imageio.imread(path)[..., :3], title) for path, title in pictures if path.exists())
    asked = read_object(folder / TASK) if (folder / TASK).exists() else {}
    said = [
        str(asked.get("_target_", "none yet")).rpartition(".")[2],
        *(f"{k}={v}" for k, v in asked.items() if k[0] != "_"),
    ]
    task = f"<p>task: <code>{html.escape(' '.join(said))}</code></p>"
    return f"<h2>Scan</h2><div class='pair'>{figures}</div>{_objects(extraction / SCENE)}{task}"


def _objects(path: Path) -> str:
    """What was found, how large, and what it touches."""
    if not path.exists():
        return ""
    scene, rows = read_scene(path), []
    for one in scene.objects:
        size = " x ".join(f"{2000 * half:.0f}" for half in one.box.half_extents_m)
        touched = ", ".join(
            f"{'hanging on' if kind == 'hanging' else kind} {other}" for kind, other in scene.relations(one.name)
        )
        cells = (one.name, f"{one.category} ({one.category_confidence:.2f})", size, touched)
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    head = "".join(f"<th>{title}</th>" for title in ("object", "category (confidence)", "size in mm", "is"))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _matches(folder: Path) -> str:
    """Each object's nearest assets with their distances, term by term."""
    path = folder / MATCHES
    if not path.exists():
        return ""
    tables = []
    for name, rows in read_object(path).items():
        try:
            shown = [(row["asset"], float(row["distance"]), dict(row["terms"])) for row in rows[:SHOWN_MATCHES]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: no assets with distance and terms for {name}; mend it, or delete it") from error
        terms = sorted({term for _, _, by_term in shown for term in by_term})
        head = "".join(f"<th>{html.escape(term)}</th>" for term in ("asset", "distance", *terms))
        body = "".join(
            f"<tr><td>{html.escape(asset)}</td><td>{distance:.3f}</td>"
            + "".join(f"<td>{by_term[term]:.2f}</td>" if term in by_term else "<td></td>" for term in terms)
            + "</tr>"
            for asset, distance, by_term in shown
        )
        tables.append(f"<h3>{html.escape(name)}</h3><table><tr>{head}</tr>{body}</table>")
    return f"<h2>Nearest assets</h2>{''.join(tables)}"


def _scenes(folder: Path) -> str:
    """A picture of every scene, its distances, and how demonstrations and the policy fared in it."""
    folders = scene_folders(folder / SCENES)
    if not folders:
        return ""
    demonstrated = _demonstrated(folder, len(folders))
    results = read_object(folder / RESULTS) if (folder / RESULTS).exists() else {}
    figures = []
    for index, one in enumerate(folders[:SHOWN_SCENES]):
        model, _, layout = read_folder(one)
        told = [f"<b>{html.escape(one.name)}</b>", *_origins(layout)]
        told += [_share("expert", demonstrated.get(index, []))] if demonstrated.get(index) else []
        told += [_share("policy", results["by_scene"][index])] if index < len(results.get("by_scene", [])) else []
        told += [_overlap(hit) for hit in layout.contacts if hit.penetration_m > OVERLAP_M]
        told += [_apart(one, each) for one in layout.objects for each in one.relations if each.gap_m > APART_M]
        figures.append(picture(_picture(model), "<br>".join(told)))
    whole = ""
    if results:
        low, high = results["success_interval_95"]
        rate = results["success_rate"]
        whole = f"<p>the policy in these scenes: <b>{rate:.1%}</b> (95 %: {low:.1%} to {high:.1%})</p>"
    return f"<h2>{len(folders)} scenes</h2>{whole}<div class='grid'>{''.join(figures)}</div>"


def _overlap(hit: Contact) -> str:
    return f"{html.escape(hit.first)} and {html.escape(hit.second)} overlap by {1000 * hit.penetration_m:.1f} mm"


def _apart(one: PlacedAsset, lost: Relation) -> str:
    names = f"{html.escape(one.name)} and {html.escape(lost.other)} ({lost.kind})"
    return f"{names} are {1000 * lost.gap_m:.1f} mm apart"


def _origins(layout: SceneLayout) -> list[str]:
    return [f"{html.escape(one.name)}: {html.escape(one.asset)}, distance {one.distance:.3f}" for one in layout.objects]


def _demonstrated(folder: Path, scenes: int) -> dict[int, list[bool]]:
    """Each scene's demonstrations: whether they succeeded."""
    try:
        infos = EpisodeStore(folder / EPISODES).infos if (folder / EPISODES).exists() else []
    except (DataError, ConfigError):
        return {}
    found: dict[int, list[bool]] = {}
    for info in infos:
        if info.seed is not None:
            found.setdefault(info.seed % scenes, []).append(info.success)
    return found


def _share(who: str, successes: list[bool]) -> str:
    share = sum(successes) / len(successes)
    kind = "good" if share >= 0.5 else "bad"
    return f"<span class='{kind}'>{who}: {sum(successes)} of {len(successes)}</span>"


def _picture(model: mujoco.MjModel) -> NDArray[np.uint8]:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    light_model(model, PREFIXES, RenderConfig())
    renderer = SceneRenderer(model, data, PICTURE_HW, RenderConfig(shadows=True))
    try:
        return renderer.render("view_0", 0.0).color
    finally:
        renderer.close()
