"""Files of other people: AVSSL_TEST_MEDIA holds some of torchcodec's test resources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avssl.media import MediaError, open_media

# name: (width, height, fps, first frame, end of the last frame, codec), upright
PICTURES = {
    "nasa_13013.mp4": (480, 270, 30_000 / 1001, 0.0, 13.013, "h264"),
    "nasa_13013_rotated.mp4": (270, 480, 30_000 / 1001, 0.0, 0.567, "h264"),
    "nasa_13013_hdr.mp4": (320, 180, 25.0, 0.0, 13.0, "hevc"),
    "bt2020_10bit.mp4": (320, 240, 30.0, 0.0, 2.0, "hevc"),
    "h264_10bits.mp4": (200, 200, 30.0, 0.0, 1.0, "h264"),
    "av1_video.mkv": (640, 360, 25.0, 0.0, 5.0, "av1"),
    "h265_video.mp4": (128, 128, 10.0, 0.0, 1.0, "hevc"),
    "testsrc2_444_10bit_hevc.mp4": (321, 241, 25.0, 0.0, 1.0, "hevc"),
    "test_non_zero_start.mp4": (200, 112, 30.0, 8.333, 8.733, "h264"),
    "discard_first_keyframe.mp4": (64, 64, 25.0, 0.0, 1.0, "h264"),
}
DECORD_REFUSES = {
    "nasa_13013.mp4": "cannot be told which of several video streams",
    "nasa_13013_rotated.mp4": "does not turn frames upright",
    "av1_video.mkv": "decord failed",
    "discard_first_keyframe.mp4": "its frames begin before the edit list lets them",
    "nasa_13013_hdr.mp4": "frames refer across keyframes",
    "h265_video.mp4": "frames refer across keyframes",
}
TEN_BIT = {"bt2020_10bit.mp4", "h264_10bits.mp4", "nasa_13013_hdr.mp4"}


@pytest.mark.parametrize("name", PICTURES)
def test_info_of_odd_files(test_media: Path, name: str) -> None:
    width, height, fps, start, stop, codec = PICTURES[name]
    with open_media(test_media / name, "pyav") as reader:
        info = reader.info
    assert (info.width, info.height, info.video_codec) == (width, height, codec)
    assert info.video_fps == pytest.approx(fps)
    assert info.video_start_seconds == pytest.approx(start, abs=1e-3)
    assert info.video_stop_seconds == pytest.approx(stop, abs=1e-3)
    assert info.has_audio == (name == "nasa_13013.mp4")


@pytest.mark.parametrize("backend", ["torchcodec", "decord"])
@pytest.mark.parametrize("name", PICTURES)
def test_frames_of_odd_files_alone_and_on_all_backends(
    test_media: Path, name: str, backend: str, require: Callable[[str], None]
) -> None:
    width, height, fps, start, stop, _ = PICTURES[name]
    with open_media(test_media / name, "pyav") as reader:
        first = reader.info.video_start_seconds
        assert first is not None
        count = min(24, round((stop - start) * fps))
        times = [first + (n + 0.5) / fps for n in range(count)]
        frames = reader.read_frames(times)
        assert frames.shape == (count, 3, height, width)
        assert frames.float().std() > 10
        for number in (count - 1, 0, count // 2):
            assert torch.equal(reader.read_frames([times[number]])[0], frames[number])
        with pytest.raises(MediaError, match="outside the video stream"):
            reader.read_frames([start - 0.5])
    require(backend)
    with open_media(test_media / name, backend) as reader:
        if backend == "decord" and name in DECORD_REFUSES:
            with pytest.raises(MediaError, match=DECORD_REFUSES[name]):
                reader.read_frames(times)
            return
        difference = (reader.read_frames(times).float() - frames).abs()
    # 8 bit: the same bits from two FFmpegs. 10 bit 4:2:0: the versions interpolate color differently.
    assert difference.mean() < (4.0 if name in TEN_BIT else 0.5)


def test_two_tracks_of_each_kind_give_the_best(test_media: Path) -> None:
    for backend in ("pyav", "auto"):
        with open_media(test_media / "nasa_13013.mp4", backend) as reader:
            info = reader.info
            assert (info.audio_sample_rate_hz, info.audio_num_channels) == (16_000, 2)
            assert info.audio_stop_seconds == pytest.approx(13.056)
            whole = reader.read_audio(0.0, 13.0, 24_000)
            window = reader.read_audio(7.3, 9.1, 24_000)
    torch.testing.assert_close(window, whole[:, 175_200:218_400], atol=1e-3, rtol=0)
    assert whole.abs().max() > 0.1


def test_sixteen_channels_are_mixed(test_media: Path) -> None:
    for backend in ("pyav", "auto"):
        with open_media(test_media / "sine_16ch_s16.wav", backend) as reader:
            assert reader.info.audio_num_channels == 16
            every = reader.read_audio(0.0, 1.0, num_channels=16)
            assert every.shape == (16, 16_000)
            torch.testing.assert_close(reader.read_audio(0.0, 1.0), every.mean(0, keepdim=True), atol=1e-6, rtol=0)
            assert reader.read_audio(0.2, 0.7, 24_000, 16).shape == (16, 12_000)
