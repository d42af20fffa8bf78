"""The verb ``convert``: statistics, the release folder and errors."""

import shutil

import numpy as np
import pytest
import torch

from avssl.cli import main
from avssl.hub.converters import Conversion
from avssl.hub.pretrained import from_pretrained
from avssl.recipes import convert as recipe
from avssl.training.build import build_model

NUM_BINS = 16


@pytest.fixture(autouse=True)
def found(tiny_config, monkeypatch):
    """A small model in place of a converted checkpoint."""
    config = tiny_config("")
    found = Conversion(build_model(config, seed=5).eval(), config, {"epoch": 3}, "cc-by-nc-4.0", "Keep it.")
    monkeypatch.setattr(recipe, "read_checkpoint", lambda layout, path: found)
    return found


@pytest.fixture
def statistics(tmp_path):
    np.savez(tmp_path / "s.npz", mean=np.arange(NUM_BINS) - 40.0, std=np.full(NUM_BINS, 18.0))
    return tmp_path / "s.npz"


def words(out, *more):
    return ["convert", "avid-cma", "checkpoint", str(out), *map(str, more)]


def test_statistics_from_a_file_are_in_the_release(found, statistics, tmp_path):
    assert main(words(tmp_path / "new" / "out", "--statistics", statistics)) == 0
    loaded = from_pretrained(tmp_path / "new" / "out")
    assert torch.equal(loaded.transform.standardize.mean, torch.arange(NUM_BINS) - 40.0)
    assert torch.equal(loaded.transform.standardize.std, torch.full((NUM_BINS,), 18.0))
    for name, value in found.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    card = (tmp_path / "new" / "out" / "README.md").read_text()
    assert "## License\n\nKeep it." in card
    assert "- epoch: 3\n" in card


def test_statistics_are_estimated_from_a_folder_or_any_split_of_a_manifest(run, videos, tmp_path):
    assert main(words(tmp_path / "folder", "--data", videos)) == 0
    estimated = from_pretrained(tmp_path / "folder").transform.standardize
    # The run estimated its statistics from the same rows.
    torch.testing.assert_close(estimated.mean, from_pretrained(run).transform.standardize.mean)
    torch.testing.assert_close(estimated.std, from_pretrained(run).transform.standardize.std)
    assert "estimated from up to 256 of 20 rows" in (tmp_path / "folder" / "README.md").read_text()

    shutil.copy(videos / "clip00.mp4", tmp_path)
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,path,split\na,clip00.mp4,val\n")
    assert main(words(tmp_path / "one", "--data", manifest)) == 0
    settings = (tmp_path / "one" / "config.json").read_text()
    assert str(tmp_path) not in settings
    assert '"split": "train"' in settings


def test_missing_statistics_raise_with_advice(statistics, videos, tmp_path, capsys):
    assert main(words(tmp_path / "out")) == 2
    assert "has no spectrogram statistics: give either --statistics FILE" in capsys.readouterr().err
    assert main(words(tmp_path / "out", "--statistics", statistics, "--data", videos)) == 2
    assert not (tmp_path / "out").exists()
    np.savez(statistics, mean=np.zeros(9), std=np.ones(9))
    assert main(words(tmp_path / "out", "--statistics", statistics)) == 1
    assert "mean is (9,), but the spectrogram has 16 bins" in capsys.readouterr().err
    assert main(words(tmp_path / "out", "--data", tmp_path / "none")) == 1
    assert "no such folder or manifest" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_a_release_is_replaced_and_only_with_overwrite(statistics, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(words(out, "--statistics", statistics)) == 0
    before = (out / "model.safetensors").read_bytes()
    assert main(words(out, "--statistics", statistics)) == 1
    assert "holds a release already. Replace it with --overwrite" in capsys.readouterr().err
    np.savez(statistics, mean=np.zeros(NUM_BINS), std=np.ones(NUM_BINS))
    assert main(words(out, "--statistics", statistics, "--overwrite")) == 0
    assert (out / "model.safetensors").read_bytes() != before

    (out / "notes.txt").write_text("mine")
    assert main(words(out, "--statistics", statistics, "--overwrite")) == 1
    assert "holds other files (notes.txt)" in capsys.readouterr().err
    assert main(words(statistics, "--statistics", statistics, "--overwrite")) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


def test_help_names_the_layouts_and_an_unknown_layout_raises(tmp_path, capsys):
    assert main(["convert", "--help"]) == 0
    text = capsys.readouterr().out
    assert "avid-cma-ablation" in text
    assert "--statistics" in text
    assert main(["convert", "mae", "c", str(tmp_path / "out"), "--data", "x"]) == 2
    assert "avid-cma" in capsys.readouterr().err
