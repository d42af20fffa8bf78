"""Put clips of different sizes in one batch, on a common canvas.

::

    canvas (H, W of the largest)   +--------+------+
                                   | clip   |  0   |   valid_hw = (h, w): clips are at the top left,
                                   +--------+      |   the rest of the canvas is 0
                                   |   0           |
                                   +---------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avssl.core.batch import Batch, BatchIndex, Clip
from avssl.core.errors import InputError


@dataclass(frozen=True)
class PackedClips:
    """B clips in a few tensors, so that few handles pass between processes."""

    video: Tensor
    """(B, T, 3, H, W) uint8 canvas, or (B, T, 1, H, W) beside ``chroma``."""
    valid_hw: Tensor
    """(B, 2) int64."""
    audio: Tensor
    """(B, S) float32."""
    chroma: Tensor | None
    """(B, T, 2, ceil(H / 2), ceil(W / 2)) uint8, or None."""

    def clip_planes(self, i: int) -> tuple[Tensor, Tensor | None]:
        """Return video and chroma of clip i without the rest of the canvas."""
        height, width = self.valid_hw[i].tolist()
        chroma = None if self.chroma is None else self.chroma[i, :, :, : (height + 1) // 2, : (width + 1) // 2]
        return self.video[i, :, :, :height, :width], chroma


def pack(clips: Sequence[Clip], *, pin_memory: bool = False) -> PackedClips:
    """Copy clips of one length into shared tensors.

    Args:
        clips: B >= 1 clips with the same number of frames and of samples.
        pin_memory: Allocate page-locked memory, from which copies to a GPU do not block.

    Raises:
        ValueError: If numbers of frames or samples differ, or only some clips have chroma planes.
    """
    lengths = {(*clip.video.shape[:2], len(clip.audio)) for clip in clips}
    if len(lengths) != 1:
        raise InputError(f"clips of one batch must have equal (frames, planes, samples), got {sorted(lengths)}.")
    valid_hw = torch.tensor([clip.video.shape[2:] for clip in clips], dtype=torch.int64)
    audio = torch.empty(len(clips), len(clips[0].audio), pin_memory=pin_memory)
    for i, clip in enumerate(clips):
        audio[i] = clip.audio
    planes = [clip.chroma for clip in clips if clip.chroma is not None]
    chroma = _canvas(planes, pin_memory) if planes else None
    return PackedClips(_canvas([clip.video for clip in clips], pin_memory), valid_hw, audio, chroma)


def _canvas(videos: Sequence[Tensor], pin_memory: bool) -> Tensor:
    """Return (B, T, C, H, W) with each (T, C, h, w) at the top left, and 0 elsewhere."""
    height, width = (max(video.shape[axis] for video in videos) for axis in (2, 3))
    shape = (len(videos), *videos[0].shape[:2], height, width)
    canvas = torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
    if any(video.shape[2:] != (height, width) for video in videos):
        canvas.zero_()
    for i, video in enumerate(videos):
        canvas[i, :, :, : video.shape[2], : video.shape[3]] = video
    return canvas


def collate(clips: Sequence[Clip], index: BatchIndex, *, pin_memory: bool = False) -> Batch:
    """Return a raw batch of clips.

    Args:
        clips: B >= 1 clips, of any sizes.
        index: Their rows, groups and keys, in the same order.

    Raises:
        ValueError: If clips differ in length, or ``index`` names other rows.
    """
    rows = [clip.row for clip in clips]
    if index.row.tolist() != rows:
        raise InputError(f"index names rows {index.row.tolist()}, but the clips are of rows {rows}.")
    packed = pack(clips, pin_memory=pin_memory)
    return Batch(packed.video, packed.audio, index, packed.valid_hw, packed.chroma)
