"""Disturbances of clips: noisy, silent or swapped audio; occluded, reversed or swapped video.

Each disturbance is a function of raw batches. Its random numbers depend on a clip's key alone, so that a
clip is disturbed in the same way in every batch; the other modality keeps its tensor.

Dimensions: B clips, T frames, H and W pixels of the canvas, S samples.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from avssl.core.batch import Batch
from avssl.core.draws import normal, uniform
from avssl.core.errors import InputError
from avssl.transforms.loudness import add_at_ratio
from avssl.transforms.planes import planes_to_rgb

GRAY = 128
"""Level of the pixels that cover a frame."""


def to_rgb(batch: Batch) -> Batch:
    """Return the raw batch with frames as (B, T, 3, H, W) RGB, which the disturbances of video need."""
    return (
        batch if batch.chroma is None else replace(batch, video=planes_to_rgb(batch.video, batch.chroma), chroma=None)
    )


def add_noise(batch: Batch, snr_db: float) -> Batch:
    """Add white Gaussian noise with a power ``snr_db`` decibels below that of each clip, exactly in each window."""
    noise = normal(batch.index.key, "noise", batch.audio.shape[1]).to(batch.audio.dtype)
    return replace(batch, audio=add_at_ratio(batch.audio, noise, snr_db))


def silence(batch: Batch) -> Batch:
    """Replace the audio by zeros."""
    return replace(batch, audio=torch.zeros_like(batch.audio))


def swap_audio(batch: Batch, other: Batch) -> Batch:
    """Replace the audio by that of the other clips.

    Args:
        batch: B clips.
        other: B clips, one for each.

    Raises:
        ValueError: If the numbers of clips or of samples differ.
    """
    _check_partners(batch, other)
    return replace(batch, audio=other.audio)


def swap_video(batch: Batch, other: Batch) -> Batch:
    """Replace the frames by those of the other clips; raise ValueError if the numbers of clips or of frames differ."""
    _check_partners(batch, other)
    return replace(batch, video=other.video, valid_hw=other.valid_hw, chroma=other.chroma)


def reverse_frames(batch: Batch) -> Batch:
    """Reverse the order of the frames; keep the audio."""
    chroma = None if batch.chroma is None else batch.chroma.flip(1)
    return replace(batch, video=batch.video.flip(1), chroma=chroma)


def occlude(batch: Batch, share: float) -> Batch:
    """Cover a fraction of each frame with a gray rectangle at a random position, the same in all frames of a clip.

    Args:
        batch: Raw, as RGB.
        share: Fraction of the frame's area, in (0, 1], to the nearest pixel of either side.
    """
    video = _rgb(batch).clone()
    video.masked_fill_(drawn_rectangles(batch, share, "occlusion")[:, None, None], GRAY)
    return replace(batch, video=video)


def paste(batch: Batch, other: Batch, mask: Tensor) -> Batch:
    """Paste what a mask cuts out of the other clips at a random position of each frame, with its motion.

    This is the test of Rosenfeld, Zemel and Tsotsos, 2018, "The elephant in the room",
    https://arxiv.org/abs/1808.03305, where an object of another image is put into a scene.

    Args:
        batch: B raw clips, as RGB.
        other: B raw clips, as RGB, of as many frames.
        mask: (B, T, H', W') bool over the canvas of ``other``; nothing is pasted where it is empty.

    Raises:
        ValueError: If shapes do not fit.
    """
    _check_partners(batch, other)
    video, source = _rgb(batch).clone(), _rgb(other)
    expected = (*source.shape[:2], *source.shape[3:])
    if tuple(mask.shape) != expected or mask.dtype != torch.bool:
        raise InputError(f"mask must be {expected} bool over the other clips, got {tuple(mask.shape)} {mask.dtype}.")
    positions = uniform(batch.index.key, "paste", 2)
    for i in range(len(video)):
        _paste_one(video[i], _valid_hw(batch)[i].tolist(), source[i], mask[i], positions[i].tolist())
    return replace(batch, video=video)


def drawn_rectangles(batch: Batch, share: float, purpose: str) -> Tensor:
    """Return (B, H, W) bool: a random rectangle inside each frame, of its shape and a fraction of its area."""
    if not 0 < share <= 1:
        raise InputError(f"share ({share}) must be in (0, 1].")
    valid = _valid_hw(batch)
    sides = (valid * share**0.5).round().long().clamp(min=1)  # (B, 2)
    first = (uniform(batch.index.key, purpose, 2) * (valid - sides + 1)).long()
    inside = []
    for axis, length in enumerate(batch.video.shape[3:]):
        position = torch.arange(length, device=valid.device)
        start, stop = first[:, axis, None], (first + sides)[:, axis, None]
        inside.append((position >= start) & (position < stop))
    return inside[0][:, :, None] & inside[1][:, None, :]


def _paste_one(video: Tensor, valid_hw: list[int], source: Tensor, mask: Tensor, position: list[float]) -> None:
    """Paste in place: video (T, 3, H, W), source (T, 3, H', W'), mask (T, H', W'), position in [0, 1)^2."""
    anywhere = mask.any(dim=0)
    if not anywhere.any():
        return
    cut, target = [], []
    for axis in (0, 1):
        touched = anywhere.any(dim=1 - axis).nonzero()[:, 0]
        start = int(touched[0])
        length = min(int(touched[-1]) + 1 - start, valid_hw[axis])  # a larger object is cut off
        first = int(position[axis] * (valid_hw[axis] - length + 1))
        cut.append(slice(start, start + length))
        target.append(slice(first, first + length))
    region = video[:, :, target[0], target[1]]
    region.copy_(torch.where(mask[:, None, cut[0], cut[1]], source[:, :, cut[0], cut[1]], region))


def _rgb(batch: Batch) -> Tensor:
    if batch.chroma is not None:
        raise InputError("frames must be RGB; convert them with to_rgb.")
    return batch.video


def _valid_hw(batch: Batch) -> Tensor:
    if batch.valid_hw is None:
        raise InputError("disturbances need raw batches, before any transform.")
    return batch.valid_hw


def _check_partners(batch: Batch, other: Batch) -> None:
    shapes = [(len(b), b.video.shape[1], b.audio.shape[1]) for b in (batch, other)]
    if shapes[0] != shapes[1]:
        raise InputError(f"partners must have as many (clips, frames, samples): {shapes[0]} and {shapes[1]}.")
