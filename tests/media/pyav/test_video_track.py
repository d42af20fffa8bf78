"""From decoded pictures to RGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter

from avssl.media import open_media
from avssl.media.pyav.video_track import _RESIZE


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv422p10le"])
def test_planar_conversion_equals_packed_to_the_last_column(tmp_path: Path, tools: Any, pixels: str) -> None:
    """FFmpeg has a faster way to planar RGB, which must not leave columns out."""
    noise = torch.randint(0, 256, (1, 3, 64, 94), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def set_pixels(stream: Any) -> None:
        stream.pix_fmt = pixels

    path = tools.encode(tmp_path / "a.mp4", noise, [0], prepare=set_pixels, options={"crf": "8"})
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0))
    with open_media(path, "pyav") as reader:
        for height in range(33, 129, 5):
            width = round(94 * height / 64)
            frame = VideoReformatter().reformat(
                stored, width=width, height=height, format="rgb24", interpolation=_RESIZE, threads=1
            )
            expected = torch.from_numpy(frame.to_ndarray().astype(np.int16)).permute(2, 0, 1)
            found = reader.read_frames([0.0], short_side=height)[0]
            assert found.shape == (3, height, width)
            assert (found.to(torch.int16) - expected).abs().max() <= 1
