"""Protocols on hand-made features, without models or files."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avssl.core.manifest import Manifest
from avssl.data.splits import divide
from avssl.downstream.probing import PROTOCOLS, ProbeSettings, protocol_table, run_protocol
from avssl.downstream.probing.protocol import ProbeData
from avssl.features.extract import Features
from avssl.training.tasks.probes import ProbeSchedule

COUNT, CLASSES = 36, 3
FAST = ProbeSchedule(epochs=15, batch_size=12, lr=2e-2)


def manifest(**columns):
    ids = [f"clip{i}" for i in range(COUNT)]
    given = {
        "label": [f"c{i % CLASSES}" for i in range(COUNT)],
        "split": ["train" if i % 4 else "test" for i in range(COUNT)],
        "fold": [str(i // 12) for i in range(COUNT)],
    }
    return Manifest.from_columns({"id": ids, "path": ids, **given, **columns}, "/nowhere")


def made_features(rows, words, strength, failed=()):
    """Channel k is bright for class k, by ``strength``; the first stage shows nothing."""
    kept = [row for row in range(len(rows)) if row not in failed]
    label = np.array([int(rows["label"][row][1:]) for row in kept])
    windows = words["windows_per_clip"]
    generator = np.random.default_rng(0)

    def numbers(*shape, strength=strength):
        x = generator.normal(size=(len(kept), *shape)).astype(np.float32)
        channel = np.zeros_like(x)
        at = (np.arange(len(kept)), ..., label) if len(shape) == 1 else (np.arange(len(kept)), slice(None), label)
        channel[at] = strength
        return x + channel

    stages = {}
    for name, pooling in words.get("stages", {}).items():
        both = {"early": numbers(windows, 8, 1, 1, strength=0), "late": numbers(windows, 8, 1, 1)}
        stages[name] = {layer: both[layer] for layer in list(both)[-pooling.last_stages :]}
    at = np.zeros((len(kept), windows))
    ids = rows["id"][kept].astype(str)
    moments = {}
    if words.get("moments"):  # of each clip by itself, if the model has learned
        own = generator.normal(size=(len(kept), windows, 3, 8)).astype(np.float32)
        moments = {
            name: own * strength + generator.normal(size=own.shape).astype(np.float32) for name in ("video", "audio")
        }
    return Features(ids, np.array(kept), numbers(8), numbers(8), list(failed), at, stages, moments)


@pytest.fixture
def measured(monkeypatch):
    """Run a protocol on made features: the trained model shows the class, the random one does not."""

    def run(name, rows=None, columns=None, settings=None, failed=()):
        def extract(model, rows, **words):
            return made_features(rows, words, model.strength, failed)

        monkeypatch.setattr("avssl.downstream.probing.run.extract_features", extract)
        encoders = SimpleNamespace(num_features=8)
        network = SimpleNamespace(video_encoder=encoders, audio_encoder=encoders)
        models = {
            name: SimpleNamespace(strength=strength, device=torch.device("cpu"), model=network)
            for name, strength in (("trained", 6), ("random init", 0))
        }
        rows = rows or manifest()
        divisions = divide(rows, "label", **(columns or {}))
        settings = settings or ProbeSettings(windows_per_clip=2, neighbors=5, schedule=FAST, clips_per_class=2)
        return run_protocol(PROTOCOLS[name], models, rows, divisions, "label", settings)

    return run


def by_model(report, modality="video", layer=None):
    return {
        row["model"]: row
        for row in report["rows"]
        if row["modality"] in (modality, "") and (layer is None or row.get("layer", layer) == layer)
    }


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name not in ("av_retrieval", "moments")])
def test_trained_features_are_classified_and_baselines_stay_near_chance(measured, name):
    report = measured(name)
    headline = PROTOCOLS[name].headline
    layer = "late" if any("layer" in row for row in report["rows"]) else None
    found = by_model(report, layer=layer)
    assert found["trained"][headline] == 1.0
    assert found["random init"][headline] < 0.8
    if PROTOCOLS[name].shuffled:
        assert found["shuffled labels"][headline] < 0.8
    assert found["chance"][headline] == pytest.approx(1 / 3)
    low, high = found["random init"]["interval"]
    assert low <= found["random init"][headline] <= high
    about = report["protocol"]
    assert (about["n_train"], about["n_test"], about["num_classes"], about["seed"]) == (27, 9, 3, 0)
    assert about["clip_list"] == manifest().hash()


def test_modality_limits_the_rows(measured):
    report = measured("knn", settings=ProbeSettings(modality="audio", neighbors=3))
    assert {row["modality"] for row in report["rows"]} == {"audio", ""}
    assert {row["modality"] for row in measured("knn")["rows"]} == {"video", "audio", "video + audio", ""}
    with pytest.raises(ValueError, match=r"modality \('sound'\)"):
        ProbeSettings(modality="sound")
    with pytest.raises(ValueError, match=r"windows_per_clip \(0\) must be >= 1"):
        ProbeSettings(windows_per_clip=0)
    with pytest.raises(ValueError, match=r"modality \('audio'\) must be \"both\" for av_retrieval"):
        measured("av_retrieval", settings=ProbeSettings(modality="audio", clips_per_class=2))


def test_audio_retrieves_video_in_a_balanced_gallery(measured):
    report = measured("av_retrieval")
    found = by_model(report, "audio -> video")
    assert report["protocol"]["n_test"] == 6  # 2 clips of each of 3 classes
    assert found["trained"]["mAP"] == 1.0
    assert found["trained"]["P@1"] == 1.0
    assert found["trained"]["P@5"] == pytest.approx(2 / 5)
    assert found["shuffled audio"]["mAP"] < 0.9
    assert found["chance"]["P@1"] == pytest.approx(1 / 3)
    # Places of 2 right items among 6: the mean over the 15 pairs of (1 / i + 2 / j) / 2
    pairs = [(i, j) for j in range(2, 7) for i in range(1, j)]
    assert found["chance"]["mAP"] == pytest.approx(np.mean([(1 / i + 2 / j) / 2 for i, j in pairs]))
    with pytest.raises(ValueError, match=r"'c0' has only 3 test clips\. Lower --clips-per-class"):
        measured("av_retrieval", settings=ProbeSettings())


def test_moments_find_their_own_clip_by_every_aggregation(measured):
    report = measured("moments")
    assert report["protocol"]["gallery_size"] == 9
    for direction in ("video -> audio", "audio -> video"):
        for name in ("mean", "max", "diagonal_mean", "diagonal_max"):
            found = by_model(report, direction, name)
            assert found["trained"]["R@1"] > 0.8
            assert max(found["random init"]["R@1"], found["shuffled audio"]["R@1"]) < 0.5
            assert found["chance"]["R@5"] == pytest.approx(5 / 9)
        assert by_model(report, direction, "pooled")["trained"]["R@1"] < 0.8  # made without the clip
    assert "diagonal_mean" in protocol_table(PROTOCOLS["moments"], report)
    with pytest.raises(ValueError, match=r"modality \('video'\) must be \"both\" for moments"):
        measured("moments", settings=ProbeSettings(modality="video"))


@pytest.mark.parametrize(("name", "queries", "gallery"), [("retrieval", 9, 27), ("av_retrieval", 6, 6)])
def test_the_size_of_the_gallery_is_reported(measured, name, queries, gallery):
    report = measured(name)
    assert report["protocol"]["gallery_size"] == gallery
    assert f"{queries} queries in a gallery of {gallery}" in protocol_table(PROTOCOLS[name], report)
    assert "gallery_size" not in measured("knn")["protocol"]


def test_rows_are_chosen_from_one_division(measured):
    with pytest.raises(ValueError, match=r"there are 3: 0, 1, 2\. Name one split column"):
        measured("av_retrieval", columns={"fold_column": "fold"})


def test_rows_without_one_label_are_counted(measured):
    report = measured("knn")
    report["protocol"]["unlabeled"] = 2
    assert "2 rows have no label or several and are left out" in protocol_table(PROTOCOLS["knn"], report)


def test_chance_counts_the_readable_clips_of_each_class(measured):
    chance = by_model(measured("av_retrieval", failed=(0,)), "audio -> video")["chance"]
    # 1, 2 and 2 clips of three classes, five in all, each of them a query.
    assert chance["P@1"] == pytest.approx((1 * 1 + 2 * 2 + 2 * 2) / 25)
    assert chance["P@5"] == chance["P@1"]


def test_folds_give_mean_and_deviation(measured):
    settings = ProbeSettings(windows_per_clip=2, neighbors=5)
    report = measured("knn", columns={"fold_column": "fold"}, settings=settings)
    assert [part["name"] for part in report["protocol"]["divisions"]] == ["0", "1", "2"]
    assert {(part["n_train"], part["n_test"]) for part in report["protocol"]["divisions"]} == {(24, 12)}
    row = by_model(report)["random init"]
    assert row["accuracy"] == pytest.approx(np.mean(row["by_division"]))
    assert row["accuracy_sd"] == pytest.approx(np.std(row["by_division"], ddof=1))
    assert len(set(row["by_division"])) > 1
    text = protocol_table(PROTOCOLS["knn"], report)
    assert "24 training rows, 12 test rows, in each of 3 divisions" in text
    assert f"{100 * row['accuracy']:.1f}{100 * row['accuracy_sd']:>7.1f}" in text


def test_official_splits_are_run_one_by_one(measured):
    second = ["test" if i % 3 == i // 12 else "train" for i in range(COUNT)]
    rows = manifest(split2=second)
    report = measured("knn", rows, {"split_columns": ["split", "split2"]})
    assert [part["name"] for part in report["protocol"]["divisions"]] == ["split", "split2"]
    assert [part["n_test"] for part in report["protocol"]["divisions"]] == [9, 12]


def test_the_best_layer_is_marked(measured):
    report = measured("layers")
    best = {row["layer"]: row["best_layer"] for row in report["rows"] if row["model"] == "trained"}
    assert best == {"early": False, "late": True}
    text = protocol_table(PROTOCOLS["layers"], report)
    assert "late*" in text
    assert text.startswith(PROTOCOLS["layers"].title)
    assert "test rows; in percent" in text
    assert "* best layer" in text


def test_unreadable_rows_are_left_out_of_their_parts(measured):
    report = measured("knn", failed=(0, 1, 2))
    assert (report["protocol"]["n_train"], report["protocol"]["n_test"]) == (25, 8)
    assert report["protocol"]["unreadable"] == 3
    assert by_model(report)["trained"]["accuracy"] == 1.0
    assert "3 rows could not be read" in protocol_table(PROTOCOLS["knn"], report)


def test_shuffling_moves_every_audio_and_keeps_the_count_of_labels():
    rows = manifest()
    features = made_features(rows, {"windows_per_clip": 1}, 1)
    train, test = np.arange(12, 36), np.arange(12)
    data = ProbeData(features, rows["label"], train, test, ProbeSettings(), torch.device("cpu"))
    moved = data.with_shuffled_audio().features
    assert not (moved.audio[test] == features.audio[test]).all(axis=1).any()
    np.testing.assert_array_equal(np.sort(moved.audio[test], 0), np.sort(features.audio[test], 0))
    np.testing.assert_array_equal(moved.audio[train], features.audio[train])
    np.testing.assert_array_equal(moved.video, features.video)
    labels = data.with_shuffled_labels().labels
    assert sorted(labels[train]) == sorted(rows["label"][train])
    assert (labels[train] != rows["label"][train]).any()
    np.testing.assert_array_equal(labels[test], rows["label"][test])


@pytest.mark.parametrize("name", ["linear", "knn", "svm", "retrieval", "layers", "attentive"])
def test_a_class_without_training_rows_is_named(measured, name):
    labels = ["c7" if i == 0 else f"c{i % CLASSES}" for i in range(COUNT)]  # row 0 is of the test split
    with pytest.raises(ValueError, match="classes that are not in train_labels: c7"):
        measured(name, manifest(label=labels))


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_nan_features_raise(measured, name, monkeypatch):
    original = made_features

    def spoilt(*arguments):
        features = original(*arguments)
        for array in (features.video, features.audio, *(m for s in features.stages.values() for m in s.values())):
            array[-1] = np.nan
        return features

    monkeypatch.setitem(globals(), "made_features", spoilt)
    with pytest.raises(ValueError, match="NaN or infinity"):
        measured(name)
