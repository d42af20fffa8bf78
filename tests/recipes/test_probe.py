import json

import pytest
import torch

from avssl.cli import main
from avssl.core.manifest import read_manifest, write_table
from avssl.data.splits import divide
from avssl.downstream.probing import PROTOCOLS, ProbeSettings, run_protocol
from avssl.hub.pretrained import from_pretrained
from avssl.training.tasks.probes import ProbeSchedule


@pytest.fixture
def labeled(videos, tmp_path):
    """The videos with a label (pitch, low or high), a split, and one row without a label."""
    main(["index", str(videos), "-o", str(videos.parent / "labeled.csv")])
    path = videos.parent / "labeled.csv"
    manifest = read_manifest(path)
    labels = ["low" if number < 10 else "high" for number in range(20)]
    labels[0] = None
    table = manifest.table.append_column("label", [labels])
    table = table.append_column("fold", [[str(number % 3) for number in range(20)]])
    table = table.append_column("split", [["train" if number % 2 else "test" for number in range(20)]])
    write_table(table, path)
    yield path
    path.unlink()


def test_probe_reports_every_modality_beside_its_baselines(labeled, run, tmp_path, capsys):
    out = tmp_path / "probe.json"
    words = ["probe", str(labeled), "--checkpoint", str(run), "-o", str(out), "--num_workers", "0", "--device", "cpu"]
    assert main(words) == 0
    report = json.loads(out.read_text())
    modalities = ("video", "audio", "video + audio")
    named = {(row["model"], row["modality"]): row for row in report["rows"]}
    assert set(named) == {
        *((model, modality) for model in ("trained", "random init", "shuffled labels") for modality in modalities),
        ("largest class", ""),
        ("chance", ""),
    }
    assert report["protocol"]["n_train"] == 10
    assert report["protocol"]["n_test"] == 9  # one row has no label
    assert named["chance", ""]["accuracy"] == 0.5
    assert named["largest class", ""]["accuracy"] == pytest.approx(5 / 9)
    assert named["trained", "audio"]["accuracy"] >= 0.8  # the classes differ in pitch
    low, high = named["trained", "audio"]["interval"]
    assert low <= named["trained", "audio"]["accuracy"] <= high
    assert "label: 2 classes, 10 training rows, 9 test rows" in capsys.readouterr().out


def test_a_folder_of_class_folders_needs_nothing_else(video_maker, run, tmp_path, capsys):
    for number in range(12):
        video_maker(tmp_path / "videos" / "ab"[number % 2] / f"{number}.mp4", number, sound=number != 5)
    words = ["probe", str(tmp_path / "videos"), "--checkpoint", str(run), "-o", str(tmp_path / "probe.json")]
    words += ["--protocol", "knn", "--neighbors", "1", "--num-workers", "0", "--device", "cpu"]
    assert main([*words, "--modality", "video"]) == 0
    protocol = json.loads((tmp_path / "probe.json").read_text())["protocol"]
    assert (protocol["unusable_files"], protocol["unlabeled"]) == (0, 0)
    assert not list((tmp_path / "videos").glob("*.csv"))
    (tmp_path / "videos" / "c").mkdir()
    video_maker(tmp_path / "videos" / "c" / "only.mp4", 1)
    assert main([*words, "--modality", "video", "--overwrite"]) == 1
    assert "1 classes have one usable recording" in capsys.readouterr().err


def test_rows_with_several_labels_are_measured_by_mean_average_precision(labeled, run, tmp_path, capsys):
    table = read_manifest(labeled).table
    several = [
        None if name is None else f"{name}|every" if number < 15 else name
        for number, name in enumerate(table["label"].to_pylist())
    ]
    write_table(table.set_column(table.column_names.index("label"), "label", [several]), labeled)
    words = ["probe", str(labeled), "--checkpoint", str(run), "--num_workers", "0", "--device", "cpu"]
    for protocol, more in (("linear", []), ("knn", ["--neighbors", "3"])):
        out = tmp_path / f"{protocol}.json"
        assert main([*words, "--protocol", protocol, *more, "--multi-label", "-o", str(out)]) == 0
        report = json.loads(out.read_text())
        named = {(row["model"], row["modality"]): row for row in report["rows"]}
        assert report["protocol"]["num_classes"] == 3
        assert (report["protocol"]["n_train"], report["protocol"]["n_test"]) == (10, 9)
        audio = named["trained", "audio"]
        assert audio["by_class"].keys() == {"low", "high", "every"}
        assert audio["mAP"] == pytest.approx(sum(audio["by_class"].values()) / 3)
        assert audio["by_class"]["low"] >= 0.8  # the classes differ in pitch
        assert 0 < named["chance", ""]["mAP"] < 1
        assert {model for model, _ in named} == {"trained", "random init", "shuffled labels", "chance"}
    assert "mAP" in capsys.readouterr().out
    assert main([*words, "--protocol", "svm", "--multi-label"]) in (1, 2)
    assert "with multi_label use linear or knn" in capsys.readouterr().err


