"""Batches of clips."""

from __future__ import annotations

from collections.abc import Sequence

from avssl.core.batch import Batch, BatchIndex, Clip
from avssl.core.errors import InputError
from avssl.data.packing import PackedClips, empty, empty_pinned, pack


def collate(clips: Sequence[Clip], index: BatchIndex, *, pin_memory: bool = False) -> Batch:
    """Return a raw batch of clips.

    Args:
        clips: B >= 1 clips, of any sizes.
        index: Their rows, groups and keys, in the same order.
        pin_memory: Allocate page-locked memory, from which copies to a GPU do not block.

    Raises:
        ValueError: If clips differ in length, or ``index`` names other rows.

    Example:
        >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), ClipSampling(audio_seconds=1.0))
        >>> clips = [dataset.read(row, epoch=0) for row in (2, 5)]
        >>> batch = collate(clips, dataset.index([2, 5], epoch=0, clip_numbers=[0, 0]))
        >>> batch.index.row.tolist(), tuple(batch.audio.shape)
        ([2, 5], (2, 24000))
    """
    rows = [clip.row for clip in clips]
    if index.row.tolist() != rows:
        raise InputError(f"index names rows {index.row.tolist()}, but the clips are of rows {rows}.")
    return raw_batch(pack(clips, empty_pinned if pin_memory else empty), index)


def raw_batch(packed: PackedClips, index: BatchIndex) -> Batch:
    """Return the raw batch of packed clips."""
    return Batch(packed.video, packed.audio, index, packed.valid_hw, packed.chroma)
