import json
import shutil

import pytest

from avssl.cli import main
from avssl.core.manifest import read_manifest, write_table
from avssl.hub.release import HubError, find_release
from avssl.synthetic import SceneSettings, Split, synthesize_corpus


@pytest.fixture(scope="module")
def table(videos):
    """Ten clips to train on and ten to test; pitch is the class, and there are columns to group by."""
    path = videos.parent / "robustness.csv"
    assert main(["index", str(videos), "-o", str(path)]) == 0
    columns = {
        "label": ["low" if number < 10 else "high" for number in range(20)],
        "split": ["train" if number % 2 else "test" for number in range(20)],
        "size": ["small" if number % 4 else None for number in range(20)],
    }
    manifest = read_manifest(path).table
    for name, values in columns.items():
        manifest = manifest.append_column(name, [values])
    write_table(manifest, path)
    yield path
    path.unlink()


def words(table, run, folder, *more):
    return [
        "robustness",
        str(table),
        *("--checkpoint", str(run), "-o", str(folder), "--num_workers", "0", "--device", "cpu"),
        *more,
    ]


@pytest.fixture(scope="module")
def done(table, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustness")
    assert main(words(table, run, folder, "--groups", "size,split", "--windows_per_clip", "2")) == 0
    return folder


def test_report_holds_every_disturbance_of_every_modality(done):
    report = json.loads((done / "robustness.json").read_text())
    rows = {(row["disturbance"], row["modality"]): row for row in report["rows"]}
    assert len(rows) == 11 * 3
    clean = rows["clean", "audio"]
    assert clean["accuracy"] >= 0.8  # the classes differ in pitch
    assert rows["25 % of the frame covered", "audio"]["accuracy"] == clean["accuracy"]
    # The partner has the other of the two classes, so its audio is predicted as that class.
    swapped = rows["audio of another class", "audio"]
    assert swapped["became_partner"] == swapped["changed"] > 0
    assert swapped["accuracy"] < clean["accuracy"]
    low, high = swapped["interval"]
    assert low <= swapped["change"] <= high <= 0
    about = report["protocol"]
    assert "linear probe on frozen features of 10 clean clips" in about["name"]
    assert (about["n_test"], about["num_classes"], about["chance"]) == (10, 2, 0.5)
    assert about["largest_class"] == 0.5
    assert about["n_pasted"] == 10
    assert "10 of 10 rows have no truth file" in about["pasted"]


def test_report_compares_groups(done):
    groups = json.loads((done / "robustness.json").read_text())["groups"]
    assert {name: group["n"] for name, group in groups["size"]["groups"].items()} == {"small": 5, "(none)": 5}
    assert groups["split"]["gap"]["audio"] == {"best": "test", "worst": "test", "gap": 0.0, "test": None}
    assert groups["split"]["no_test"] == "all clips are of one group, 'test'"
    assert 0 < groups["size"]["gap"]["audio"]["test"]["p_value"] <= 1
    assert (done / "groups.png").read_bytes().startswith(b"\x89PNG")
    assert not (done / "corruptions.png").exists()
    assert "corruptions" not in json.loads((done / "robustness.json").read_text())


def test_page_shows_tables_and_frames(done):
    page = (done / "robustness.html").read_text()
    assert page.count("data:image/jpeg") == 11 * 2
    for text in ("Predictions from video + audio", "object of another class pasted", "no truth file", "(none)"):
        assert text in page


def test_seed_determines_the_report(table, run, done, tmp_path, capsys):
    more = ("--groups", "size,split", "--windows_per_clip", "2")
    assert main(words(table, run, tmp_path / "again", *more)) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "again" / "robustness.json").read_bytes() == (done / "robustness.json").read_bytes()
    assert "label: 2 classes, 10 clips disturbed; chance 50.0, largest class 50.0" in printed
    assert "by size, in %" in printed
    assert "no test of the gap: all clips are of one group, 'test'" in printed