def test_rows_with_several_labels_that_are_left_out_are_counted(labeled, run, capsys):
    table = read_manifest(labeled).table
    several = [f"{name}|x" if number in (1, 2, 3) else name for number, name in enumerate(table["label"].to_pylist())]
    write_table(table.set_column(table.column_names.index("label"), "label", [several]), labeled)
    words = ["probe", str(labeled), "--checkpoint", str(run), "--num_workers", "0", "--device", "cpu"]
    assert main(words) == 0
    assert "3 of them have several labels; --multi-label measures them by mAP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--test_split", "val"], "no row has split 'val'; the manifest has test, train"),
        (["--label_column", "kind"], "no column 'kind'"),
    ],
)
def test_missing_columns_and_splits_raise(labeled, run, capsys, words, message):
    assert main(["probe", str(labeled), "--checkpoint", str(run), *words]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_checkpoint_raises(labeled, capsys):
    assert main(["probe", str(labeled)]) == 2
    assert "required: --checkpoint" in capsys.readouterr().err


def test_every_layer_is_reported_over_folds(labeled, run, tmp_path, capsys):
    out = tmp_path / "svm.json"
    words = ["--protocol", "svm", "--modality", "audio", "--fold_column", "fold", "--windows_per_clip", "2"]
    machine = ["--num_workers", "0", "--device", "cpu", "-o", str(out)]
    assert main(["probe", str(labeled), "--checkpoint", str(run), *words, *machine]) == 0
    report = json.loads(out.read_text())
    about = report["protocol"]
    assert about["protocol"] == "svm"
    assert about["windows_per_clip"] == 2
    assert [(part["n_train"], part["n_test"]) for part in about["divisions"]] == [(13, 6), (12, 7), (13, 6)]
    for model in ("trained", "random init", "shuffled labels"):
        rows = [row for row in report["rows"] if row["model"] == model]
        assert [row["layer"] for row in rows] == ["stage1", "stage2", "stage3", "stage4"]
        assert sum(row["best_layer"] for row in rows) == 1
        assert all(len(row["by_division"]) == 3 and row["accuracy_sd"] >= 0 for row in rows)
    best = next(row for row in report["rows"] if row["model"] == "trained" and row["best_layer"])
    assert best["accuracy"] >= 0.8  # the classes differ in pitch
    assert "12 to 13 training rows, 6 to 7 test rows, in each of 3 divisions" in capsys.readouterr().out


def test_audio_and_frames_of_a_class_retrieve_each_other(labeled, run, tmp_path, capsys):
    words = ["--protocol", "av_retrieval", "--clips_per_class", "4", "--num_workers", "0", "--device", "cpu"]
    assert main(["probe", str(labeled), "--checkpoint", str(run), *words]) == 0
    text = capsys.readouterr().out
    for name in ("trained", "random init", "shuffled audio"):
        assert f"{name:<17}video -> audio" in text
        assert f"{name:<17}audio -> video" in text
    assert "8 queries in a gallery of 8" in text
    assert main(["probe", str(labeled), "--checkpoint", str(run), *words[:2], "--clips_per_class", "5"]) == 1
    assert "clips_per_class (5): the class 'low' has only 4 test clips" in capsys.readouterr().err


def test_layers_reach_into_blocks_and_the_head(labeled, run, tmp_path, capsys):
    out = tmp_path / "probe.json"
    words = ["probe", str(labeled), "--checkpoint", str(run), "-o", str(out), "--num_workers", "0", "--device", "cpu"]
    words += ["--protocol", "layers", "--detail", "blocks", "--modality", "audio", "--windows-per-clip", "1"]
    assert main([*words, "--epochs", "1"]) == 0
    layers = [row["layer"] for row in json.loads(out.read_text())["rows"] if row["model"] == "trained"]
    assert layers == ["stage1", "stage2", "stage3", "stage4", "head.1", "head.2", "head"]
    assert "head.1" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["layers", "attentive"])
def test_gradient_probes_leave_the_model_unchanged(labeled, run, name):
    pretrained = from_pretrained(run)
    before = {key: value.clone() for key, value in pretrained.model.state_dict().items()}
    rows = read_manifest(labeled)
    settings = ProbeSettings(modality="video", windows_per_clip=2, schedule=ProbeSchedule(2, 4))
    report = run_protocol(PROTOCOLS[name], {"trained": pretrained}, rows, divide(rows, "label"), "label", settings)
    expected = {"layers": ["stem", "stage1", "stage2"], "attentive": ["stage2"]}[name]
    assert [row["layer"] for row in report["rows"] if row["model"] == "trained"] == expected
    assert any("running_mean" in key for key in before)
    for key, value in pretrained.model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not any(module.training for module in pretrained.model.modules())


def test_an_unknown_protocol_raises(labeled, run, capsys):
    assert main(["probe", str(labeled), "--checkpoint", str(run), "--protocol", "lineer"]) == 2
    assert "lineer" in capsys.readouterr().err
