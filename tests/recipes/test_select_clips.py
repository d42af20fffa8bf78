import csv
import json
import shutil

import numpy as np
import pytest

from avssl.cli import main
from avssl.core.manifest import write_table
from avssl.data import index_folder


@pytest.fixture
def manifest_maker(videos, tmp_path):
    """``make(labels, splits=None)``: a manifest of the 20 videos in a folder of its own."""

    def make(labels, splits=None):
        folder = tmp_path / "corpus"
        shutil.copytree(videos, folder / "videos", dirs_exist_ok=True)
        table = index_folder(folder).manifest.table
        columns = {"label": labels, "split": splits}
        for name, values in columns.items():
            table = table if values is None else table.append_column(name, [values])
        write_table(table, folder / "manifest.csv")
        return folder / "manifest.csv"

    return make


PITCH = ["low" if number < 10 else "high" for number in range(20)]


def some_labels(every=3):
    return [label if number % every == 0 else None for number, label in enumerate(PITCH)]


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def select(run, tmp_path):
    """``select(manifest, "--strategy", "margin", ...)``: the lines of the CSV."""

    def call(manifest, *words):
        out = tmp_path / "selected.csv"
        common = [
            "--checkpoint",
            str(run),
            "--num_workers",
            "0",
            "--device",
            "cpu",
            "--cache-folder",
            str(tmp_path / "cache"),
            "--overwrite",
        ]
        assert main(["select", str(manifest), *common, "-o", str(out), *words]) == 0
        return read(out)

    return call


@pytest.mark.parametrize("strategy", ["random", "margin", "entropy", "k-center", "typicality", "disagreement"])
def test_rows_without_a_label_are_ranked(select, manifest_maker, capsys, strategy):
    labels = some_labels()
    manifest = manifest_maker(labels)
    lines = select(manifest, "--strategy", strategy, "--budget", "5")
    assert list(lines[0]) == ["rank", "id", "path", "start_seconds", "stop_seconds", "score", "why"]
    assert [line["rank"] for line in lines] == ["1", "2", "3", "4", "5"]
    unlabeled = {f"videos/clip{number:02d}.mp4" for number, label in enumerate(labels) if label is None}
    assert len({line["id"] for line in lines} & unlabeled) == 5
    assert all(
        line["path"] == line["id"] and float(line["stop_seconds"]) == pytest.approx(2, abs=0.1) for line in lines
    )
    assert all(line["why"] for line in lines)
    assert lines == select(manifest, "--strategy", strategy, "--budget", "5")
    text = capsys.readouterr().out
    assert "20 rows, 7 with a label, 2 classes" in text
    assert f"5 rows to label next, by {strategy}" in text


def test_each_row_has_its_own_reason(select, manifest_maker):
    manifest = manifest_maker(some_labels())
    for line in select(manifest, "--strategy", "margin", "--budget", "5"):
        margin, likely = line["why"].removeprefix("margin ").split(": ")
        first, second = (float(part.split()[1]) for part in likely.split(", "))
        assert {part.split()[0] for part in likely.split(", ")} == {"low", "high"}
        assert float(margin) == pytest.approx(float(line["score"]), abs=1e-3) == pytest.approx(first - second, abs=0.02)
    line = select(manifest, "--strategy", "disagreement", "--budget", "1")[0]
    assert line["why"].startswith("video: ")
    assert "; audio: " in line["why"]


def test_strategies_without_labels(select, manifest_maker):
    manifest = manifest_maker(None)
    line = select(manifest, "--strategy", "disagreement", "--budget", "1")[0]
    assert line["why"] == f"audio and video do not match: cosine {1 - float(line['score']):.3f}"
    assert select(manifest, "--strategy", "k-center", "--budget", "2")[0]["why"] == "random: no row has a label"
    assert len(select(manifest, "--strategy", "typicality", "--budget", "3")) == 3


def test_test_rows_are_neither_ranked_nor_trained_on(select, manifest_maker, capsys):
    labels = ["other" if number % 2 else label for number, label in enumerate(some_labels(4))]
    labels[1] = None
    manifest = manifest_maker(labels, ["test" if number % 2 else "train" for number in range(20)])
    lines = select(manifest, "--strategy", "margin", "--budget", "5")
    assert "videos/clip01.mp4" not in {line["id"] for line in lines}
    assert not any("other" in line["why"] for line in lines)
    assert "10 test rows are left out" in capsys.readouterr().out


def test_several_labels_count_as_labeled_and_unreadable_rows_are_counted(select, manifest_maker, capsys):
    labels = some_labels()
    labels[1] = "low|high"
    manifest = manifest_maker(labels)
    (manifest.parent / "videos/clip02.mp4").write_text("no video")
    lines = select(manifest, "--strategy", "random", "--budget", "11")
    assert not {"videos/clip01.mp4", "videos/clip02.mp4"} & {line["id"] for line in lines}
    text = capsys.readouterr().out
    assert "19 rows, 8 with a label, 2 classes" in text
    assert "1 rows could not be read" in text


