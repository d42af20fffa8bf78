from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from avssl.media import open_media, write_video
from avssl.media.planes import to_planes


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 44_100, 48_000])
def test_sound_comes_back_at_the_sample_it_was_written(tmp_path: Path, rate_hz: int, channels: int, tools: Any) -> None:
    rng = np.random.default_rng(0)
    noise = np.convolve(rng.standard_normal(2 * rate_hz + 31), np.hanning(32), mode="valid") * 0.05
    sound = torch.from_numpy(noise).float()[None].repeat(channels, 1)
    write_video(tmp_path / "a.mp4", tools.gray(32), 16, sound, rate_hz)
    with open_media(tmp_path / "a.mp4", "pyav") as reader:
        assert (reader.info.audio_start_seconds, reader.info.audio_stop_seconds) == (0.0, 2.0)
        back = reader.read_audio(0.0, 2.0, num_channels=channels)
    assert back.shape == sound.shape
    window = slice(5000, 25_000)
    lags = range(-1100, 1101)  # a forgotten priming would show at 1024
    scores = [float(back[0, window.start + lag : window.stop + lag] @ sound[0, window]) for lag in lags]
    assert lags[int(np.argmax(scores))] == 0
    assert float((back - sound).std() / sound.std()) < 0.1


def test_the_sound_does_not_depend_on_the_ends_of_codec_frames(tmp_path: Path, tools: Any) -> None:
    for samples in (1, 1000, 1024, 1025, 30_001):
        sound = torch.full((1, samples), 0.25)
        write_video(tmp_path / "a.mp4", tools.gray(20), 16, sound, 24_000)
        with open_media(tmp_path / "a.mp4", "pyav") as reader:
            assert reader.info.audio_stop_seconds == pytest.approx(samples / 24_000, abs=1e-6)
            assert reader.read_audio(0.0, samples / 24_000).shape == (1, samples)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 90), (112, 200), (2, 2), (18, 130)])
def test_colors_come_back_in_every_column(tmp_path: Path, height: int, width: int) -> None:
    """Widths that are no multiple of 16 included: there some conversions leave columns unset."""
    colors = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 100, 50]])
    video = colors.to(torch.uint8)[:, :, None, None].expand(-1, -1, height, width)
    write_video(tmp_path / "a.mp4", video, 5, crf=4)
    with open_media(tmp_path / "a.mp4", "pyav") as reader:
        for short_side in (None, 37):
            frames = reader.read_frames([n / 5 for n in range(6)], short_side)
            assert (frames.int() - colors[:, :, None, None]).abs().max() <= 6


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, tools: Any) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, tools.gray(20), 16, tools.beeping(seconds=1.25), 24_000)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_index_comes_first_and_keyframes_as_asked(tmp_path: Path, tools: Any) -> None:
    write_video(tmp_path / "a.mp4", tools.gray(40), 29.97, tools.beeping(), 24_000, keyframe_interval=10)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(29.97)
        keys = [n for n, p in enumerate(p for p in container.demux(stream) if p.size) if p.is_keyframe]
    assert keys == [0, 10, 20, 30]


def test_failing_leaves_the_old_file_and_no_other(tmp_path: Path, tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, tools.gray(4), 16)
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr("avssl.media.writer._mux", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_video(path, tools.gray(8), 16)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_clip_without_sound(tmp_path: Path, tools: Any) -> None:
    write_video(tmp_path / "a.mp4", tools.gray(8), 8)
    with open_media(tmp_path / "a.mp4", "pyav") as reader:
        assert not reader.info.has_audio
        assert tools.numbers(reader.read_frames([0.0, 0.875])) == [0, 7]


VIDEO = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
SOUND = torch.zeros(1, 100)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((VIDEO.float(), 16), {}, r"video must be \(T, 3, H, W\) uint8.*float32"),
        ((VIDEO[:, :1], 16), {}, r"got \(4, 1, 16, 16\)"),
        ((VIDEO[:0], 16), {}, "T > 0"),
        ((VIDEO[..., :15], 16), {}, "even height and width, got 16 x 15. Pad or crop"),
        ((VIDEO, 0), {}, "video_fps must be positive, got 0"),
        ((VIDEO, 16), {"crf": 52}, "crf must be 0 to 51, got 52"),
        ((VIDEO, 16), {"keyframe_interval": 0}, "keyframe_interval must be at least 1"),
        ((VIDEO, 16), {"preset": "warp"}, "preset must be one of .*got 'warp'"),
        ((VIDEO, 16, SOUND[0], 24_000), {}, r"audio must be \(C, S\)"),
        ((VIDEO, 16, SOUND.expand(3, -1), 24_000), {}, r"C 1 or 2.*\(3, 100\)"),
        ((VIDEO, 16, SOUND.short(), 24_000), {}, "int16"),
        ((VIDEO, 16, SOUND / 0, 24_000), {}, "NaN or infinite"),
        ((VIDEO, 16), {"threads": 0}, "threads must be at least 1, got 0"),
        ((VIDEO, 16, []), {"sample_rate_hz": 24_000}, "at least one part, got none"),
        ((VIDEO, 16, [SOUND, SOUND.expand(2, -1)], 24_000), {}, "as many channels as its first: 1"),
        ((VIDEO, 16, [SOUND, SOUND / 0], 24_000), {}, "NaN or infinite"),
        ((VIDEO, 16, SOUND, 23_000), {}, "one of AAC's .*got 23000"),
        ((VIDEO, 16, SOUND), {}, "one of AAC's .*got None"),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "a.mp4", *arguments, **options)
    assert not list(tmp_path.iterdir())


