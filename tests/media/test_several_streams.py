"""Files with several tracks of a kind: every backend reads the one that the file marks as its default."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from avssl.media import MediaError, open_media
from avssl.media.backends import BACKENDS

RATE_HZ = 16_000
SIZES = ((64, 48), (128, 96), (96, 64))
DEFAULT = 1
LOUDNESS = (0.25, 0.5)


def several(path: Path, tools: Any) -> Path:
    """Three video streams that differ in size and brightness, two audio streams: mono, then stereo."""
    with av.open(str(path), "w") as container:
        packets = []
        for place, (width, height) in enumerate(SIZES):
            stream = container.add_stream("libx264", rate=10, options={"bf": "2"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = int(place == DEFAULT)
            for number, picture in enumerate(tools.gray(30, height, width) + 40 * place):
                frame = av.VideoFrame.from_ndarray(picture.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for place, (loudness, layout) in enumerate(zip(LOUDNESS, ("mono", "stereo"), strict=True)):
            stream = container.add_stream("aac", rate=RATE_HZ, layout=layout)
            stream.disposition = int(place == DEFAULT)
            samples = tools.beeping(RATE_HZ, 1 if layout == "mono" else 2).numpy() * loudness
            packed = np.ascontiguousarray(samples.T.reshape(1, -1))
            sound = av.AudioFrame.from_ndarray(packed, "flt", layout)
            sound.sample_rate, sound.pts, sound.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
            packets += stream.encode(sound) + stream.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_default_tracks_are_read(
    tmp_path: Path, suffix: str, backend: str, tools: Any, require: Callable[[str], None]
) -> None:
    require(backend)
    with open_media(several(tmp_path / f"several.{suffix}", tools), backend) as reader:
        info = reader.info
        assert (info.width, info.height) == SIZES[DEFAULT]
        assert (info.audio_num_channels, info.audio_sample_rate_hz) == (2, RATE_HZ)
        if backend == "decord":
            with pytest.raises(MediaError, match="cannot be told which of several video streams"):
                reader.read_frames([0.0])
            return
        times = [(n + 0.5) / 10 for n in (3, 17, 25, 4)]
        assert tools.numbers(reader.read_frames(times) - 40) == [3, 17, 25, 4]
        sound = reader.read_audio(0.0, 2.5, num_channels=2)
        assert tools.beep_starts(sound, RATE_HZ, 3) == [round(s * RATE_HZ) for s in tools.BEEP_SECONDS[:3]]
        assert float(sound.abs().max()) == pytest.approx(0.5 * LOUDNESS[DEFAULT], rel=0.2)
        assert tools.numbers(reader.read_frames([1.25]) - 40) == [12]


def test_reading_one_track_does_not_disturb_another(tmp_path: Path, tools: Any) -> None:
    with open_media(several(tmp_path / "several.mp4", tools), "pyav") as reader:
        sound, pictures = reader.read_audio(0.0, 2.9), reader.read_frames([n / 10 for n in range(30)])
        for n in (29, 0, 15, 16):
            assert torch.equal(reader.read_frames([n / 10])[0], pictures[n])
            window = reader.read_audio(n / 20, n / 20 + 0.5)
            torch.testing.assert_close(window, sound[:, n * 800 : n * 800 + 8000], atol=1e-5, rtol=0)
