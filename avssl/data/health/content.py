"""Check the content of a file: its ends can be decoded, its frames differ and its audio is not silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from avssl.media import MediaError, MediaInfo, MediaReader
from avssl.media.pyav.stream_ends import CUT_SECONDS

_STILL_LEVELS = 5.0  # of 255, at _SHORT_SIDE: coding alone changes less, unless its bit rate is very low
_SHORT_SIDE = 64
_SILENT_PEAK = 10 ** (-60 / 20)
_BLOCK_SECONDS = 1.0
_MAX_BLOCKS = 600  # ten minutes of audio below the level are silence
# Uneven positions between the ends, as fractions: a periodic motion is not sampled at the same phase each time.
_LATE = 0.98
_MIDDLES = (0.472, 0.146, 0.708, 0.854, 0.292, 0.618)


def check_content(reader: MediaReader, info: MediaInfo, *, everywhere: bool = False) -> MediaInfo:
    """Decode the ends of the streams, and as much of the rest as needed to find a change and an audible sound.

    Args:
        info: Its header, with the streams to check.
        everywhere: Decode all of the audio.

    Returns:
        The header, with stops moved to what can be decoded: a recording often stops within a frame.

    Raises:
        MediaError: If neither an end nor half a second before it can be decoded, if nothing changes
            (``"still_picture"``), or nothing is audible (``"silent"``).
    """
    frames = last_audio = None
    if info.has_video:
        info, frames = _read_to_end(reader, info, "video_stop_seconds", _read_frames)
    if info.has_audio:
        info, last_audio = _read_to_end(reader, info, "audio_stop_seconds", _read_last_audio)
    if frames is not None:
        _check_not_still(reader, info, frames)
    if last_audio is not None:
        _check_not_silent(reader, info, last_audio, everywhere)
    return info


def _read_to_end(
    reader: MediaReader, info: MediaInfo, stop: str, read: Callable[[MediaReader, MediaInfo], Tensor]
) -> tuple[MediaInfo, Tensor]:
    """Read up to the end of a stream; return the header, with an earlier stop if necessary, and the data."""
    try:
        return info, read(reader, info)
    except MediaError as error:
        shorter = replace(info, **{stop: getattr(info, stop) - CUT_SECONDS})
        if error.reason == "too_large" or _length(shorter, stop.split("_")[0]) <= 0:
            raise
        return shorter, read(reader, shorter)


def _length(info: MediaInfo, stream: str) -> float:
    start, stop = getattr(info, f"{stream}_start_seconds"), getattr(info, f"{stream}_stop_seconds")
    return float(stop - start)


def _read_frames(reader: MediaReader, info: MediaInfo) -> Tensor:
    """Read the first, a middle and the last frame, together: with few keyframes they share their decoding."""
    start, stop = info.video_start_seconds, info.video_stop_seconds
    assert start is not None
    assert stop is not None
    last = max(start, stop - 0.5 / (info.video_fps or 1.0))
    return _read_small(reader, info, [start, start + _MIDDLES[0] * (last - start), last])


def _read_last_audio(reader: MediaReader, info: MediaInfo) -> Tensor:
    start, stop = info.audio_start_seconds, info.audio_stop_seconds
    assert start is not None
    assert stop is not None
    return _read_audio(reader, max(start, stop - _BLOCK_SECONDS), stop)


def _read_small(reader: MediaReader, info: MediaInfo, at_seconds: list[float]) -> Tensor:
    """Read (T, 3, h, w) float32 frames, no larger than needed to see a change."""
    return reader.read_frames(at_seconds, min(_SHORT_SIDE, info.width or 1, info.height or 1)).float()


def _read_audio(reader: MediaReader, start: float, stop: float) -> Tensor:
    """Read (1, S) samples as training does: what the mix to mono loses is silent there too."""
    return reader.read_audio(start, stop)


def _check_not_still(reader: MediaReader, info: MediaInfo, frames: Tensor) -> None:
    """Compare the frames; while all are equal, read a few more."""
    start, stop = info.video_start_seconds, info.video_stop_seconds
    assert start is not None
    assert stop is not None
    if _is_still(frames):
        more = [start + fraction * (stop - start) for fraction in _MIDDLES[1:]]
        frames = torch.cat([frames, _read_small(reader, info, more)])
        if _is_still(frames):
            found = f"all of {len(frames)} frames, from start to end, are the same."
            raise MediaError(info.path, "video", "still_picture", found, "Leave the file out.")


def is_still_span(reader: MediaReader, info: MediaInfo, start: float, stop: float) -> bool:
    """Return True if no frame of a part of the file differs from the others; few are decoded where one does."""
    length = stop - start
    first = [start, start + _MIDDLES[0] * length, start + _LATE * length]
    return are_still(reader, info, first) and are_still(
        reader, info, [*first[:1], *(start + fraction * length for fraction in _MIDDLES[1:])]
    )


def are_still(reader: MediaReader, info: MediaInfo, at_seconds: list[float]) -> bool:
    """Return True if the frames at these times are the same but for coding noise."""
    return _is_still(_read_small(reader, info, at_seconds))


def is_silent_span(reader: MediaReader, info: MediaInfo, start: float, stop: float) -> bool:
    """Return True if nothing in a part of the file is audible; decodes up to the first audible second."""
    begin = start
    while begin < stop:
        end = stop if stop - begin < 2 * _BLOCK_SECONDS else begin + _BLOCK_SECONDS
        if not _is_silent(_read_audio(reader, begin, end)):
            return False
        begin = end
    return True


def _is_still(frames: Tensor) -> bool:
    """Return True if no value of ``(T, 3, H, W)`` frames changes by more than coding noise."""
    return bool((frames.amax(0) - frames.amin(0)).max() < _STILL_LEVELS)


def _check_not_silent(reader: MediaReader, info: MediaInfo, last: Tensor, everywhere: bool) -> None:
    """Check the end, then from the start on until something is audible."""
    start, stop = info.audio_start_seconds, info.audio_stop_seconds
    assert start is not None
    assert stop is not None
    is_silent = _is_silent(last)
    for begin, end in _blocks(start, stop, everywhere):
        is_silent &= _is_silent(_read_audio(reader, begin, end))
        if not is_silent and not everywhere:
            return
    if is_silent:
        found = "the audio never rises above -60 dBFS."
        raise MediaError(info.path, "audio", "silent", found, "Leave the file out.")


def _is_silent(audio: Tensor) -> bool:
    """Return True if no sample of ``(C, S)`` is above the level; a constant offset is inaudible."""
    return bool((audio - audio.mean(1, keepdim=True)).abs().max() < _SILENT_PEAK) if audio.numel() else True


def _blocks(start: float, stop: float, everywhere: bool) -> Iterator[tuple[float, float]]:
    """Yield (start, stop) of the whole blocks of a stream; for a long one, evenly spread blocks."""
    count = max(1, int((stop - start) // _BLOCK_SECONDS))
    step = 1 if everywhere else -(-count // _MAX_BLOCKS)
    for number in range(0, count, step):
        begin = start + number * _BLOCK_SECONDS
        yield begin, min(stop, begin + _BLOCK_SECONDS)
