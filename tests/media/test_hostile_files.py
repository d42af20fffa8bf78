"""What damaged and unusual files once did to the readers: crash, read freed memory, or raise what is no MediaError."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avssl.media import MediaError, open_media
from avssl.media.pyav.declared_size import missing_bytes


def tones(path: Path, codec: str, layout: str, rate_hz: int = 48_000) -> Path:
    """2 s; channel c is a sine of amplitude 0.1 (c + 1)."""
    channels = av.AudioLayout(layout).nb_channels
    sine = np.sin(np.arange(2 * rate_hz) * 0.01)[:, None] * 0.1 * (1 + np.arange(channels))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        stream.bit_rate = 100_000 * channels
        packed = np.ascontiguousarray(sine.astype(np.float32)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        resampler = av.AudioResampler(stream.format.name, layout, rate_hz, stream.codec_context.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mka", "flac"), ("a.wav", "pcm_s16le")])
def test_eight_channels_are_read_without_reading_beyond_them(tmp_path: Path, name: str, codec: str) -> None:
    """PyAV counts planes up to an empty pointer, which eight channels do not have: it read other memory."""
    with open_media(tones(tmp_path / name, codec, "7.1"), "pyav") as reader:
        assert reader.info.audio_num_channels == 8
        levels = reader.read_audio(0.5, 1.5, num_channels=8).abs().amax(1)
        np.testing.assert_allclose(levels, 0.1 * np.arange(1, 9), atol=0.03)
        resampled = reader.read_audio(0.5, 1.5, 16_000, num_channels=8)
        assert resampled.shape == (8, 16_000)
        np.testing.assert_allclose(resampled.abs().amax(1), levels, atol=0.03)
        assert reader.read_audio(0.5, 1.5, 16_000).shape == (1, 16_000)


def test_a_container_that_cannot_seek_is_measured_and_read(tmp_path: Path) -> None:
    """Its streams were looked up in a container that had been closed."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuvj420p"
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for number in range(20):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * number, np.uint8), format="rgb24")
            container.mux(video.encode(image.reformat(format="yuvj420p")))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 32_000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 16_000
        container.mux([*video.encode(None), *audio.encode(sound), *audio.encode(None)])
    with open_media(path, "pyav") as reader:
        assert (reader.info.video_codec, reader.info.audio_sample_rate_hz) == ("mjpeg", 16_000)
        assert reader.read_frames([0.0, 1.0]).shape == (2, 3, 32, 32)
        assert reader.read_audio(1.0, 1.5).shape == (1, 8000)


def test_a_seek_into_the_middle_of_a_sound_frame_is_no_damage(tmp_path: Path) -> None:
    """In MPEG program streams packets do not begin with frames."""
    path = tmp_path / "a.mpg"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("mp2", rate=48_000, layout="mono")
        rng = np.random.default_rng(0)
        for _ in range(75):
            image = av.VideoFrame.from_ndarray(rng.integers(0, 256, (64, 64, 3), np.uint8), format="rgb24")
            container.mux(video.encode(image.reformat(format="yuv420p")))
            sound = av.AudioFrame.from_ndarray(
                rng.integers(-9000, 9000, (1, 1920), np.int16), format="s16", layout="mono"
            )
            sound.sample_rate = 48_000
            container.mux(audio.encode(sound))
        container.mux([*video.encode(None), *audio.encode(None)])
    with open_media(path, "pyav") as reader:
        start, stop = reader.info.audio_start_seconds, reader.info.audio_stop_seconds
        for second in np.arange(start + 1.0, stop - 0.3, 0.1):
            assert reader.read_audio(second, second + 0.2).abs().max() > 0.1


def patched(source: Path, target: Path, mark: bytes, offset: int, value: bytes) -> Path:
    """The file with bytes replaced at an offset from the last place where ``mark`` stands."""
    data = bytearray(source.read_bytes())
    place = data.rindex(mark) + offset
    data[place : place + len(value)] = value
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (12, struct.pack("<I", 2**31 - 1), r"2147483647 Hz, over the limit of 768000"),
        (10, struct.pack("<H", 255), r"255 channels, over the limit of 64"),
    ],
)
def test_rates_that_no_device_has_are_too_large(tmp_path: Path, offset: int, value: bytes, message: str) -> None:
    wav = tones(tmp_path / "a.wav", "pcm_s16le", "mono")
    with pytest.raises(MediaError, match=message) as error:
        open_media(patched(wav, tmp_path / "b.wav", b"fmt ", offset, value))
    assert (error.value.reason, error.value.stream) == ("too_large", "audio")


def test_pictures_faster_than_any_camera_are_too_large(tmp_path: Path, tools: Any) -> None:
    path = tools.encode(tmp_path / "a.mp4", tools.gray(8), range(8), fps=500_000)
    with pytest.raises(MediaError, match=r"frames per second, over the limit of 100000") as error:
        open_media(path)
    assert error.value.reason == "too_large"


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "asf", "wav"])
def test_containers_say_how_many_bytes_they_have(tmp_path: Path, clip: Path, tools: Any, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path = tones(path, "pcm_s16le", "mono") if suffix == "wav" else tools.remux(clip, path)
    data = path.read_bytes()
    assert missing_bytes(path) == 0
    for missing in (2, 500, len(data) // 2):
        path.write_bytes(data[:-missing])
        # An mp4 does not say how large the index is that stands behind its media.
        assert 0 < missing_bytes(path) <= missing
    path.write_bytes(data + b"appended")
    assert missing_bytes(path) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x08ftyp",
        b"\0\0\0\0ftyp" + b"\0\0\0\x01mdat",
        b"RIFF\0\0\0\0AVI ",
        b"RIFF\xff\xff\xff\xffAVI ",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff",
        b"\x1a\x45\xdf\xa3\x00" + b"\xff" * 20,
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        b"OggS",
        b"x",
    ],
)
def test_a_container_that_does_not_say_misses_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert missing_bytes(tmp_path / "a") == 0
