"""Frames and audio of windows that slide over one file, a part at a time."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Literal, Protocol

import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media import MediaError, MediaReader, prefetch

DECODED_SHORT_SIDE = 256
"""Larger frames are decoded at this size: 8 windows of 16 frames take 45 MB whatever the size of the video."""

NOISE_RMS = 0.1
"""Level of the white noise that replaces audio: -20 dBFS, about the level of recorded speech."""

_AHEAD = 8  # frames decoded while the model runs on earlier ones


class Sampling(Protocol):
    """The window a model was trained with; :class:`avssl.data.ClipSampling` is one."""

    @property
    def num_frames(self) -> int:
        """Frames per window."""

    @property
    def frames_per_second(self) -> float:
        """Frame rate; frame i is the one shown at start + i / rate."""

    @property
    def audio_seconds(self) -> float:
        """Length of the audio window."""

    @property
    def sample_rate_hz(self) -> int:
        """Audio sample rate."""

    @property
    def short_side(self) -> int | None:
        """Short side that frames are decoded at; None keeps the file's own size."""


class FrameWindows:
    """Frames of windows that move forward through one video.

    Frames shared by windows are decoded once, in one pass over the file, and dropped behind the windows.

    Raises:
        MediaError: If the file has no video stream.
    """

    def __init__(self, reader: MediaReader, sampling: Sampling, stop_after_seconds: float | None = None) -> None:
        info = reader.info
        if info.video_start_seconds is None or info.video_stop_seconds is None:
            raise MediaError(
                info.path, "video", "no_video", "there is no video stream.", "Heat maps and energies need frames."
            )
        self._reader, self._sampling = reader, sampling
        self._start, self._stop = info.video_start_seconds, info.video_stop_seconds
        if stop_after_seconds is not None and not stop_after_seconds > 0:
            raise InputError(f"stop_after_seconds ({stop_after_seconds}) must be greater than 0.")
        self._last = min(self._stop, self._start + (math.inf if stop_after_seconds is None else stop_after_seconds))
        self._short_side = sampling.short_side
        if self._short_side is None and min(info.height or 0, info.width or 0) > DECODED_SHORT_SIDE:
            self._short_side = DECODED_SHORT_SIDE

    @property
    def span(self) -> tuple[float, float]:
        """Start and stop of the processed part, in presentation seconds."""
        return self._start, self._last

    def instants(self, stride_seconds: float) -> Tensor:
        """Return (N,) float64 points in time, each in the middle of a stride of ``stride_seconds``; at least one."""
        count = max(1, round((self._last - self._start) / stride_seconds))
        instants = self._start + (torch.arange(count, dtype=torch.float64) + 0.5) * stride_seconds
        return instants.clamp(max=self._stop)

    def starts(self, instants: Tensor) -> Tensor:
        """Return the (B,) float64 start of each window, shifted to lie inside the video where one fits."""
        length = self._sampling.num_frames / self._sampling.frames_per_second
        last = max(self._start, self._stop - length)
        return (instants - length / 2).clamp(self._start, last)

    def read(self, starts: Tensor, batch_size: int) -> Iterator[Tensor]:
        """Yield the frames of windows in batches, (B, T, 3, H, W) uint8; the last frame is repeated past the end.

        Args:
            starts: (N,) float64 from :meth:`starts`, ascending.
        """
        for rows, held in self.read_once(starts, batch_size):
            yield torch.stack([torch.stack([held[number] for number in row]) for row in rows])

    def read_once(self, starts: Tensor, batch_size: int) -> Iterator[tuple[list[list[int]], dict[int, Tensor]]]:
        """Yield the numbers of the T frames of each window, in batches, and (3, H, W) uint8 of each number.

        Windows that share a frame have the same number for it, ascending in time.

        Args:
            starts: (N,) float64 from :meth:`starts`, ascending.
        """
        offsets = torch.arange(self._sampling.num_frames, dtype=torch.float64) / self._sampling.frames_per_second
        keys = ((starts[:, None] + offsets).clamp(self._start, self._stop) * 1e6).round().long()  # microseconds
        order = keys.unique()
        frames = self._reader.stream_frames((order.double() / 1e6).tolist(), self._short_side)
        with closing(prefetch(frames, _AHEAD)) as stream:
            coming = zip(order.tolist(), stream, strict=True)
            held: dict[int, Tensor] = {}
            for rows in keys.split(batch_size):
                first, last = int(rows.min()), int(rows.max())
                for key in [key for key in held if key < first]:  # in place: no caller keeps them alive
                    del held[key]
                while last not in held:
                    key, frame = next(coming)
                    held[key] = frame
                yield rows.tolist(), held


