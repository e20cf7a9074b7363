"""Pieces of the HTML pages that commands write: each page is one file that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import imageio.v3 as imageio
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222 }
h1, h2 { font-weight: 600 } video, .plot { max-width: 100%; border-radius: 6px }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 14px }
figure { margin: 0; background: #f5f5f5; border-radius: 6px; overflow: hidden }
figure img { width: 100%; display: block }
figcaption { padding: 6px 9px; font-size: 13px } .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 14px }
table { border-collapse: collapse } td, th { padding: 2px 10px; text-align: left; border-bottom: 1px solid #ddd }
.columns { display: flex; gap: 2em; flex-wrap: wrap } .good { color: #17713a } .bad { color: #a02020 }
"""


def page(title: str, sections: Iterable[str]) -> str:
    """A whole document; `sections` are HTML."""
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(sections)}</body></html>\n"


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Cells are text."""
    first = "".join(f"<th>{html.escape(one)}</th>" for one in head)
    rest = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table><tr>{first}</tr>{''.join(f'<tr>{row}</tr>' for row in rest)}</table>"


def listing(lines: Iterable[str]) -> str:
    """Lines of text, one under the other."""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def picture(pixels: ArrayLike, caption: str) -> str:
    """An image (H, W, 3) uint8; `caption` is HTML."""
    buffer = io.BytesIO()
    imageio.imwrite(buffer, np.asarray(pixels, np.uint8), extension=".jpg")
    return f"<figure><img src='{_data('image/jpeg', buffer.getvalue())}'><figcaption>{caption}</figcaption></figure>"


def plot(figure: Figure, title: str) -> str:
    """A figure of matplotlib, which is closed."""
    return png(render(figure), title)


def render(figure: Figure) -> bytes:
    """A figure of matplotlib as PNG, which is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def png(data: bytes, title: str) -> str:
    return f"<img class='plot' alt='{html.escape(title, quote=True)}' src='{_data('image/png', data)}'>"


def movie(path: Path, attributes: str = "controls loop muted") -> str:
    """A video in the page itself."""
    return f"<video {attributes} src='{_data('video/mp4', path.read_bytes())}'></video>"


def link(target: str, text: str) -> str:
    return f"<a href='{html.escape(target, quote=True)}'>{html.escape(text)}</a>"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
