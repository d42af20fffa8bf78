"""What decord cannot do, pinned: it is there on request only, and refuses rather than errs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avssl.media import MediaError, open_media, write_video


@pytest.fixture(autouse=True)
def _needs_decord(require: Callable[[str], None]) -> None:
    require("decord")


def test_decord_is_never_chosen_by_itself(clip: Path) -> None:
    with open_media(clip) as reader:
        assert type(reader).__name__ != "DecordReader"


def test_stereo_is_refused(tmp_path: Path, tools: Any) -> None:
    write_video(tmp_path / "a.mp4", tools.gray(16), 16, tools.beeping(channels=2, seconds=1.0), 24_000)
    with (
        open_media(tmp_path / "a.mp4", "decord") as reader,
        pytest.raises(MediaError, match=r'garbles audio of more than one channel\. Open it with backend="pyav"'),
    ):
        reader.read_audio(0.0, 0.5)


def test_turned_pictures_are_refused(test_media: Path) -> None:
    with (
        open_media(test_media / "nasa_13013_rotated.mp4", "decord") as reader,
        pytest.raises(MediaError, match="decord does not turn frames upright"),
    ):
        reader.read_frames([0.0])


def test_av1_is_refused(test_media: Path) -> None:
    with (
        open_media(test_media / "av1_video.mkv", "decord") as reader,
        pytest.raises(MediaError, match=r"av1_video\.mkv: video.*decord failed"),
    ):
        reader.read_frames([0.0])