def test_severities_add_corruptions_and_change_nothing_else(table, run, done, tmp_path, capsys):
    more = ("--groups", "size,split", "--windows_per_clip", "2", "--severities", "5", "1")
    more += ("--corruptions", "jpeg", "audio_noise")
    assert main(words(table, run, tmp_path / "report", *more)) == 0
    report = json.loads((tmp_path / "report" / "robustness.json").read_text())
    corruptions = report.pop("corruptions")
    assert report == json.loads((done / "robustness.json").read_text())
    rows = {(row["number"], row["corruption"], row["severity"]): row for row in corruptions["rows"]}
    assert len(rows) == 1 + 2 + 1 + 2 + 1 + 4
    accuracy = {row["modality"]: row["accuracy"] for row in report["rows"] if row["disturbance"] == "clean"}
    assert {number: rows[number, "clean", 0]["mean"] for number in accuracy} == pytest.approx(accuracy)
    assert rows["audio", "audio_noise", 5]["strength"] == 0
    assert corruptions["about"]["jpeg"]["strengths"] == [25, 18, 15, 10, 7]
    assert not (tmp_path / "report" / "conditions").exists()
    assert (tmp_path / "report" / "corruptions.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report" / "robustness.html").read_text()
    assert page.count("data:image/jpeg") == 11 * 2 + 2 * 2
    for text in ("accuracy of video + audio under corruptions", "quality of JPEG", "ImageNet-C", "jpeg 5"):
        assert text in page
    assert "drop at 5" in capsys.readouterr().out


def test_heat_maps_are_reported_by_group_and_severity(tiny_release, tmp_path, capsys):
    scenes = SceneSettings(width=48, height=32, duration_seconds=1.5, sample_rate_hz=8000, video_fps=8.0)
    rows = synthesize_corpus(tmp_path / "shapes", {"test": Split(12, scenes)}, num_workers=0, progress=False)
    table = rows.table.append_column("half", [["a", "b"] * 6])
    write_table(table, tmp_path / "shapes" / "halves.csv")
    more = (
        "--measure",
        "localization",
        "--groups",
        "half",
        "--severities",
        "3",
        "--corruptions",
        "blur",
        "audio_noise",
    )
    assert main(words(tmp_path / "shapes" / "halves.csv", tiny_release, tmp_path / "report", *more)) == 0
    report = json.loads((tmp_path / "report" / "robustness.json").read_text())
    numbers = ["pointing", "mean cIoU (adaptive)"]
    assert list(report["groups"]["half"]["gap"]) == list(report["baselines"]["chance"]) == numbers
    assert len(report["corruptions"]["rows"]) == 2 * 3
    assert report["protocol"]["n_test"] >= 10
    printed = capsys.readouterr().out
    assert "pointing under corruptions, in %" in printed
    assert "center blob: pointing" in printed
    assert {path.name for path in (tmp_path / "report").iterdir()} >= {"groups.png", "corruptions.png"}


@pytest.mark.parametrize("measure", ["retrieval", "av_retrieval"])
def test_retrieval_is_reported_by_group_and_severity(table, run, tmp_path, capsys, measure):
    more = ("--measure", measure, "--windows_per_clip", "1", "--groups", "size", "--severities", "5")
    more += ("--corruptions", "darker")
    assert main(words(table, f"random:{run}", tmp_path / "report", *more)) == 0
    report = json.loads((tmp_path / "report" / "robustness.json").read_text())
    assert report["protocol"]["checkpoint"] == f"random:{run}"
    numbers = {"retrieval": {"video", "audio"}, "av_retrieval": {"video -> audio", "audio -> video"}}[measure]
    assert set(report["groups"]["size"]["gap"]) == set(report["baselines"]["chance"]) == numbers
    assert {row["number"] for row in report["corruptions"]["rows"]} == numbers
    assert "darker" in capsys.readouterr().out
    page = (tmp_path / "report" / "robustness.html").read_text()
    assert "Disturbances" not in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--groups", "nuisance"), "no column 'nuisance' in this manifest"),
        (("--label_column", "kind"), "no column 'kind' in this manifest"),
        (("--test_split", "val"), "no row has split 'val'"),
        (("--corruptions", "blurr"), "Did you mean 'blur'?"),
        (("--measure", "retrieval"), "retrieval: nothing to report. Name columns with --groups, or --severities 1 3 5"),
        (("--measure", "localization", "--groups", "size"), "there is no column truth with the annotated sources"),
        (("--train_split", "test"), "the training and the test split must differ, both are 'test'"),
    ],
)
def test_missing_input_raises(table, run, tmp_path, capsys, more, message):
    assert main(words(table, run, tmp_path, *more)) == 1
    assert message in capsys.readouterr().err


