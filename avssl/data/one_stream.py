"""Clips of one stream, for models of video or audio alone. Files may lack the other stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from avssl.core.manifest import Manifest
from avssl.data.dataset import ClipDataset, stream_span
from avssl.data.sampling import ClipSampling, Span
from avssl.media import MediaInfo, MediaReader

_PLACEHOLDER_PIXELS = 8  # height and width of the unused black frames


class OneStreamDataset(ClipDataset):
    """Reads the video or the audio of rows; the other stream is neither needed, opened nor decoded.

    It is replaced by silence, or by black frames of 8 x 8 pixels, which must not be passed to
    a model. Windows lie anywhere in the stream that is read.

    Args:
        manifest: See :class:`ClipDataset`.
        sampling: The length of the stream's window; the other stream's is ignored.
        seed: Random seed for windows.
        stream: The stream to read.
        options: Further options of :class:`ClipDataset`.
    """

    def __init__(
        self,
        manifest: Manifest,
        sampling: ClipSampling,
        seed: int = 0,
        *,
        stream: Literal["video", "audio"],
        **options: Any,
    ) -> None:
        super().__init__(manifest, sampling, seed, **options)
        self.stream: Literal["video", "audio"] = stream
        if stream == "video":
            self._placing = replace(sampling, audio_seconds=sampling.video_seconds, max_offset_seconds=0.0)
        else:
            rate = 1 / sampling.audio_seconds
            self._placing = replace(sampling, num_frames=1, frames_per_second=rate, max_offset_seconds=0.0)

    def _stream_spans(self, info: MediaInfo) -> tuple[Span, Span]:
        start, stop = (getattr(info, f"{self.stream}_{end}_seconds") for end in ("start", "stop"))
        span = stream_span(info, self.stream, start, stop)
        return span, span

    def _read_video(
        self, reader: MediaReader, starts: Sequence[float], row_stop: float
    ) -> tuple[Tensor, Tensor | None]:
        if self.stream == "video":
            return super()._read_video(reader, starts, row_stop)
        num_frames = len(starts) * self.sampling.num_frames
        return torch.zeros(num_frames, 3, _PLACEHOLDER_PIXELS, _PLACEHOLDER_PIXELS, dtype=torch.uint8), None

    def _read_audio(self, reader: MediaReader, starts: Sequence[float], row_stop: float) -> list[Tensor]:
        if self.stream == "audio":
            return super()._read_audio(reader, starts, row_stop)
        return [torch.zeros(self.sampling.num_samples) for _ in starts]


def read_stream(
    manifest: Manifest, sampling: ClipSampling, stream: Literal["video", "audio"] | None, **options: Any
) -> ClipDataset:
    """Return the dataset of one stream, or of both for None; arguments as for :class:`ClipDataset`."""
    if stream is None:
        return ClipDataset(manifest, sampling, **options)
    return OneStreamDataset(manifest, sampling, stream=stream, **options)
