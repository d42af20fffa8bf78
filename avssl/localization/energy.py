"""Energy of audio-video pairs over time: low where the audio belongs to the video.

A window slides over the file, as for a heat map. Each window of frames and each window of audio is embedded once; all
else is computed from their cosines.

Dimensions: N points in time, D embedding size.
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

    @property
    def framewise(self) -> bool:
        """True if the model compares each frame with the audio of its own moment."""

    def encode(self, modality: Modality, x: Tensor, /) -> Encoding:
        """Model input to (B, D) embeddings."""

    def instants(self, modality: Modality, x: Tensor, /) -> Tensor:
        """Model input to the (B, T, D) unit embeddings of its moments; used only if :attr:`framewise`."""


@dataclass(frozen=True, eq=False)
class EnergyCurve:
    """Energy of a video with its audio at each point in time.

    Example:
        >>> curve = EnergyCurve(torch.tensor([0.5, 1.5]).double(), torch.tensor([0.25, 0.5]), torch.tensor([1.0, 1.25]))
        >>> curve.mean, curve.shuffled_mean
        (0.375, 1.125)
    """

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
        reader: The video.
        encoder: The model with its preprocessing.
        sampling: The window the model was trained with.
        stride_seconds: Time from one point to the next, > 0.
        audio_from: Audio to use, as in :func:`avssl.localization.sliding_heatmaps`.
        stop_after_seconds: Stop this long after the first frame; None goes to the end.
        on_progress: Called after each batch of windows.

    Raises:
        MediaError: If there is no video or audio stream, or a part of it cannot be decoded.
        InputError: If an option is out of range.

    Example:
        >>> pretrained = avssl.from_pretrained("runs/first")
        >>> with avssl.open_media("video.mp4") as reader:
        ...     curve = energy_curve(reader, pretrained.encoder(), pretrained.sampling, stride_seconds=0.5)
        >>> curve.at_seconds.tolist()
        [0.25, 0.75, 1.25, 1.75]
    """
    if not stride_seconds > 0:
        raise InputError(f"stride_seconds ({stride_seconds}) must be greater than 0.")
    pictures = FrameWindows(reader, sampling, stop_after_seconds)
    instants = pictures.instants(stride_seconds)
    windows = EmbeddedWindows(pictures, AudioWindows(reader, audio_from), encoder, sampling)
    video, audio = windows.embed(instants, instants, on_progress)
    energies = 1 - video @ audio.T  # (N, N)
    # Overlapping windows share audio: only windows further apart count as other times.
    apart = (instants[:, None] - instants).abs() >= sampling.audio_seconds
    shuffled = (energies * apart).sum(dim=1) / apart.sum(dim=1)
    return EnergyCurve(instants, energies.diagonal(), shuffled)


class EmbeddedWindows:
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
