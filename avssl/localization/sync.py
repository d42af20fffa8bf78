"""Energy over offsets of the audio, and the decision whether a clip can tell its offset at all.

Each point in time has a curve of its own. Where sound and motion belong together, the curves of all points have their
minimum at one offset; where they do not (steady or silent audio, audio of another clip), minima lie anywhere. So the
mean curve is compared with mean curves after a random circular shift of each stretch of the clip: a permutation test,
which needs no threshold of a model and no validation clips.

Dimensions: N points in time, O offsets, D embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.localization.energy import EmbeddedWindows, Embedder, OnProgress
from avssl.localization.moments import MomentReader, Moments
from avssl.localization.windows import AudioSource, AudioWindows, FrameWindows, Sampling
from avssl.media import MediaReader

MOST_BY_CHANCE = 0.05
"""Largest share of shifted curves with as low a minimum at which an offset is reported."""
NUM_SHIFTS = 1999
"""Random shifts that are compared with the clip."""
STRETCH_SECONDS = 1.0
"""Length of a stretch of points that are shifted together, as points close in time show the same events."""
_ALIKE = 1e-6  # energies that differ by less are equal: rounding of float32


@dataclass(frozen=True, eq=False)
class SyncCurve:
    """Energy of a video whose audio is shifted in time, at each point in time.

    Example:
        >>> energies = torch.ones(8, 5)
        >>> energies[:, 3] = 0.25  # at every point in time the audio fits best when it is late
        >>> curve = SyncCurve(torch.arange(-2, 3).double() / 10, energies)
        >>> round(curve.offset, 2), curve.depth, curve.confidence > 0.99
        (0.1, 0.75, True)
    """

    offset_seconds: Tensor
    """(O,) float64 ascending. Audio that is this much *too late* has its minimum here."""
    energies: Tensor
    """(N, O) float32 in [0, 2], over the same points in time for every offset."""
    points_per_stretch: int = 1
    """Consecutive points that count as one observation in :attr:`confidence`."""
    is_foreign: bool = False
    """True if the model does not know such videos, so that no minimum of its energy tells an offset."""

    @property
    def num_instants(self) -> int:
        """N."""
        return len(self.energies)

    @cached_property
    def energy(self) -> Tensor:
        """(O,) mean energy."""
        return self.energies.mean(dim=0)

    @property
    def lowest_at_seconds(self) -> float:
        """Offset of the lowest energy, nearest to 0 among equals; positive if the audio is late."""
        lowest = (self.energy <= self.energy.min() + _ALIKE).nonzero()[:, 0]
        return float(self.offset_seconds[lowest[self.offset_seconds[lowest].abs().argmin()]])

    @property
    def depth(self) -> float:
        """Median of the curve minus its minimum, in [0, 2]: 0 if no offset is better than another.

        Source: SyncNet, Chung and Zisserman, ACCV workshops 2016, on its distances.
        """
        return float(self.energy.double().quantile(0.5) - self.energy.double().min())

    @cached_property
    def confidence(self) -> float:
        """Share of randomly shifted curves with a higher minimum, in [0, 1); 0 for a flat curve or a single stretch."""
        return 1 - chance_of_minimum(self.energies, self.points_per_stretch)

    @property
    def is_decided(self) -> bool:
        """True if the minimum lies inside the scan and comes by chance in at most :data:`MOST_BY_CHANCE` of the cases.

        A foreign video is never decided. Where loudness or light drifts slowly, all curves fall towards one edge and
        agree there without any event.
        """
        return not self.is_foreign and not self.is_at_edge and self.confidence >= 1 - MOST_BY_CHANCE

    @property
    def offset(self) -> float | None:
        """:attr:`lowest_at_seconds`, or None if the clip cannot tell."""
        return self.lowest_at_seconds if self.is_decided else None

    @property
    def is_at_edge(self) -> bool:
        """True if the minimum is the first or last offset, so that a lower one may lie beyond."""
        return self.lowest_at_seconds in (float(self.offset_seconds[0]), float(self.offset_seconds[-1]))


def chance_of_minimum(energies: Tensor, points_per_stretch: int = 1, *, seed: int = 0) -> float:
    """Return how often a mean curve has as low a minimum if the stretches of the clip do not agree on an offset.

    Args:
        energies: (N, O) energy of each point in time at each offset.
        points_per_stretch: Consecutive points that are shifted together.
        seed: Random seed of the shifts.

    Returns:
        In (0, 1]: (1 + shifted curves with as low a minimum) / (1 + :data:`NUM_SHIFTS`). 1 for a single stretch, which
        has nothing to agree with, and for flat curves.
    """
    num_offsets = energies.shape[1]
    sums = torch.stack([part.double().sum(dim=0) for part in energies.split(points_per_stretch)])  # (stretches, O)
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randint(num_offsets, (NUM_SHIFTS, len(sums), 1), generator=generator)
    places = (torch.arange(num_offsets) + shifts) % num_offsets  # (R, stretches, O)
    shifted = sums.expand(NUM_SHIFTS, -1, -1).gather(2, places).sum(dim=1)  # (R, O)
    as_low = shifted.amin(dim=1) <= sums.sum(dim=0).min() + _ALIKE * len(energies)
    return float(1 + as_low.sum()) / (1 + NUM_SHIFTS)


@torch.no_grad()
def sync_curve(
    reader: MediaReader,
    encoder: Embedder,
    sampling: Sampling,
    *,
    max_offset_seconds: float,
    step_seconds: float,
    audio_from: AudioSource = None,
    stop_after_seconds: float | None = None,
    on_progress: OnProgress | None = None,
) -> SyncCurve:
    """Compute the energy of a video whose audio is shifted against its frames.

    All offsets are measured at the same points in time, whose audio lies inside the file at every offset. With a model
    trained frame by frame (:attr:`Embedder.framewise`) these are its frames, and each is compared with the audio of
    single moments. Any other model embeds windows, half a window apart, at most half a second; windows of audio lie on
    a grid of ``step_seconds``, so each is embedded once.

    Args:
        reader: The video.
        encoder: The model with its preprocessing.
        sampling: The window the model was trained with.
        max_offset_seconds: Largest offset in both directions, >= ``step_seconds``.
        step_seconds: Time from one offset to the next, > 0.
        audio_from: Audio to use, as in :func:`avssl.localization.sliding_heatmaps`.
        stop_after_seconds: Stop this long after the first frame; None goes to the end.
        on_progress: Called after each batch of windows.

    Raises:
        MediaError: If there is no video or audio stream, or a part of it cannot be decoded.
        InputError: If an option is out of range, or the file is too short to move its audio so far.

    Example:
        >>> pretrained = avssl.from_pretrained("runs/first")
        >>> with avssl.open_media("video.mp4") as reader:
        ...     curve = sync_curve(
        ...         reader, pretrained.encoder(), pretrained.sampling, max_offset_seconds=0.2, step_seconds=0.1
        ...     )
        >>> curve.offset_seconds.tolist()
        [-0.2, -0.1, 0.0, 0.1, 0.2]
    """
    if not step_seconds > 0:
        raise InputError(f"step_seconds ({step_seconds}) must be greater than 0.")
    if max_offset_seconds < step_seconds:
        raise InputError(f"max_offset_seconds ({max_offset_seconds}) must be at least step_seconds ({step_seconds}).")
    pictures, sounds = FrameWindows(reader, sampling, stop_after_seconds), AudioWindows(reader, audio_from)
    most = round(max_offset_seconds / step_seconds)
    offsets = torch.arange(-most, most + 1, dtype=torch.float64) * step_seconds
    path = str(reader.info.path)
    if encoder.framewise:
        moments = MomentReader(pictures, sounds, encoder, sampling)
        return _curve_of_moments(*moments.read(path, most * step_seconds, on_progress), offsets, path)
    windows = EmbeddedWindows(pictures, sounds, encoder, sampling)
    return _curve_of_windows(windows, sampling, offsets, step_seconds, path, on_progress)


def _curve_of_moments(video: Moments, audio: Moments, offsets: Tensor, path: str) -> SyncCurve:
    """Return the curve of (M, D) frames, each compared with single moments of the audio."""
    times = video.first_seconds + torch.arange(len(video.vectors), dtype=torch.float64) * video.step_seconds
    first, last = audio.first_seconds - float(offsets[0]), audio.last_seconds - float(offsets[-1])
    inside = (times >= first - _ALIKE) & (times <= last + _ALIKE)
    if not inside.any():
        found, most = audio.last_seconds - audio.first_seconds, float(offsets[-1])
        raise InputError(_too_short(path, found, most, 2 * most))
    moved = audio.at(times[inside, None] + offsets)  # (N, O, D)
    energies = 1 - torch.einsum("nd,nod->no", video.vectors[inside], moved)
    return SyncCurve(offsets, energies, max(1, round(STRETCH_SECONDS / video.step_seconds)))


def _curve_of_windows(
    windows: EmbeddedWindows,
    sampling: Sampling,
    offsets: Tensor,
    step_seconds: float,
    path: str,
    on_progress: OnProgress | None,
) -> SyncCurve:
    """Return the curve of windows of frames and audio, each embedded as a whole."""
    most = len(offsets) // 2
    video_seconds = sampling.num_frames / sampling.frames_per_second
    stride = max(1, int(min(0.5, video_seconds / 2, sampling.audio_seconds / 2) / step_seconds + 1e-6))
    first, last = windows.span_inside(most * step_seconds)
    if last < first:
        needed = max(video_seconds, sampling.audio_seconds + 2 * most * step_seconds)
        raise InputError(_too_short(path, needed + last - first, most * step_seconds, needed))
    count = int((last - first) / (step_seconds * stride) + 1e-6) + 1
    place = torch.arange(count) * stride  # (N,) audio grid row of each point at the lowest offset
    instants = first + place.double() * step_seconds
    grid = first + torch.arange(-most, int(place[-1]) + most + 1, dtype=torch.float64) * step_seconds
    video, audio = windows.embed(instants, grid, on_progress)
    moved = audio[place[:, None] + torch.arange(2 * most + 1)]  # (N, O, D): offset o is grid row place + most + o
    stretch = max(STRETCH_SECONDS, video_seconds, sampling.audio_seconds)
    return SyncCurve(
        offsets, 1 - torch.einsum("nd,nod->no", video, moved), max(1, round(stretch / (stride * step_seconds)))
    )


def _too_short(path: str, found_seconds: float, max_offset_seconds: float, needed_seconds: float) -> str:
    return (
        f"{path}: {found_seconds:.2f} s of video and audio are too short: shifting the audio "
        f"by {max_offset_seconds:g} s both ways needs {needed_seconds:.2f} s. Lower --max-offset-seconds."
    )
