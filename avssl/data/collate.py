"""Clips of different shapes in one batch: a canvas, with the part of it that is each clip's.

::

    canvas (H, W of the largest)   +--------+------+
                                   | clip   |  0   |   valid_hw = (h, w): clips lie top left,
                                   +--------+      |   the rest of the canvas is 0
                                   |   0           |
                                   +---------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avssl.batch import Batch, BatchIndex, Clip


@dataclass(frozen=True)
class Packed:
    """The tensors of B clips, each one tensor, so that few handles pass between processes."""

    video: Tensor
    """(B, T, 3, H, W) uint8 canvas."""
    valid_hw: Tensor
    """(B, 2) int64."""
    audio: Tensor
    """(B, S) float32."""


def pack(clips: Sequence[Clip], *, pin_memory: bool = False) -> Packed:
    """Copies clips of one length into shared tensors.

    Args:
        clips: B >= 1 clips with the same number of frames and of samples.
        pin_memory: Allocate page-locked memory, from which copies to a GPU do not block.

    Raises:
        ValueError: If numbers of frames or samples differ.
    """
    lengths = {(len(clip.video), len(clip.audio)) for clip in clips}
    if len(lengths) != 1:
        raise ValueError(f"clips of one batch must have equal (frames, samples), got {sorted(lengths)}.")
    valid_hw = torch.tensor([clip.video.shape[2:] for clip in clips], dtype=torch.int64)
    height, width = valid_hw.amax(0).tolist()
    shape = (len(clips), len(clips[0].video), 3, height, width)
    whole = bool((valid_hw == valid_hw[0]).all())
    canvas = torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
    audio = torch.empty(len(clips), len(clips[0].audio), pin_memory=pin_memory)
    if not whole:
        canvas.zero_()
    for i, clip in enumerate(clips):
        canvas[i, :, :, : clip.video.shape[2], : clip.video.shape[3]] = clip.video
        audio[i] = clip.audio
    return Packed(canvas, valid_hw, audio)


def collate(clips: Sequence[Clip], index: BatchIndex, *, pin_memory: bool = False) -> Batch:
    """A raw batch of clips.

    Args:
        clips: B >= 1 clips, of any sizes.
        index: Their rows, groups and keys, in the same order.
        pin_memory: As in :func:`pack`.

    Raises:
        ValueError: If clips differ in length, or ``index`` names other rows.
    """
    rows = [clip.row for clip in clips]
    if index.row.tolist() != rows:
        raise ValueError(f"index names rows {index.row.tolist()}, but the clips are of rows {rows}.")
    packed = pack(clips, pin_memory=pin_memory)
    return Batch(packed.video, packed.audio, index, packed.valid_hw)
