"""Embeddings of every moment of a file, of a model that compares each frame with the audio of its own moment.

Windows of the model's length overlap by half, and each moment is taken from the window whose middle is nearest, so the
ends of windows count at the ends of the file only. Frames and audio are read once.

Dimensions: M moments, D embedding size, T steps of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError
from avssl.localization.energy import Embedder, OnProgress
from avssl.localization.windows import AudioWindows, FrameWindows, Sampling


@dataclass(frozen=True, eq=False)
class Moments:
    """Unit embeddings of moments that are equally far apart."""

    first_seconds: float
    """Time of the first moment."""
    step_seconds: float
    """Time from one moment to the next."""
    vectors: Tensor
    """(M, D) float32 of unit length, on the CPU."""

    @property
    def last_seconds(self) -> float:
        """Time of the last moment."""
        return self.first_seconds + (len(self.vectors) - 1) * self.step_seconds

    def at(self, seconds: Tensor) -> Tensor:
        """Return the (..., D) unit vectors at times inside the moments, interpolated linearly between neighbors."""
        place = ((seconds - self.first_seconds) / self.step_seconds).clamp(0, len(self.vectors) - 1)
        low = place.floor().long().clamp(max=max(0, len(self.vectors) - 2))
        high, share = (low + 1).clamp(max=len(self.vectors) - 1), (place - low).float()[..., None]
        return F.normalize((1 - share) * self.vectors[low] + share * self.vectors[high], dim=-1)


class MomentReader:
    """Embeds frames and audio of one file moment by moment.

    Args:
        frames: Windows of the video.
        audio: Windows of the audio.
        encoder: A model with :attr:`Embedder.framewise`.
        sampling: The window the model was trained with.
        batch_size: Windows that pass the model at a time.
    """

    def __init__(
        self,
        frames: FrameWindows,
        audio: AudioWindows,
        encoder: Embedder,
        sampling: Sampling,
        batch_size: int = 8,
    ) -> None:
        self._frames, self._sounds, self._sampling = frames, audio, sampling
        self._encoder, self._batch_size = encoder, batch_size

    def read(self, path: str, margin_seconds: float, on_progress: OnProgress | None) -> tuple[Moments, Moments]:
        """Return the moments of the frames, and of the audio from ``margin_seconds`` before the frames to after them.

        Raises:
            InputError: If frames or audio are shorter than one window.
        """
        video_span, (audio_start, audio_stop) = self._frames.span, self._sounds.span
        audio_span = max(audio_start, video_span[0] - margin_seconds), min(audio_stop, video_span[1] + margin_seconds)
        starts = [self._starts(path, name, *span) for name, span in (("video", video_span), ("audio", audio_span))]
        total, done = sum(map(len, starts)), 0
        found = []
        for modality, begins in zip(("video", "audio"), starts, strict=True):
            windows = []
            for part in self._video(begins) if modality == "video" else self._audio(begins):
                windows.append(part.cpu())
                done += len(part)
                if on_progress is not None:
                    on_progress(done, total)
            found.append(self._joined(begins, torch.cat(windows)))
        return found[0], found[1]

    def _starts(self, path: str, name: str, start: float, stop: float) -> Tensor:
        """Return the (N,) float64 starts of windows, half a window apart and on the grid of frames, inside a span."""
        rate, length = self._sampling.frames_per_second, self._sampling.num_frames
        count = int((stop - start) * rate + 1e-6)
        if count < length:
            raise InputError(
                f"{path}: {max(0.0, stop - start):.2f} s of {name} are too short: the model needs "
                f"{length / rate:.2f} s, the length of the clips that it was trained on."
            )
        steps = torch.arange(0, count - length + 1, max(1, length // 2))
        steps = torch.cat([steps, torch.tensor([count - length])]).unique()
        return start + steps.double() / rate

    def _video(self, starts: Tensor) -> Iterator[Tensor]:
        for frames in self._frames.read(starts, self._batch_size):
            yield self._encoder.instants("video", self._encoder.video_input(frames))

    def _audio(self, starts: Tensor) -> Iterator[Tensor]:
        for part in starts.split(self._batch_size):
            middle = part + self._sampling.audio_seconds / 2
            waveforms = self._sounds.around(middle, self._sampling.audio_seconds, self._sampling.sample_rate_hz)
            yield self._encoder.instants("audio", self._encoder.audio_input(waveforms))

    def _joined(self, starts: Tensor, windows: Tensor) -> Moments:
        """Return one sequence of (N, T, D) windows: each moment from the window whose middle is nearest."""
        rate, length = self._sampling.frames_per_second, windows.shape[1]
        first = ((starts - starts[0]) * rate).round().long()  # (N,)
        moment = torch.arange(int(first[-1]) + length)
        place = moment[:, None] - first  # (M, N) step of each moment in each window
        off_middle = (2 * place - (length - 1)).abs()
        window = off_middle.argmin(dim=1)
        return Moments(float(starts[0]), 1 / rate, windows[window, place.gather(1, window[:, None])[:, 0]])
