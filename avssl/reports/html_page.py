"""The look of every HTML page that avssl writes: one file with its pictures inside, read from a disk, without scripts.

Pieces are strings of HTML. Text handed to :func:`table` and :func:`figure` is escaped here; other text is the
caller's to escape, with :func:`html.escape`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avssl.core.whole_file import whole_file

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c1c22; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.4rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .7rem; text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; } thead th { border-bottom: 2px solid #888; }
tr.ours td { font-weight: 600; background: #fdf3e1; } .note { color: #555; } img { max-width: 100%; }
.grid { display: flex; flex-wrap: wrap; gap: .8rem; } figure { margin: 0; }
figcaption { font-size: .85rem; color: #555; overflow-wrap: anywhere; }
video { width: 384px; max-width: 100%; }
"""
"""Of every page."""


def write_page(path: Path | str, title: str, sections: Iterable[str], style: str = "") -> None:
    """Writes a page through a temporary file, so that a reader never sees half of it.

    Args:
        path: The HTML file; its folder is made.
        title: Plain text, for the window's title bar.
        sections: HTML, in order.
        style: More CSS, after :data:`STYLE`.
    """
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}{style}</style>"
    page = f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(sections)}</body></html>\n"
    with whole_file(path) as temporary:
        # A file name that is no UTF-8 is held in surrogates, which cannot be written: a question mark then.
        temporary.write_text(page, encoding="utf-8", errors="replace")


def table(header: Iterable[object], body: Iterable[Sequence[object]], ours: str | None = None) -> str:
    """A table of plain text; the row whose first cell equals ``ours`` is set off."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    lines = []
    for row in body:
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row)
        lines.append(f"<tr{' class=ours' if row[0] == ours else ''}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def figure(picture: bytes, caption: str) -> str:
    """A PNG or JPEG with plain text below."""
    return f"<figure>{image(picture)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def image(picture: bytes, text: str = "") -> str:
    """A PNG or JPEG inside the page; ``text`` is plain, and stands for it where it cannot be seen."""
    return f"<img alt='{html.escape(text)}' src='{data_uri(picture)}'>"


def data_uri(picture: bytes) -> str:
    """A PNG or JPEG as text that stands in place of a file's address."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def encode_picture(pixels: np.ndarray, kind: Literal["png", "jpeg"] = "png") -> bytes:
    """(H, W, 3) uint8 RGB as a file in memory."""
    import matplotlib.image

    file = io.BytesIO()
    matplotlib.image.imsave(file, pixels, format=kind)
    return file.getvalue()


def encode_figure(drawing: Any) -> bytes:
    """A matplotlib figure as a PNG in memory."""
    file = io.BytesIO()
    drawing.savefig(file, format="png")
    return file.getvalue()
