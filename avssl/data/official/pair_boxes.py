"""Boxes of image and audio pairs, in the JSON files of Senocak et al. (IS3, VPO-SS, VPO-MS, AVSBench S4 and MS3).

A file is a list of ``{"image": path, "audio": path, "gt_box": [left, top, right, bottom]}``. The paths are those of
the authors' machine, of which folder and name are the same everywhere; names may hold spaces. Boxes are in pixels of
an image of 224 x 224; ``[0, 0, 0, 0]`` means that nothing visible sounds.

Source: Senocak et al., 2024, https://arxiv.org/abs/2407.13676, folder metadata of
https://github.com/kaistmm/SSLalignment. No license is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import entry_value, read_json
from avssl.data.official.box_truth import TruthBox, unit_box

SOURCE = "https://github.com/kaistmm/SSLalignment"
IMAGE_SIZE = 224
"""Size of the images that the coordinates refer to, in pixels."""


@dataclass(frozen=True, slots=True)
class BoxedPair:
    """One entry."""

    number: int
    """Position in the file, from 0."""
    image: PurePosixPath
    """Path on the authors' machine."""
    audio: PurePosixPath
    """Path on the authors' machine."""
    boxes: list[TruthBox]
    """The box, or none if nothing visible sounds."""


def read_pairs(path: Path) -> Iterator[BoxedPair]:
    """Yield the entries of a file.

    Raises:
        ManifestError: If the file has another format; names the entry.
    """
    for number, entry in enumerate(read_json(path, list)):
        image = PurePosixPath(entry_value(path, number, entry, "image", str))
        audio = PurePosixPath(entry_value(path, number, entry, "audio", str))
        corners = entry_value(path, number, entry, "gt_box", list)
        try:
            box = TruthBox(unit_box(corners, IMAGE_SIZE, IMAGE_SIZE))
        except (TypeError, ValueError) as error:
            raise ManifestError(f"{path}: entry {number}: gt_box is {corners!r} ({error}).") from error
        yield BoxedPair(number, image, audio, [box] if any(corners) else [])
