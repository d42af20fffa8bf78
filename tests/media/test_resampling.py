"""Values that no recording holds are reported with their second, and the shortest audio is resampled too."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avssl.media import MediaError, open_media
from avssl.media.backends import BACKENDS
from avssl.media.resampling import MAX_AMPLITUDE, resample
from avssl.transforms.audio import LogMel

RATE_HZ = 8000


def write_audio(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, codec: str = "pcm_f32le") -> Path:
    """(C, n) samples without a video stream."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T.reshape(1, -1), np.float32), format="flt", layout=layout
        )
        frame.sample_rate = rate_hz
        for part in (frame, None):
            container.mux(stream.encode(part))
    return path


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -1.2e19, 32_768.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_value_no_recording_holds_is_an_error_with_its_second(
    tmp_path: Path, value: float, backend: str, require: Callable[[str], None]
) -> None:
    require(backend)
    samples = np.full((1, 3 * RATE_HZ), 0.25, np.float32)
    samples[0, 12_000] = value
    path = write_audio(tmp_path / "bad.wav", samples)
    with open_media(path, backend) as reader:
        assert (reader.read_audio(0.0, 1.0, 24_000) - 0.25).abs().max() < 1e-3
        assert (reader.read_audio(2.0, 3.0, 24_000) - 0.25).abs().max() < 1e-3
        for rate_hz in (None, 24_000):
            with pytest.raises(MediaError, match=r"bad\.wav: audio at 1\.500 s: a sample is ") as error:
                reader.read_audio(1.0, 2.0, rate_hz)
            assert (error.value.reason, error.value.second) == ("unreadable", 1.5)


def test_a_value_in_one_of_several_channels_is_found(tmp_path: Path) -> None:
    samples = np.zeros((2, RATE_HZ), np.float32)
    samples[1, 800] = math.nan
    with (
        open_media(write_audio(tmp_path / "bad.mkv", samples), "pyav") as reader,
        pytest.raises(MediaError, match=r"audio at 0\.100 s: a sample is nan"),
    ):
        reader.read_audio(0.0, 0.5, num_channels=2)


@pytest.mark.parametrize("peak", [1e-42, 1e-7, 1.0, 4.0, MAX_AMPLITUDE])
def test_odd_but_finite_levels_give_finite_spectrograms(tmp_path: Path, peak: float) -> None:
    """Denormal numbers, overshoot of a lossy codec, and the hottest float recording."""
    samples = (peak * np.sin(np.arange(RATE_HZ)))[None].astype(np.float32)
    with open_media(write_audio(tmp_path / "odd.wav", samples), "pyav") as reader:
        audio = reader.read_audio(0.0, 1.0, 24_000)
    assert audio.abs().max() <= 1.1 * peak + 1e-30
    with torch.autocast("cpu", torch.bfloat16):
        assert LogMel(sample_rate_hz=24_000)(audio).isfinite().all()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 33, 64])
@pytest.mark.parametrize(("rate", "to_rate"), [(8, 24_000), (16_000, 24_000), (48_000, 24_000), (768_000, 8000)])
def test_the_shortest_audio_is_resampled(rate: int, to_rate: int, count: int) -> None:
    """FFmpeg returns nothing for fewer samples than its filter has taps."""
    out = resample(np.full((1, count), 0.5, np.float32), "mono", rate, to_rate, 1)
    assert abs(out.shape[1] - count * to_rate / rate) <= 1
    np.testing.assert_allclose(out, 0.5, atol=1e-3)


def test_a_file_of_few_samples_is_read(tmp_path: Path) -> None:
    with open_media(write_audio(tmp_path / "slow.mkv", np.full((1, 24), 0.5, np.float32), 8), "pyav") as reader:
        audio = reader.read_audio(0.5, 2.5, 24_000)
    assert audio.shape == (1, 48_000)
    torch.testing.assert_close(audio, torch.full((1, 48_000), 0.5), atol=1e-3, rtol=0)
