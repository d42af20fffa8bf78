"""Windows of sound that follow one another are decoded in one run, and nobody can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avssl.media import open_media, write_video
from avssl.media.resampling import resample

WINDOWS = [(0.0, 0.5), (0.3, 1.1), (0.4, 0.6), (1.1, 1.5), (1.9, 2.3), (2.0, 4.0), (3.9, 4.0), (0.1, 4.0), (0.2, 0.9)]


@pytest.fixture(scope="module")
def hiss(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    path = tmp_path_factory.mktemp("sound") / "hiss.mp4"
    sound = torch.rand(2, 4 * 44_100, generator=torch.Generator().manual_seed(0)) - 0.5
    write_video(path, tools.gray(40, 32, 32), 10, sound, 44_100)
    return path


def alone(path: Path, start: float, stop: float, rate_hz: int | None) -> Tensor:
    with open_media(path, "pyav") as reader:
        return reader.read_audio(start, stop, rate_hz)


@pytest.mark.parametrize("rate_hz", [None, 24_000])
def test_windows_in_a_row_equal_windows_alone(hiss: Path, rate_hz: int | None) -> None:
    with open_media(hiss, "pyav") as reader:
        for start, stop in WINDOWS:
            assert torch.equal(reader.read_audio(start, stop, rate_hz), alone(hiss, start, stop, rate_hz))


def test_pictures_read_in_between_change_nothing(hiss: Path) -> None:
    with open_media(hiss, "pyav") as reader:
        for start, stop in WINDOWS:
            reader.read_frames([start])
            assert torch.equal(reader.read_audio(start, stop), alone(hiss, start, stop, None))


def test_a_window_belongs_to_the_caller(hiss: Path) -> None:
    with open_media(hiss, "pyav") as reader:
        reader.read_audio(0.0, 1.0, None, 2).zero_()
        assert torch.equal(reader.read_audio(0.5, 1.5), alone(hiss, 0.5, 1.5, None))


def test_windows_in_a_row_share_their_decoding(hiss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_media(hiss, "pyav") as reader:
        sound = reader.audio  # type: ignore[attr-defined]
        placed, runs = sound._frames_near, []
        monkeypatch.setattr(sound, "_frames_near", lambda first: runs.append(first) or placed(first))
        for start in (0.5, 1.0, 1.4, 2.1):
            reader.read_audio(start, start + 1.0, 24_000)
        assert len(runs) == 1
        reader.read_audio(0.2, 0.4)  # before what is kept
        assert len(runs) == 2


def test_long_sound_is_not_kept_whole(hiss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avssl.media.pyav.audio_track._KEPT_SECONDS", 0.5)
    with open_media(hiss, "pyav") as reader:
        reader.read_audio(0.0, 3.0)
        assert reader.audio._past[1].shape == (2, 22_050)  # type: ignore[attr-defined]
        for start in (2.6, 1.0):
            assert torch.equal(reader.read_audio(start, start + 0.8), alone(hiss, start, start + 0.8, None))


def test_resampling_in_pieces_equals_resampling_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = torch.randn(2, 50_001, generator=torch.Generator().manual_seed(0)).numpy()
    for rate, to_rate in ((44_100, 24_000), (16_000, 44_100), (96_000, 8000)):
        pieces = resample(sound, "stereo", rate, to_rate, 2)
        with monkeypatch.context() as patch:
            patch.setattr("avssl.media.resampling._CHUNK_SAMPLES", 10**9)
            assert (resample(sound, "stereo", rate, to_rate, 2) == pieces).all()
