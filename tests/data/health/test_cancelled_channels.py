"""Channels that cancel: the check hears what training and a prepared copy hear, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling
from avssl.data.health.indexing import index_folder
from avssl.data.shards.copying import ShardJob, make_shard
from avssl.media import write_video
from avssl.media.downmix import CANCELLED
from avssl.media.prepared.clip import CopySettings

RATE_HZ = 16_000
SAMPLING = ClipSampling(num_frames=2, frames_per_second=2.0, audio_seconds=1.0, sample_rate_hz=RATE_HZ)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds in which two channels cancel from the second second on, and a file in which they never do."""
    path, generator = tmp_path_factory.mktemp("cancelled"), torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    left, right = 0.2 * torch.randn(2, 3 * RATE_HZ, generator=generator)
    write_video(path / "fine.mp4", video, 8, torch.stack([left, right]), RATE_HZ)
    write_video(path / "anti.mp4", video, 8, torch.stack([left, -left]), RATE_HZ)
    right[RATE_HZ:] = -left[RATE_HZ:]
    write_video(path / "part.mp4", video, 8, torch.stack([left, right]), RATE_HZ)
    return path


def test_the_index_says_which_files_have_them(folder: Path) -> None:
    found = index_folder(folder, num_workers=1)
    assert len(found.manifest) == 3
    assert [path for path, _ in found.notes] == ["anti.mp4", "part.mp4"]
    assert f"2 files, the first is anti.mp4: {CANCELLED}" in found.summary()


@pytest.mark.usefixtures("real_media")
def test_training_hears_the_same_from_files_and_from_a_copy(folder: Path, tmp_path: Path) -> None:
    names = ["anti.mp4", "fine.mp4", "part.mp4"]
    manifest = Manifest.from_columns({"id": names, "path": names}, folder)
    settings = CopySettings(short_side=32, frames_per_second=8.0, sample_rate_hz=RATE_HZ, audio_codec="flac")
    rows = make_shard(ShardJob(tmp_path, 0, manifest, 0, settings, "pyav"))["rows"]
    copy = Manifest.from_columns({name: [row[name] for row in rows] for name in rows[0]}, tmp_path)
    for row in range(3):
        for start in (0.0, 0.7, 1.9):
            clips = [ClipDataset(m, SAMPLING).read_windows(row, [start], [start])[0] for m in (manifest, copy)]
            assert clips[0].audio.std() > 0.1
            torch.testing.assert_close(clips[0].audio, clips[1].audio, atol=1e-3, rtol=0)
