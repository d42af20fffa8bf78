"""What containers do to time, and which way is up, on files made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from avssl.media import MediaError, MediaLimits, open_media
from avssl.media.planes import to_rgb
from avssl.media.pyav.source import Source


@pytest.mark.parametrize("bframes", ["0", "2"])
def test_varying_frame_rate_is_read_by_timestamp(tmp_path: Path, tools: Any, bframes: str) -> None:
    ticks = [0, 1, 2, 10, 11, 40, 41, 42, 90, 91, 92, 93, 94, 95]
    path = tools.encode(tmp_path / "vfr.mp4", tools.gray(14), ticks, options={"bf": bframes})
    for backend in ("pyav", "auto"):
        with open_media(path, backend) as reader:
            times = [t / 30 for t in ticks if t / 30 < (reader.info.video_stop_seconds or 0)]
            assert tools.numbers(reader.read_frames(times)) == list(range(len(times)))
            assert len(times) >= 11  # with B-frames, FFmpeg's muxer itself states too early an end
            assert tools.numbers(reader.read_frames([0.3, 1.3, 1.34, 2.9])) == [2, 4, 5, 7]


@pytest.mark.parametrize(("degrees", "hflip"), [(0, True), (90, False), (90, True), (180, False), (-90, False)])
def test_pictures_come_upright(tmp_path: Path, tools: Any, degrees: int, hflip: bool) -> None:
    """The display matrix turns counterclockwise, after the flip."""
    stored = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    stored[:, 0, :32, :48] = 250  # red top left, green top right
    stored[:, 1, :32, 48:] = 250

    def turn(stream: Any) -> None:
        stream.set_display_rotation(degrees, hflip=hflip)

    path = tools.encode(tmp_path / "turned.mp4", stored.repeat(8, 1, 1, 1), range(8), prepare=turn)
    with av.open(str(path)) as container:
        angle = next(container.decode(video=0)).rotation
    upright = torch.rot90(stored.flip(-1) if hflip else stored, round(angle / 90), (-2, -1))
    candidates = [torch.rot90(s, k, (-2, -1)) for s in (stored, stored.flip(-1)) for k in range(4)]
    for backend in ("pyav", "auto"):
        with open_media(path, backend) as reader:
            frames = reader.read_frames([0.0, 0.2])
            assert (reader.info.height, reader.info.width) == frames.shape[-2:]
            near = [
                c.shape[-2:] == frames.shape[-2:] and float((frames[1] - c[0].float()).abs().mean()) < 12
                for c in candidates
            ]
            assert sum(near) == 1
            assert near.index(True) // 4 == int(hflip)  # mirrored exactly if the matrix mirrors
            if not hflip:
                assert float((frames[1] - upright[0].float()).abs().mean()) < 12
            planes = list(reader.stream_planes([0.0, 0.2]))[1]
            assert (to_rgb(planes).int() - frames[1].int()).abs().float().mean() < 3  # color is soft at edges
            short = reader.read_frames([0.0], short_side=32)
            assert short.shape[-2:] == tuple(s // 2 for s in frames.shape[-2:])


@pytest.mark.parametrize(("aspect", "width"), [("4:3", 128), ("1:2", 48), ("224:225", 96)])
def test_pixels_come_square(tmp_path: Path, tools: Any, aspect: str, width: int) -> None:
    from fractions import Fraction

    def stretch(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(aspect.replace(":", "/"))

    path = tools.encode(tmp_path / "wide.mp4", tools.gray(8), range(8), prepare=stretch)
    for backend in ("pyav", "auto"):
        with open_media(path, backend) as reader:
            assert (reader.info.width, reader.info.height) == (width, 64)
            frames = reader.read_frames([0.1])
            assert frames.shape == (1, 3, 64, width)
            assert tools.numbers(frames) == [3]
            assert next(reader.stream_planes([0.1])).size == (64, width)


@pytest.mark.parametrize("suffix", ["mkv", "mov", "ts", "flv"])
def test_containers_keep_frames_and_samples(tmp_path: Path, clip: Path, suffix: str, tools: Any) -> None:
    path = tools.remux(clip, tmp_path / f"clip.{suffix}")
    for backend in ("pyav", "auto"):
        with open_media(path, backend) as reader:
            info = reader.info
            assert info.video_start_seconds is not None
            assert info.audio_start_seconds is not None
            assert info.audio_stop_seconds is not None
            start = info.video_start_seconds
            frames = reader.read_frames([start + (n + 0.5) / 16 for n in range(48)])
            assert tools.numbers(frames) == list(range(48))
            assert tools.numbers(reader.read_frames([start + 20.5 / 16])) == [20]
            first, stop = info.audio_start_seconds, info.audio_stop_seconds
            whole = reader.read_audio(first, stop)
            found = np.array(tools.beep_starts(whole, 24_000, 4))
            assert np.diff(found) == pytest.approx(np.diff(tools.BEEP_SECONDS) * 24_000, abs=1)
            # From the first frame to the first beep is what was written, to the container's clock.
            elapsed = first + found[0] / 24_000 - start
            assert elapsed == pytest.approx(tools.BEEP_SECONDS[0], abs=1.6e-3)
            for begin in (first, first + 0.7, first + 1.23, stop - 0.5):
                window, place = reader.read_audio(begin, begin + 0.4), round((begin - first) * 24_000)
                torch.testing.assert_close(window, whole[:, place : place + 9600], atol=1e-3, rtol=0)


def test_avi_is_read_by_frame(tmp_path: Path, tools: Any) -> None:
    path = tools.encode(tmp_path / "a.avi", tools.gray(30), range(30), codec="mpeg4", options={"g": "6", "qmax": "3"})
    for backend in ("pyav", "auto"):
        with open_media(path, backend) as reader:
            assert tools.numbers(reader.read_frames([(n + 0.5) / 30 for n in range(30)])) == list(range(30))
            assert tools.numbers(reader.read_frames([0.51, 0.02])) == [15, 0]


def test_matroska_without_lengths_is_measured(tmp_path: Path, clip: Path, tools: Any) -> None:
    path = tools.remux(clip, tmp_path / "live.mkv", options={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
    with open_media(path, "pyav") as reader:
        assert reader.info.video_stop_seconds == pytest.approx(3.0, abs=0.1)
        assert reader.info.audio_stop_seconds == pytest.approx(3.0, abs=0.1)
        start = reader.info.video_start_seconds
        assert start is not None
        assert tools.numbers(reader.read_frames([start + 47.5 / 16, start + 0.01])) == [47, 0]


def test_tracks_may_start_at_different_times(tmp_path: Path, tools: Any) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=24_000, layout="mono")
        samples = (tools.beeping().numpy() * 32_767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 24_000, 12_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        for number, picture in enumerate(tools.gray(20)):
            image = av.VideoFrame.from_ndarray(picture.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            image.pts = number
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    with open_media(path) as reader:
        info = reader.info
        assert info.audio_start_seconds == pytest.approx(0.5, abs=2e-3)
        assert info.video_start_seconds == pytest.approx(0.0, abs=1e-6)
        first = info.audio_start_seconds
        assert first is not None
        whole = reader.read_audio(first, first + 2.9)
        assert tools.beep_starts(whole, 24_000, 4) == [round(s * 24_000) for s in tools.BEEP_SECONDS]
        assert tools.beep_starts(reader.read_audio(first + 1.0, first + 1.5), 24_000, 1) == [2400]
        with pytest.raises(MediaError, match="leaves the audio stream"):
            reader.read_audio(0.0, 1.0)


@pytest.mark.parametrize(
    ("codec", "sample_format", "scale"),
    [("pcm_u8", "u8", None), ("pcm_s16le", "s16", 2**15), ("pcm_s32le", "s32", 2**31), ("pcm_f32le", "flt", 1)],
)
def test_sample_formats_and_channels(tmp_path: Path, codec: str, sample_format: str, scale: int | None) -> None:
    left = 0.5 * np.sin(np.arange(8000) * 0.05)
    stereo = np.stack([left, -0.5 * left])
    if scale is None:
        packed = np.round(stereo * 128 + 128).astype(np.uint8)
    elif scale == 1:
        packed = stereo.astype(np.float32)
    else:
        packed = np.round(stereo * scale).astype({2**15: np.int16, 2**31: np.int32}[scale])
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream(codec, rate=8000, layout="stereo")
        stream.codec_context.format = sample_format
        frame = av.AudioFrame.from_ndarray(packed.T.reshape(1, -1).copy(), format=sample_format, layout="stereo")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_media(tmp_path / "a.wav", "pyav") as reader:
        both = reader.read_audio(0.0, 1.0, num_channels=2)
        mono = reader.read_audio(0.0, 1.0)
    tolerance = 0.01 if codec == "pcm_u8" else 1e-4
    torch.testing.assert_close(both, torch.from_numpy(stereo).float(), atol=tolerance, rtol=0)
    torch.testing.assert_close(mono, both.mean(0, keepdim=True))


def test_resampling_keeps_time_and_level(tmp_path: Path, tools: Any) -> None:
    """A 440 Hz sine stays that sine, in phase, at every rate: to -60 dB away from the ends."""
    from avssl.media.resampling import resample

    for rate, to_rate in ((24_000, 16_000), (44_100, 24_000), (48_000, 24_000), (8000, 44_100), (22_050, 24_001)):
        sine = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)[None].astype(np.float32)
        out = resample(sine, "mono", rate, to_rate, 1)
        expected = np.sin(2 * np.pi * 440 * np.arange(out.shape[1]) / to_rate)
        middle = slice(to_rate // 10, to_rate * 9 // 10)
        assert np.abs(out[0, middle] - expected[middle]).max() < 1e-3


def test_sound_stops_where_the_file_was_cut(tmp_path: Path, clip: Path, tools: Any) -> None:
    whole = tools.remux(clip, tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    with open_media(tmp_path / "cut.mkv", "pyav") as reader:
        assert reader.read_audio(0.0, 1.0).shape == (1, 24_000)
        with pytest.raises(
            MediaError, match=r"audio at 2\.000 s: the audio ends at 1\.\d+ s although .* 3\.\d+ s"
        ) as e:
            reader.read_audio(2.0, 2.9)
        assert e.value.reason == "truncated"
        with pytest.raises(MediaError, match=r"video at 2\.900 s: the video ends at 1\.\d+ s although .* 3\.\d+ s"):
            reader.read_frames([2.9])


def test_cover_art_is_no_picture_track(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream_from_template(source.streams.audio[0])
        cover = container.add_stream("png", rate=1)
        cover.height = cover.width = 32
        cover.pix_fmt = "rgb24"
        cover.disposition = 0x400
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        image.pts = 0
        packets = cover.encode(image) + cover.encode(None)
        container.mux(packets)
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                container.mux(packet)
    with open_media(path) as reader:
        assert not reader.info.has_video
        assert reader.read_audio(0.0, 1.0).shape == (1, 24_000)


def test_a_source_opens_nothing_but_files(clip: Path) -> None:
    source = Source(clip, MediaLimits())
    assert source.container.options["protocol_whitelist"] == "file"
    assert "hls" not in source.container.options["format_whitelist"]
    source.close()
