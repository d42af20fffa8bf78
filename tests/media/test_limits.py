"""Limits of media files: what they are, how a manifest stores them, and that every reader keeps them."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from avssl.media import ImageReader, MediaError, MediaLimits, open_media, read_image
from avssl.media.backends import BACKENDS
from avssl.media.errors import DeadlineExceeded, media_errors
from avssl.media.limits import Deadline

SQUARE = 96 * 64


def with_pixel_aspect(data: bytes, horizontal: int, vertical: int) -> bytes:
    """Return an mp4 of H.264 whose sample entry gives its pixels another shape."""
    box = struct.pack(">I4sII", 16, b"pasp", horizontal, vertical)
    place, changed = data.index(b"avc1", data.index(b"stsd")) - 4, bytearray(data)
    if (old := data.find(b"pasp", place)) > 0:
        changed[old - 4 : old + 12] = box
        return bytes(changed)
    end = place + struct.unpack(">I", data[place : place + 4])[0]
    changed[end:end] = box
    names = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    for start in (place, *(data.rindex(name, 0, place + 8) - 4 for name in names)):
        changed[start : start + 4] = struct.pack(">I", struct.unpack(">I", data[start : start + 4])[0] + 16)
    return bytes(changed)


def test_only_changed_limits_are_stored_and_given_ones_come_first() -> None:
    assert MediaLimits().text == ""
    limits = MediaLimits(max_pixels=50_000_000, max_aspect=12.5)
    assert limits.text == "max_pixels=50000000 max_aspect=12.5"
    assert MediaLimits().completed(limits.text) == limits
    given = MediaLimits(max_pixels=99, max_decode_seconds=7)
    assert given.completed(limits.text) == MediaLimits(99, 12.5, max_decode_seconds=7)
    assert given.completed(None) is given
    assert given.completed("") is given


@pytest.mark.parametrize("text", ["max_pixel=3", "max_pixels", "max_pixels=many", "max_pixels=-1", "max_aspect=nan"])
def test_a_cell_that_holds_no_limits_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"max_pixel|max_aspect"):
        MediaLimits().completed(text)


@pytest.mark.parametrize("options", [{"max_pixels": 0}, {"max_aspect": 0.9}, {"max_decode_seconds": float("nan")}])
def test_a_limit_out_of_range_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        MediaLimits(**options)


@pytest.mark.parametrize("aspect", [(300, 1), (1, 300), (5000, 1), (65_535, 1), (2**31 - 1, 1), (1, 2**31 - 1)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_strip_by_its_pixel_aspect_is_an_error(
    tmp_path: Path, clip: Path, aspect: tuple[int, int], backend: str, require: Callable[[str], None]
) -> None:
    require(backend)
    (tmp_path / "a.mp4").write_bytes(with_pixel_aspect(clip.read_bytes(), *aspect))
    with pytest.raises(MediaError, match=r"a\.mp4: video: frames of \d+ x \d+ square pixels .* limit of 8 to 1") as e:
        open_media(tmp_path / "a.mp4", backend)
    assert e.value.reason == "too_large"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pixel_aspect_within_the_limit_is_read(
    tmp_path: Path, clip: Path, backend: str, require: Callable[[str], None], tools: Any
) -> None:
    require(backend)
    whole = tools.remux(clip, tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(with_pixel_aspect(whole, 4, 1))
    with open_media(tmp_path / "a.mp4", backend) as reader:
        assert reader.read_frames([0.0, 1.0], short_side=32).shape == (2, 3, 32, 192)
    (tmp_path / "b.mp4").write_bytes(with_pixel_aspect(whole, 8, 1))  # 768 x 64: 12 to 1
    with open_media(tmp_path / "b.mp4", backend, limits=MediaLimits(max_aspect=12)) as reader:
        assert reader.read_frames([0.0], short_side=32).shape == (1, 3, 32, 384)


def test_stretched_frames_count_as_they_are_shown(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(with_pixel_aspect(clip.read_bytes(), 4, 1))
    with pytest.raises(MediaError, match=f"384 x 64 are over the limit of {2 * SQUARE} pixels"):
        open_media(tmp_path / "a.mp4", limits=MediaLimits(max_pixels=2 * SQUARE))


@pytest.mark.parametrize("size", [(16_380, 16), (16, 16_380), (300, 1)])
def test_a_strip_is_an_error_as_image_and_as_video(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    for read in (read_image, lambda path: ImageReader(path, 1.0)):
        with pytest.raises(MediaError, match=r"a\.png: video: frames of .* over the limit of 8 to 1"):
            read(tmp_path / "a.png")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        frame = av.VideoFrame.from_ndarray(np.zeros((*size[::-1], 3), np.uint8), format="rgb24")
        for part in (frame, None):
            container.mux(stream.encode(part))
    with pytest.raises(MediaError, match=r"a\.mkv: video: frames of .* over the limit of 8 to 1"):
        open_media(tmp_path / "a.mkv")


class SlowClock:
    """Processor time that runs on at each look."""

    def __init__(self, step: float = 1.0) -> None:
        self.seconds, self.step = 0.0, step

    def __call__(self) -> float:
        self.seconds += self.step
        return self.seconds


@pytest.mark.parametrize("backend", BACKENDS)
def test_decoding_ends_at_its_deadline_with_file_second_and_limit(
    clip: Path, backend: str, require: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    require(backend)
    with open_media(clip, backend, limits=MediaLimits(max_decode_seconds=12)) as reader:
        assert reader.read_frames([0.0]).shape == (1, 3, 64, 96)
        for _ in range(3):  # each read has the whole time, and the reader can be used after one that failed
            # The libraries of the other backends decode a few frames in one call.
            monkeypatch.setattr(time, "thread_time", SlowClock(1 if backend == "pyav" else 13))
            with pytest.raises(MediaError, match=r"clip\.mp4: video at .* more than 12 s .* max_decode_seconds") as e:
                reader.read_frames([n / 16 for n in range(48)] * 5)
            assert (e.value.reason, e.value.stream) == ("timeout", "video")
            monkeypatch.setattr(time, "thread_time", SlowClock(0.01))
            assert reader.read_frames([0.0]).shape == (1, 3, 64, 96)
        monkeypatch.setattr(time, "thread_time", SlowClock(13))
        with pytest.raises(MediaError, match=r"clip\.mp4: audio at 0\.000 s: reading took more than 12 s"):
            reader.read_audio(0.0, 3.0)


def test_every_frame_of_a_stream_has_the_whole_time(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_media(clip, "pyav", limits=MediaLimits(max_decode_seconds=40)) as reader:
        monkeypatch.setattr(time, "thread_time", SlowClock())
        assert len(list(reader.stream_frames([n / 16 for n in range(48)]))) == 48


def test_opening_has_a_deadline_too(clip: Path, monkeypatch: pytest.MonkeyPatch, tools: Any) -> None:
    """A stream that declares no length is read to its end when it is opened."""
    path = tools.remux(clip, clip.parent / "raw.flv")
    monkeypatch.setattr(time, "thread_time", SlowClock())
    with pytest.raises(MediaError, match=r"raw\.flv: container: reading took more than 2 s"):
        open_media(path, "pyav", limits=MediaLimits(max_decode_seconds=2))


def test_a_long_part_has_time_in_proportion(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds that take 100 s: too long for a clip, and not for as much of a longer part of a file."""
    with open_media(clip, "pyav", limits=MediaLimits(max_decode_seconds=300)) as reader:
        monkeypatch.setattr(time, "thread_time", SlowClock())
        assert len(reader.read_frames([n / 16 for n in range(48)] * 2)) == 96
    deadline = Deadline(MediaLimits(max_decode_seconds=10))
    monkeypatch.setattr(time, "thread_time", SlowClock())
    deadline.start()
    for _ in range(100):  # a second of processor time for each second of the file, as long as it goes on
        deadline.check()
        deadline.allow(1.0)
    for _ in range(10):
        deadline.check()
    with pytest.raises(DeadlineExceeded):
        deadline.check()


