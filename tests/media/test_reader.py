"""One contract over all backends: to the frame, to the sample, and the same words for the same faults."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from avssl.media import MediaError, MediaLimits, available_backends, backends, open_media, write_video
from avssl.media.backends import BACKENDS


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    require(request.param)
    return request.param


def test_info_says_what_was_written(clip: Path, backend: str) -> None:
    with open_media(clip, backend) as reader:
        info = reader.info
    assert (info.width, info.height, info.video_fps, info.video_codec) == (96, 64, 16.0, "h264")
    assert (info.audio_sample_rate_hz, info.audio_num_channels, info.audio_codec) == (24_000, 1, "aac")
    assert (info.video_start_seconds, info.video_stop_seconds) == (0.0, 3.0)
    assert (info.audio_start_seconds, info.audio_stop_seconds, info.duration_seconds) == (0.0, 3.0, 3.0)
    assert info.path == str(clip)


def test_every_frame_is_found_at_its_timestamp(clip: Path, backend: str, tools: Any) -> None:
    with open_media(clip, backend) as reader:
        frames = reader.read_frames([n / 16 for n in range(48)])
    assert frames.shape == (48, 3, 64, 96)
    assert frames.dtype == torch.uint8
    assert frames.is_contiguous()
    assert tools.numbers(frames) == list(range(48))


def test_a_frame_is_shown_until_the_next(clip: Path, backend: str, tools: Any) -> None:
    times = [0.0, 0.0624, 0.0626, 0.5, 1.03, 1.4999, 2.0, 2.9374, 2.9376, 2.99, 3.0]
    with open_media(clip, backend) as reader:
        frames = reader.read_frames(times)
    assert tools.numbers(frames) == [0, 0, 1, 8, 16, 23, 32, 46, 47, 47, 47]


def test_times_in_any_order_with_repeats(clip: Path, backend: str, tools: Any) -> None:
    asked = [40, 3, 3, 47, 0, 20, 3]
    with open_media(clip, backend) as reader:
        assert tools.numbers(reader.read_frames([n / 16 for n in asked])) == asked
        assert tools.numbers(reader.read_frames([torch.tensor(5 / 16)])) == [5]
        assert reader.read_frames([]).shape == (0, 3, 64, 96)
        assert reader.read_frames([], short_side=32).shape == (0, 3, 32, 48)


def test_frames_alone_equal_frames_together(clip: Path, backend: str) -> None:
    with open_media(clip, backend) as reader:
        together = reader.read_frames([n / 16 for n in range(48)])
        for number in (0, 1, 7, 8, 9, 30, 47, 2):
            assert torch.equal(reader.read_frames([number / 16])[0], together[number])


def test_short_side_resizes_both_ways(clip: Path, backend: str, tools: Any) -> None:
    with open_media(clip, backend) as reader:
        assert reader.read_frames([0.0], short_side=32).shape == (1, 3, 32, 48)
        larger = reader.read_frames([0.5], short_side=100)
        assert larger.shape == (1, 3, 100, 150)
        assert tools.numbers(larger) == [8]
        with pytest.raises(ValueError, match="short_side must be positive, got 0"):
            reader.read_frames([0.0], short_side=0)


def test_beeps_are_found_to_the_sample(clip: Path, backend: str, tools: Any) -> None:
    with open_media(clip, backend) as reader:
        sound = reader.read_audio(0.0, 3.0)
    assert sound.shape == (1, 72_000)
    assert sound.dtype == torch.float32
    assert tools.beep_starts(sound, 24_000, 4) == [round(s * 24_000) for s in tools.BEEP_SECONDS]


@pytest.mark.parametrize("rate_hz", [16_000, 48_000, 44_100, 22_050])
def test_beeps_are_found_after_resampling(clip: Path, backend: str, rate_hz: int, tools: Any) -> None:
    with open_media(clip, backend) as reader:
        sound = reader.read_audio(0.5, 3.0, rate_hz)
    assert sound.shape == (1, round(2.5 * rate_hz))
    found = tools.beep_starts(sound, rate_hz, 3)
    assert found == pytest.approx([(s - 0.5) * rate_hz for s in tools.BEEP_SECONDS[1:]], abs=1)


@pytest.mark.parametrize("rate_hz", [None, 16_000, 44_100])
def test_a_window_of_sound_is_cut_from_the_whole(clip: Path, backend: str, rate_hz: int | None) -> None:
    rate = rate_hz or 24_000
    rng = np.random.default_rng(0)
    with open_media(clip, backend) as reader:
        whole = reader.read_audio(0.0, 3.0, rate_hz)
        windows = [(0.0, 0.01), (2.9, 3.0), *((s, s + rng.uniform(0.01, 0.9)) for s in rng.uniform(0, 2.1, 6))]
        for start, stop in windows:
            window = reader.read_audio(start, stop, rate_hz)
            first, count = round(start * rate), round((stop - start) * rate)
            assert window.shape == (1, count)
            torch.testing.assert_close(window, whole[:, first : first + count], atol=1e-5, rtol=0)


def test_picture_and_sound_are_read_in_any_order(clip: Path, backend: str, tools: Any) -> None:
    with open_media(clip, backend) as reader:
        sound = reader.read_audio(2.0, 2.5)
        assert tools.numbers(reader.read_frames([2.0, 0.25])) == [32, 4]
        assert torch.equal(reader.read_audio(2.0, 2.5), sound)
        assert tools.numbers(reader.read_frames([1.0])) == [16]


def test_backends_give_the_same(clip: Path, backend: str) -> None:
    with open_media(clip, backend) as reader, open_media(clip, "pyav") as reference:
        times = [n / 16 for n in range(0, 48, 5)]
        difference = reader.read_frames(times).int() - reference.read_frames(times).int()
        assert difference.abs().max() <= 2  # three FFmpegs of six years
        torch.testing.assert_close(
            reader.read_audio(0.3, 2.7, 16_000), reference.read_audio(0.3, 2.7, 16_000), atol=1e-4, rtol=0
        )


def test_outside_a_track_names_its_span(clip: Path, backend: str) -> None:
    with open_media(clip, backend) as reader:
        with pytest.raises(
            MediaError, match=r"video at 3\.200 s: outside the video stream, .* 0\.000 to 3\.000 s"
        ) as e:
            reader.read_frames([0.0, 3.2])
        assert (e.value.reason, e.value.stream, e.value.path) == ("out_of_range", "video", str(clip))
        with pytest.raises(MediaError, match=r"video at -0\.100 s: outside"):
            reader.read_frames([-0.1])
        with pytest.raises(MediaError, match=r"2\.500 to 3\.100 s leaves the audio stream, .* 0\.000 to 3\.000 s"):
            reader.read_audio(2.5, 3.1)
        with pytest.raises(MediaError, match="leaves the audio stream"):
            reader.read_audio(-0.2, 1.0)


def test_half_a_frame_and_half_a_sample_are_forgiven(clip: Path, backend: str, tools: Any) -> None:
    with open_media(clip, backend) as reader:
        assert tools.numbers(reader.read_frames([-0.03, 3.03])) == [0, 47]
        assert reader.read_audio(0.0, 3.0 + 0.4 / 24_000).shape == (1, 72_000)
        assert torch.equal(reader.read_audio(-0.4 / 24_000, 1.0), reader.read_audio(0.0, 1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.read_audio(1.0, 1.0), "need start_seconds < stop_seconds, got 1.0 and 1.0"),
        (lambda r: r.read_audio(0.0, float("nan")), "need start_seconds < stop_seconds"),
        (lambda r: r.read_audio(0.0, 1.0, 0), "sample_rate_hz must be positive, got 0"),
        (lambda r: r.read_audio(0.0, 1.0, None, 5), "num_channels must be 1, 2 or the stream's own 1, got 5"),
        (lambda r: r.read_frames([float("nan")]), "at_seconds must be finite"),
    ],
)
def test_nonsense_is_refused(clip: Path, backend: str, call: Callable[[Any], Any], message: str) -> None:
    with open_media(clip, backend) as reader, pytest.raises(ValueError, match=message):
        call(reader)


def test_missing_tracks_are_named(clip: Path, tmp_path: Path, backend: str, tools: Any) -> None:
    mute = tools.remux(clip, tmp_path / "mute.mp4", ["video"])
    with open_media(mute, backend) as reader:
        assert reader.info.has_video
        assert not reader.info.has_audio
        assert reader.info.audio_codec is None
        assert tools.numbers(reader.read_frames([1.0])) == [16]
        with pytest.raises(MediaError, match=r"mute\.mp4: audio: there is no audio stream") as error:
            reader.read_audio(0.0, 1.0)
        assert error.value.reason == "no_audio"
    blind = tools.remux(clip, tmp_path / "blind.m4a", ["audio"], format="mp4")
    with open_media(blind, backend) as reader:
        assert not reader.info.has_video
        assert reader.info.width is None
        assert reader.read_audio(0.0, 1.0).shape == (1, 24_000)
        with pytest.raises(MediaError, match=r"blind\.m4a: video: there is no video stream") as error:
            reader.read_frames([0.0])
        assert error.value.reason == "no_video"


def _noise_clip(folder: Path) -> Path:
    """Pictures and sound that do not compress, so that places in the file follow places in time."""
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (48, 3, 64, 64), dtype=torch.uint8, generator=generator)
    sound = torch.rand(1, 72_000, generator=generator) - 0.5
    write_video(folder / "noise.mp4", video, 16, sound, 24_000)
    return folder / "noise.mp4"


def test_a_cut_file_says_where_it_ends(tmp_path: Path, backend: str) -> None:
    whole = _noise_clip(tmp_path).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with open_media(tmp_path / "cut.mp4", backend) as reader:
        assert reader.info.duration_seconds == 3.0  # the header, which comes first, is whole
        # decord gives up a cut file altogether.
        with pytest.raises(MediaError, match=r"cut\.mp4: video at (2\.500 s: .+cut off|0\.100 s: decord)") as error:
            reader.read_frames([0.1, 2.5])
        assert error.value.reason == ("unreadable" if backend == "decord" else "truncated")
        with pytest.raises(MediaError, match=r"cut\.mp4: audio"):
            reader.read_audio(2.5, 2.9)
        if backend != "decord":
            assert reader.read_frames([0.1, 1.0]).shape == (2, 3, 64, 64)
            assert reader.read_audio(0.1, 1.0).shape == (1, 21_600)


def test_a_file_without_its_index_is_truncated(tmp_path: Path, clip: Path, backend: str, tools: Any) -> None:
    late = tools.remux(clip, tmp_path / "late_index.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(late[: len(late) // 2])
    with pytest.raises(MediaError, match=r"cut\.mp4: container: .*index is missing .* cut off") as error:
        open_media(tmp_path / "cut.mp4", backend)
    assert error.value.reason == "truncated"


def test_zeros_in_the_middle_are_reported(tmp_path: Path) -> None:
    data = bytearray(_noise_clip(tmp_path).read_bytes())
    data[len(data) // 2 : len(data) // 2 + len(data) // 5] = bytes(len(data) // 5)
    (tmp_path / "zeros.mp4").write_bytes(data)
    for backend in ("pyav", "auto"):
        with open_media(tmp_path / "zeros.mp4", backend) as reader:
            assert reader.read_frames([0.5]).shape == (1, 3, 64, 64)
            with pytest.raises(MediaError, match=r"zeros\.mp4: video at 1\.8\d\d s: .*damaged") as error:
                reader.read_frames([1.8])
            assert error.value.reason == "unreadable"
            with pytest.raises(MediaError, match=r"zeros\.mp4: audio at"):
                reader.read_audio(0.0, 2.5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"not a video\n" * 50, "is text, a web page or a playlist, it begins with b'not a video"),
        ("empty.mp4", b"", "the file is empty"),
        ("page.mp4", b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        ("bytes.mp4", bytes(range(256)) * 8, "no container that is read here"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nclip.mp4\n#EXT-X-ENDLIST\n", "a playlist"),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nclip.mp4\n#EXT-X-ENDLIST\n", "a playlist"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile clip.mp4\n", "is text"),
        ("picture.ppm", b"P6\n16 16\n255\n" + bytes(768), "no container that is read here"),
    ],
)
def test_what_is_no_media_is_refused(tmp_path: Path, clip: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message) as error:
        open_media(tmp_path / name)
    assert (error.value.reason, error.value.stream) == ("not_media", "container")
    assert name in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:9/clip.mp4",
        "https://example.org/clip.mp4",
        "concat:clip.mp4|clip.mp4",
        "subfile,,start,0,end,100,,:clip.mp4",
        "file:clip.mp4",
        "data:video/mp4;base64,AAAA",
        "pipe:0",
    ],
)
def test_protocols_are_refused(path: str, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    with pytest.raises(MediaError, match=r"URL or protocol string\. Only local files are read") as error:
        open_media(path)
    assert error.value.reason == "unreadable"


def test_a_local_file_named_like_a_protocol_is_read(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:a|b.mp4").write_bytes(clip.read_bytes())
    with open_media("concat:a|b.mp4") as reader:
        assert reader.read_frames([0.0]).shape == (1, 3, 64, 96)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"nope\.mp4: container: the file cannot be opened \(No such file") as error:
        open_media(tmp_path / "nope.mp4")
    assert error.value.reason == "unreadable"
    with pytest.raises(MediaError, match="this is a directory"):
        open_media(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="not a regular file"):
        open_media(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="cannot be opened"):
        open_media("a\0b.mp4")


def test_limits_are_kept(clip: Path) -> None:
    with pytest.raises(MediaError, match=r"96 x 64 are over the limit of 6143 pixels.*max_pixels") as error:
        open_media(clip, limits=MediaLimits(max_pixels=96 * 64 - 1))
    assert (error.value.reason, error.value.stream) == ("too_large", "video")
    with pytest.raises(MediaError, match=r"3 s are over the limit of 2 s.*max_duration_seconds") as error:
        open_media(clip, limits=MediaLimits(max_duration_seconds=2.0))
    assert error.value.reason == "too_large"


def test_media_error_pickles() -> None:
    error = MediaError("a.mp4", "video", "truncated", "it ends.", "Fetch it again.", 1.5)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "a.mp4: video at 1.500 s: it ends. Fetch it again."
    assert (copy.path, copy.stream, copy.reason, copy.second) == ("a.mp4", "video", "truncated", 1.5)


def test_backends_are_named_with_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(available_backends()) == {*BACKENDS, *backends.ON_GPU}
    assert available_backends()["pyav"] is None
    monkeypatch.setitem(BACKENDS, "torchcodec", "avssl.media.nothing_here:X")
    backends.load_error.cache_clear()
    try:
        assert "torchcodec does not load: ModuleNotFoundError: No module" in str(available_backends()["torchcodec"])
        with pytest.raises(RuntimeError, match=r"'torchcodec' cannot be used: .*avssl doctor"):
            open_media("x.mp4", "torchcodec")
    finally:
        backends.load_error.cache_clear()
    with pytest.raises(ValueError, match=r"backend must be one of .*'pyav'.*got 'ffmpeg'"):
        open_media("x.mp4", "ffmpeg")


def test_auto_is_the_first_backend_that_loads(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_args(backends.BackendName) == ("auto", *BACKENDS, *backends.ON_GPU)
    assert backends.resolve_backend("auto") == "pyav"  # the fastest, and always installed
    with open_media(clip) as opened:
        assert type(opened).__name__ == "PyAVReader"
    monkeypatch.setattr(backends, "load_error", {"pyav": "broken", "torchcodec": None}.__getitem__)
    assert backends.resolve_backend("auto") == "torchcodec"


def test_the_table_of_backends_loads_without_torch() -> None:
    code = "import sys, avssl.media.backends; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_closing_twice_is_harmless(clip: Path, backend: str) -> None:
    reader = open_media(clip, backend)
    reader.read_frames([0.0])
    reader.close()
    reader.close()