@pytest.mark.parametrize(
    ("labels", "words", "status", "message"),
    [
        (
            None,
            ["--strategy", "margin", "--budget", "3"],
            1,
            "These need none: random, k-center, typicality, disagreement",
        ),
        (PITCH, ["--strategy", "random", "--budget", "3"], 1, "every row has a 'label' already; use --simulate"),
        (None, ["--strategy", "random", "--budget", "21"], 1, "budget (21) must be between 1 and the number"),
        (None, ["--strategy", "random"], 2, "required: --budget"),
        (None, ["--budget", "3"], 2, "--strategy is required: one of random, margin"),
        (None, ["--budget", "3", "--strategy", "margin,random"], 2, "several are compared with --simulate"),
        (None, ["--budget", "3", "--strategy", "random", "--label_column", "kind"], 1, "no column 'kind'"),
        (
            None,
            ["--budget", "3", "--strategy", "disagreement", "--modality", "video"],
            1,
            "disagreement needs video and audio, got video",
        ),
    ],
)
def test_wrong_input_raises_before_any_file_is_read(
    manifest_maker, run, tmp_path, capsys, monkeypatch, labels, words, status, message
):
    manifest = manifest_maker(labels)
    monkeypatch.setattr("avssl.downstream.labeling.features.extract_features", None)
    out = tmp_path / "selected.csv"
    assert main(["select", str(manifest), "--checkpoint", str(run), "-o", str(out), *words]) == status
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_checkpoint_raises_and_the_manifest_is_kept(manifest_maker, run, capsys):
    manifest = manifest_maker(None)
    words = ["select", str(manifest), "--strategy", "random", "--budget", "3"]
    assert main(words) == 2
    assert "required: --checkpoint" in capsys.readouterr().err
    before = manifest.read_text()
    assert main([*words, "--checkpoint", str(run), "-o", str(manifest), "--overwrite"]) == 1
    assert "is read by this command" in capsys.readouterr().err
    assert manifest.read_text() == before


def test_simulation_reports_every_strategy_beside_random(manifest_maker, run, tmp_path, capsys):
    manifest = manifest_maker(PITCH, ["train" if number % 2 else "test" for number in range(20)])
    out = tmp_path / "simulation"
    words = ["--budget", "4", "--simulate", "--num_workers", "0", "--device", "cpu", "-o", str(out), "--num_seeds", "2"]
    assert main(["select", str(manifest), "--checkpoint", str(run), *words]) == 0
    report = json.loads((out / "curve.json").read_text())
    assert list(report["curves"]) == ["random", "margin", "entropy", "k-center", "typicality", "disagreement"]
    about = report["protocol"]
    assert (about["n_pool"], about["n_test"], about["num_classes"], about["seeds"]) == (10, 10, 2, [0, 1])
    for of in report["curves"].values():
        assert of["labels"] == [4, 8, 10]
        accuracy = np.array(of["accuracy"])
        np.testing.assert_allclose(of["mean"], accuracy.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(of["deviation"], accuracy.std(axis=0, ddof=1), atol=1e-6)
        gain = (accuracy - np.array(report["curves"]["random"]["accuracy"])).mean(axis=1)
        np.testing.assert_allclose(of["gain"], gain, atol=1e-6)
        np.testing.assert_allclose(
            accuracy[:, -1], report["all_labels"], atol=1e-6
        )  # in the end all strategies have all labels
    lines = read(out / "curve.csv")
    assert len(lines) == 6 * 2 * 3
    assert float(lines[0]["accuracy"]) == report["curves"]["random"]["accuracy"][0][0]
    assert (out / "curve.png").stat().st_size > 5000
    text = capsys.readouterr().out
    assert "label: 2 classes, 10 rows to label, 10 test rows, 2 seeds" in text
    assert "with all 10 labels: " in text
    assert "better with " in text


def test_simulation_of_one_modality_omits_disagreement(manifest_maker, run, tmp_path, capsys):
    manifest = manifest_maker(PITCH, ["train" if number % 2 else "test" for number in range(20)])
    common = ["select", str(manifest), "--checkpoint", str(run), "--budget", "5", "--simulate", "--modality", "audio"]
    common += [
        "--num_workers",
        "0",
        "--device",
        "cpu",
        "-o",
        str(tmp_path / "out"),
        "--num_seeds",
        "1",
        "--rounds",
        "1",
    ]
    assert main(common) == 0
    report = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert list(report["curves"]) == ["random", "margin", "entropy", "k-center", "typicality"]
    assert report["all_labels"] >= 0.8  # the classes differ in pitch
    common.append("--overwrite")
    assert main([*common, "--strategy", "disagreement"]) == 1
    assert "needs video and audio, got audio" in capsys.readouterr().err
    assert main([*common, "--num_seeds", "0"]) == 2
    assert "--num-seeds (0) must be >= 1" in capsys.readouterr().err
