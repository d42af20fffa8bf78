"""What a file's pictures and sound hold: whether its ends can be decoded, something moves, and something is heard."""

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
_MAX_BLOCKS = 600  # ten minutes of sound below the level are silence
# Uneven places between the ends, as fractions: a motion that repeats is not met at the same phase each time.
_MIDDLES = (0.472, 0.146, 0.708, 0.854, 0.292, 0.618)


def check_content(reader: MediaReader, info: MediaInfo, *, everywhere: bool = False) -> MediaInfo:
    """Decodes the ends of both tracks, and as much of the rest as it takes to see a change and hear a sound.

    Args:
        reader: The open file.
        info: Its header, with both tracks.
        everywhere: Decode all of the sound.

    Returns:
        The header, its stops moved to what can be decoded: a recording often stops within a frame.

    Raises:
        MediaError: If an end cannot be decoded and half a second before it neither, or nothing changes
            (``"still_picture"``), or nothing can be heard (``"silent"``).
    """
    info, pictures = _at_end(reader, info, "video_stop_seconds", _pictures)
    info, last_sound = _at_end(reader, info, "audio_stop_seconds", _last_sound)
    _refuse_still(reader, info, pictures)
    _refuse_silent(reader, info, last_sound, everywhere)
    return info


def _at_end(
    reader: MediaReader, info: MediaInfo, stop: str, read: Callable[[MediaReader, MediaInfo], Tensor]
) -> tuple[MediaInfo, Tensor]:
    """What is read up to the end of a track, and the header, with an earlier stop if it took one."""
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


def _pictures(reader: MediaReader, info: MediaInfo) -> Tensor:
    """The first, a middle and the last picture, in one go: with few keyframes each alone would decode the same."""
    start, stop = info.video_start_seconds, info.video_stop_seconds
    assert start is not None
    assert stop is not None
    last = max(start, stop - 0.5 / (info.video_fps or 1.0))
    return _small(reader, info, [start, start + _MIDDLES[0] * (last - start), last])


def _last_sound(reader: MediaReader, info: MediaInfo) -> Tensor:
    start, stop = info.audio_start_seconds, info.audio_stop_seconds
    assert start is not None
    assert stop is not None
    return _sound(reader, info, max(start, stop - _BLOCK_SECONDS), stop)


def _small(reader: MediaReader, info: MediaInfo, at_seconds: list[float]) -> Tensor:
    """(T, 3, h, w) float32 pictures, no larger than needed to see a change."""
    return reader.read_frames(at_seconds, min(_SHORT_SIDE, info.width or 1, info.height or 1)).float()


def _sound(reader: MediaReader, info: MediaInfo, start: float, stop: float) -> Tensor:
    """(C, S) samples of the track's own channels.

    Raises:
        MediaError: If a sample is no number, too.
    """
    sound = reader.read_audio(start, stop, num_channels=info.audio_num_channels or 1)
    if not bool(sound.isfinite().all()):
        found = "the sound has values that are no numbers."
        raise MediaError(info.path, "audio", "unreadable", found, "The file is damaged there.", start)
    return sound


def _refuse_still(reader: MediaReader, info: MediaInfo, seen: Tensor) -> None:
    """As long as all pictures are equal, looks at a few more."""
    start, stop = info.video_start_seconds, info.video_stop_seconds
    assert start is not None
    assert stop is not None
    if _is_still(seen):
        more = [start + fraction * (stop - start) for fraction in _MIDDLES[1:]]
        seen = torch.cat([seen, _small(reader, info, more)])
        if _is_still(seen):
            found = f"all of {len(seen)} pictures, taken from its start to its end, are the same."
            raise MediaError(info.path, "video", "still_picture", found, "Leave the file out.")


def _is_still(pictures: Tensor) -> bool:
    """Whether no value of ``(T, 3, H, W)`` pictures changes by more than coding does."""
    return bool((pictures.amax(0) - pictures.amin(0)).max() < _STILL_LEVELS)


def _refuse_silent(reader: MediaReader, info: MediaInfo, last: Tensor, everywhere: bool) -> None:
    """Listens to the end, then from the start on until something can be heard."""
    start, stop = info.audio_start_seconds, info.audio_stop_seconds
    assert start is not None
    assert stop is not None
    is_silent = _is_silent(last)
    for begin, end in _blocks(start, stop, everywhere):
        is_silent &= _is_silent(_sound(reader, info, begin, end))
        if not is_silent and not everywhere:
            return
    if is_silent:
        found = "the sound never rises above -60 dBFS."
        raise MediaError(info.path, "audio", "silent", found, "Leave the file out.")


def _is_silent(sound: Tensor) -> bool:
    """Whether no sample of ``(C, S)`` is above the level; a constant offset makes no sound."""
    return bool((sound - sound.mean(1, keepdim=True)).abs().max() < _SILENT_PEAK) if sound.numel() else True


def _blocks(start: float, stop: float, everywhere: bool) -> Iterator[tuple[float, float]]:
    """(start, stop) of all whole blocks of a track from its start on; of a long one, some, evenly."""
    count = max(1, int((stop - start) // _BLOCK_SECONDS))
    step = 1 if everywhere else -(-count // _MAX_BLOCKS)
    for number in range(0, count, step):
        begin = start + number * _BLOCK_SECONDS
        yield begin, min(stop, begin + _BLOCK_SECONDS)
