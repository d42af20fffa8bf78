import csv
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import avssl
from avssl.cli import main
from avssl.core.manifest import Manifest, read_manifest
from avssl.evaluation.calibration import Calibration
from avssl.hub.classifier import load_classifier, save_classifier
from avssl.media import MediaError
from avssl.recipes import classify as recipe
from avssl.recipes.classify import classify
from avssl.recipes.finetune import finetune

CLASSES = ["middle", "narrow", "wide"]


@pytest.fixture(scope="module")
def finetuned(labeled_clips, tmp_path_factory, finetuning):
    """A run of one fold, whose test uses three crops of two clips."""
    config = finetuning(labeled_clips, test={"crop": "three"})
    return finetune(config, out=tmp_path_factory.mktemp("runs") / "one", progress=False)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video_maker):
    """Files of 2 and 5 s, one without audio, one whose name is markup, and one that is no video."""
    path = tmp_path_factory.mktemp("classify") / "videos"
    video_maker(path / "a.mp4", 0, 5.0)
    video_maker(path / "mute.mp4", 3, sound=False)
    video_maker(path / "<b onclick=x>, &.mp4", 6)
    (path / "text.mp4").write_text("no video")
    (path / "notes.txt").write_text("notes")
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def words(run, *more):
    return ["classify", *map(str, (run, *more)), "--device", "cpu", "--num-workers", "0"]


def stored_predictions(run, fold="split"):
    with np.load(run / "folds" / f"fold-{fold}" / "predictions.npz") as file:
        return {name: file[name] for name in file.files}


# ---------------------------------------------------------------- equal to the test of fine-tuning


def test_predictions_are_those_of_the_test_of_finetuning_bit_for_bit(finetuned, labeled_clips, tmp_path, capsys):
    out = tmp_path / "new" / "p.csv"
    command = words(finetuned, labeled_clips, "--split", "test", "-o", out, "--all-classes")
    assert main(command) == 0
    stored, rows = stored_predictions(finetuned), rows_of(out)
    assert [row["id"] for row in rows] == stored["ids"].tolist()
    expected = load_classifier(finetuned).probabilities(stored["logits"])
    found = np.array([[float(row[f"p({name})"]) for name in CLASSES] for row in rows])
    np.testing.assert_array_equal(found, expected)
    result = json.loads((finetuned / "folds" / "fold-split" / "results.json").read_text())
    assert [row["correct"] for row in rows].count("yes") / 9 == result["numbers"]["top1"]
    said = capsys.readouterr().out
    assert f"on 9 rows with a label of the classifier: top1 {result['numbers']['top1']:.3f}" in said
    assert "chance 0.333" in said
    assert "times real time" in said
    assert "split that the classifier was trained on" not in said
    assert main(words(finetuned, labeled_clips, "-o", tmp_path / "all.csv")) == 0
    assert "15 of these rows are in the split that the classifier was trained on" in capsys.readouterr().out


def test_no_neighbor_changes_a_prediction(finetuned, labeled_clips, tmp_path):
    """Files alone, in Python, in another order and beside a broken one are predicted to the same last bit."""
    stored = stored_predictions(finetuned)
    classifier = avssl.load_classifier(finetuned)
    expected = classifier.probabilities(stored["logits"])
    files = [labeled_clips.parent / name for name in stored["ids"][:2]]
    for file, probabilities in zip(files, expected, strict=False):
        found = classifier.predict(file, top_k=9)
        assert found.classes == [CLASSES[i] for i in np.argsort(-probabilities, kind="stable")]
        np.testing.assert_array_equal(found.probabilities, np.sort(probabilities)[::-1])
    broken = tmp_path / "broken.mp4"
    broken.write_text("broken")
    out = classify(finetuned, [files[1], broken, files[0]], out=tmp_path / "p.json", num_workers=0, all_classes=True)
    one, bad, other = json.loads(out.read_text())["files"]
    assert (one["probabilities"], other["probabilities"]) == (expected[1].tolist(), expected[0].tolist())
    assert bad["failure"]["reason"] == "not_media"


