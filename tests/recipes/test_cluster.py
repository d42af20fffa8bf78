"""Clusters of a manifest: a column that fine-tuning reads, numbered by size, with a page of examples."""

import shutil

import numpy as np
import pytest

from avssl.cli import main
from avssl.core.manifest import Manifest, read_manifest
from avssl.evaluation.corpus import cluster as cluster_vectors
from avssl.evaluation.corpus import label_agreement
from avssl.recipes.finetune import finetune


@pytest.fixture
def clips(labeled_clips, tmp_path):
    """A manifest of 24 clips of three gratings in a folder of its own; one file is damaged."""
    folder = tmp_path / "clips"
    shutil.copytree(labeled_clips.parent, folder, ignore=shutil.ignore_patterns(".avssl", "*.csv"))
    shutil.copy(labeled_clips, folder / "manifest.csv")
    (folder / "clip03.mp4").write_bytes(b"no media")
    return folder / "manifest.csv"


@pytest.fixture
def cluster(tiny_release, tmp_path):
    """``cluster(manifest, "--num-clusters", "3", ...)``: the exit status."""
    common = ["--num_workers", "0", "--device", "cpu", "--cache-folder", str(tmp_path / "cache"), "--no-progress"]
    return lambda manifest, *words: main(["cluster", str(tiny_release), str(manifest), *common, *map(str, words)])


def test_clusters_become_a_column_that_finetune_reads(clips, cluster, finetuning, tmp_path, capsys):
    assert cluster(clips, "--num-clusters", 2, "--num-examples", 2) == 0
    out = clips.with_suffix(".clustered.csv")
    before, after = read_manifest(clips), read_manifest(out)
    assert after["id"].tolist() == before["id"].tolist()
    assert after.table.column_names == [*before.table.column_names, "cluster"]
    labels = after["cluster"].tolist()
    assert labels[3] is None
    assert set(labels) == {"0", "1", None}
    assert labels.count("0") >= labels.count("1")
    printed = capsys.readouterr().out
    assert "clips: 23 of 24 rows" in printed
    assert "cannot be read: 1 rows, which have no cluster" in printed
    assert "agreement with label: " in printed
    assert f"avssl finetune {out} --labels.label-column cluster --checkpoint none" in printed
    page = out.with_suffix(".html").read_text()
    assert f"Cluster 0: {labels.count('0')} clips" in page
    assert page.count("data:image/jpeg") == 4

    config = finetuning(out, labels={"label_column": "cluster"}, test={"report": False})
    finetune(config, out=tmp_path / "run", progress=False)
    assert "fine-tuning: cluster, 2 classes" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_clusters_and_modalities_differ(clips, cluster):
    found = {}
    for name, words in {
        "both": (),
        "again": (),
        "video": ("--modality", "video"),
        "audio": ("--modality", "audio", "--what", "embeddings"),
    }.items():
        out = clips.parent / f"{name}.csv"
        assert cluster(clips, "-o", out, "--num-clusters", 4, "--num-examples", 0, "--column", "group", *words) == 0
        found[name] = read_manifest(out)["group"].tolist()
        assert not out.with_suffix(".html").exists()
    assert found["both"] == found["again"]
    assert found["video"] != found["audio"]


def test_centers_can_come_from_one_split(clips, cluster):
    out = clips.parent / "fit.csv"
    assert cluster(clips, "-o", out, "--num-clusters", 3, "--fit-split", "train", "--num-examples", 0) == 0
    labels = read_manifest(out)["cluster"]
    assert sum(label is not None for label in labels) == 23


def test_cluster_refuses_what_would_be_lost(clips, cluster, tmp_path, capsys):
    for words, message in {
        ("--column", "label"): "has the column label already. Name another with --column",
        ("--fit-split", "valid"): "no row has split 'valid'; there are test, train",
        ("--fit-split", "train", "--split-column", "part"): "no column 'part'",
        ("--num-clusters", "25"): r"num_clusters (25) must be at least 2 and at most the 24 rows",
        ("--num-clusters", "16", "--fit-split", "train"): "at most the 15 rows to cluster",
        ("-o", str(tmp_path / "elsewhere.csv")): "because the paths of",
        ("-o", str(clips.parent / "out.html")): "must be the name of a manifest",
    }.items():
        assert cluster(clips, *words) != 0
        assert message in capsys.readouterr().err


def test_clusters_are_numbered_by_size_and_found_in_a_part():
    draws = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [5, 30, 15])
    vectors = (10 * np.eye(3)[groups] + 0.1 * draws.normal(size=(50, 3))).astype(np.float32)
    found = cluster_vectors(vectors, 3, seed=1)
    assert found.tolist() == np.array([2, 0, 1])[groups].tolist()
    assert label_agreement(found, groups) == pytest.approx(1)
    assert label_agreement(draws.integers(0, 3, 50), groups) == pytest.approx(0, abs=0.1)
    part = cluster_vectors(vectors, 2, seed=1, among=groups < 2)
    assert set(part[groups == 0]) & set(part[groups == 1]) == set()


def test_a_row_without_a_span_is_shown_by_its_middle(clips, cluster):
    rows = read_manifest(clips)
    odd = clips.parent / "odd.csv"
    Manifest.from_columns({"id": rows["id"].tolist(), "path": rows["path"].tolist()}, clips.parent).write(odd)
    assert cluster(odd, "--num-clusters", 2, "--num-examples", 1) == 0
    page = odd.with_suffix(".clustered.html").read_text()
    assert page.count("data:image/jpeg") == 2
    assert "label" not in page.split("<h2>")[1]
