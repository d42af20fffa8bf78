"""One set of limits: index stores it, what reads the manifest takes it from there, and verbs on files have options."""

import math

import pytest
import torch

from avssl.cli import main
from avssl.core.manifest import Manifest, read_manifest
from avssl.data import ClipDataset, ClipSampling
from avssl.features.table import read_feature_table
from avssl.media import MediaError, MediaLimits, write_video
from avssl.media.prepared.clip import CopySettings
from avssl.recipes.prepare import prepare
from avssl.training.build import build_dataset

SAMPLING = ClipSampling(num_frames=2, frames_per_second=4.0, audio_seconds=1.0, sample_rate_hz=8000, short_side=16)
ROOM = ["--max-aspect", "12"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two strips of 160 x 16, over the default limit of 8 to 1."""
    path, time = tmp_path_factory.mktemp("strips"), torch.arange(16_000) / 8000
    video = torch.stack([(torch.arange(160.0) + 9 * t).remainder(200).expand(3, 16, 160) for t in range(16)])
    for number in range(2):
        tone = 0.5 * torch.sin(2 * math.pi * (300 + 80 * number) * time)
        write_video(path / "videos" / f"{number}.mp4", video.to(torch.uint8), 8.0, tone[None], 8000)
    return path / "videos"


@pytest.fixture(scope="module")
def manifest(folder):
    """The manifest that index writes with a higher limit."""
    out = folder.parent / "manifest.csv"
    assert main(["index", str(folder), "-o", str(out), "--num-workers", "1", *ROOM]) == 0
    return out


def test_index_refuses_them_and_says_which_limit_to_raise(folder, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes((folder / "0.mp4").read_bytes())
    assert main(["index", str(tmp_path / "videos"), "--num-workers", "1"]) == 1
    assert "1 too_large" in capsys.readouterr().out
    assert "raise max_aspect" in (tmp_path / "videos" / "manifest.failures.csv").read_text()


def test_training_takes_the_limits_from_the_manifest(manifest, tiny_config):
    rows = read_manifest(manifest)
    assert rows["limits"].tolist() == ["max_aspect=12"] * 2
    assert ClipDataset(rows, SAMPLING).read(0, 0).video.shape == (2, 3, 16, 160)
    config = tiny_config(manifest, sampling={"short_side": 16})
    assert build_dataset(config, rows).read(1, 0).video.shape[2:] == (16, 160)
    with pytest.raises(MediaError, match="limit of 9 to 1"):  # a given limit comes first
        ClipDataset(rows, SAMPLING, limits=MediaLimits(max_aspect=9)).read(0, 0)


def test_training_has_the_same_options(folder, tiny_config):
    rows = Manifest.from_columns({"id": ["a"], "path": ["0.mp4"]}, folder)
    with pytest.raises(MediaError, match="limit of 8 to 1"):
        build_dataset(tiny_config(folder), rows).read(0, 0)
    config = tiny_config(folder, limits={"max_aspect": 12.0}, sampling={"short_side": 16})
    assert build_dataset(config, rows).read(0, 0).video.shape[2:] == (16, 160)


def test_a_copy_keeps_them(manifest, tmp_path):
    settings = CopySettings(short_side=16, frames_per_second=8.0, sample_rate_hz=8000)
    made = prepare(manifest, tmp_path / "copy", settings=settings, num_workers=0, progress=False)
    assert made["limits"].tolist() == ["max_aspect=12"] * 2
    for rows in (made, read_manifest(tmp_path / "copy" / "manifest.csv")):
        assert ClipDataset(rows, SAMPLING).read(0, 0).video.shape == (2, 1, 16, 160)


@pytest.mark.parametrize("verb", ["energy", "sync", "localize"])
def test_verbs_on_files_have_the_options(verb, folder, tiny_release, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [verb, str(folder / "0.mp4"), "--checkpoint", str(tiny_release), "--device", "cpu", "--seconds", "1.5"]
    words += ["--max-offset-seconds", "0.2"] if verb == "sync" else []
    assert main(words) == 1
    assert "over the limit of 8 to 1" in capsys.readouterr().err
    assert main([*words, *ROOM]) == 0
    assert main([*words, "--audio", str(folder / "1.mp4"), *ROOM, "--overwrite"]) == 0


def test_embed_and_search_have_the_options(folder, manifest, tiny_release, tmp_path, capsys):
    for source, more in ((folder, ROOM), (manifest, [])):
        out = tmp_path / f"{source.stem}.parquet"
        words = ["embed", str(source), "--checkpoint", str(tiny_release), "-o", str(out), "--num-workers", "0"]
        assert main([*words, "--device", "cpu", *more]) == 0
        assert len(read_feature_table(out)) >= 4
    words = ["search", str(out), "--video", str(folder / "0.mp4"), "--device", "cpu", "-o", str(tmp_path / "a.html")]
    assert main(words) == 1
    assert main([*words, *ROOM]) == 0
    page = (tmp_path / "a.html").read_text()
    assert "data:image/jpeg" in page
    assert "over the limit" not in page
