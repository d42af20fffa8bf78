"""Find the scored instants of a manifest, and count the rows left out by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.official.box_truth import ClipTruth, TruthFrame, read_boxes
from avssl.downstream.localization.instants import Instant, shapes_instant
from avssl.evaluation.localization import flickr_truth, is3_truth, vggss_truth
from avssl.evaluation.localization.resizing import SIZE
from avssl.media import read_image
from avssl.synthetic import read_truth


def find_instants(manifest: Manifest, window_seconds: float) -> tuple[list[Instant], Counter[str]]:
    """Find all instants with known truth, in the order of the rows.

    Args:
        manifest: Rows whose ``truth`` is a file of SoundingShapes (.npz) or of :mod:`avssl.data.official.box_truth`
            (.json).
        window_seconds: Length of the model's windows.

    Returns:
        The instants, and the number of rows left out by reason.

    Raises:
        ManifestError: If there is no truth, a truth file is missing, damaged or of unknown kind, truths differ in size,
            or nothing visible sounds in any row.
    """
    instants: list[Instant] = []
    left_out: Counter[str] = Counter()
    for row in range(len(manifest)):
        path = manifest.truth_file(row)
        if path is None:
            left_out["no truth"] += 1
            continue
        found, reason = _of_row(manifest, row, path, window_seconds)
        instants += found
        if not found:
            left_out[reason] += 1
    _check(manifest, instants, left_out)
    return _with_objects(manifest, instants), left_out


def _of_row(manifest: Manifest, row: int, path: Path, window_seconds: float) -> tuple[list[Instant], str]:
    """Return the instants of a row, or the reason why there are none."""
    if not path.exists():
        name = manifest.value(row, "id")
        raise ManifestError(f"{path}: no such truth file, but the row {name!r} names it. Write the manifest again.")
    if path.suffix == ".npz":
        instant = shapes_instant(read_truth(path), row, window_seconds)
        return ([], "no sound event at which the source can be seen") if instant is None else ([instant], "")
    if path.suffix != ".json":
        raise ManifestError(f"{path}: truth is read from .npz (SoundingShapes) and .json files (datasets/*.py).")
    clip = read_boxes(path)
    frames = [_box_instant(manifest, row, number, clip, frame) for number, frame in enumerate(clip.frames)]
    return frames, "no annotated instant"


def _box_instant(manifest: Manifest, row: int, number: int, clip: ClipTruth, frame: TruthFrame) -> Instant:
    is_mask = frame.mask is not None and not frame.boxes
    if frame.mask is None or frame.boxes:
        truth = partial(box_truth, clip, frame)
        is_positive = bool(frame.boxes)  # a box without area cannot be hit, as in the official scores
    else:
        truth = partial(mask_truth, manifest.inside(frame.mask))
        is_positive = bool(truth().any())
    picture = None if frame.image is None else manifest.inside(frame.image)
    return Instant(row, number, frame.seconds, truth, (SIZE, SIZE), is_positive, is_mask, picture=picture)


def box_truth(clip: ClipTruth, frame: TruthFrame) -> Tensor:
    """Draw the boxes of one instant as the released evaluators do, (224, 224) float32.

    With several annotators, half of the votes for a pixel, at most 1 (Flickr-SoundNet); otherwise the union.
    Coordinates of still images are rounded to pixels (IS3), those of videos are not (VGG-SS).
    """
    boxes = [box.box for box in frame.boxes]
    if clip.num_annotators > 1:
        return torch.from_numpy(flickr_truth(boxes, picture_size=1))
    return torch.from_numpy(is3_truth(boxes, picture_size=1) if frame.seconds is None else vggss_truth(boxes)).float()


def mask_truth(path: Path) -> Tensor:
    """Read a mask image as (224, 224) float32: 1 where it is not black.

    Raises:
        MediaError: If it cannot be read.
    """
    mask = (read_image(path) > 0).any(dim=0)[None, None].float()
    return F.interpolate(mask, size=(SIZE, SIZE), mode="nearest-exact")[0, 0]


def groups_of(manifest: Manifest, instants: Sequence[Instant]) -> list[str | None]:
    """Return the ``pair`` of each instant: rows with the same frames and different audio; None without partner."""
    pairs = [manifest.value(instant.row, "pair") for instant in instants]
    counts = Counter(pairs)
    return [pair if pair and counts[pair] > 1 else None for pair in pairs]


def sources_of(manifest: Manifest, instants: Sequence[Instant]) -> list[str]:
    """Return a key that is equal for instants of the same frames: their pair, or their file."""
    groups = groups_of(manifest, instants)
    files = [str(manifest.value(instant.row, "path")) for instant in instants]
    return [f"file {file}" if group is None else f"pair {group}" for group, file in zip(groups, files, strict=True)]


def _with_objects(manifest: Manifest, instants: list[Instant]) -> list[Instant]:
    """Add objects to instants whose truth lacks them: the sounding objects of all rows of their pair."""
    members: dict[str, list[Instant]] = {}
    groups = groups_of(manifest, instants)
    for instant, group in zip(instants, groups, strict=True):
        if group is not None:
            members.setdefault(group, []).append(instant)
    return [
        replace(instant, objects=partial(_truths, members[group]))
        if group is not None and instant.objects is None
        else instant
        for instant, group in zip(instants, groups, strict=True)
    ]


def _truths(instants: Sequence[Instant]) -> Tensor:
    return torch.stack([instant.truth() > 0 for instant in instants])


def _check(manifest: Manifest, instants: Sequence[Instant], left_out: Counter[str]) -> None:
    if left_out["no truth"] == len(manifest):
        raise ManifestError(
            f"{manifest.root}: none of {len(manifest)} rows has a truth, which localization is scored against. "
            "Make a manifest with truth with: avssl synthesize, or a script of datasets/ such as vggss.py."
        )
    if not any(instant.is_positive for instant in instants):
        reasons = "".join(f" {count} rows: {reason}." for reason, count in left_out.items())
        raise ManifestError(
            f"{manifest.root}: nothing visible sounds in any of {len(manifest)} rows, so there is nothing to localize."
            f"{reasons}"
        )
    sizes = sorted({instant.hw for instant in instants})
    if len(sizes) > 1:
        raise ManifestError(f"{manifest.root}: truths of sizes {sizes} cannot be scored together. Choose one --split.")
