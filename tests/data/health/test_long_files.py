"""Rows of long files, judged one by one: holes in the timestamps, frozen frames, silence, and what stays as it was."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from avssl.data.health.indexing import index_folder
from avssl.data.health.report import HealthSettings
from avssl.media.pyav.packets import read_packets
from avssl.media.pyav.reader import PyAVReader

RATE = 8000
FPS = 5
CODECS = {
    "a.mkv": ("libx264", "aac"),
    "a.mp4": ("mpeg4", "aac"),
    "a.mov": ("mjpeg", "pcm_s16le"),
    "a.ts": ("mpeg2video", "mp2"),
    "a.m2ts": ("libx264", "aac"),
}
MOVING, FROZEN, QUIET, NOTHING = "moving", "frozen", "quiet", "nothing"


def record(path, parts, gop=25, options=None):
    """Write a file of parts: ``(seconds, kind, ...)``; a frozen part repeats one frame, NOTHING writes no packet."""
    picture, sound = CODECS[f"a{path.suffix}"]
    rate = 48_000 if sound == "mp2" else RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        fps = 25 if picture == "mpeg2video" else FPS
        video = container.add_stream(picture, rate=fps, options=options or {})
        video.width, video.height, video.gop_size = 64, 48, gop
        video.pix_fmt = "yuvj420p" if picture == "mjpeg" else "yuv420p"
        video.codec_context.time_base, video.bit_rate = Fraction(1, fps), 2_000_000
        audio = container.add_stream(sound, rate=rate, layout="mono")
        size = audio.codec_context.frame_size or 1024
        resampler = av.AudioResampler(audio.format.name, "mono", rate, size)
        times = itertools.count()
        for length, *kinds in parts:
            first_second = -1
            for second in itertools.islice(times, length):
                first_second = second if first_second < 0 else first_second
                if NOTHING not in kinds:
                    shown = first_second if FROZEN in kinds else second
                    container.mux(_encode_video(video, second, shown, fps, FROZEN not in kinds))
                    container.mux(_encode_audio(audio, resampler, second, rate, 0.0 if QUIET in kinds else 0.5))
        container.mux([*video.encode(None), *audio.encode(None)])


def _encode_video(stream, second, shown, fps, moves):
    """Encode a second of a moving grating; the same frame again unless it ``moves``."""
    x = np.arange(64)
    packets = []
    for number in range(fps):
        phase = 3 * (shown * fps + (number if moves else 0))
        pixels = np.broadcast_to((127 + 120 * np.sin((x + phase) / 5))[None, :, None], (48, 64, 3))
        image = av.VideoFrame.from_ndarray(pixels.astype(np.uint8)).reformat(format=stream.pix_fmt)
        image.pts = second * fps + number
        packets += stream.encode(image)
    return packets


def _encode_audio(stream, resampler, second, rate, level):
    tone = level * np.sin(np.arange(rate) * 0.3, dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(tone[None], "flt", "mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, second * rate, Fraction(1, rate)
    return [packet for piece in resampler.resample(frame) for packet in stream.encode(piece)]


def rows(found):
    starts, stops = found.manifest["start_seconds"], found.manifest["stop_seconds"]
    return list(zip(starts.round().tolist(), stops.round().tolist(), strict=True))


def seconds(found):
    parts = [p for _, p in found.left_out if p.seconds >= 1]
    return {reason: round(sum(p.seconds for p in parts if p.reason == reason)) for reason in {p.reason for p in parts}}


@pytest.mark.parametrize("depth", ["quick", "full"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_pause_of_ten_minutes_gives_no_rows(tmp_path, name, depth):
    """A camera that records on motion: 30 s, ten minutes of nothing, 30 s."""
    record(tmp_path / name, [(30, MOVING), (600, NOTHING), (30, MOVING)])
    found = index_folder(tmp_path, health=HealthSettings(depth))
    assert rows(found) == [(0, 10), (10, 20), (20, 30), (630, 640), (640, 650), (650, 660)]
    assert seconds(found) == {"empty": 600}
    assert "left out of files: 600 s empty" in found.summary()


@pytest.mark.parametrize("name", CODECS)
def test_frozen_and_silent_rows_are_left_out(tmp_path, name):
    record(tmp_path / name, [(20, MOVING), (20, FROZEN), (10, MOVING), (20, MOVING, QUIET), (10, MOVING)])
    found = index_folder(tmp_path)
    start = found.manifest["start_seconds"][0]
    assert [round(a - start) for a in found.manifest["start_seconds"]] == [0, 10, 40, 70]
    assert seconds(found) == {"still_picture": 20, "silent": 20}


def test_a_bit_rate_held_by_padding_does_not_hide_frozen_rows(tmp_path):
    padded = {"x264-params": "nal-hrd=cbr:vbv-maxrate=200:vbv-bufsize=200:bitrate=200:force-cfr=1"}
    record(tmp_path / "a.m2ts", [(20, MOVING), (30, FROZEN), (10, MOVING)], gop=50, options=padded)
    sizes = read_packets(tmp_path / "a.m2ts").video.num_bytes
    assert np.median(sizes) > 2000
    assert seconds(index_folder(tmp_path)) == {"still_picture": 30}


def test_other_lengths_of_rows_are_judged_too(tmp_path):
    record(tmp_path / "a.mkv", [(20, MOVING), (6, FROZEN), (16, MOVING)])
    assert len(index_folder(tmp_path).manifest) == 4
    found = index_folder(tmp_path, segment_seconds=2)
    assert len(found.manifest) == 18
    assert seconds(found) == {"still_picture": 6}


def test_a_file_without_a_usable_row_is_a_failure(tmp_path):
    record(tmp_path / "a.mkv", [(10, MOVING, QUIET), (22, FROZEN)])
    found = index_folder(tmp_path)
    assert [error.reason for error in found.failures.values()] == ["still_picture"]
    assert "none of its rows can be used" in str(found.failures["a.mkv"])


@pytest.mark.parametrize("depth", ["quick", "normal"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_pause_in_a_short_file_gives_no_row(tmp_path, name, depth):
    record(tmp_path / name, [(6, MOVING), (12, NOTHING), (7, MOVING)])
    found = index_folder(tmp_path, health=HealthSettings(depth))
    assert rows(found) == [(0, 6), (18, 25)]
    assert found.manifest["id"][1].startswith(f"{name}#18.")
    assert seconds(found) == {"empty": 12}
    record(tmp_path / name, [(40, MOVING), (12, NOTHING), (7, MOVING)])
    assert rows(index_folder(tmp_path, segment_over_seconds=math.inf)) == [(0, 40), (52, 59)]  # as for embed


def test_a_short_file_is_judged_as_a_whole(tmp_path):
    record(tmp_path / "a.mkv", [(10, MOVING), (10, FROZEN, QUIET), (5, MOVING)])
    found = index_folder(tmp_path)
    assert list(found.manifest["id"]) == ["a.mkv"]
    assert found.left_out == []


def test_the_rest_at_the_end_is_counted(tmp_path):
    record(tmp_path / "a.mkv", [(34, MOVING)])
    assert seconds(index_folder(tmp_path)) == {"too_short": 4}


class Restarting(PyAVReader):
    """A reader of files whose clock restarts at 12 s."""

    @property
    def info(self):
        return replace(super().info, clock_jumps=(12.0,))


@pytest.fixture
def restarting(monkeypatch):
    monkeypatch.setattr("avssl.data.health.report.open_media", lambda path, *_, limits: Restarting(path, limits=limits))


def test_no_row_spans_a_clock_jump(tmp_path, restarting):
    record(tmp_path / "a.mkv", [(34, MOVING)])
    found = index_folder(tmp_path)
    assert rows(found) == [(0, 10), (12, 22), (22, 32)]
    assert seconds(found) == {"too_short": 4}
    assert "its clock restarts at 12.0 s: 2 recordings, cut into rows there." in found.summary()
    found = index_folder(tmp_path, segment_over_seconds=math.inf)  # as for embed
    assert rows(found) == [(0, 12), (12, 34)]
    assert list(found.manifest["id"])[1].startswith("a.mkv#12.000-33.")


def test_short_recordings_of_a_short_file_are_counted(tmp_path, restarting):
    record(tmp_path / "a.mkv", [(12, MOVING), (3, MOVING)])
    assert rows(index_folder(tmp_path)) == [(0, 12), (12, 15)]
    found = index_folder(tmp_path, health=HealthSettings(min_seconds=5))
    assert rows(found) == [(0, 12)]
    assert seconds(found) == {"too_short": 3}


def test_two_recordings_behind_one_another_are_two_rows(tmp_path):
    record(tmp_path / "one.ts", [(8, MOVING)])
    (tmp_path / "two.ts").write_bytes(2 * (tmp_path / "one.ts").read_bytes())
    found = index_folder(tmp_path)
    one, first, second = rows(found)
    assert (one[1] - one[0], first[1] - first[0], second[1] - second[0]) == (8, 8, 8)
    assert first[1] == second[0]
    assert "1 files, the first is two.ts: its clock restarts at 8.0 s: 2 recordings" in found.summary()
