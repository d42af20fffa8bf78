"""Files whose name says what is in them: no decoding, exact contents.

"a.mp4" is 10 s from 0 s on. A frame's pixels are its time in tenths of a second, and a sample of
the sound is its time in seconds divided by 100, so every clip shows where it was cut.
"""

from __future__ import annotations

import os
import re
import signal

import numpy as np
import torch

from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling
from avssl.media import MediaError, MediaInfo

RATE = 1000
SAMPLING = ClipSampling(
    num_frames=4, frames_per_second=2.0, audio_seconds=2.0, sample_rate_hz=RATE, max_offset_seconds=0.5
)
opened: list[str] = []


class FakeReader:
    def __init__(self, path):
        self.path, name = str(path), os.path.basename(path)
        opened.append(name)
        length = float(found[1]) if (found := re.search(r"_(\d+\.\d+)s", name)) else 10.0
        start = 5.0 if "_late" in name else 0.0
        self.size = (12, 8) if "_tall" in name else (6, 8)
        video = (start, start + length)
        sound = (start, start + length) if "_mute" not in name else (None, None)
        picture = video if "_dark" not in name else (None, None)
        self.info = MediaInfo(
            self.path, length, *picture, 25.0, self.size[1], self.size[0], "h264", *sound, RATE, 1, "aac"
        )
        if "_deadly" in name:
            os.kill(os.getpid(), signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read_frames(self, at_seconds, short_side=None):
        if "_truncated" in self.path and max(at_seconds) > 5:
            raise MediaError(self.path, "video", "truncated", "ends at 5 s.", "Fetch it again.", max(at_seconds))
        start, stop = self.info.video_start_seconds, self.info.video_stop_seconds
        assert all(start - 1e-6 <= t < stop for t in at_seconds), (at_seconds, start, stop)
        values = torch.tensor([round(t * 10) for t in at_seconds], dtype=torch.uint8)
        return values[:, None, None, None].expand(-1, 3, *self.size).clone()

    def read_audio(self, start_seconds, stop_seconds, sample_rate_hz=None, num_channels=1):
        low, high = self.info.audio_start_seconds, self.info.audio_stop_seconds
        assert low - 1e-3 <= start_seconds <= stop_seconds <= high + 1e-3, (start_seconds, stop_seconds, low, high)
        # A window begins at the nearest sample of the track's grid.
        first = round((start_seconds - low) * sample_rate_hz)
        places = first + torch.arange(round((stop_seconds - start_seconds) * sample_rate_hz), dtype=torch.float64)
        return ((low + places / sample_rate_hz) / 100).float()[None]


def open_media(path, backend="auto", limits=None):
    if "_broken" in os.path.basename(path):
        opened.append(os.path.basename(path))
        raise MediaError(str(path), "container", "not_media", "this is a text file.", "Remove it.")
    return FakeReader(path)


def dataset(names=10, seed=3, sampling=SAMPLING, **columns):
    """A dataset of as many ids, or of the given names."""
    names = [f"v{i:03d}.mp4" for i in range(names)] if isinstance(names, int) else list(names)
    paths = columns.pop("path", names)
    return ClipDataset(Manifest.from_columns({"id": names, "path": paths, **columns}, "/nowhere"), sampling, seed)


def with_bad(count, bad, word="_broken", first="v"):
    """Names of which those at the given places are bad."""
    return [f"{first}{i:03d}{word if i in set(bad) else ''}.mp4" for i in range(count)]


def take(loader, count):
    """The next batches, with the iteration ended."""
    batches = iter(loader)
    result = [next(batches) for _ in range(count)]
    batches.close()
    return result


def assert_same_batches(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for x, y in (
            (a.index.row, b.index.row), (a.index.key, b.index.key), (a.index.group, b.index.group),
            (a.video, b.video), (a.audio, b.audio), (a.valid_hw, b.valid_hw),
        ):  # fmt: skip
            assert torch.equal(x, y)


def rows_of(batches):
    return np.concatenate([batch.index.row.numpy() for batch in batches]).tolist()
