import numpy as np
import pytest
import torch

from avssl.cli import main
from avssl.core.manifest import Manifest, read_manifest
from avssl.data.conditions import rows_where
from avssl.features.table import FeatureTable, TableInfo, write_feature_table
from avssl.media import write_video

HOSTILE = "<b>&x.mp4"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of files with a manifest, and a table of their vectors: the last file is a copy of the first."""
    folder = tmp_path_factory.mktemp("world")
    names = [HOSTILE, *(f"{number}.mp4" for number in range(1, 11)), "copy.mp4"]
    (folder / "videos").mkdir()
    for number, name in enumerate(names[:3]):  # the others are missing, and the page says so
        frames = torch.full((8, 3, 32, 32), 20 * number, dtype=torch.uint8)
        write_video(folder / "videos" / name, frames, 8.0, torch.zeros(1, 8000), 8000)
    labels = [None if number == 5 else ("cat", "<i>dog")[number % 2] for number in range(12)]
    columns = {"id": [*names, "unreadable.mp4"], "path": [*names, "unreadable.mp4"], "label": [*labels, "cat"]}
    Manifest.from_columns(columns, folder / "videos").write(folder / "videos" / "manifest.csv")
    draws = np.random.default_rng(0)
    x = np.cumsum(draws.normal(size=(2, 12, 3, 8)), axis=2)
    x[1, :6] = x[0, :6]  # these match
    x[:, -1] = x[:, 0]
    x = (x / np.linalg.norm(x, axis=-1, keepdims=True)).reshape(2, -1, 8).astype(np.float32)
    ids = np.repeat(np.array(names, dtype=object), 3)
    starts = np.tile([0.0, 0.2, 0.4], 12)
    info = TableInfo("embeddings", 8, 8, 0.2, "0" * 16, "model", "videos", "0" * 16, "0", {})
    write_feature_table(FeatureTable(info, ids, ids, starts, starts + 0.5, x[0], x[1]), folder / "features.parquet")
    return folder


def explore(world, *more):
    return main(["explore", str(world / "features.parquet"), "--num-clusters", "3", *map(str, more)])


@pytest.fixture(scope="module")
def explored(world):
    manifest = world / "videos" / "manifest.csv"
    assert explore(world, "-o", world / "page.html", "--manifest", manifest) == 0
    return world


def test_the_manifest_gets_columns_that_training_can_choose_by(explored):
    manifest = read_manifest(explored / "videos" / "manifest.explored.csv")
    before = read_manifest(explored / "videos" / "manifest.csv")
    assert manifest["id"].tolist() == before["id"].tolist()
    assert manifest["label"].tolist() == before["label"].tolist()
    assert manifest["duplicate_of"].tolist() == [None] * 11 + [HOSTILE, None]
    assert manifest["match"][-1] is None
    chosen = rows_where(manifest, "match>=0.3 duplicate_of=''")
    assert 5 <= len(chosen) < 12
    assert "copy.mp4" not in chosen["id"]
    assert "unreadable.mp4" not in chosen["id"]


def test_the_columns_stand_beside_the_page_too(explored):
    table = read_manifest(explored / "page.csv")
    assert len(table) == 12
    assert table["start_seconds"].tolist() == [0.0] * 12
    assert table["stop_seconds"] == pytest.approx([0.9] * 12)
    assert set(table["cluster"]) == {"0", "1", "2"}


def test_the_page_shows_players_and_escapes_names(explored):
    page = (explored / "page.html").read_text()
    assert "<script" not in page
    assert "<b>&x" not in page
    assert "<i>dog" not in page
    assert "&lt;i&gt;dog" in page
    assert 'src="videos/%3Cb%3E%26x.mp4#t=0.000,0.900"' in page
    assert "Copies (1)" in page
    assert "no such file" in page.lower()


def test_the_same_command_may_come_again_and_another_may_not_replace_its_page(explored, capsys):
    manifest = explored / "videos" / "manifest.csv"
    assert explore(explored, "-o", explored / "page.html", "--manifest", manifest) == 0
    capsys.readouterr()
    assert explore(explored, "-o", explored / "page.html", "--seed", 1) == 1
    assert "page.html: exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "page.csv"], "--out (page.csv) must be the name of a page, such as page.html"),
        (["--num-clusters", "13"], "num_clusters (13) must be at most 12"),
        (["--manifest", "other.csv"], "none of its 1 ids is in"),
        (["--manifest", "explored.csv"], "has the column cluster already"),
        (["--manifest", "other.csv", "--label-column", "kind"], "no column 'kind'; it has id, path"),
    ],
)
def test_unusable_input_is_an_error_before_any_work(world, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    Manifest.from_columns({"id": ["z"], "path": ["z.mp4"]}, ".").write("other.csv")
    Manifest.from_columns({"id": ["1.mp4"], "path": ["1.mp4"], "cluster": ["0"]}, ".").write("explored.csv")
    assert explore(world, *words) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "corpus.html").exists()
