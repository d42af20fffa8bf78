"""A still picture read like a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.media import ImageReader, MediaError
from avssl.media.planes import to_rgb


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """(37, 53): the columns are of rising brightness."""
    Image.fromarray(np.arange(53, dtype=np.uint8)[None, :, None].repeat(37, 0).repeat(3, 2) * 4).save(
        tmp_path / "a.png"
    )
    return tmp_path / "a.png"


def test_the_picture_is_shown_at_any_time(picture: Path) -> None:
    with ImageReader(picture, 2.0) as reader:
        assert (reader.info.video_start_seconds, reader.info.video_stop_seconds) == (0.0, 2.0)
        assert (reader.info.height, reader.info.width) == (37, 53)
        assert reader.info.has_video
        assert not reader.info.has_audio
        frames = reader.read_frames([2.0, 0.0, 1.3])
        assert frames.shape == (3, 3, 37, 53)
        assert (frames[:, :, :, 10] == 40).all()
        for short_side in (None, 20):
            expected = reader.read_frames([0.0], short_side)[0]
            streamed = list(reader.stream_frames([0.0, 1.0], short_side))
            assert all(torch.equal(frame, expected) for frame in streamed)
            planes = list(reader.stream_planes([0.0, 1.0], short_side))
            assert len(planes) == 2
            assert (to_rgb(planes[1]).int() - expected.int()).abs().max() <= 2


def test_what_it_does_not_have_is_said(picture: Path) -> None:
    reader = ImageReader(picture, 2.0)
    with pytest.raises(MediaError, match="no audio stream"):
        reader.read_audio(0.0, 1.0)
    with pytest.raises(MediaError, match="outside the video stream"):
        reader.read_frames([3.0])
    with pytest.raises(ValueError, match=r"duration_seconds \(0\) must be greater"):
        ImageReader(picture, 0)
