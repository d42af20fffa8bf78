"""Boxes of the instruments in frames of MUSIC (``music_solo.json`` and ``music_duet.json`` of Mo and Tian).

A file is a list of ``{"file": "ID_SEGMENT_FRAME", "class": name, "bbox": [left, top, width, height]}``, for duets with
``class_src1``, ``bbox_src1``, ``class_src2`` and ``bbox_src2``; numbers are shares of the frame. Often the third number
is less than the first, so it is a width, although some code reads it as the right side.

Source: Mo and Tian, 2023, https://arxiv.org/abs/2303.17056, folder metadata of https://github.com/stoneMo/AVGN. No
license is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import entry_value, read_json
from avssl.data.official.box_truth import TruthBox, unit_box

SOURCE = "https://github.com/stoneMo/AVGN"
BOX_FILES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "music_solo.json": (("class", "bbox"),),
    "music_duet.json": (("class_src1", "bbox_src1"), ("class_src2", "bbox_src2")),
}
"""File → keys of the classes and boxes of an entry."""

FRAME_NAME = re.compile(r"(?P<video>[\w-]{11})_\d{3}_(?P<frame>\d{5})", flags=re.ASCII)
"""Name of a frame, such as WkY638E5wy8_001_00037: YouTube id, number of the segment and of the frame."""


def read_music_boxes(path: Path) -> dict[str, list[TruthBox]]:
    """Read frame → its boxes, each labeled with its instrument.

    Raises:
        ManifestError: If the file has another format; names the entry.
    """
    found: dict[str, list[TruthBox]] = {}
    for number, entry in enumerate(read_json(path, list)):
        name = entry_value(path, number, entry, "file", str)
        if not FRAME_NAME.fullmatch(name):
            raise ManifestError(f"{path}: entry {number}: file is {name!r}, expected such as WkY638E5wy8_001_00037.")
        boxes = [_box(path, number, entry, *keys) for keys in BOX_FILES[path.name]]
        found.setdefault(name, []).extend(boxes)
    return found


def _box(path: Path, number: int, entry: Any, class_key: str, box_key: str) -> TruthBox:
    label, values = entry_value(path, number, entry, class_key, str), entry_value(path, number, entry, box_key, list)
    try:
        left, top, width, height = map(float, values)
        return TruthBox(unit_box((left, top, left + width, top + height)), label=label)
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{path}: entry {number}: {box_key} is {values!r} ({error}).") from error
