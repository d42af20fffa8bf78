"""The format of a prepared clip: an mp4 file made for random access, and a table of its packets.

Reading an ordinary file needs a demuxer, which parses its index, probes its streams and seeks. Reading a prepared
clip does not: the table gives the position of each packet, and only the few packets of a window are read and decoded.
The mp4 itself is an ordinary one and plays anywhere.

In a tar file (:mod:`avssl.data.shards.format`) three members stand one after another::

    KEY.json          one line: codecs, sizes, rates, and the row of the manifest it was made from
    KEY.packets.npy   (P, 5) int32: stream (0 video, 1 audio), position in the mp4, size, time, keyframe
    KEY.mp4           video and audio, both from 0 s

Times of packets count frames in the video stream, samples in the audio stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avssl.core.errors import InputError
from avssl.core.ranges import Count, CountOrZero, FrameRate, Pixels, SampleRate, checked

FORMAT_VERSION = 1

VIDEO, AUDIO = 0, 1
"""First column of the table."""

BLOCK = 512
"""Members of a tar begin at multiples of this many bytes, after a header of the same size."""

VIDEO_CODECS = {"h264": "libx264", "mpeg4": "mpeg4", "mjpeg": "mjpeg"}
"""Name in the settings → FFmpeg's encoder."""

AUDIO_CODECS = {"pcm": "pcm_s16le", "flac": "flac", "aac": "aac"}
"""Name in the settings → FFmpeg's encoder."""

PREROLL_PACKETS = {"pcm": 0, "flac": 0, "aac": 1}
"""Audio packets to decode before the requested ones: AAC overlaps neighbors."""


@checked
@dataclass(frozen=True)
class CopySettings:
    """Size, rates and codecs of a prepared clip. The defaults were measured: see docs/data.md."""

    short_side: Pixels = 128
    """Shorter side in pixels; smaller sources keep their size. Use 1.14 times the model's input size."""
    frames_per_second: FrameRate = 16.0
    """Video frame rate; training may use any rate up to it."""
    video_codec: Literal["mpeg4", "h264", "mjpeg"] = "mpeg4"
    """Video codec. h264 is a fifth smaller and decodes at three quarters of the speed; mjpeg is two fifths larger, and
    each frame decodes by itself."""
    quality: CountOrZero = 3
    """Quantizer for mpeg4 and mjpeg, 1 to 31; x264's constant rate factor for h264, where 20 is like 3. Lower is
    better and larger."""
    keyframe_interval: Count = 8
    """Frames from one keyframe to the next; a window decodes about half of it in excess."""
    sample_rate_hz: SampleRate = 24_000
    """Audio sample rate, mono."""
    audio_codec: Literal["pcm", "flac", "aac"] = "pcm"
    """Audio codec. pcm needs no decoder; flac is lossless at a third to a half of the size; aac (96 kbit/s at 24 kHz)
    is smaller still and lossy."""

    def __post_init__(self) -> None:
        if self.video_codec not in VIDEO_CODECS:
            raise InputError(f"video_codec ({self.video_codec!r}) must be one of {sorted(VIDEO_CODECS)}.")
        if self.audio_codec not in AUDIO_CODECS:
            raise InputError(f"audio_codec ({self.audio_codec!r}) must be one of {sorted(AUDIO_CODECS)}.")
        low, high = (0, 51) if self.video_codec == "h264" else (1, 31)
        if not low <= self.quality <= high:
            raise InputError(f"quality ({self.quality}) must be {low} to {high} for {self.video_codec}.")


def padded(size: int) -> int:
    """Return the bytes that a member of this size takes in a tar, without its header."""
    return -(-size // BLOCK) * BLOCK
