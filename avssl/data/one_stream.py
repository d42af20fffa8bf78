"""Clips for a model that only sees, or only hears: files without the other stream are good files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from avssl.core.manifest import Manifest
from avssl.data.dataset import ClipDataset, track_span
from avssl.data.sampling import ClipSampling, Span
from avssl.media import MediaInfo, MediaReader

_BLACK_PIXELS = 8  # height and width of pictures that nobody looks at


class OneStreamDataset(ClipDataset):
    """Reads the pictures or the sound of rows; the other stream is neither needed nor decoded.

    Its place in a clip is taken by silence, or by black pictures of 8 x 8 pixels, which are not to be shown to
    any model. Windows lie wherever the stream that is read has room for them.

    Args:
        manifest: As of :class:`ClipDataset`, as are the other arguments.
        sampling: The length of the stream's window; that of the other does not count.
        seed: Of the windows.
        stream: What is read.
        options: Further ones of :class:`ClipDataset`.
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
        self.stream = stream
        if stream == "video":
            self._placing = replace(sampling, audio_seconds=sampling.video_seconds, max_offset_seconds=0.0)
        else:
            rate = 1 / sampling.audio_seconds
            self._placing = replace(sampling, num_frames=1, frames_per_second=rate, max_offset_seconds=0.0)

    def _track_spans(self, info: MediaInfo) -> tuple[Span, Span]:
        start, stop = (getattr(info, f"{self.stream}_{end}_seconds") for end in ("start", "stop"))
        span = track_span(info, self.stream, start, stop)
        return span, span

    def _pictures(self, reader: MediaReader, starts: Sequence[float], row_stop: float) -> tuple[Tensor, Tensor | None]:
        if self.stream == "video":
            return super()._pictures(reader, starts, row_stop)
        num_frames = len(starts) * self.sampling.num_frames
        return torch.zeros(num_frames, 3, _BLACK_PIXELS, _BLACK_PIXELS, dtype=torch.uint8), None

    def _sounds(self, reader: MediaReader, starts: Sequence[float], row_stop: float) -> list[Tensor]:
        if self.stream == "audio":
            return super()._sounds(reader, starts, row_stop)
        return [torch.zeros(self.sampling.num_samples) for _ in starts]
