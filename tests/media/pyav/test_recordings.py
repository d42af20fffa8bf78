"""Files that hold several recordings behind one another: frames and audio of a time come from the same one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from avssl.data.health.report import probe_file
from avssl.media import MediaError, open_media
from avssl.media.backends import BACKENDS
from avssl.media.pyav.packets import read_packets
from avssl.media.pyav.recordings import find_recordings
from avssl.media.pyav.stream_ends import measure_ends

FPS = 25
SECONDS = 4.0
RATE_HZ = 48_000
TONES_HZ = (400, 1600)
TS_SIZE = 188

# Suffix of the file, video codec, audio codec, options of the muxer.
CONTAINERS = {
    "ts": ("libx264", "aac", {}),
    "m2ts": ("mpeg2video", "mp2", {}),
    "mpg": ("mpeg2video", "mp2", {}),
    "vob": ("mpeg2video", "mp2", {}),
    "mp4": ("libx264", "aac", {}),
    "mov": ("mpeg4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("libx264", "aac", {}),
    "webm": ("libvpx", "libopus", {}),
    "avi": ("mpeg4", "mp2", {}),
    "flv": ("flv", "aac", {}),
    "nut": ("mpeg4", "mp2", {}),
    "asf": ("wmv2", "wmav2", {}),
}


def record(
    path: Path,
    which: int,
    begin_seconds: float = 0.0,
    seconds: float = SECONDS,
    size: tuple[int, int] = (64, 48),
    codecs: tuple[str, str, dict[str, str]] | None = None,
) -> bytes:
    """Write recording 0, dark with a low tone, or 1, bright with a high one; return the bytes."""
    video_codec, audio_codec, muxer = codecs or CONTAINERS[path.suffix[1:]]
    fast = {"preset": "ultrafast"} if video_codec == "libx264" else {"deadline": "realtime", "cpu-used": "8"}
    with av.open(str(path), "w", options=muxer) as container:
        video = container.add_stream(video_codec, rate=FPS, options={"g": "10", "bf": "0"} | fast)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        audio = container.add_stream(audio_codec, rate=RATE_HZ, layout="mono")
        audio.bit_rate = 64_000
        resampler = av.AudioResampler(audio.codec_context.format or "fltp", "mono", RATE_HZ)
        tone = 0.3 * np.sin(2 * np.pi * TONES_HZ[which] * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
        samples, step = tone.astype(np.float32), RATE_HZ // FPS
        for number in range(round(seconds * FPS)):
            shade = (40, 180)[which] + number % 50
            frame = av.VideoFrame.from_ndarray(np.full((*size[::-1], 3), shade, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(begin_seconds * FPS) + number, Fraction(1, FPS)
            container.mux(video.encode(frame))
            heard = av.AudioFrame.from_ndarray(samples[None, number * step : (number + 1) * step], "fltp", "mono")
            heard.sample_rate, heard.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            heard.pts = round(begin_seconds * RATE_HZ) + number * step
            for piece in resampler.resample(heard):
                container.mux(audio.encode(piece))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path.read_bytes()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[bytes]]:
    """Return a function from a container's suffix to the bytes of recordings 0 and 1."""
    folder, known = tmp_path_factory.mktemp("recordings"), {}

    def get(suffix: str) -> list[bytes]:
        if suffix not in known:
            known[suffix] = [record(folder / f"{which}.{suffix}", which) for which in (0, 1)]
        return known[suffix]

    return get


def which_at(reader: Any, second: float) -> tuple[int, int]:
    """Return which recordings the frame and the audio at a time belong to."""
    frame = reader.read_frames([second + 0.2])[0].float().mean()
    audio = reader.read_audio(second, second + 0.4, 16_000)[0].numpy()
    peak = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax() / 0.4
    assert np.abs(audio).max() > 0.1
    return int(frame > 130), int(peak > 1000)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_recordings_behind_one_another_share_a_clock(
    tmp_path: Path, suffix: str, recordings: Callable[[str], list[bytes]]
) -> None:
    order = [0, 1, 1, 0]
    pieces = recordings(suffix)
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(pieces[which] for which in order))
    assert len(find_recordings(path)) == 4
    with open_media(path) as reader:
        info = reader.info
        assert info.video_start_seconds is not None
        assert info.video_stop_seconds is not None
        assert info.duration_seconds == pytest.approx(4 * SECONDS, abs=1.0)
        assert len(info.clock_jumps) == 3
        assert info.unread == ""
        edges = [max(info.video_start_seconds, info.audio_start_seconds or 0.0), *info.clock_jumps]
        for number in (2, 0, 3, 1):
            for after in (0.05, 2.9):
                assert which_at(reader, edges[number] + after) == (order[number], order[number])
        times = [edge + after for edge in edges for after in (0.1, 2.1)]
        streamed = [int(frame.float().mean() > 130) for frame in reader.stream_frames(times)]
        assert streamed == [which for which in order for _ in range(2)]
        assert torch.equal(reader.read_frames(times[::-1]), reader.read_frames(times).flip(0))
        whole = reader.read_audio(info.audio_start_seconds or 0.0, info.audio_stop_seconds or 0.0)[0]
        first = round((edges[1] + 1.0 - (info.audio_start_seconds or 0.0)) * RATE_HZ)
        window = reader.read_audio(edges[1] + 1.0, edges[1] + 1.5)[0]
        torch.testing.assert_close(window, whole[first : first + len(window)], atol=1e-4, rtol=0)
    ends = measure_ends(path)  # the header of a program stream rounds
    assert ends.video_stop_seconds == pytest.approx(info.video_stop_seconds, abs=0.5)
    assert read_packets(path).video.seconds[-1] == pytest.approx(info.video_stop_seconds, abs=0.5)
    report = probe_file(str(path))
    assert report.status == "ok", report.error


