"""Energy of audio-video pairs, over time and over offsets: low where the audio belongs to the video.

A window slides over the file, as for a heat map. Each window of frames and each window of audio is embedded once; all
else is computed from their cosines.

Dimensions: N points in time, O offsets, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.localization.windows import AudioSource, AudioWindows, FrameWindows, Sampling
from avssl.media import MediaReader
from avssl.models import Encoding

OnProgress = Callable[[int, int], object]
"""Called with (windows done, windows in all)."""


class Embedder(Protocol):
    """A model that embeds frames and audio; :class:`avssl.models.ClipEncoder` implements it."""

    def video_input(self, video: Tensor, /) -> Tensor:
        """(B, T, 3, H, W) uint8 frames to model input."""

    def audio_input(self, waveforms: Tensor, /) -> Tensor:
        """(B, S) waveforms to model input."""

    def encode(self, modality: Modality, x: Tensor, /) -> Encoding:
        """Model input to (B, D) embeddings."""


@dataclass(frozen=True, eq=False)
class EnergyCurve:
    """Energy of a video with its audio at each point in time."""

    at_seconds: Tensor
    """(N,) float64 presentation times, ascending."""
    energy: Tensor
    """(N,) float32 in [0, 2], as :meth:`avssl.models.AVModel.energy`."""
    shuffled: Tensor
    """(N,) float32: mean energy of the frames with the audio of other times; NaN if there is no other."""

    @property
    def mean(self) -> float:
        """Mean energy of matching pairs."""
        return float(self.energy.mean())

    @property
    def shuffled_mean(self) -> float:
        """Mean energy of frames with the audio of other times; NaN in a file as short as a window."""
        return float(self.shuffled[self.shuffled.isfinite()].mean())


@dataclass(frozen=True, eq=False)
class SyncCurve:
    """Mean energy of a video whose audio is shifted in time."""

    offset_seconds: Tensor
    """(O,) float64 ascending. Audio that is this much *too late* has its minimum here."""
    energy: Tensor
    """(O,) float32 in [0, 2]: means over the same points in time for every offset."""
    num_instants: int
    """Number of those points in time."""

    @property
    def best_offset_seconds(self) -> float:
        """Offset of the lowest energy, nearest to 0 among equals; positive if the audio is late."""
        lowest = (self.energy <= self.energy.min() + 1e-6).nonzero()[:, 0]
        return float(self.offset_seconds[lowest[self.offset_seconds[lowest].abs().argmin()]])

    @property
    def confidence(self) -> float:
        """Median of the curve minus its minimum, in [0, 2]: 0 if no offset is better than another.

        Source: SyncNet, Chung and Zisserman, ACCV workshops 2016, on its distances.
        """
        return float(self.energy.double().quantile(0.5) - self.energy.double().min())

    @property
    def is_at_edge(self) -> bool:
        """True if the minimum is the first or last offset, so that a lower one may lie beyond."""
        return self.best_offset_seconds in (float(self.offset_seconds[0]), float(self.offset_seconds[-1]))


@torch.no_grad()
def energy_curve(
    reader: MediaReader,
    encoder: Embedder,
    sampling: Sampling,
    *,
    stride_seconds: float,
    audio_from: AudioSource = None,
    stop_after_seconds: float | None = None,
    on_progress: OnProgress | None = None,
) -> EnergyCurve:
    """Compute the energy of a video with its audio over time.

    Args:
        encoder: The model with its preprocessing.
        sampling: The window the model was trained with.
        stride_seconds: Time from one point to the next, > 0.
        audio_from: Audio to use, as in :func:`avssl.localization.sliding_heatmaps`.
        stop_after_seconds: Stop this long after the first frame; None goes to the end.
        on_progress: Called after each batch of windows.

    Raises:
        MediaError: If there is no video or audio stream, or a part of it cannot be decoded.
        InputError: If an option is out of range.
    """
    if not stride_seconds > 0:
        raise InputError(f"stride_seconds ({stride_seconds}) must be greater than 0.")
    pictures = FrameWindows(reader, sampling, stop_after_seconds)
    instants = pictures.instants(stride_seconds)
    windows = _Windows(pictures, AudioWindows(reader, audio_from), encoder, sampling)
    video, audio = windows.embed(instants, instants, on_progress)
    energies = 1 - video @ audio.T  # (N, N)
    # Overlapping windows share audio: only windows further apart count as other times.
    apart = (instants[:, None] - instants).abs() >= sampling.audio_seconds
    shuffled = (energies * apart).sum(dim=1) / apart.sum(dim=1)
    return EnergyCurve(instants, energies.diagonal(), shuffled)


@torch.no_grad()
def sync_curve(
    reader: MediaReader,
    encoder: Embedder,
    sampling: Sampling,
    *,
    max_offset_seconds: float,
    step_seconds: float,
    strides_per_instant: int = 5,
    audio_from: AudioSource = None,
    stop_after_seconds: float | None = None,
    on_progress: OnProgress | None = None,
) -> SyncCurve:
    """Compute the mean energy of a video whose audio is shifted against its frames.

    All offsets are measured at the same points in time, whose windows lie inside the file at every offset. Audio
    windows lie on a grid of ``step_seconds``, so each is embedded once.

    Args:
        encoder: The model with its preprocessing.
        sampling: The window the model was trained with.
        max_offset_seconds: Largest offset in both directions, >= ``step_seconds``.
        step_seconds: Time from one offset to the next, > 0.
        strides_per_instant: Steps from one point in time to the next, >= 1.
        audio_from: Audio to use, as in :func:`avssl.localization.sliding_heatmaps`.
        stop_after_seconds: Stop this long after the first frame; None goes to the end.
        on_progress: Called after each batch of windows.

    Raises:
        MediaError: If there is no video or audio stream, or a part of it cannot be decoded.
        InputError: If an option is out of range, or the file is too short to move its audio so far.
    """
    if not step_seconds > 0:
        raise InputError(f"step_seconds ({step_seconds}) must be greater than 0.")
    if max_offset_seconds < step_seconds or strides_per_instant < 1:
        raise InputError(
            f"max_offset_seconds ({max_offset_seconds}) must be at least step_seconds ({step_seconds}), "
            f"and strides_per_instant ({strides_per_instant}) at least 1."
        )
    most = round(max_offset_seconds / step_seconds)
    pictures = FrameWindows(reader, sampling, stop_after_seconds)
    windows = _Windows(pictures, AudioWindows(reader, audio_from), encoder, sampling)
    first, last = windows.span_inside(most * step_seconds)
    count = int((last - first) / (step_seconds * strides_per_instant) + 1e-6) + 1
    if last < first:
        needed = max(sampling.num_frames / sampling.frames_per_second, sampling.audio_seconds + 2 * max_offset_seconds)
        raise InputError(
            f"{reader.info.path}: {needed + last - first:.2f} s of video and audio are too short: shifting the audio "
            f"by {max_offset_seconds:g} s both ways needs {needed:.2f} s. Lower --max-offset-seconds."
        )
    place = torch.arange(count) * strides_per_instant  # (N,) audio grid row of each point at the lowest offset
    instants = first + place.double() * step_seconds
    grid = first + torch.arange(-most, int(place[-1]) + most + 1, dtype=torch.float64) * step_seconds
    video, audio = windows.embed(instants, grid, on_progress)
    moved = audio[place[:, None] + torch.arange(2 * most + 1)]  # (N, O, D): offset o is grid row place + most + o
    energy = 1 - torch.einsum("nd,nod->no", video, moved).mean(dim=0)
    offsets = torch.arange(-most, most + 1, dtype=torch.float64) * step_seconds
    return SyncCurve(offsets, energy, count)


class _Windows:
    """Windows of frames and of audio of one file, embedded with unit length."""

    def __init__(
        self,
        pictures: FrameWindows,
        sounds: AudioWindows,
        encoder: Embedder,
        sampling: Sampling,
        batch_size: int = 8,
    ) -> None:
        self._pictures, self._sounds, self._sampling = pictures, sounds, sampling
        self._encoder, self._batch_size = encoder, batch_size

    def span_inside(self, max_offset: float) -> tuple[float, float]:
        """Return the first and last point in time whose windows need no shift, wherever the audio is moved to."""
        picture = self._sampling.num_frames / self._sampling.frames_per_second / 2
        sound = self._sampling.audio_seconds / 2 + max_offset
        (video_start, video_stop), (audio_start, audio_stop) = self._pictures.span, self._sounds.span
        return max(video_start + picture, audio_start + sound), min(video_stop - picture, audio_stop - sound)

    def embed(self, instants: Tensor, sound_instants: Tensor, on_progress: OnProgress | None) -> tuple[Tensor, Tensor]:
        """Return (N, D) of the frames and (M, D) of the audio around ascending points in time, on the CPU."""
        total, done = len(instants) + len(sound_instants), 0
        found: list[list[Tensor]] = [[], []]
        for parts, encodings in zip(found, (self._videos(instants), self._audios(sound_instants)), strict=True):
            for encoding in encodings:
                parts.append(encoding.vectors("embeddings").cpu())
                done += len(parts[-1])
                if on_progress is not None:
                    on_progress(done, total)
        return torch.cat(found[0]), torch.cat(found[1])

    def _videos(self, instants: Tensor) -> Iterator[Encoding]:
        for frames in self._pictures.read(self._pictures.starts(instants), self._batch_size):
            yield self._encoder.encode("video", self._encoder.video_input(frames))

    def _audios(self, instants: Tensor) -> Iterator[Encoding]:
        for part in instants.split(self._batch_size):
            waveforms = self._sounds.around(part, self._sampling.audio_seconds, self._sampling.sample_rate_hz)
            yield self._encoder.encode("audio", self._encoder.audio_input(waveforms))
