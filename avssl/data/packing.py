"""Clips of different sizes in a few arrays, on a common canvas.

::

    canvas (H, W of the largest)   +--------+------+
                                   | clip   |  0   |   valid_hw = (h, w): clips are at the top left,
                                   +--------+      |   the rest of the canvas is 0
                                   |   0           |
                                   +---------------+

A worker packs the clips of its requests (:func:`pack`). The parent gathers the clips of a batch from such packs
(:func:`gather`): a few copies, since neighbors lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.core.batch import Clip
from avssl.core.errors import InputError

Empty = Callable[[tuple[int, ...], torch.dtype], Tensor]
"""(shape, dtype) → a new tensor in the right kind of memory."""

INT16_SCALE = 2.0**-15
"""Value of an int16 sample of 1 as float32."""
_ALIGNMENT = 64
_SOME = 256
"""Samples that show, nearly always, that audio is not of 16 bits."""


@dataclass(frozen=True)
class PackedClips:
    """B clips in a few tensors."""

    video: Tensor
    """(B, T, 3, H, W) uint8 canvas, or (B, T, 1, H, W) beside ``chroma``."""
    valid_hw: Tensor
    """(B, 2) int64."""
    audio: Tensor
    """(B, S) float32 in [-1, 1]; or int16, of which one step is :data:`INT16_SCALE`."""
    chroma: Tensor | None
    """(B, T, 2, ceil(H / 2), ceil(W / 2)) uint8, or None."""

    def __len__(self) -> int:
        return len(self.video)

    def planes(self, i: int) -> tuple[Tensor, Tensor | None]:
        """Return video and chroma of clip i without the rest of the canvas."""
        height, width = self.valid_hw[i].tolist()
        chroma = None if self.chroma is None else self.chroma[i, :, :, : (height + 1) // 2, : (width + 1) // 2]
        return self.video[i, :, :, :height, :width], chroma

    def samples(self, i: int) -> Tensor:
        """Return the (S,) float32 audio of clip i."""
        return as_float(self.audio[i])


def as_float(audio: Tensor) -> Tensor:
    """Return audio as float32, exactly what int16 samples stand for."""
    return audio.float().mul_(INT16_SCALE) if audio.dtype == torch.int16 else audio


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a new tensor whose large pages, where the system has them, are found in a fraction of the time."""
    num_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(num_bytes + _ALIGNMENT, np.uint8)  # numpy requests large pages
    first = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[first : first + num_bytes]).view(dtype).view(shape)


