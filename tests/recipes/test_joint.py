"""A model with a joint head, from its release to tables, search and features, with one modality missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from avssl.cli import main
from avssl.config import config_from_dict, to_dict
from avssl.core.manifest import Manifest
from avssl.downstream.probing import PROTOCOLS, ProbeSettings
from avssl.downstream.probing.protocol import ProbeData
from avssl.features.extract import Features, extract_features
from avssl.features.table import FeatureTableError, read_feature_table
from avssl.hub.pretrained import from_pretrained, save_pretrained
from avssl.recipes.embed import embed
from avssl.recipes.search import search
from avssl.training.build import build_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, run: Path, video_maker: Any) -> SimpleNamespace:
    """A release of an untrained model with a joint head, a folder of videos and their table."""
    folder, like = tmp_path_factory.mktemp("joint"), from_pretrained(run)
    config = config_from_dict({**to_dict(like.config), "objective": {"name": "joint"}})
    save_pretrained(folder / "release", build_model(config, seed=3), like.transform, config)
    for number in range(3):
        video_maker(folder / "videos" / f"clip{number}.mp4", number, 2.0)
    out = embed(folder / "videos", checkpoint=folder / "release", out=folder / "f.parquet", num_workers=0, device="cpu")
    return SimpleNamespace(folder=folder, release=folder / "release", table=out)


def test_table_holds_joint_embeddings_which_files_of_both_streams_find(world: SimpleNamespace) -> None:
    table = read_feature_table(world.table)
    assert table.info.columns == ("video", "audio", "joint")
    np.testing.assert_allclose(np.linalg.norm(table.joint, axis=1), 1, atol=1e-5)
    row = int(np.flatnonzero(table.ids == "clip1.mp4")[0])
    middle = float(table.start_seconds[row] + table.stop_seconds[row]) / 2
    file = world.folder / "videos" / "clip1.mp4"
    found = search(world.table, video=file, audio=file, at_seconds=middle, device="cpu")
    assert [part.modality for part in found] == ["video", "audio", "joint"]
    cosines = table.joint @ table.joint[row]
    assert found[2].hits[0].cosine == pytest.approx(cosines.max(), abs=1e-3)
    (alone,) = search(world.table, audio=file, gallery="joint", device="cpu")
    assert alone.level.count == len(table)
    (own,) = search(world.table, id="clip1.mp4", by="joint", gallery="joint", at_seconds=middle)
    assert own.hits[0].cosine == pytest.approx(1, abs=1e-5)


def test_table_of_one_modality_has_joint_embeddings_without_the_other(world: SimpleNamespace, run: Path) -> None:
    out = world.folder / "audio.parquet"
    given = ["embed", str(world.folder / "videos"), "--checkpoint", str(world.release), "-o", str(out)]
    assert main([*given, "--modality", "audio", "--num-workers", "0", "--device", "cpu"]) == 0
    table, both = read_feature_table(out), read_feature_table(world.table)
    assert table.info.columns == ("audio", "joint")
    np.testing.assert_allclose(table.audio[0], both.audio[0], atol=1e-5)
    assert np.abs(table.joint[0] - both.joint[0]).max() > 1e-3
    plain = world.folder / "plain.parquet"
    embed(world.folder / "videos", checkpoint=run, out=plain, num_workers=0, device="cpu")
    with pytest.raises(FeatureTableError, match=r"holds no joint embeddings: a model with a joint head"):
        search(plain, id="clip1.mp4", gallery="joint")


def test_features_of_a_joint_head_are_probed_with_a_modality_missing(world: SimpleNamespace) -> None:
    names = [f"clip{number}.mp4" for number in range(3)]
    rows = Manifest.from_columns({"id": names, "path": names}, world.folder / "videos")
    found = extract_features(from_pretrained(world.release), rows)
    assert {name: x.shape[0] for name, x in found.joint.items()} == {"joint": 3, "joint, video": 3, "joint, audio": 3}
    assert set(extract_features(from_pretrained(world.release), rows, stream="audio").joint) == {"joint, audio"}

    labels = np.array([f"c{number % 3}" for number in range(36)])
    values = np.random.default_rng(0).normal(size=(36, 6)).astype(np.float32)
    values[np.arange(36), np.arange(36) % 3] += 8
    noise, zero = np.zeros_like(values), np.zeros((36, 1))
    joint = {"joint": values, "joint, video": values, "joint, audio": noise}
    features = Features(labels, np.arange(36), noise, noise, [], zero, joint=joint)
    data = ProbeData(
        features, labels, np.arange(24), np.arange(24, 36), ProbeSettings(neighbors=3), torch.device("cpu")
    )
    for name in ("linear", "knn"):
        scores = {row.modality: row.numbers["accuracy"] for row in PROTOCOLS[name].measure(data)}
        assert scores["joint"] == scores["joint, video alone"] == 1
        assert scores["joint, audio alone"] < 0.7
