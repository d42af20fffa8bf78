"""Channels that cancel are heard all the same, and every window agrees with the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avssl.media import open_media
from avssl.media.backends import BACKENDS
from avssl.media.downmix import CANCELLED
from avssl.media.resampling import resample

RATE_HZ = 8000
SECONDS = 6


def noise(seed: int = 0, seconds: float = SECONDS) -> np.ndarray:
    """Broadband audio of -14 dBFS."""
    return np.random.default_rng(seed).normal(0, 0.2, round(seconds * RATE_HZ)).astype(np.float32)


def write(path: Path, channels: list[np.ndarray], layout: str = "stereo") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE_HZ, layout=layout)
        for first in range(0, len(channels[0]), 1000):
            part = np.stack(channels)[:, first : first + 1000]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part.T.reshape(1, -1)), format="flt", layout=layout)
            frame.sample_rate, frame.pts = RATE_HZ, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path, start: float = 0.0, stop: float = SECONDS, rate_hz: int | None = None) -> torch.Tensor:
    with open_media(path, "pyav") as reader:
        return reader.read_audio(start, stop, rate_hz)[0]


@pytest.mark.parametrize("gain", [-1.0, -0.9])
@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
def test_channels_in_opposite_phase_are_the_first_alone(
    tmp_path: Path, backend: str, gain: float, require: Callable[[str], None]
) -> None:
    require(backend)
    left = noise()
    path = write(tmp_path / "anti.wav", [left, gain * left])
    with open_media(path, backend) as reader:
        assert reader.notes == []
        torch.testing.assert_close(reader.read_audio(0.3, 4.1)[0], torch.from_numpy(left[2400:32_800]))
        slower = reader.read_audio(0.0, float(SECONDS), 4000)[0].numpy()
        assert reader.notes == [CANCELLED]
    np.testing.assert_allclose(slower, resample(left[None], "mono", RATE_HZ, 4000, 1)[0], atol=1e-5)


@pytest.mark.parametrize("right", [noise(1), noise(), 0 * noise(), -0.5 * noise(), noise() + 0.3 * noise(1)])
def test_other_channels_are_mixed_as_ever(tmp_path: Path, right: np.ndarray) -> None:
    path = write(tmp_path / "stereo.wav", [noise(), right])
    with open_media(path, "pyav") as reader:
        for rate_hz in (None, 4000):
            both = reader.read_audio(1.0, 3.0, rate_hz, num_channels=2)
            torch.testing.assert_close(reader.read_audio(1.0, 3.0, rate_hz), both.mean(0, keepdim=True))
        assert reader.notes == []


def test_silence_stays_silence(tmp_path: Path) -> None:
    quiet = 1e-4 * noise()
    with open_media(write(tmp_path / "quiet.wav", [quiet, -quiet]), "pyav") as reader:
        assert reader.read_audio(0.0, 6.0).abs().max() == 0
        assert reader.notes == []


@pytest.mark.parametrize("rate_hz", [None, 24_000, 4000])
def test_windows_are_cut_from_the_whole_where_only_a_part_cancels(tmp_path: Path, rate_hz: int | None) -> None:
    left, right = noise(), noise(1)
    right[16_000:28_000] = -left[16_000:28_000]  # 2.0 to 3.5 s
    path = write(tmp_path / "part.mkv", [left, right])
    whole, rate = read(path, rate_hz=rate_hz), rate_hz or RATE_HZ
    for start, stop in [(0.0, 1.9), (1.75, 2.25), (2.1, 2.3), (3.4, 5.0), (3.45, 3.55), (5.9, 6.0)]:
        cut = whole[round(start * rate) :][: round((stop - start) * rate)]
        torch.testing.assert_close(read(path, start, stop, rate_hz), cut, atol=1e-5, rtol=0)
    if rate_hz is None:
        torch.testing.assert_close(whole[16_000:28_000], torch.from_numpy(left[16_000:28_000]))
        torch.testing.assert_close(whole[:16_000], torch.from_numpy((left + right)[:16_000] / 2))


def test_windows_never_change_from_one_channel_to_another(tmp_path: Path) -> None:
    """If two channels are within 3 dB, the first is used wherever they cancel, even where the second is louder."""
    left = noise()
    right = -left * np.array([1.1, 0.9, 1.1, 1.1, 0.9, 1.1], np.float32).repeat(RATE_HZ)
    torch.testing.assert_close(read(write(tmp_path / "a.wav", [left, right])), torch.from_numpy(left))
    torch.testing.assert_close(read(write(tmp_path / "b.wav", [right, left])), torch.from_numpy(right))


@pytest.mark.parametrize(
    ("channels", "layout", "alone"),
    [
        ({4: 1.0, 5: -1.0}, "5.1", 4),  # surround channels in opposite phase
        ({3: 1.0}, "5.1", 3),  # the mix leaves out the low-frequency channel
        ({0: 1.0, 1: -1.0}, "4 channels", 0),
    ],
)
def test_other_layouts_fall_back_too(tmp_path: Path, channels: dict[int, float], layout: str, alone: int) -> None:
    count = int(layout[0]) + (layout == "5.1")
    samples = [channels.get(i, 0.0) * noise(7) for i in range(count)]
    path = write(tmp_path / "many.wav", samples, layout if layout == "5.1" else "quad")
    torch.testing.assert_close(read(path, 1.0, 2.0), torch.from_numpy(samples[alone][8000:16_000]), atol=1e-6, rtol=0)


def test_one_of_five_channels_is_mixed_as_ffmpeg_does(tmp_path: Path) -> None:
    samples = np.zeros((6, SECONDS * RATE_HZ), np.float32)
    samples[4] = noise()
    path = write(tmp_path / "side.wav", list(samples), "5.1")
    expected = resample(samples, "5.1", RATE_HZ, RATE_HZ, 1)[0]
    torch.testing.assert_close(read(path), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_damage_after_a_window_does_not_reach_it(tmp_path: Path) -> None:
    """The rest of the last half second is only read to judge the mix."""
    left = noise()
    left[9000] = np.nan
    path = write(tmp_path / "nan.wav", [left, -left])
    assert read(path, 0.5, 1.1).isfinite().all()


def test_all_backends_are_covered() -> None:
    """decord reads mono alone; a new backend belongs into the test above."""
    assert set(BACKENDS) == {"pyav", "torchcodec", "decord"}
