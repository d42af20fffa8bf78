"""The form in which a prepared corpus keeps a clip: an mp4 file made for random access, and a table of its packets.

An ordinary file is read by a demuxer, which parses its index, probes its streams and seeks. A prepared clip is read
without one: the table says where each packet lies, a decoder gets the few that a window needs, and nothing else is
touched. The mp4 itself is an ordinary one and plays anywhere.

In a tar file (:mod:`avssl.data.shards.format`) three members stand one after another::

    KEY.json          one line: codecs, sizes, rates, and the row of the manifest it was made from
    KEY.packets.npy   (P, 5) int32: stream (0 picture, 1 sound), place in the mp4, size, time, keyframe
    KEY.mp4           picture and sound, both from 0 s

Times of packets count frames in the picture, samples in the sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from avssl.core.errors import InputError

FORMAT_VERSION = 1

PICTURE, SOUND = 0, 1
"""First column of the table."""

BLOCK = 512
"""Bytes: members of a tar begin at multiples of it, behind a header of as many."""

VIDEO_CODECS = {"h264": "libx264", "mpeg4": "mpeg4", "mjpeg": "mjpeg"}
"""Name in the settings -> FFmpeg's encoder."""

AUDIO_CODECS = {"pcm": "pcm_s16le", "flac": "flac", "aac": "aac"}
"""Name in the settings -> FFmpeg's encoder."""

PREROLL_PACKETS = {"pcm": 0, "flac": 0, "aac": 1}
"""Packets of sound to decode ahead of the wanted ones: AAC overlaps neighbors."""


@dataclass(frozen=True)
class CopySettings:
    """What a prepared clip looks like. Defaults are measured: see docs/data.md."""

    short_side: int = 128
    """Shorter side of the picture, in pixels; smaller sources are kept as they are. Take 1.14 times the model's."""
    frames_per_second: float = 16.0
    """Rate of the picture; training may ask for any rate up to it."""
    video_codec: Literal["mpeg4", "h264", "mjpeg"] = "mpeg4"
    """h264 is a fifth smaller and decodes at three quarters of the speed; mjpeg is two fifths larger, and takes any
    frame by itself."""
    quality: int = 3
    """The quantizer for mpeg4 and mjpeg, 1 to 31; x264's constant rate factor for h264, where 20 is like 3. Lower is
    better and larger."""
    keyframe_interval: int = 8
    """Frames from one keyframe to the next: a window decodes about half of it in vain."""
    sample_rate_hz: int = 24_000
    """Rate of the sound, mono."""
    audio_codec: Literal["pcm", "flac", "aac"] = "pcm"
    """pcm needs no decoder, flac is a third to a half of its size and the same sound, aac (96 kbit/s at 24 kHz) is
    smaller still and loses some of it."""

    def __post_init__(self) -> None:
        for name in ("short_side", "frames_per_second", "keyframe_interval", "sample_rate_hz"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} ({getattr(self, name)}) must be greater than 0, and finite.")
        if self.video_codec not in VIDEO_CODECS:
            raise InputError(f"video_codec ({self.video_codec!r}) must be one of {sorted(VIDEO_CODECS)}.")
        if self.audio_codec not in AUDIO_CODECS:
            raise InputError(f"audio_codec ({self.audio_codec!r}) must be one of {sorted(AUDIO_CODECS)}.")
        low, high = (0, 51) if self.video_codec == "h264" else (1, 31)
        if not low <= self.quality <= high:
            raise InputError(f"quality ({self.quality}) must be {low} to {high} for {self.video_codec}.")


def padded(size: int) -> int:
    """Bytes that a member of this size takes in a tar, without its header."""
    return -(-size // BLOCK) * BLOCK
