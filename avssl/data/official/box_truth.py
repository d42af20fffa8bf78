"""Ground truth of localization benchmarks: one small JSON file a clip.

::

    {
      "format": "avssl-boxes-1",
      "num_annotators": 3,
      "frames": [
        {
          "seconds": 5.0,
          "boxes": [{"box": [0.25, 0.5, 0.75, 1.0], "annotator": 0, "label": "cow lowing"}],
          "mask": "gt_masks/x_1.png",
          "image": "visual_frames/x_1.png"
        }
      ]
    }

``frames`` ascend by ``seconds``, the time after the start of the row (its ``start_seconds``, or the
start of its file); null where the clip is one picture, which belongs to the whole sound. A box is
(left, top, right, bottom) as shares of the picture's width and height, in [0, 1], right and bottom
exclusive; a box without area is kept, because the official scores count it. ``annotator`` is a number
from 0; who drew nothing has no box. ``label`` is there where each box has its own. ``mask`` and
``image`` are paths relative to the manifest: the pixels that sound (not black), and the very picture
that was annotated; both are optional.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avssl.core.errors import InputError
from avssl.core.manifest import ManifestError
from avssl.core.whole_file import write_json
from avssl.data.official.annotations import read_json

FORMAT = "avssl-boxes-1"
"""Of the file; another number would be another meaning."""


@dataclass(frozen=True)
class TruthBox:
    """A box that someone drew."""

    box: tuple[float, float, float, float]
    """(left, top, right, bottom) in [0, 1]."""
    annotator: int = 0
    """Who drew it."""
    label: str | None = None
    """What it holds, where boxes of a clip differ in that."""


@dataclass(frozen=True)
class TruthFrame:
    """What is known of one instant."""

    seconds: float | None
    """After the start of the row; None for a picture."""
    boxes: Sequence[TruthBox] = ()
    """In the order of the annotation file."""
    mask: str | None = None
    """Relative path of a picture that is black where nothing sounds."""
    image: str | None = None
    """Relative path of the picture that was annotated."""


@dataclass(frozen=True)
class ClipTruth:
    """What is known of a clip."""

    frames: Sequence[TruthFrame]
    """Ascending by seconds."""
    num_annotators: int = 1
    """Those who were asked. With several, each box is one vote."""


def unit_box(corners: Iterable[Any], width: float = 1, height: float = 1) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels of a picture of that size -> in [0, 1].

    What lies outside the picture is cut off. A right side left of the left one gives a box without area.

    Raises:
        ValueError: If these are not four finite numbers.
    """
    values = [float(value) for value in corners]
    if len(values) != 4 or any(value != value or abs(value) == float("inf") for value in values):
        raise InputError(f"four numbers are expected, got {values}.")
    left, top, right, bottom = (
        min(max(value / size, 0.0), 1.0) for value, size in zip(values, (width, height) * 2, strict=True)
    )
    return left, top, max(left, right), max(top, bottom)


def write_boxes(root: Path, folder: str, name: str, frames: Sequence[TruthFrame], num_annotators: int = 1) -> str:
    """Writes ``truth/FOLDER/NAME.json``.

    Args:
        root: Of the manifest.
        folder: Of the dataset.
        name: Of the clip; letters, digits, ``_``, ``-`` and ``.`` after the first character.
        frames: Ascending by seconds.
        num_annotators: Those who were asked, whether they drew a box or not.

    Returns:
        The path relative to ``root``, for the column ``truth``.

    Raises:
        ManifestError: If the name could lead elsewhere.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ManifestError(f"{name!r} cannot be a file name in {root / 'truth' / folder}.")
    path = f"truth/{folder}/{name}.json"
    value = {"format": FORMAT, "num_annotators": num_annotators, "frames": [_frame(frame) for frame in frames]}
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    write_json(root / path, value)
    return path


def read_boxes(path: Path) -> ClipTruth:
    """The content of a file that :func:`write_boxes` wrote.

    Raises:
        ManifestError: If it is none.
    """
    value = read_json(path, dict)
    try:
        if value["format"] != FORMAT:
            raise InputError(f"format {value['format']!r}, where {FORMAT!r} is read")
        return ClipTruth([_read_frame(frame) for frame in value["frames"]], int(value["num_annotators"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{path}: no boxes of this format ({error}).") from error


def _read_frame(frame: dict[str, Any]) -> TruthFrame:
    boxes = [TruthBox(unit_box(b["box"]), int(b["annotator"]), b.get("label")) for b in frame["boxes"]]
    seconds = None if frame["seconds"] is None else float(frame["seconds"])
    if seconds is not None and not math.isfinite(seconds):
        raise InputError(f"seconds is {seconds}")
    return TruthFrame(seconds, boxes, frame.get("mask"), frame.get("image"))


def _frame(frame: TruthFrame) -> dict[str, Any]:
    boxes = []
    for box in frame.boxes:
        label = {} if box.label is None else {"label": box.label}
        boxes.append({"box": list(box.box), "annotator": box.annotator, **label})
    files = {name: value for name, value in (("mask", frame.mask), ("image", frame.image)) if value is not None}
    return {"seconds": frame.seconds, "boxes": boxes, **files}
