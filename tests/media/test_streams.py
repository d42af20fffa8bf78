"""Frames one after another: what reading each gives, decoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.media import MediaError, open_media
from avssl.media.backends import BACKENDS
from avssl.media.planes import to_rgb
from avssl.media.pyav.source import Source

TIMES = [0.0, 0.01, 0.4, 0.4, 1.03, 2.9]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("short_side", [None, 40])
def test_a_stream_gives_what_reading_gives(clip: Path, backend: str, short_side: int | None, tools: Any) -> None:
    with open_media(clip, backend) as reader, open_media(clip, "pyav") as other:
        frames = torch.stack(list(reader.stream_frames(TIMES, short_side)))
        assert torch.equal(frames, other.read_frames(TIMES, short_side))
        planes = torch.stack([to_rgb(planes) for planes in reader.stream_planes(TIMES, short_side)])
        assert planes.shape == frames.shape
        assert (planes.int() - frames.int()).abs().max() <= 2
    assert tools.numbers(frames) == [0, 0, 6, 6, 16, 46]


def test_frames_are_decoded_in_one_pass(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = []
    original = Source.packets
    monkeypatch.setattr(Source, "packets", lambda *words: (epochs.append(words[2]), original(*words))[1])
    with open_media(clip, "pyav") as reader:
        assert len(list(reader.stream_frames([number / 32 for number in range(96)]))) == 96
    assert len(epochs) == 1


def test_a_reader_may_be_used_while_it_streams(clip: Path, tools: Any) -> None:
    with open_media(clip, "pyav") as reader:
        numbers = []
        for planes in reader.stream_planes([number / 16 + 0.01 for number in range(48)]):
            numbers.append(round((float(to_rgb(planes).float().mean()) - 20) / 4))
            reader.read_audio(1.0, 1.5)
            assert tools.numbers(reader.read_frames([2.0])) == [32]
    assert numbers == list(range(48))


COLORS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 100, 50]])


@pytest.mark.parametrize("matrix", [1, 2, 5])  # BT.709, not said, BT.601
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize("size", [(64, 96), (37, 51)])
def test_colors_are_the_same_from_every_kind_of_file(
    tmp_path: Path, tools: Any, matrix: int, pixels: str, size: tuple[int, int]
) -> None:
    if pixels != "yuv444p":
        size = size[0] + size[0] % 2, size[1] + size[1] % 2  # x264 takes no other

    def prepare(stream: Any) -> None:
        stream.pix_fmt = pixels
        stream.codec_context.colorspace = matrix

    video = COLORS.to(torch.uint8)[:, :, None, None].expand(-1, -1, *size)
    path = tools.encode(tmp_path / "a.mp4", video, range(6), options={"crf": "1"}, prepare=prepare)
    with open_media(path, "pyav") as reader:
        times = [number / 30 + 0.001 for number in range(6)]
        for short_side in (None, 30):
            frames = reader.read_frames(times, short_side)
            for planes, frame in zip(reader.stream_planes(times, short_side), frames, strict=True):
                assert (to_rgb(planes).int() - frame.int()).abs().max() <= 4


def test_times_must_ascend_and_lie_inside(clip: Path) -> None:
    with open_media(clip, "pyav") as reader:
        with pytest.raises(ValueError, match="must ascend"):
            next(reader.stream_frames([1.0, 0.5]))
        with pytest.raises(MediaError, match="outside the video stream"):
            next(reader.stream_planes([9.0]))
