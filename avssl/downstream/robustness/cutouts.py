"""Cut an object out of a clip, to paste it into another: by its mask, its box, or as a central patch.

Dimensions: N clips, T frames, H and W pixels of a clip.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Clip
from avssl.core.manifest import Manifest, is_url
from avssl.data.official.box_truth import TruthFrame, read_boxes
from avssl.synthetic import read_truth

PATCH_SHARE = 0.2
"""Area of the patch of clips without ground truth, as a fraction of the frame."""


class Cutouts(Protocol):
    """Objects that can be cut out of N clips."""

    @property
    def description(self) -> str:
        """One sentence for the report."""

    @property
    def objects(self) -> Sequence[str]:
        """(N,) name of the object of each clip; "" if it has none."""

    @property
    def scenes(self) -> Sequence[Collection[str]]:
        """(N,) names of everything that is in each clip."""

    def mask(self, clip: Clip) -> Tensor:
        """Return the (T, H, W) bool mask of the object; all False while the object is not visible."""


def find_cutouts(manifest: Manifest, labels: Sequence[str], frames_per_second: float) -> Cutouts:
    """Return the most exact cutouts that the truth of the rows allows; raise ValueError if a file is damaged."""
    paths = [None if is_url(manifest.location(row)) else manifest.truth_file(row) for row in range(len(manifest))]
    files = [path for path in paths if path is not None and path.exists()]
    kinds = {path.suffix for path in files}
    if len(files) == len(paths) and kinds == {".npz"}:
        return ObjectCutouts(files, frames_per_second)
    if len(files) == len(paths) and kinds == {".json"}:
        starts = [manifest.value(row, "start_seconds") or 0.0 for row in range(len(manifest))]
        return BoxCutouts([read_boxes(path).frames for path in files], labels, starts, frames_per_second)
    return PatchCutouts(labels, len(paths) - len(files))


class ObjectCutouts:
    """Sounding objects of SoundingShapes: the visible pixels in each frame."""

    description = (
        "The sounding object of a clip of another class, cut out by its mask; its kind is not in the scene yet."
    )

    def __init__(self, files: Sequence[Path], frames_per_second: float) -> None:
        self._files, self._rate = files, frames_per_second
        self.objects: list[str] = []
        self.scenes: list[set[str]] = []
        for path in files:
            truth = read_truth(path)  # masks are read again when needed: all of them would fill the memory
            sounding = [kind for kind, heard in zip(truth.kinds, truth.sounding, strict=True) if heard]
            self.objects.append(sounding[0] if sounding else "")
            self.scenes.append({*truth.kinds, *truth.heard_kinds})

    def mask(self, clip: Clip) -> Tensor:
        truth = read_truth(self._files[clip.row])
        seconds = [clip.video_start_seconds + i / self._rate for i in range(len(clip.video))]
        masks = torch.stack([torch.from_numpy(truth.sounding_mask(second)) for second in seconds])
        return F.interpolate(masks[:, None].float(), size=clip.video.shape[2:], mode="nearest-exact")[:, 0] > 0


class BoxCutouts:
    """The largest annotated box of the frame nearest to the middle of a clip."""

    description = "The largest annotated box of a clip of another class."

    def __init__(
        self,
        frames: Sequence[Sequence[TruthFrame]],
        labels: Sequence[str],
        starts: Sequence[float],
        frames_per_second: float,
    ) -> None:
        self._frames, self._starts, self._rate = frames, starts, frames_per_second
        has_box = [any(frame.boxes for frame in clip_frames) for clip_frames in frames]
        self.objects = [label if has else "" for label, has in zip(labels, has_box, strict=True)]
        self.scenes = [{label} for label in labels]

    def mask(self, clip: Clip) -> Tensor:
        middle = clip.video_start_seconds - self._starts[clip.row] + len(clip.video) / self._rate / 2
        frames = [frame for frame in self._frames[clip.row] if frame.boxes]
        nearest = min(frames, key=lambda frame: 0.0 if frame.seconds is None else abs(frame.seconds - middle))
        left, top, right, bottom = max((box.box for box in nearest.boxes), key=_area)
        return _rectangle(clip, top, bottom, left, right)


class PatchCutouts:
    """A rectangle in the middle of the frame, for clips without ground truth."""

    def __init__(self, labels: Sequence[str], num_missing: int) -> None:
        missing = f"{num_missing} of {len(labels)} rows have no truth file"
        why = missing if num_missing else "the truth files are of other kinds"
        self.description = (
            f"A rectangle of {PATCH_SHARE:.0%} of the frame from the middle of a clip of another class, "
            f"instead of its object, because {why}."
        )
        self.objects, self.scenes = labels, [{label} for label in labels]

    def mask(self, clip: Clip) -> Tensor:
        margin = (1 - PATCH_SHARE**0.5) / 2
        return _rectangle(clip, margin, 1 - margin, margin, 1 - margin)


def _area(box: tuple[float, float, float, float]) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def _rectangle(clip: Clip, top: float, bottom: float, left: float, right: float) -> Tensor:
    """Return a (T, H, W) bool mask, the same in all frames; sides are fractions of the frame in [0, 1]."""
    frames, _, height, width = clip.video.shape
    mask = torch.zeros(frames, height, width, dtype=torch.bool)
    mask[:, round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    return mask