AudioSource = MediaReader | Literal["silence", "noise"] | None
"""None for the video's own audio, another file, silence, or white noise."""


class AudioWindows:
    """Audio around points in time of a video: its own, another file's from its start, silence or noise.

    Args:
        reader: The video.
        audio_from: Source of the audio.

    Raises:
        MediaError: If the file has no audio stream.
        InputError: If ``audio_from`` is another word.
    """

    def __init__(self, reader: MediaReader, audio_from: AudioSource) -> None:
        self._kind: Literal["track", "silence", "noise"] = "track"
        if isinstance(audio_from, str):
            if audio_from not in ("silence", "noise"):
                raise InputError(f'audio_from ({audio_from!r}) must be "silence", "noise", another reader, or None.')
            self._kind = audio_from
            return
        self._source = reader if audio_from is None else audio_from
        info = self._source.info
        if info.audio_start_seconds is None or info.audio_stop_seconds is None:
            advice = "Name other audio: --audio FILE, --silence or --noise (in Python, audio)."
            raise MediaError(info.path, "audio", "no_audio", "there is no audio stream.", advice)
        self._first, self._last = info.audio_start_seconds, info.audio_stop_seconds
        self._delay = 0.0 if audio_from is None else self._first - (reader.info.video_start_seconds or 0.0)

    @property
    def own_format(self) -> tuple[int, int]:
        """Sample rate in Hz and number of channels of the source; 24 000 and 1 for silence and noise."""
        if self._kind != "track":
            return 24_000, 1
        info = self._source.info
        return info.audio_sample_rate_hz or 24_000, info.audio_num_channels or 1

    @property
    def span(self) -> tuple[float, float]:
        """Start and stop of the audio in the video's time, in seconds; infinite for silence and noise."""
        if self._kind != "track":
            return -math.inf, math.inf
        return self._first - self._delay, self._last - self._delay

    def around(self, instants: Tensor, length_seconds: float, sample_rate_hz: int) -> Tensor:
        """Return (B, S) float32 windows of audio around (B,) float64 points in time of the video.

        Near an end of the stream windows are shifted to lie inside it, as in training; beyond it they hold silence.
        """
        num_samples = round(length_seconds * sample_rate_hz)
        if self._kind != "track":
            return torch.stack([self._made(num_samples, instant) for instant in instants.tolist()])
        instants = instants + self._delay
        starts = instants - length_seconds / 2
        inside = (instants >= self._first) & (instants <= self._last)
        starts = torch.where(inside, starts.clamp(self._first, max(self._first, self._last - length_seconds)), starts)
        # One read for all windows, then cut: consecutive windows share most of their samples.
        begin = float(starts.min())
        cuts = ((starts - begin) * sample_rate_hz).round().long().tolist()
        stretch = self._padded(begin, max(cuts) + num_samples, sample_rate_hz, 1)[0]
        return torch.stack([stretch[cut : cut + num_samples] for cut in cuts])

    def stream(
        self, start_seconds: float, num_samples: int, sample_rate_hz: int, num_channels: int = 1
    ) -> Generator[Tensor, None, None]:
        """Yield the audio of a part of the video, a second at a time, with silence where there is none.

        Yields:
            (C, S) float32, ``num_samples`` in all.
        """
        for first in range(0, num_samples, sample_rate_hz):
            count = min(sample_rate_hz, num_samples - first)
            second = start_seconds + first / sample_rate_hz
            if self._kind == "track":
                yield self._padded(second + self._delay, count, sample_rate_hz, num_channels)
            else:
                yield self._made(count, second).expand(num_channels, -1)

    def _padded(self, begin: float, num_samples: int, rate: int, num_channels: int) -> Tensor:
        """Return (C, num_samples) from ``begin`` in the source's own time; zeros outside its stream."""
        audio = torch.zeros(num_channels, num_samples)
        low, high = max(begin, self._first), min(begin + num_samples / rate, self._last)
        if high - low < 1 / rate:
            return audio
        offset = round((low - begin) * rate)
        samples = self._source.read_audio(low, high, rate, num_channels)[:, : num_samples - offset]
        audio[:, offset : offset + samples.shape[1]] = samples
        return audio

    def _made(self, num_samples: int, instant: float) -> Tensor:
        """Return (num_samples,) of silence, or of noise that differs between times and is the same in each run."""
        if self._kind == "silence":
            return torch.zeros(num_samples)
        generator = torch.Generator().manual_seed(round(instant * 1e6) & 0x7FFFFFFF)
        return NOISE_RMS * torch.randn(num_samples, generator=generator)
