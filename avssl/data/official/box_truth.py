"""Ground truth of localization benchmarks: one small JSON file per clip.

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
start of its file); null if the clip is one image, which belongs to all of the audio. A box is
(left, top, right, bottom) as fractions of the image's width and height, in [0, 1], right and bottom
exclusive; a box without area is kept, because the official scores count it. ``annotator`` is a number
from 0; an annotator who drew nothing has no box. ``label`` is optional, for boxes with their own label. ``mask`` and
``image`` are optional paths relative to the manifest: the pixels that sound (not black), and the annotated image.
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
"""Format of the file; it changes with the meaning of the content."""


@dataclass(frozen=True)
class TruthBox:
    """A box drawn by an annotator."""

    box: tuple[float, float, float, float]
    """(left, top, right, bottom) in [0, 1]."""
    annotator: int = 0
    """Number of the annotator."""
    label: str | None = None
    """Class of the object, if boxes of a clip differ in it."""


@dataclass(frozen=True)
class TruthFrame:
    """The annotation of one frame."""

    seconds: float | None
    """Time after the start of the row; None for an image."""
    boxes: Sequence[TruthBox] = ()
    """Boxes in the order of the annotation file."""
    mask: str | None = None
    """Relative path of an image that is black where nothing sounds."""
    image: str | None = None
    """Relative path of the annotated image."""


@dataclass(frozen=True)
class ClipTruth:
    """The annotation of a clip."""

    frames: Sequence[TruthFrame]
    """Ascending by seconds."""
    num_annotators: int = 1
    """Number of annotators. With several, each box is one vote."""


def unit_box(corners: Iterable[Any], width: float = 1, height: float = 1) -> tuple[float, float, float, float]:
    """Convert (left, top, right, bottom) in pixels of an image of this size to [0, 1].

    The part outside the image is cut off. A right side left of the left one gives a box without area.

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
    """Write ``truth/FOLDER/NAME.json``.

    Args:
        root: Root of the manifest.
        folder: Folder of the dataset.
        name: Name of the clip, which may hold spaces and any script's letters, but no slash and no dot at its start.
        frames: Annotations, ascending by seconds.
        num_annotators: Number of annotators, including those who drew no box.

    Returns:
        The path relative to ``root``, for the column ``truth``.

    Raises:
        ManifestError: If the name could lead elsewhere.
    """
    if re.search(r"^\.|^$|[/\\\x00-\x1f\x7f]", name):
        raise ManifestError(
            f"{name!r} cannot be a file name in {root / 'truth' / folder}: it is empty, begins with a dot, or holds a "
            "slash, a backslash or a control character."
        )
    path = f"truth/{folder}/{name}.json"
    value = {"format": FORMAT, "num_annotators": num_annotators, "frames": [_frame(frame) for frame in frames]}
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    write_json(root / path, value)
    return path


def read_boxes(path: Path) -> ClipTruth:
    """Read a file written by :func:`write_boxes`; raise ManifestError if it is not such a file."""
    value = read_json(path, dict)
    try:
        if value["format"] != FORMAT:
            raise InputError(f"format {value['format']!r}, where {FORMAT!r} is read")
        return ClipTruth([_read_frame(frame) for frame in value["frames"]], int(value["num_annotators"]))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ManifestError(f"{path}: no boxes of this format ({error}).") from error


def _read_frame(frame: dict[str, Any]) -> TruthFrame:
    boxes = [TruthBox(unit_box(b["box"]), int(b["annotator"]), b.get("label")) for b in frame["boxes"]]
    seconds = None if frame["seconds"] is None else float(frame["seconds"])
    if seconds is not None and not math.isfinite(seconds):
        raise InputError(f"seconds is {seconds}")
    files = [frame.get("mask"), frame.get("image")]
    if any(not isinstance(file, str | None) for file in files):
        raise InputError(f"mask and image are {files}")
    return TruthFrame(seconds, boxes, *files)


def _frame(frame: TruthFrame) -> dict[str, Any]:
    boxes = []
    for box in frame.boxes:
        label = {} if box.label is None else {"label": box.label}
        boxes.append({"box": list(box.box), "annotator": box.annotator, **label})
    files = {name: value for name, value in (("mask", frame.mask), ("image", frame.image)) if value is not None}
    return {"seconds": frame.seconds, "boxes": boxes, **files}