def empty_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor in page-locked memory, which torch keeps for the next ones when it is no longer used."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def pack(clips: Sequence[Clip], empty: Empty = empty, *, as_int16: bool = False) -> PackedClips:
    """Copy clips of one length into a few tensors.

    Args:
        clips: B >= 1 clips with the same number of frames and of samples.
        empty: Allocates the tensors.
        as_int16: Store audio as int16 if that loses nothing, bit for bit, as in clips of 16-bit audio at their own
            sample rate.

    Raises:
        ValueError: If numbers of frames or samples differ, or only some clips have chroma planes.
    """
    _check_equal({(*clip.video.shape[:2], len(clip.audio)) for clip in clips})
    valid_hw = torch.tensor([clip.video.shape[2:] for clip in clips], dtype=torch.int64)
    size = valid_hw.amax(0)
    planes = [clip.chroma for clip in clips if clip.chroma is not None]
    video = _joined([clip.video[None] for clip in clips], size, empty)
    chroma = _joined([plane[None] for plane in planes], (size + 1) // 2, empty) if planes else None
    sounds = [clip.audio.numpy() for clip in clips]
    found = [_int16(sound) for sound in sounds] if as_int16 else [None]
    whole = [sound for sound in found if sound is not None]
    if len(whole) == len(sounds):
        audio = _stacked(whole, empty, torch.int16)
    else:
        audio = _stacked(sounds, empty, torch.float32)
    return PackedClips(video, valid_hw, audio, chroma)


def gather(parts: Sequence[tuple[PackedClips, int]], empty: Empty = empty, *, keep_int16: bool = False) -> PackedClips:
    """Copy clips out of packs onto a canvas of their own.

    Args:
        parts: B >= 1 pairs of a pack and the index of a clip in it.
        empty: Allocates the tensors.
        keep_int16: Leave audio as int16 if all of it is.

    Raises:
        ValueError: If numbers of frames or samples differ, or only some clips have chroma planes.
    """
    runs = list(_runs(parts))
    _check_equal({(*pack.video.shape[1:3], pack.audio.shape[1]) for pack, _ in runs})
    valid_hw = torch.cat([pack.valid_hw[run] for pack, run in runs])
    size = valid_hw.amax(0)
    video = _joined([pack.video[run] for pack, run in runs], size, empty)
    planes = [pack.chroma[run] for pack, run in runs if pack.chroma is not None]
    chroma = _joined(planes, (size + 1) // 2, empty) if planes else None
    sounds = [pack.audio[run].numpy() for pack, run in runs]
    is_int16 = keep_int16 and all(sound.dtype == np.int16 for sound in sounds)
    audio = empty((len(parts), sounds[0].shape[1]), torch.int16 if is_int16 else torch.float32)
    out, at = audio.numpy(), 0
    for sound in sounds:
        to = out[at : (at := at + len(sound))]
        np.copyto(to, sound)
        if sound.dtype != out.dtype:
            to *= np.float32(INT16_SCALE)
    return PackedClips(video, valid_hw, audio, chroma)


def _check_equal(lengths: set[tuple[int, ...]]) -> None:
    if len(lengths) != 1:
        raise InputError(f"clips of one batch must have equal (frames, planes, samples), got {sorted(lengths)}.")


def _runs(parts: Sequence[tuple[PackedClips, int]]) -> Iterator[tuple[PackedClips, slice]]:
    """Yield packs with slices of them that follow one another in ``parts``, as long as possible."""
    first = 0
    while first < len(parts):
        pack, start = parts[first]
        stop, step = first + 1, 1
        while stop < len(parts) and parts[stop][0] is pack:
            distance = parts[stop][1] - parts[stop - 1][1]
            if distance < 1 or (distance != step and stop > first + 1):
                break
            step, stop = distance, stop + 1
        yield pack, slice(start, parts[stop - 1][1] + 1, step)
        first = stop


def _joined(videos: Sequence[Tensor], size: Tensor, empty: Empty) -> Tensor:
    """Return (B, T, C, H, W) of the clips of all (b, T, C, h, w), at the top left, and 0 elsewhere."""
    height, width = size.tolist()
    shape = (sum(map(len, videos)), *videos[0].shape[1:3], height, width)
    canvas = empty(shape, torch.uint8)
    if any(video.shape[3] < height or video.shape[4] < width for video in videos):
        canvas.zero_()
    out, at = canvas.numpy(), 0  # numpy lets go of the interpreter while it copies, in this thread alone
    for video in videos:
        part = video.numpy()[..., :height, :width]
        np.copyto(out[at : (at := at + len(part)), ..., : part.shape[3], : part.shape[4]], part)
    return canvas


def _stacked(sounds: Sequence[np.ndarray], empty: Empty, dtype: torch.dtype) -> Tensor:
    audio = empty((len(sounds), len(sounds[0])), dtype)
    np.stack(sounds, out=audio.numpy())
    return audio


def _int16(sound: np.ndarray) -> np.ndarray | None:
    """Return float32 audio as int16, or None if that would change a bit of it."""
    for part in (np.ascontiguousarray(sound[:_SOME]), np.ascontiguousarray(sound)):
        with np.errstate(invalid="ignore"):  # numbers out of range become others, which differ
            rounded = (part * np.float32(2**15)).astype(np.int16)
        back = rounded.astype(np.float32)  # numpy converts and multiplies in turn many times faster than at once
        back *= np.float32(INT16_SCALE)
        if not np.array_equal(back.view(np.int32), part.view(np.int32)):
            return None
    return rounded