def test_loud_samples_are_clipped(tmp_path: Path, tools: Any) -> None:
    sound = 3 * torch.sin(torch.arange(24_000) * 2 * np.pi * 440 / 24_000)[None]
    write_video(tmp_path / "a.mp4", tools.gray(16), 16, sound, 24_000)
    with open_media(tmp_path / "a.mp4", "pyav") as reader:
        assert reader.read_audio(0.0, 1.0).abs().max() < 1.3


def test_a_video_may_come_in_parts(tmp_path: Path, tools: Any) -> None:
    whole, sound = tools.gray(20), tools.beeping(seconds=1.25)
    write_video(tmp_path / "whole.mp4", whole, 16, sound, 24_000)
    write_video(tmp_path / "parts.mp4", iter([whole[:3], whole[3:4], whole[4:]]), 16, sound, 24_000)
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "parts.mp4").read_bytes()


def test_a_part_of_another_size_leaves_no_file(tmp_path: Path, tools: Any) -> None:
    whole = tools.gray(20)
    for wrong, message in ((whole[:, :, :32], "as large as its first"), (whole.float(), "must be")):
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / "a.mp4", [whole, wrong], 16)
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "a.mp4", [], 16)
    assert not list(tmp_path.iterdir())


def test_sound_may_come_in_parts(tmp_path: Path, tools: Any) -> None:
    whole, sound = tools.gray(20), tools.beeping(channels=2, seconds=1.25)
    write_video(tmp_path / "whole.mp4", whole, 16, sound, 24_000)
    write_video(tmp_path / "parts.mp4", whole, 16, iter(sound.split([1, 999, 20_000, 9_000], dim=1)), 24_000)
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "parts.mp4").read_bytes()


def test_sound_is_asked_for_when_the_pictures_have_come_as_far(tmp_path: Path, tools: Any) -> None:
    pictures, seconds, leads = tools.gray(40).repeat(4, 1, 1, 1).split(1), 0, []

    def sound() -> Any:
        nonlocal seconds
        for _ in range(10):
            seconds += 1
            yield torch.zeros(1, 24_000)

    def video() -> Any:
        for number, picture in enumerate(pictures):
            leads.append(seconds - number / 16)
            yield picture

    write_video(tmp_path / "a.mp4", video(), 16, sound(), 24_000)
    assert max(leads[1:]) <= 2
    assert min(leads[1:]) >= -1


@pytest.mark.parametrize("threads", [1, 3])
def test_planes_are_written_as_they_are(tmp_path: Path, threads: int) -> None:
    height, width = 18, 130  # FFmpeg's lines are longer than that
    generator = torch.Generator().manual_seed(0)
    colors = torch.randint(40, 200, (6, 3), generator=generator, dtype=torch.uint8)
    parts = [to_planes(color[:, None, None].expand(3, height, width)) for color in colors]
    write_video(tmp_path / "a.mp4", parts, 5, crf=0, threads=threads)
    with open_media(tmp_path / "a.mp4", "pyav") as reader:
        for part, back in zip(parts, reader.stream_planes([n / 5 for n in range(6)]), strict=True):
            assert torch.equal(back.luma, part.luma)
            assert torch.equal(back.chroma, part.chroma)
