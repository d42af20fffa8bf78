"""Base class of readers that decode with another library and leave the rest to PyAV."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.media.info import MediaInfo
from avssl.media.limits import MediaLimits
from avssl.media.planes import Planes
from avssl.media.pyav.reader import PyAVReader
from avssl.media.reader import MediaReader

_PIECE_FRAMES = 16
_FAR_SECONDS = 60.0


class PyAVBackedReader(MediaReader, ABC):
    """Opens a file with PyAV first, which checks its kind, and takes :attr:`info` and streams of frames from there.

    Other libraries would follow a playlist onto the network.

    Args:
        path: A local regular file.
        limits: Limits on the file.

    Raises:
        MediaError: See :class:`PyAVReader`.
    """

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        self._pyav = PyAVReader(path, limits)
        self._path = str(path.absolute())
        self._video: Any = None
        self._audio: Any = None

    @property
    def info(self) -> MediaInfo:
        """Spans, sizes and rates, from PyAV."""
        return self._pyav.info

    def _stream_frames(self, times: list[float], short_side: int | None) -> Generator[Tensor, None, None]:
        return self._pyav._stream_frames(times, short_side)

    def _stream_planes(self, times: list[float], short_side: int | None) -> Generator[Planes, None, None]:
        return self._pyav._stream_planes(times, short_side)

    @property
    def _header(self) -> MediaInfo:
        return self._pyav._header

    @property
    def _channel_layout(self) -> str:
        return self._pyav._channel_layout

    def _start_deadline(self) -> None:
        self._pyav._start_deadline()

    def _reporting(self, stream: str, second: float) -> AbstractContextManager[None]:
        return self._pyav._reporting(stream, second)

    def _in_pieces(self, times: list[float], decode: Callable[[list[float]], Tensor]) -> Tensor:
        """Decode ``(T, 3, h, w)`` frames a few at a time, in the order of time, looking at the time limit in between.

        A library that decodes in one call cannot be stopped in it.
        """
        order = sorted(range(len(times)), key=times.__getitem__)
        pieces = []
        for first in range(0, len(order), _PIECE_FRAMES):
            self._pyav.source.deadline.start()
            pieces.append(decode([times[i] for i in order[first : first + _PIECE_FRAMES]]))
            self._pyav.source.deadline.check()
        frames = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return frames if order == list(range(len(times))) else frames[torch.tensor(order).argsort()]

    def _is_far_from_a_keyframe(self, times: list[float]) -> bool:
        """Return True if a frame needs so many others that decoding it in one call could take minutes."""
        track = self._pyav.video
        assert track is not None
        ticks = [int(second / track.time_base) for second in times]
        longest, before = _FAR_SECONDS / track.time_base, self._pyav.source.keyframe_before
        keyframes = [before(track.index, tick) for tick in ticks]
        return any(key is not None and tick - key > longest for tick, key in zip(ticks, keyframes, strict=True))

    def close(self) -> None:
        """Release the file."""
        self._video = self._audio = None
        self._pyav.close()


def resize_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(T, 3, h, w)`` uint8 to ``(T, 3, *size)``, bilinear and antialiased."""
    if frames.shape[-2:] != torch.Size(size):
        frames = F.interpolate(frames, size=size, mode="bilinear", antialias=True, align_corners=False)
    return frames.contiguous()