@pytest.mark.parametrize("between", ["torn", "noise", "zeros", "own_tables"])
def test_what_lies_between_two_recordings_hides_none(
    tmp_path: Path, between: str, recordings: Callable[[str], list[bytes]]
) -> None:
    """A recorder that lost power ends within a packet; the next recording's packets are shifted."""
    first, second = recordings("ts")
    noise = np.random.default_rng(0).integers(0, 256, 70_001, np.uint8).tobytes()
    middle = {"noise": noise, "zeros": bytes(40 * TS_SIZE)}.get(between, b"")
    if between == "own_tables":
        packets = [first[at : at + TS_SIZE] for at in range(0, len(first), TS_SIZE)]
        tables = [next(p for p in packets if _pid(p) == pid) for pid in (0, 4096)]
        last = max(at for at, p in enumerate(packets) if _pid(p) == 257 and p[1] & 0x40)
        first = b"".join([*packets[:last], *tables, *packets[last:]])
    path = tmp_path / "a.ts"
    path.write_bytes(first[: len(first) - 77 * (between == "torn")] + middle + second + first)
    with open_media(path) as reader:
        info = reader.info
        assert info.unread == ""
        assert info.duration_seconds == pytest.approx(3 * SECONDS, abs=0.7)
        edges = [info.video_start_seconds or 0.0, *info.clock_jumps]
        assert [which_at(reader, edge + 1.0) for edge in edges] == [(0, 0), (1, 1), (0, 0)]


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_reads_them(
    tmp_path: Path, backend: str, recordings: Callable[[str], list[bytes]], require: Callable[[str], None]
) -> None:
    require(backend)
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(recordings("ts")))
    with open_media(path, backend) as reader:  # type: ignore[arg-type]
        (jump,) = reader.info.clock_jumps
        assert [which_at(reader, second) for second in (jump - 1.0, jump + 1.0)] == [(0, 0), (1, 1)]


def test_chained_ogg(tmp_path: Path) -> None:
    data = (Path(__file__).parents[1] / "still.ogv").read_bytes()
    (tmp_path / "chained.ogv").write_bytes(data + data)
    with open_media(tmp_path / "chained.ogv") as reader, open_media(Path(__file__).parents[1] / "still.ogv") as one:
        (jump,) = reader.info.clock_jumps
        assert jump == pytest.approx(4.0, abs=0.5)
        for second in (0.3, 1.5, 2.4):
            assert torch.equal(reader.read_frames([jump + second]), one.read_frames([second]))


@pytest.mark.parametrize("begins", [(0.0, 1000.0), (1000.0, 0.0), (5.0, 2.0), (0.0, 20.0)])
def test_a_clock_that_jumps_in_either_direction(tmp_path: Path, begins: tuple[float, float]) -> None:
    pieces = [record(tmp_path / f"{which}.ts", which, begins[which]) for which in (0, 1)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(pieces))
    with open_media(path) as reader:
        (jump,) = reader.info.clock_jumps
        assert reader.info.duration_seconds == pytest.approx(2 * SECONDS, abs=0.2)
        assert [which_at(reader, second) for second in (jump - 1.0, jump + 1.0)] == [(0, 0), (1, 1)]


def test_the_wrap_of_the_clock_is_no_jump(tmp_path: Path) -> None:
    path = tmp_path / "wrap.ts"
    record(path, 0, 2**33 / 90_000 - 3.0)
    assert len(find_recordings(path)) == 1
    with open_media(path) as reader:
        assert reader.info.clock_jumps == ()
        assert reader.info.duration_seconds == pytest.approx(SECONDS, abs=0.1)


def test_a_short_hole_is_no_jump(tmp_path: Path) -> None:
    pieces = [record(tmp_path / f"{which}.ts", which, begin) for which, begin in ((0, 0.0), (1, 9.0))]
    path = tmp_path / "hole.ts"
    path.write_bytes(b"".join(pieces))
    with open_media(path) as reader:
        assert reader.info.clock_jumps == ()
        assert reader.info.duration_seconds == pytest.approx(9.0 + SECONDS, abs=0.2)