def test_a_deadline_counts_from_the_start_of_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(MediaLimits(max_decode_seconds=2.5))
    monkeypatch.setattr(time, "thread_time", SlowClock())
    for _ in range(9):
        deadline.check()
    deadline.start()
    deadline.check()
    deadline.check()
    with pytest.raises(DeadlineExceeded, match=r"more than 2\.5 s"):
        deadline.check()


@pytest.mark.parametrize(
    "error", [TypeError("a bug"), RuntimeError("x"), OSError("y"), AssertionError("z"), KeyError(1)]
)
def test_whatever_a_reader_raises_names_file_kind_and_place(
    clip: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    with open_media(clip, "pyav") as reader:
        monkeypatch.setattr(reader, "_read_frames", fail)
        monkeypatch.setattr(reader, "_read_samples", fail)
        for stream, read in (
            ("video", lambda: reader.read_frames([1.0])),
            ("audio", lambda: reader.read_audio(1.0, 2.0)),
        ):
            found = rf"clip\.mp4: {stream} at 1\.000 s: reading failed \({type(error).__name__} in test_limits\.py:\d+"
            with pytest.raises(MediaError, match=found) as caught:
                read()
            assert caught.value.reason == "crashed"
            assert caught.value.__cause__ is error


def test_too_little_memory_is_said_as_such() -> None:
    with pytest.raises(MediaError, match="a: video: decoding needs more memory") as error, media_errors("a", "video"):
        raise MemoryError
    assert error.value.reason == "too_large"
