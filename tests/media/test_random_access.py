"""Frames and samples read alone, in any order, equal those of decoding a file from start to end, on every backend.

A backend that cannot do so for a file decodes from further back, lets PyAV decode, or refuses.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from avssl.media import MediaError, open_media
from avssl.media.backends import BACKENDS

FPS = 25
COUNT = 75
VARYING = [n + n // 4 * 3 + (n > 40) * 20 for n in range(COUNT)]
X265 = "log-level=none:pools=1:"
TS_SIZE = 188


@dataclass(frozen=True)
class Case:
    """A file to be read."""

    name: str
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    rate_hz: int = 48_000
    audio: str = "aac"
    ticks: list[int] = field(default_factory=lambda: list(range(COUNT)))
    drop: float = 0.0
    """Part of an MPEG transport stream that is missing at its beginning."""


def x264(params: str, **options: str) -> dict[str, str]:
    return {"x264-params": f"scenecut=0:{params}", "preset": "veryfast", **options}


def x265(params: str) -> dict[str, str]:
    return {"x265-params": X265 + params, "preset": "ultrafast"}


REFRESH = x264("intra-refresh=1:keyint=20")
OPEN = x264("open-gop=1:keyint=10:bframes=3")
MPEG = {"qmax": "3", "sc_threshold": "1000000000"}
MPEG_B = MPEG | {"bf": "2", "g": "9"}
FIELDS = {"flags": "+ildct+ilme"}
MPEG_LONG = MPEG | {"bf": "0", "g": "50"}
CASES = [
    *(Case(f"refresh.{kind}", options=REFRESH, rate_hz=44_100) for kind in ("mp4", "mkv", "flv", "ts")),
    Case("refresh.avi", options=REFRESH, audio="mp2"),
    Case("no_b.avi", options=x264("keyint=20:bframes=0"), audio="mp2"),
    *(Case(f"open_gop.{kind}", options=OPEN) for kind in ("mp4", "mkv", "flv", "ts", "m2ts")),
    Case("refresh_once.ts", options=x264("intra-refresh=1:keyint=infinite")),
    Case("closed_b.ts", options=x264("keyint=12:bframes=3"), rate_hz=44_100),
    Case("one_keyframe.ts", options=x264("keyint=300:bframes=2")),
    Case("late_start.ts", options=x264("keyint=12:bframes=2"), ticks=[n + 1234 for n in range(COUNT)]),
    Case("late_start.mkv", options=OPEN, ticks=[n + 1234 for n in range(COUNT)]),
    Case("varying.ts", options=x264("keyint=12:bframes=2"), ticks=VARYING),
    Case("varying.mp4", options=OPEN, ticks=VARYING),
    Case("hevc.ts", "libx265", x265("open-gop=1:keyint=12:bframes=3"), 44_100),
    Case("hevc.mp4", "libx265", x265("open-gop=1:keyint=12:bframes=3")),
    Case("hevc_refresh.ts", "libx265", x265("intra-refresh=1:keyint=12:bframes=0")),
    Case("mpeg2.ts", "mpeg2video", MPEG_B, audio="mp2"),
    Case("mpeg2.m2ts", "mpeg2video", MPEG_B | {"flags": "-cgop"}, audio="mp2", rate_hz=44_100),
    Case("mpeg2.mpg", "mpeg2video", MPEG_B, audio="mp2"),
    Case("mpeg4.ts", "mpeg4", MPEG_B),
    *(Case(f"interlaced_mpeg4.{kind}", "mpeg4", MPEG_B | FIELDS) for kind in ("ts", "mkv", "mp4")),
    Case("interlaced_mpeg2.ts", "mpeg2video", MPEG_B | FIELDS, audio="mp2"),
    Case("interlaced.ts", options=x264("tff=1:open-gop=1:keyint=10:bframes=3", **FIELDS)),
    Case("begins_late.ts", options=x264("keyint=25:bframes=2"), drop=0.2),
    Case("begins_late_refresh.ts", options=x264("intra-refresh=1:keyint=20"), drop=0.2),
    Case("begins_late_open.ts", options=OPEN, drop=0.2),
    Case("begins_late_hevc.ts", "libx265", x265("open-gop=1:keyint=25:bframes=3"), drop=0.2),
    Case("begins_late_mpeg2.ts", "mpeg2video", MPEG_LONG, audio="mp2", drop=0.2),
    Case("begins_late_mpeg4.ts", "mpeg4", MPEG_LONG, drop=0.2),
]


def pictures() -> np.ndarray:
    """(T, H, W, 3) uint8: each frame has a brightness of its own, over a moving texture."""
    noise = np.random.default_rng(0).integers(0, 24, (48, 64 + COUNT, 3))
    frames = [20 + 2 * n + noise[:, n : n + 64] for n in range(COUNT)]
    return np.stack(frames).astype(np.uint8)


def make(case: Case, path: Path) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream(case.codec, rate=FPS, options=case.options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        audio = container.add_stream(case.audio, rate=case.rate_hz, layout="mono")
        seconds = (case.ticks[-1] - case.ticks[0] + 1) / FPS
        tone = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(200, 900, round(seconds * case.rate_hz))) / case.rate_hz)
        kind = "s16" if case.audio == "mp2" else "fltp"
        samples = (tone * 2**15).astype(np.int16) if case.audio == "mp2" else tone.astype(np.float32)
        size = case.rate_hz // FPS
        first = round(case.ticks[0] / FPS * case.rate_hz)
        sound = [(first + at, samples[at : at + size]) for at in range(0, len(samples), size)]
        for image, tick in zip(pictures(), case.ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, FPS)
            container.mux(video.encode(frame))
            while sound and sound[0][0] / case.rate_hz <= tick / FPS:
                at, piece = sound.pop(0)
                heard = av.AudioFrame.from_ndarray(piece[None], format=kind, layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = case.rate_hz, at, Fraction(1, case.rate_hz)
                container.mux(audio.encode(heard))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    if case.drop:
        data = path.read_bytes()
        path.write_bytes(data[round(len(data) / TS_SIZE * case.drop) * TS_SIZE :])
    return path


@dataclass
class Truth:
    """Return the frames of decoding from start to end, without first frames that are predicted from nothing."""

    path: Path
    times: list[float]
    frames: np.ndarray
    sound_start: float
    sound: np.ndarray


@pytest.fixture(scope="module")
def truth_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Truth]:
    folder, known = tmp_path_factory.mktemp("random_access"), {}

    def get(case: Case) -> Truth:
        if case.name not in known:
            path = make(case, folder / case.name)
            with av.open(str(path)) as container:
                shown = list(container.decode(video=0))
            while not shown[0].key_frame and case.codec in ("mpeg2video", "mpeg4"):
                shown.pop(0)  # gray, and what follows from it
            times = [float(frame.pts * frame.time_base) for frame in shown]
            if path.suffix == ".avi":  # it numbers frames, and FFmpeg's guesses of their times are late
                times = [number / FPS for number in range(len(shown))]
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in shown])
            with av.open(str(path)) as container:
                heard = list(container.decode(audio=0))
            pieces = [frame.to_ndarray().astype(np.float32).reshape(-1) for frame in heard]
            sound = np.concatenate(pieces) / (2**15 if case.audio == "mp2" else 1)
            known[case.name] = Truth(path, times, frames, float(heard[0].pts * heard[0].time_base), sound)
        return known[case.name]

    return get


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_frame_equals_sequential_decoding(
    case: Case, backend: str, truth_of: Callable[[Case], Truth], require: Callable[[str], None]
) -> None:
    require(backend)
    truth = truth_of(case)
    ends = [*truth.times[1:], truth.times[-1] + 1 / FPS]
    middles = [(begin + end) / 2 for begin, end in zip(truth.times, ends, strict=True)]
    middles = [second for second in middles if second < video_stop(truth.path)]
    numbers = random.Random(case.name).sample(range(len(middles)), 6)
    bound = 0 if backend == "pyav" else 2  # two FFmpegs
    try:
        alone = []
        for number in numbers:
            with open_media(truth.path, backend) as reader:  # type: ignore[arg-type]
                alone.append(reader.read_frames([middles[number]])[0])
        with open_media(truth.path, backend) as reader:  # type: ignore[arg-type]
            together = reader.read_frames([middles[number] for number in numbers])
            for number, frame in zip(numbers, alone, strict=True):
                assert torch.equal(frame, reader.read_frames([middles[number]])[0])
            assert torch.equal(together, torch.stack(alone))
    except MediaError as error:
        if backend == "decord" and 'backend="pyav"' in str(error):
            return
        raise
    expected = torch.from_numpy(truth.frames[numbers]).permute(0, 3, 1, 2)
    assert (together.float() - expected.float()).abs().mean((1, 2, 3)).max() <= bound


def video_stop(path: Path) -> float:
    with open_media(path, "pyav") as reader:
        return reader.info.video_stop_seconds or 0.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [case for case in CASES if not case.drop], ids=lambda case: case.name)
def test_any_window_of_audio_equals_sequential_decoding(
    case: Case, backend: str, truth_of: Callable[[Case], Truth], require: Callable[[str], None]
) -> None:
    require(backend)
    truth = truth_of(case)
    draw = random.Random(case.name)
    for _ in range(3):
        with open_media(truth.path, backend) as reader:  # type: ignore[arg-type]
            info = reader.info
            assert info.audio_start_seconds is not None
            assert info.audio_stop_seconds is not None
            start = draw.uniform(info.audio_start_seconds, info.audio_stop_seconds - 0.35)
            try:
                window = reader.read_audio(start, start + 0.3)[0].numpy()
            except MediaError as error:
                if backend == "decord" and 'backend="pyav"' in str(error):
                    return
                raise
        first = round((start - info.audio_start_seconds) * case.rate_hz)
        offset = round((info.audio_start_seconds - truth.sound_start) * case.rate_hz)
        expected = truth.sound[first + offset : first + offset + len(window)]
        assert np.abs(window[: len(expected)] - expected).max() < 1e-3


@pytest.mark.parametrize("case", [case for case in CASES if case.drop], ids=lambda case: case.name)
def test_a_file_that_begins_between_keyframes_starts_at_the_next(case: Case, truth_of: Callable[[Case], Truth]) -> None:
    """No frame is predicted from gray, and none stands for those that are lost."""
    truth = truth_of(case)
    with open_media(truth.path) as reader:
        declared = reader._header.video_start_seconds
        assert declared is not None
        assert declared < truth.times[0] - 0.1
        with pytest.raises(MediaError, match="no earlier frame can be decoded") as error:
            reader.read_frames([declared])
        assert (error.value.reason, error.value.second) == ("out_of_range", pytest.approx(truth.times[0]))
        assert reader.info.video_start_seconds == pytest.approx(truth.times[0])
        lost = truth.times[0] - declared
        assert reader.info.unread == f"The first {lost:.3f} s of video cannot be decoded: no keyframe precedes them."
        frame = reader.read_frames([truth.times[0]])[0]
    assert np.array_equal(frame.permute(1, 2, 0).numpy(), truth.frames[0])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_that_are_called_keyframes_and_are_none(tmp_path: Path, suffix: str) -> None:
    """A container that marks every frame as a keyframe makes seeks end on frames predicted from others."""
    case = Case(f"all_sync.{suffix}", "mpeg4", MPEG_LONG)
    path = make(case, tmp_path / case.name)
    marked = tmp_path / f"marked.{suffix}"
    with av.open(str(path)) as reader, av.open(str(marked), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.stream, packet.is_keyframe = stream, True
                writer.mux(packet)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for number in (70, 12, 33):
        with open_media(marked) as media:
            start = media.info.video_start_seconds
            assert start is not None
            frame = media.read_frames([start + (number + 0.5) / FPS])[0]
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), frames[number])


@pytest.mark.parametrize("fps", [240, 960, 1200])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_slow_motion_cameras(tmp_path: Path, tools: Any, fps: int, suffix: str) -> None:
    path = tools.encode(tmp_path / f"fast.{suffix}", tools.gray(50), range(50), fps=fps)
    with open_media(path) as reader:
        info = reader.info
        assert info.video_start_seconds is not None
        if suffix != "ts":
            assert info.video_fps == pytest.approx(fps, rel=0.02)
        # Matroska counts milliseconds, so at 1200 per second it gives some frames the same time.
        step = 5 if suffix == "mkv" else 1
        numbers = range(3, 47, step)
        found = tools.numbers(reader.read_frames([info.video_start_seconds + (n + 0.5) / fps for n in numbers]))
    assert np.abs(np.array(found) - np.array(numbers)).max() <= (1 if suffix == "mkv" else 0)


def test_torchcodec_says_once_that_pyav_decodes(
    truth_of: Callable[[Case], Truth], require: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    require("torchcodec")
    from avssl.media import torchcodec_reader

    torchcodec_reader._told.clear()
    with caplog.at_level("INFO", "avssl.media.torchcodec_reader"):
        for case in (case for case in CASES if case.name in ("closed_b.ts", "mpeg2.ts", "mpeg4.ts")):
            truth = truth_of(case)
            with open_media(truth.path, "torchcodec") as reader:
                reader.read_frames([truth.times[-2]])
                assert "video" in reader.fallback  # type: ignore[attr-defined]
    assert len(caplog.messages) == 1
    assert "PyAV decodes its video instead of torchcodec" in caplog.messages[0]