def test_one_damaged_stamp_is_no_jump(tmp_path: Path, recordings: Callable[[str], list[bytes]]) -> None:
    data = bytearray(recordings("ts")[0])
    stamped = [p for p in range(0, len(data), TS_SIZE) if data[p + 3] & 0x20 and data[p + 4] >= 7 and data[p + 5] & 16]
    place = stamped[len(stamped) // 2]
    data[place + 6] ^= 0x40
    path = tmp_path / "damaged.ts"
    path.write_bytes(data)
    assert len(find_recordings(path)) == 1


def test_a_program_with_other_streams_follows(tmp_path: Path, recordings: Callable[[str], list[bytes]]) -> None:
    first, _ = recordings("ts")
    second = record(tmp_path / "b.ts", 1, codecs=("libx264", "aac", {"mpegts_start_pid": "512"}))
    path = tmp_path / "joined.ts"
    path.write_bytes(first + second)
    with open_media(path) as reader:
        (jump,) = reader.info.clock_jumps
        assert [which_at(reader, second) for second in (jump - 1.0, jump + 1.0)] == [(0, 0), (1, 1)]


@pytest.mark.parametrize("suffix", ["ts", "mp4", "mkv"])
def test_a_recording_of_another_size_is_left_out_and_named(tmp_path: Path, suffix: str) -> None:
    pieces = [
        record(tmp_path / f"a.{suffix}", 0),
        record(tmp_path / f"b.{suffix}", 1, seconds=2.0, size=(96, 64)),
        record(tmp_path / f"c.{suffix}", 1),
    ]
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(pieces))
    with open_media(path) as reader:
        assert "Recording 2 of 3" in reader.info.unread
        assert "another size" in reader.info.unread
        (jump,) = reader.info.clock_jumps
        assert reader.info.duration_seconds == pytest.approx(2 * SECONDS, abs=0.2)
        assert [which_at(reader, second) for second in (jump - 1.0, jump + 1.0)] == [(0, 0), (1, 1)]


def test_what_follows_and_is_no_recording_is_named(tmp_path: Path, recordings: Callable[[str], list[bytes]]) -> None:
    path = tmp_path / "junk.mp4"
    path.write_bytes(recordings("mp4")[0] + b"\0\0\0\x10ftypisom\0\0\0\0" + bytes(5000))
    with open_media(path) as reader:
        assert "Recording 2 of 2" in reader.info.unread
        assert reader.info.clock_jumps == ()
        assert reader.info.duration_seconds == pytest.approx(SECONDS, abs=0.1)


def test_a_recording_that_begins_between_keyframes(tmp_path: Path) -> None:
    """Frames before its first keyframe are not shown, nor the audio beside them."""
    codecs = ("mpeg2video", "mp2", {})
    first, second = (record(tmp_path / f"{which}.ts", which, codecs=codecs) for which in (0, 1))
    begin = len(second) // TS_SIZE // 3 * TS_SIZE
    path = tmp_path / "joined.ts"
    path.write_bytes(first + second[begin:])
    with open_media(path) as reader:
        (jump,) = reader.info.clock_jumps
        assert [which_at(reader, second) for second in (jump - 0.6, jump + 0.05)] == [(0, 0), (1, 1)]


def test_errors_name_the_second_on_the_common_clock(tmp_path: Path, recordings: Callable[[str], list[bytes]]) -> None:
    first, second = recordings("mp4")
    path = tmp_path / "cut.mp4"
    damaged = bytearray(second)
    start = damaged.index(b"mdat") + len(damaged) // 3
    damaged[start : start + len(damaged) // 4] = bytes(len(damaged) // 4)
    path.write_bytes(first + damaged)
    with open_media(path) as reader:
        (jump,) = reader.info.clock_jumps
        with pytest.raises(MediaError) as error:
            reader.read_frames([jump + second for second in np.arange(0.1, 3.9, 0.1)])
        assert error.value.path == str(path)
        assert error.value.second is not None
        assert jump < error.value.second < jump + SECONDS
        with pytest.raises(MediaError, match="outside the video stream"):
            reader.read_frames([jump + 9.0])


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_a_long_stream_is_scanned_in_places(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds the jumps of a file larger than its windows, and reads part of it."""
    from avssl.media.pyav import program_clock

    noise = np.random.default_rng(0)
    path = tmp_path / f"long.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=FPS, options={"g": "10", "b": "2000000"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(12 * FPS):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 255, (120, 160, 3), np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    one = path.read_bytes()
    path.write_bytes(one * 3)
    monkeypatch.setattr(program_clock, "_WINDOW", 4096)
    found = find_recordings(path)
    assert [part.start for part in found] == pytest.approx([0, len(one), 2 * len(one)], abs=4096)


@pytest.mark.parametrize(
    "data",
    [b"\x47" * 5000, b"\0\0\1\xba" * 2000, b"\0\0\0\x08ftyp" * 3000, b"RIFF\0\0\0\0AVI " * 1000, b"OggS\0\x02" * 900],
)
def test_bytes_that_only_look_like_recordings(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "looks.bin"
    path.write_bytes(data)
    with pytest.raises(MediaError):
        open_media(path)
