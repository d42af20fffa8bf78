"""HTML pages from the templates beside this file: one style, all images inside the file.

Pages have no script, but for the players of predictions, whose script holds no value of the page.

jinja2 escapes every value, so names of files and classes cannot become markup.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from avssl.core.whole_file import whole_file
from avssl.reports.text_table import percent


def write_page(path: Path | str, template: str, **values: object) -> None:
    """Render a template into a file that appears only when it is complete.

    Args:
        path: The HTML file; its folder is created.
        template: File name in ``avssl/reports/templates``.
        values: Variables of the template, ``title`` among them.
    """
    page = _environment().get_template(template).render(values)
    with whole_file(path) as temporary:
        # File names that are not UTF-8 hold surrogates, which cannot be encoded: they become question marks.
        temporary.write_text(page + "\n", encoding="utf-8", errors="replace")


@cache
def page_macros(template: str) -> Any:
    """Return a template's macros as functions that return escaped HTML, for pages made elsewhere."""
    return _environment().get_template(template).module


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data_uri=data_uri, percent=percent)
    return environment


def data_uri(picture: bytes) -> str:
    """Return a PNG or JPEG as the text of a ``src`` attribute."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def encode_picture(pixels: np.ndarray, kind: Literal["png", "jpeg"] = "png") -> bytes:
    """Encode (H, W, 3) uint8 RGB pixels."""
    import matplotlib.image

    file = io.BytesIO()
    matplotlib.image.imsave(file, pixels, format=kind)
    return file.getvalue()


def encode_figure(drawing: Any) -> bytes:
    """Encode a matplotlib figure as a PNG."""
    file = io.BytesIO()
    drawing.savefig(file, format="png")
    return file.getvalue()