def test_groups_of_many_values_raise(table, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("avssl.recipes.robustness.settings._MOST_GROUPS", 9)
    assert main(words(table, run, tmp_path, "--groups", "id")) == 1
    assert "the column 'id' has 10 values in the test rows" in capsys.readouterr().err


def test_too_few_clips_raise(table, run, tmp_path, capsys):
    few = table.with_name("few.csv")
    manifest = read_manifest(table)
    manifest.select(manifest["size"] == "small").write(few)
    assert main(words(few, run, tmp_path)) == 1
    assert "5 readable rows of the split 'test' can be scored; at least 10 are needed" in capsys.readouterr().err
    few.unlink()


@pytest.fixture(scope="module")
def finetuned(table, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    options = [
        "--optim.epochs",
        "1",
        "--optim.batch_size",
        "5",
        "--test.windows_per_clip",
        "2",
        "--test.report",
        "false",
    ]
    options += ["--data.num_workers", "0", "--train.device", "cpu", "--classifier.inputs", "both"]
    assert main(["finetune", str(table), "--checkpoint", str(run), "--out", str(folder), *options]) == 0
    return folder


def test_a_fine_tuned_classifier_is_evaluated_as_in_its_test(table, finetuned, tmp_path):
    fold = finetuned / "folds" / "fold-split"
    assert main(words(table, fold, tmp_path, "--groups", "size")) == 0
    report = json.loads((tmp_path / "robustness.json").read_text())
    assert report["protocol"]["name"] == "classifier of both, fine-tuned"
    assert report["protocol"]["windows_per_clip"] == 2
    rows = {(row["disturbance"], row["modality"]): row for row in report["rows"]}
    results = json.loads((fold / "results.json").read_text())
    assert rows["clean", "video + audio"]["accuracy"] == pytest.approx(results["numbers"]["top1"])
    assert {modality for _, modality in rows} == {"video", "audio", "video + audio"}


def test_one_fold_is_used_and_several_raise(finetuned, tmp_path):
    fold = finetuned / "folds" / "fold-split"
    assert find_release(finetuned) == fold / "weights"
    for name in ("fold-a", "fold-b"):
        shutil.copytree(fold / "weights", tmp_path / "folds" / name / "weights")
    with pytest.raises(HubError, match=r"name one: .*fold-a\.$"):
        find_release(tmp_path)


def test_classes_outside_the_training_set_raise(table, finetuned, tmp_path, capsys):
    more = ("--label_column", "path")
    assert main(words(table, finetuned / "folds" / "fold-split", tmp_path, *more)) == 1
    assert (
        "10 classes of the test rows were not in the training set, the first is 'videos/clip00.mp4'"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "required: --checkpoint"),
        (("--checkpoint", "x", "--severities", "6"), "--severities (6) must all be >= 1 and <= 5"),
    ],
)
def test_a_wrong_command_line_raises(table, capsys, more, message):
    assert main(["robustness", str(table), *more]) == 2
    assert message in capsys.readouterr().err
