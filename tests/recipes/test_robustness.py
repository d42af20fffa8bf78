import json
import shutil

import pytest

from avssl.cli import main
from avssl.core.manifest import read_manifest, write_table
from avssl.hub.release import HubError, find_release


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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--groups", "nuisance"), "no column 'nuisance' in this manifest"),
        (("--label_column", "kind"), "no column 'kind' in this manifest"),
        (("--test_split", "val"), "no row has split 'val'"),
        (("--train_split", "test"), "the training and the test split must differ, both are 'test'"),
    ],
)
def test_missing_input_raises(table, run, tmp_path, capsys, more, message):
    assert main(words(table, run, tmp_path, *more)) == 1
    assert message in capsys.readouterr().err


def test_groups_of_many_values_raise(table, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("avssl.recipes.robustness._MOST_GROUPS", 9)
    assert main(words(table, run, tmp_path, "--groups", "id")) == 1
    assert "the column 'id' has 10 values in the test rows" in capsys.readouterr().err


def test_too_few_clips_raise(table, run, tmp_path, capsys):
    few = table.with_name("few.csv")
    manifest = read_manifest(table)
    manifest.select(manifest["size"] == "small").write(few)
    assert main(words(few, run, tmp_path)) == 1
    assert "5 readable rows of the split 'test' have one label; at least 10 are needed" in capsys.readouterr().err
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


def test_a_missing_checkpoint_raises(table, capsys):
    assert main(["robustness", str(table)]) == 2
    assert "required: --checkpoint" in capsys.readouterr().err
