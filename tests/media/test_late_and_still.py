"""Files that do not begin at zero, streams that begin late, and passages in which the picture stands still."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avssl.data.health.report import probe_file
from avssl.media import open_media
from avssl.media.pyav.declared_size import missing_bytes

FPS = 25
RATE_HZ = 24_000
STILL_OGV = Path(__file__).with_name("still.ogv")
"""4 s, 64 x 48 (FFmpeg's testsrc2, libtheora): still, in empty packets, in [1, 2) and from 2.6 s on."""


def recording(
    path: Path,
    video_from: float = 0.0,
    audio_from: float = 0.0,
    seconds: float = 4.0,
    codec: str = "mpeg4",
    empty: range = range(0),
) -> Path:
    """Write gray frames, 2 levels brighter each, and a tone that rises, with streams that begin where requested."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=FPS, options={"g": "10", "qmax": "3", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        audio = container.add_stream("libmp3lame" if path.suffix == ".avi" else "aac", rate=RATE_HZ)
        tone = tone_of(seconds).astype(np.float32)
        packets = []
        for number in range(round(seconds * FPS)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 2 * (number % 100), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(video_from * FPS) + number, Fraction(1, FPS)
            packets += video.encode(frame)
        packets += video.encode(None)
        for place in empty:
            packets[place] = emptied(packets[place])
        for at in range(0, len(tone), 1200):
            heard = av.AudioFrame.from_ndarray(tone[None, at : at + 1200], format="fltp", layout="mono")
            heard.sample_rate, heard.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            heard.pts = round(audio_from * RATE_HZ) + at
            packets += audio.encode(heard)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def emptied(packet: Any) -> Any:
    empty = av.Packet(b"")
    empty.pts, empty.dts, empty.duration = packet.pts, packet.dts, packet.duration
    empty.time_base, empty.stream = packet.time_base, packet.stream
    return empty


def tone_of(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return 0.3 * np.sin(2 * np.pi * (300 * time + 100 * time**2))


def numbers(frames: Any) -> list[int]:
    return [round((float(frame.float().mean()) - 20) / 2) for frame in frames]


def with_lengths(path: Path, begin: float) -> Path:
    """Write what mkvmerge writes: lengths, where FFmpeg's muxer writes ends."""
    data = bytearray(path.read_bytes())
    place = data.index(bytes.fromhex("448988")) + 3  # Duration: an 8 byte float, in milliseconds
    length = np.frombuffer(data[place : place + 8], ">f8")[0] - 1000 * begin
    data[place : place + 8] = np.array(length, ">f8").tobytes()
    at = data.find(b"DURATION")
    while at >= 0:
        digits = data.index(b"00:00:", at)
        seconds = float(data[digits + 6 : digits + 18]) - begin
        data[digits + 6 : digits + 18] = f"{seconds:012.9f}".encode()
        at = data.find(b"DURATION", digits)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
@pytest.mark.parametrize(
    ("name", "lengths"),
    [("a.mkv", False), ("a.mkv", True), ("a.webm", False), ("a.webm", True), ("a.flv", False), ("a.ts", False)],
)
def test_a_file_that_begins_late_is_whole(tmp_path: Path, name: str, lengths: bool, backend: str, require: Any) -> None:
    """Pieces of a segmented recording begin late, and writers count their time in two ways."""
    require(backend)
    path = tmp_path / name
    if path.suffix == ".webm":
        recording(tmp_path / "a.mkv", 20.0, 20.0).rename(path)
    else:
        recording(path, 20.0, 20.0, codec="flv" if path.suffix == ".flv" else "mpeg4")
    if lengths:
        with_lengths(path, 20.0)
    report = probe_file(str(path))
    assert report.status == "ok", report.error
    assert report.info is not None
    with open_media(path, backend) as reader:  # type: ignore[arg-type]
        info = reader.info
        start, stop = info.video_start_seconds, info.video_stop_seconds
        assert start is not None
        assert stop is not None
        assert stop - start == pytest.approx(4.0, abs=0.05)
        assert info.duration_seconds == pytest.approx(4.0, abs=0.15)
        assert numbers(reader.read_frames([start + 3.9, start + 0.1, start + 2.02])) == [97, 2, 50]
        reader.read_audio(start + 0.1, start + 3.7)
    assert report.info.video_stop_seconds == pytest.approx(stop, abs=0.05)


@pytest.mark.parametrize("name", ["a.mkv", "a.flv", "a.ts"])
@pytest.mark.parametrize(("video_from", "audio_from"), [(7.0, 0.0), (0.0, 7.0)])
@pytest.mark.parametrize("lengths", [False, True])
def test_a_stream_that_begins_late(
    tmp_path: Path, name: str, video_from: float, audio_from: float, lengths: bool
) -> None:
    """FFmpeg looks at five seconds only, and takes such a stream for one that begins at once."""
    if lengths and name != "a.mkv":
        pytest.skip("mkvmerge writes Matroska only")
    codec = "flv" if name == "a.flv" else "mpeg4"
    path = recording(tmp_path / name, video_from, audio_from, 9.0, codec)
    if lengths:  # the length of the late stream's tag alone
        data = path.read_bytes()
        late = data.rindex(b"00:00:16.")
        path.write_bytes(data[:late] + b"00:00:09." + data[late + 9 :])
    with open_media(path) as reader:
        info = reader.info
        assert info.video_start_seconds is not None
        assert info.audio_start_seconds is not None
        assert info.audio_stop_seconds is not None
        between = info.audio_start_seconds - info.video_start_seconds
        assert between == pytest.approx(audio_from - video_from, abs=0.15)
        assert info.unread == ""
        first = info.video_start_seconds
        assert numbers(reader.read_frames([first + 1.22, first + 0.02])) == [30, 0]
        begin = info.audio_start_seconds + 1.0
        window = reader.read_audio(begin, begin + 0.5)[0].numpy()
        whole = reader.read_audio(info.audio_start_seconds, info.audio_stop_seconds)[0].numpy()
        assert np.abs(window - whole[RATE_HZ : RATE_HZ + len(window)]).max() < 1e-3
        assert np.abs(whole[:RATE_HZ]).max() > 0.2
    assert probe_file(str(path)).status == "ok"


def test_a_copied_tag_of_a_longer_file_is_not_believed(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.mkv")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"00:00:04.", b"00:00:40."))
    assert probe_file(str(path)).status == "ok"
    with open_media(path) as reader:
        assert reader.info.video_stop_seconds == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
def test_empty_packets_of_theora_repeat_the_frame(backend: str, require: Any) -> None:
    require(backend)
    with av.open(str(STILL_OGV)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.pts is not None]
    assert sizes.count(0) > 40
    report = probe_file(str(STILL_OGV))
    assert report.status == "ok", report.error
    with open_media(STILL_OGV, backend) as reader:  # type: ignore[arg-type]
        stop = reader.info.video_stop_seconds
        assert stop is not None
        assert stop >= 3.5
        frames = reader.read_frames([0.5, 0.9, 1.1, 1.5, 1.9, 2.5, 2.7, stop - 0.02]).float()
        assert (frames[0] - frames[1]).abs().mean() > 0.8
        assert (frames[3] - frames[4]).abs().mean() < 0.4
        assert (frames[4] - frames[5]).abs().mean() > 0.8
        assert (frames[6] - frames[7]).abs().mean() < 0.4
        for number, second in enumerate([0.5, 0.9, 1.1, 1.5, 1.9, 2.5, 2.7]):
            assert (reader.read_frames([second])[0].float() - frames[number]).abs().max() == 0
        streamed = list(reader.stream_frames([1.1, 1.5, stop - 0.02]))
        assert (streamed[1].float() - frames[3]).abs().max() == 0


def test_empty_packets_repeat_the_frame_up_to_the_end(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.nut", empty=range(25, 50))
    recording(tmp_path / "b.nut", empty=range(80, 100))
    with open_media(path) as reader:
        start = reader.info.video_start_seconds or 0.0
        assert numbers(reader.read_frames([start + second for second in (1.5, 0.98, 1.98, 0.02)])) == [24, 24, 24, 0]
        assert numbers(reader.read_frames([start + 1.9])) == [24]
    with open_media(tmp_path / "b.nut") as reader:
        start = reader.info.video_start_seconds or 0.0
        assert numbers(reader.read_frames([start + 3.9, start + 3.02])) == [79, 75]
    for name in ("a.nut", "b.nut"):
        assert probe_file(str(tmp_path / name)).status == "ok"


def test_the_last_frame_of_an_avi_stands_to_its_declared_end(tmp_path: Path) -> None:
    """FFmpeg hides the empty chunks that a recorder writes while nothing changes."""
    path = recording(tmp_path / "a.avi", empty=range(75, 100))
    assert missing_bytes(path) == 0
    assert probe_file(str(path)).status == "ok"
    with open_media(path) as reader:
        assert reader.info.video_stop_seconds == pytest.approx(4.0, abs=0.1)
        last, earlier = numbers(reader.read_frames([3.9, 2.5]))
        assert last == 74
        assert earlier == pytest.approx(61, abs=1)
