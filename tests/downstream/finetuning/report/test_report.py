import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, log_loss

from avssl.core.manifest import Manifest, ManifestError
from avssl.downstream.finetuning.report import write_report
from avssl.evaluation import mean_interval
from avssl.media import write_video

IDS = ["a.mp4", "b.mp4", "broken.mp4", "d <&> é.mp4"]
SCORES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.3, 0.5]])
LABELS = np.array([0, 1, 2, 0])


@pytest.fixture
def manifest(tmp_path):
    """Four clips, one of which is no video; in another order than they are scored."""
    folder = tmp_path / "media"
    folder.mkdir()
    frames = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 48) * 20
    for name in IDS:
        if name == "broken.mp4":
            (folder / name).write_text("no video")
        else:
            write_video(folder / name, frames, 4.0)
    return Manifest.from_columns({"id": IDS[::-1], "path": IDS[::-1]}, folder)


def report(manifest, folder, **changes):
    given = {
        "classes": ["cat", "dog", "<b>bird</b> $x$"],
        "scores": SCORES,
        "labels": LABELS,
        "ids": IDS,
        "title": "toy & test",
        "numbers": {"seed": 3, "minutes": 1.23456789},
    } | changes
    page = write_report(folder / "out", manifest=manifest, **given)
    assert page == folder / "out" / "report.html"
    return page.read_text(encoding="utf-8"), json.loads((folder / "out" / "report.json").read_text())


def test_numbers_by_hand(manifest, tmp_path):
    _, found = report(manifest, tmp_path)
    accuracy, recall = found["headline"]
    assert (accuracy["measure"], accuracy["value"]) == ("accuracy", 0.5)
    files = ["same", "same", "broken", "same"]  # three files have the same content
    assert accuracy["interval"] == pytest.approx(mean_interval([True, False, True, False], files))
    assert (accuracy["chance"], accuracy["largest_class"]) == (pytest.approx(1 / 3), 0.5)
    assert (recall["value"], recall["largest_class"]) == (0.5, pytest.approx(1 / 3))  # 1/2, 0, 1
    assert found["confusion"] == [[1, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert [row["n"] for row in found["classes"]] == [2, 1, 1]
    assert [row["precision"] for row in found["classes"]] == [0.5, None, 0.5]  # nothing is predicted as a dog
    assert [row["f1"] for row in found["classes"]] == pytest.approx(f1_score(LABELS, SCORES.argmax(1), average=None))
    assert [(clip["id"], round(clip["loss"], 4)) for clip in found["worst"]] == [
        ("d <&> é.mp4", round(-math.log(0.2), 4)),
        ("b.mp4", round(-math.log(0.3), 4)),
        ("a.mp4", round(-math.log(0.7), 4)),
        ("broken.mp4", round(-math.log(0.7), 4)),
    ]
    assert found["clip_list"] == manifest.hash()
    assert found["numbers"] == {"seed": 3, "minutes": 1.23456789}


def test_page_shows_the_numbers_and_frames(manifest, tmp_path):
    page, _ = report(manifest, tmp_path)
    assert "<title>toy &amp; test</title>" in page
    assert "<h1>toy &amp; test</h1>" in page
    assert "<b>bird</b> $x$" not in page
    assert "&lt;b&gt;bird&lt;/b&gt; $x$" in page
    assert page.count("data:image/png") == 1  # the matrix
    assert page.count("data:image/jpeg") == 3  # frames of the clips that can be read
    assert "No frames: " in page
    assert "broken.mp4: container" in page
    assert '<a href="../media/d%20%3C%26%3E%20%C3%A9.mp4">d &lt;&amp;&gt; é.mp4</a>' in page
    assert "1.235" in page


def test_many_classes_get_a_table_of_pairs(tmp_path):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 2)
    scores = generator.dirichlet(np.ones(40), size=80)
    ids = [f"{i}.mp4" for i in range(80)]
    manifest = Manifest.from_columns({"id": ids, "path": ids}, tmp_path)
    classes = [f"class {k}" for k in range(40)]
    page, found = report(manifest, tmp_path, classes=classes, scores=scores, labels=labels, ids=ids)
    assert [row["measure"] for row in found["headline"]][1] == "top-5 accuracy"
    assert found["headline"][1]["chance"] == 5 / 40
    assert found["headline"][1]["largest_class"] == pytest.approx(10 / 80)
    assert "Most confused" in page
    pair = found["most_confused"][0]
    assert pair["n"] == max(
        ((labels == t) & (scores.argmax(1) == p)).sum() for t in range(40) for p in range(40) if t != p
    )
    assert len(found["worst"]) == 12


def test_several_labels_are_measured_by_average_precision(manifest, tmp_path):
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    scores = np.array([[0.9, 0.2, 0.1], [0.6, 0.3, 0.1], [0.4, 0.8, 0.7], [0.1, 0.4, 0.5]])
    page, found = report(manifest, tmp_path, scores=scores, labels=targets, multi_label=True)
    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in (0, 1)]
    assert [row["average_precision"] for row in found["classes"]] == pytest.approx([*expected, None])
    assert found["headline"] == [{"measure": "mAP", "value": pytest.approx(np.mean(expected)), "chance": 0.5}]
    losses = [log_loss(targets[i].astype(int), scores[i], labels=[0, 1]) for i in range(4)]
    assert found["worst"][0]["id"] == IDS[int(np.argmax(losses))]
    assert found["worst"][0]["loss"] == pytest.approx(max(losses))
    assert "confusion" not in found
    assert "Confusion matrix" not in page
    assert "true: none" in page  # the last clip has no class


def test_report_does_not_depend_on_the_order_of_the_clips(manifest, tmp_path):
    _, found = report(manifest, tmp_path)
    order = [2, 0, 3, 1]
    _, other = report(manifest, tmp_path, scores=SCORES[order], labels=LABELS[order], ids=[IDS[i] for i in order])
    for name in ("headline", "classes", "confusion", "clip_list"):
        assert found[name] == other[name]


def test_clips_of_a_store_have_no_links(manifest, tmp_path):
    elsewhere = Manifest.from_columns(
        {"id": IDS, "path": ["x.tar"] * 4, "shard_offset": [0] * 4, "shard_header_bytes": [0] * 4}, tmp_path
    )
    page, _ = report(elsewhere, tmp_path)
    assert "<a href" not in page
    assert page.count("No frames: ") == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.log(SCORES)}, "4 of 4 rows are not, the first is 'a.mp4'. Convert logits with softmax"),
        ({"scores": SCORES * 0.5}, "must be probabilities in"),
        ({"scores": np.where(SCORES == 0.7, np.nan, SCORES)}, "2 of 4 rows"),
        ({"scores": SCORES[:3]}, r"scores must be \(4, 3\)"),
        ({"labels": [0, 1, 2, 3]}, r"labels must be \(4,\) integers in 0 ... 2"),
        ({"labels": [0, 1, 2, 2.5]}, "labels must be"),
        ({"labels": LABELS, "multi_label": True}, r"labels must be \(4, 3\) bool"),
        ({"classes": ["cat", "cat", "dog"]}, "class names must be different"),
        ({"ids": ["a.mp4"] * 4}, "ids must be different"),
    ],
)
def test_invalid_scores_and_labels_raise(manifest, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        report(manifest, tmp_path, **changes)


def test_clips_outside_the_manifest_are_named(manifest, tmp_path):
    with pytest.raises(ManifestError, match=r"1 scored clips are not in the manifest, the first is 'b.mp4'"):
        report(manifest.select(manifest["id"] != "b.mp4"), tmp_path)
