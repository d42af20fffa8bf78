from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.media import open_media


@pytest.fixture(autouse=True)
def _needs_torchcodec(require: Callable[[str], None]) -> None:
    require("torchcodec")


def test_torchcodec_itself_reads_an_ordinary_file(clip: Path) -> None:
    with open_media(clip, "torchcodec") as reader:
        reader.read_frames([0.0, 3.0])
        reader.read_audio(0.0, 3.0, 16_000)
        assert reader.fallback == {}  # type: ignore[attr-defined]
        assert reader._video is not None  # type: ignore[attr-defined]
        assert reader._audio is not None  # type: ignore[attr-defined]


def test_what_torchcodec_cannot_do_pyav_does_and_it_shows(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avssl.media import torchcodec_reader

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such decoder\nsecond line")

    monkeypatch.setattr(torchcodec_reader, "VideoDecoder", broken)
    with open_media(clip, "torchcodec") as reader, open_media(clip, "pyav") as reference:
        assert torch.equal(reader.read_frames([1.0, 0.2]), reference.read_frames([1.0, 0.2]))
        reader.read_audio(0.0, 1.0)
        assert reader.fallback == {"video": "no such decoder"}  # type: ignore[attr-defined]


def test_late_sound_is_sought_not_decoded_through(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avssl.media import torchcodec_reader

    with open_media(clip, "torchcodec") as reader:
        early = reader.read_audio(1.0, 1.5)
        monkeypatch.setattr(torchcodec_reader, "_AUDIO_SECONDS", 0.5)
        reader._audio = None  # type: ignore[attr-defined]
        torch.testing.assert_close(reader.read_audio(1.0, 1.5), early, atol=1e-5, rtol=0)
        assert reader._audio is None  # type: ignore[attr-defined]