# ---------------------------------------------------------------- outputs


def test_a_folder_gives_a_table_windows_and_a_page(finetuned, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    page = tmp_path / "p.html"
    command = words(finetuned, "videos", "-o", tmp_path / "p.csv", "--every", "1", "--top-k", "2", "--page", page)
    assert main(command) == 0
    said = capsys.readouterr().out
    rows = rows_of(tmp_path / "p.csv")
    assert [row["path"] for row in rows] == ["videos/<b onclick=x>, &.mp4", "videos/a.mp4", "videos/mute.mp4"]
    assert list(rows[0]) == [
        *("id", "path", "start_seconds", "stop_seconds", "predicted", "unknown"),
        *("class_1", "probability_1", "class_2", "probability_2"),
    ]
    for row in rows:
        assert row["predicted"] == row["class_1"]
        assert float(row["probability_1"]) >= float(row["probability_2"])
    windows = [row for row in rows_of(tmp_path / "p.windows.csv") if row["id"] == "a.mp4"]
    assert [float(row["start_seconds"]) for row in windows] == pytest.approx([0, 1, 2, 3, 4], abs=0.01)
    (failure,) = rows_of(tmp_path / "p.failures.csv")
    assert (failure["id"], failure["reason"]) == ("text.mp4", "not_media")
    assert "1 files could not be read to the end (1 not_media)" in said
    assert "as not named like video files: 1 .txt" in said
    check_page(page, rows, folder)
    assert main(command) == 0
    assert "complete already" in capsys.readouterr().out


def check_page(page, rows, folder):
    tags, text = [], []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

        def handle_data(self, data):
            text.append(data)

    Tags().feed(page.read_text())
    assert not any("onclick" in attributes for _, attributes in tags)
    assert any("<b onclick=x>, &.mp4" in part for part in text)
    from urllib.parse import unquote

    players = [attributes["src"] for tag, attributes in tags if tag == "video"]
    assert [(page.parent / unquote(src)).resolve().name for src in players] == [Path(row["path"]).name for row in rows]
    assert all((page.parent / unquote(src)).exists() for src in players)
    spans = [attributes for tag, attributes in tags if tag == "button"]
    assert spans[0]["data-seconds"] == "0.000"
    assert {span["title"].split(",")[0] for span in spans} <= set(CLASSES)


def test_python_gives_the_same_windows_as_the_command(finetuned, folder, tmp_path):
    out = classify(finetuned, [folder / "a.mp4"], out=tmp_path / "p.json", every=1.0, num_workers=0, progress=False)
    (entry,) = json.loads(out.read_text())["files"]
    found = avssl.load_classifier(finetuned).predict([folder / "a.mp4"], every_seconds=1.0)[0]
    assert (found.label, found.start_seconds, found.stop_seconds) == (
        entry["predicted"],
        entry["start_seconds"],
        entry["stop_seconds"],
    )
    assert len(found.windows) == len(entry["windows"]) == 5
    for ours, theirs in zip(found.windows, entry["windows"], strict=True):
        assert ours.probabilities.tolist() == [top["probability"] for top in theirs["top"]]
    assert str(found).startswith(f"{folder / 'a.mp4'}: {found.classes[0]} {found.probabilities[0]:.2f}, ")


# ---------------------------------------------------------------- interruption


def test_an_interrupted_call_continues_to_the_same_result(finetuned, labeled_clips, tmp_path, monkeypatch):
    options = {"every": 1.0, "num_workers": 0, "progress": False}
    whole = classify(finetuned, [labeled_clips], out=tmp_path / "whole.csv", **options)
    monkeypatch.setattr(recipe, "CLIPS_PER_PART", 10)
    compute, calls = recipe.compute_logits, []

    def stop_at_third(*given):
        calls.append(given[2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(*given)

    monkeypatch.setattr(recipe, "compute_logits", stop_at_third)
    out = tmp_path / "parts.csv"
    with pytest.raises(KeyboardInterrupt):
        classify(finetuned, [labeled_clips], out=out, **options)
    assert not out.exists()
    classify(finetuned, [labeled_clips], out=out, **options)
    assert calls[2] == calls[3], "finished rows are not computed again"
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / "parts.windows.csv").read_bytes() == (tmp_path / "whole.windows.csv").read_bytes()
    assert not list(tmp_path.glob("*.parts"))


def test_changed_files_and_other_outputs_are_not_replaced(finetuned, folder, tmp_path, video_maker, capsys):
    video = tmp_path / "v.mp4"
    shutil.copy(folder / "a.mp4", video)
    command = words(finetuned, video, "-o", tmp_path / "p.csv")
    assert main(command) == 0
    assert main([*command, "--top-k", "1"]) == 1
    assert f"{tmp_path / 'p.csv'}: exists already, with top_k 5, but 1 is requested. Replace" in capsys.readouterr().err
    video_maker(video, 9)
    assert main(command) == 1
    assert "its files or the classifier have changed since" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    (tmp_path / "own.csv").write_text("mine")
    assert main(words(finetuned, video, "-o", tmp_path / "own.csv")) == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "own.csv").read_text() == "mine"


# ---------------------------------------------------------------- kinds of classifiers


def test_multi_label_classifiers_give_every_class_from_the_threshold_on(labeled_clips, tmp_path, finetuning, capsys):
    labels = {"label_column": "two", "multi_label": True, "fold_column": "fold"}
    run, _ = finetune(
        finetuning(labeled_clips, labels=labels, optim={"epochs": 1}), out=tmp_path / "run", fold="1", progress=False
    )
    given = {"num_workers": 0, "all_classes": True, "progress": False}
    capsys.readouterr()
    out = classify(run, [labeled_clips], out=tmp_path / "p.csv", threshold=0.4, **given)
    counts = Counter(name for row in rows_of(out) for name in row["predicted"].split("|") if name)
    assert all(f"{count} {name}" in capsys.readouterr().out for name, count in counts.most_common(1))
    stored = stored_predictions(run, "1")
    by_id = {row["id"]: row for row in rows_of(out)}
    for name, scores in zip(stored["ids"], load_classifier(run).probabilities(stored["logits"]), strict=True):
        row, classes = by_id[name], stored["classes"].tolist()
        assert [float(row[f"p({each})"]) for each in classes] == scores.tolist()
        assert row["predicted"] == "|".join(each for each, score in zip(classes, scores, strict=True) if score >= 0.4)
        assert row["correct"] == ("yes" if row["predicted"] == "|".join(sorted(row["label"].split("|"))) else "no")


def test_temperature_and_unknown_come_from_the_release(finetuned, folder, tmp_path, capsys):
    plain = avssl.load_classifier(finetuned)
    of_class = plain.predict(folder / "a.mp4", top_k=3)
    calibration = Calibration(temperature=3.0, unknown_score="probability", unknown_threshold=1.0)
    release = save_classifier(
        tmp_path / "release", plain.model, plain.transform, plain.classes, plain.config, calibration=calibration
    )
    found = avssl.load_classifier(release).predict(folder / "a.mp4", top_k=3)
    assert (found.label, found.is_unknown, found.classes) == ("unknown", True, of_class.classes)
    scaled = of_class.probabilities ** (1 / 3)
    np.testing.assert_allclose(found.probabilities, scaled / scaled.sum())
    assert main(words(release, folder / "a.mp4", "-o", tmp_path / "p.csv")) == 0
    (row,) = rows_of(tmp_path / "p.csv")
    assert (row["predicted"], row["unknown"], row["class_1"]) == ("unknown", "true", of_class.classes[0])
    assert "1 unknown" in capsys.readouterr().out


# ---------------------------------------------------------------- bad input


def test_labels_that_are_no_class_are_told_apart(finetuned, labeled_clips, tmp_path, capsys):
    manifest = read_manifest(labeled_clips)
    labels = ["tall" if row < 2 else None if row == 2 else label for row, label in enumerate(manifest["label"])]
    columns = {"id": manifest["id"].tolist(), "path": manifest["path"].tolist(), "label": labels}
    Manifest.from_columns(columns, labeled_clips.parent).write(labeled_clips.parent / "foreign.csv")
    assert main(words(finetuned, labeled_clips.parent / "foreign.csv", "-o", tmp_path / "p.csv")) == 0
    said = capsys.readouterr().out
    assert "on 21 rows with a label of the classifier" in said
    assert "2 rows have a label that is no class of the classifier and are not evaluated (2 tall)" in said
    correct = [row["correct"] for row in rows_of(tmp_path / "p.csv")]
    assert correct[:3] == ["unknown class", "unknown class", ""]
    assert set(correct[3:]) <= {"yes", "no"}


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["missing.mp4"], [], "missing.mp4: no such file"),
        (["empty"], [], "empty: no video files in this folder; it is empty"),
        (["texts"], [], "texts: no video files in this folder; it holds 1 .txt"),
        (["texts/a.txt"], [], r"none of 1 files can be read by a classifier of video: .*a.txt"),
        (["list.csv", "texts"], [], "list.csv is a manifest; name it alone"),
        (["list.csv"], [], "list.csv: no such manifest"),
        (["texts/a.txt"], ["--split", "test"], "only a manifest has splits"),
        (["texts/a.txt"], ["-o", "p.txt"], "p.txt: predictions are written as .csv or .json"),
        (["texts/a.txt"], ["--every", "0"], "--every"),
    ],
)
def test_names_that_cannot_be_used_are_errors(finetuned, tmp_path, monkeypatch, capsys, names, options, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("text")
    assert main([*words(finetuned, *names), *options]) in (1, 2)
    assert re.search(message, capsys.readouterr().err)
    assert not Path("predictions.csv").exists()


def test_files_without_the_stream_of_the_classifier(labeled_clips, folder, tmp_path, finetuning, capsys):
    config = finetuning(labeled_clips, classifier={"inputs": "both"}, optim={"epochs": 1})
    run, _ = finetune(config, out=tmp_path / "run", progress=False)
    assert main(words(run, folder / "a.mp4", folder / "mute.mp4", "-o", tmp_path / "p.csv")) == 0
    (failure,) = rows_of(tmp_path / "p.failures.csv")
    assert (failure["id"], failure["reason"]) == ("mute.mp4", "no_audio")
    assert main(words(run, folder / "mute.mp4", "-o", tmp_path / "q.csv")) == 1
    assert "none of 1 files can be read by a classifier of video and audio" in capsys.readouterr().err
    with pytest.raises(MediaError, match="no audio stream"):
        avssl.load_classifier(run).predict(folder / "mute.mp4")


def test_a_pretraining_run_is_told_what_to_do(run, folder, capsys):
    assert main(words(run, folder)) == 1
    assert (
        "It has no classes: train them on labeled rows, avssl finetune MANIFEST --checkpoint" in capsys.readouterr().err
    )


def test_weights_of_another_size_are_an_error(finetuned, folder, tmp_path, capsys):
    release = tmp_path / "release"
    shutil.copytree(finetuned / "folds" / "fold-split" / "weights", release)
    content = json.loads((release / "config.json").read_text())
    content["classes"].append("tall")
    (release / "config.json").write_text(json.dumps(content))
    assert main(words(release, folder)) == 1
    assert "but config.json describes (4" in capsys.readouterr().err


def test_prediction_in_python_names_what_is_wrong(finetuned, folder):
    classifier = avssl.load_classifier(finetuned)
    with pytest.raises(ValueError, match="is a folder; name its files"):
        classifier.predict(folder)
    with pytest.raises(FileNotFoundError, match=r"missing.mp4: no such file"):
        classifier.predict([folder / "a.mp4", "missing.mp4"])
    with pytest.raises(MediaError, match=r"text.mp4"):
        classifier.predict(folder / "text.mp4")
    with pytest.raises(ValueError, match="top_k"):
        classifier.predict(folder / "a.mp4", top_k=0)
    assert classifier.predict([]) == []
