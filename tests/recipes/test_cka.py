import csv
import json

import numpy as np
import pytest
import torch

from avssl.cli import main
from avssl.config import config_from_dict
from avssl.core.manifest import write_table
from avssl.data import index_folder
from avssl.hub.pretrained import save_pretrained
from avssl.training.build import build_model, build_transform


def release(folder, tree):
    """The release of an untrained model."""
    config = config_from_dict(tree)
    transform = build_transform(config)
    bins = transform.spectrogram.num_bins
    transform.standardize.set_statistics(torch.zeros(bins), torch.ones(bins))
    return save_pretrained(folder, build_model(config), transform, config)


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    """A wider video encoder, eight frames of 24 pixels, another spectrogram, and another kind of audio encoder."""
    tree = {
        "sampling": {"num_frames": 8, "frames_per_second": 8, "audio_seconds": 1.5, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 24}, "spectrogram": {"num_mels": 32, "window_length": 256}},
        "model": {"video": {"width": 8}, "audio": {"name": "resnet18_audio"}, "head": {"hidden": 8, "out_features": 4}},
    }
    return release(tmp_path_factory.mktemp("other"), tree)


def cka(*words, out):
    options = ["-o", str(out), "--num_workers", "0", "--device", "cpu"]
    assert main(["cka", *map(str, words), *options]) == 0
    return json.loads((out / "cka.json").read_text())


def test_a_run_is_itself(videos, run, tmp_path, capsys):
    out = tmp_path / "out"
    report = cka(run, run, "--data", videos, "--batch_size", "10", out=out)
    names = [(s["model"], s["modality"], s["name"]) for s in report["stages"]]
    assert len(names) == len(set(names)) == 18
    for kernel in ("linear", "rbf"):
        matrix = np.array(report["cka"][kernel])
        np.testing.assert_allclose(matrix, matrix.T)
        np.testing.assert_allclose(np.diag(matrix[:9, 9:]), 1, atol=1e-6)  # stage i of A is stage i of B
        np.testing.assert_allclose(matrix[:9, :9], matrix[9:, 9:], atol=1e-6)
    assert len(report["sanity_check"]) == 4
    for check in report["sanity_check"]:
        assert check["a_to_b"] == check["b_to_a"] == 1
        assert check["chance"] == {"video": 1 / 4, "audio": 1 / 5}[check["modality"]]
    about = report["protocol"]
    assert (about["num_clips"], about["num_batches"], about["batch_size"], about["not_used"]) == (20, 2, 10, 0)
    assert (out / "cka.png").stat().st_size > 10_000
    with (out / "cka.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 18 * 18
    line = lines[9]
    assert (line["kernel"], line["model_1"], line["stage_1"], line["model_2"]) == ("linear", "A", "stem", "B")
    assert float(line["cka"]) == pytest.approx(1)
    text = capsys.readouterr().out
    assert "20 clips in 2 batches of 10" in text
    assert "video     linear        4     100     100      25" in text
    assert "block structure: three or more consecutive stages" in text


def test_a_random_twin_is_another_and_repeats_with_the_seed(videos, run, tmp_path):
    words = [run, f"random:{run}", "--data", videos]
    first, again, other = (cka(*words, "--seed", seed, out=tmp_path / f"{i}") for i, seed in enumerate((0, 0, 5)))
    assert first["cka"] == again["cka"]
    assert first["cka"] != other["cka"]
    assert first["protocol"]["runs"]["B"]["source"] == f"random:{run} (seed 1)"
    twice = cka(f"random:{run}", f"random:{run}", "--data", videos, out=tmp_path / "twice")
    hashes = [about["weights"] for about in twice["protocol"]["runs"].values()]
    assert len({*hashes, first["protocol"]["runs"]["A"]["weights"]}) == 3


def test_runs_of_other_architecture_and_preprocessing(videos, run, other_run, tmp_path, capsys):
    report = cka(run, other_run, "--data", videos, "--max_features", "64", out=tmp_path / "out")
    shapes = {(s["model"], s["modality"], s["name"]): (s["shape"], s["kept"]) for s in report["stages"]}
    assert shapes["A", "video", "stem"] == ([4, 4, 8, 8], [4, 2, 2, 2])
    assert shapes["B", "video", "stem"] == ([8, 8, 6, 6], [8, 2, 2, 2])
    text = capsys.readouterr().out
    assert "15 of 19 stages are maps averaged over a grid (--max-features)" in text
    assert {check["modality"] for check in report["sanity_check"]} == {"video"}
    assert "audio     not measured: the two encoders have different stages" in text


def test_blocks_are_named(videos, run, tmp_path, capsys):
    report = cka(run, run, "--data", videos, "--block_threshold", "-1", out=tmp_path / "low")
    assert [(b["model"], b["modality"], b["first"], b["last"]) for b in report["blocks"]] == [
        (model, modality, first, "head")
        for model in "AB"
        for modality, first in (("video", "stem"), ("audio", "stage1"))
    ]
    assert "A video: stem to head (at least" in capsys.readouterr().out
    report = cka(run, run, "--data", videos, "--block_threshold", "1", out=tmp_path / "high")
    assert report["blocks"] == []
    assert "A video: none" in capsys.readouterr().out


def test_blocks_and_head_layers_stand_beside_svcca(videos, run, tmp_path, capsys):
    report = cka(run, f"random:{run}", "--data", videos, "--detail", "blocks", "--svcca", out=tmp_path / "out")
    names = [s["name"] for s in report["stages"] if (s["model"], s["modality"]) == ("A", "video")]
    assert names == ["stem", "stage1", "stage2", "head.1", "head.2", "head"]
    plain = cka(run, f"random:{run}", "--data", videos, out=tmp_path / "plain")
    kept = [i for i, stage in enumerate(report["stages"]) if not stage["name"].startswith("head.")]
    np.testing.assert_allclose(np.array(report["cka"]["linear"])[np.ix_(kept, kept)], plain["cka"]["linear"], atol=1e-6)
    about = report["svcca"]
    matrix, control = (np.array(about[name], dtype=float) for name in ("matrix", "shuffled_clips"))
    assert matrix.shape == control.shape == (len(report["stages"]),) * 2
    stem = names.index("stem")
    assert matrix[stem, stem] == pytest.approx(1)
    assert control[stem, stem] < matrix[stem, stem]
    text = capsys.readouterr().out
    assert "counterparts in A and B: " in text
    assert "(shuffled " in text
    with (tmp_path / "out" / "cka.csv").open() as file:
        assert {line["kernel"] for line in csv.DictReader(file)} == {"linear", "rbf", "svcca"}


@pytest.fixture(scope="module")
def deep_run(tiny_config, videos, tmp_path_factory):
    """An untrained video encoder of 1 + 3 blocks, one of them inert: its residual branch is zero."""
    config = tiny_config(videos, model={"video": {"num_blocks": [1, 3]}})
    model, transform = build_model(config), build_transform(config)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    torch.nn.init.zeros_(model.video_encoder.stage2[1].temporal_bn.weight)
    return save_pretrained(tmp_path_factory.mktemp("deep"), model, transform, config)


def test_blocks_are_deleted_inside_and_outside_of_found_ones(videos, run, deep_run, tmp_path, capsys):
    words = [deep_run, run, "--data", videos, "--detail", "blocks", "--delete_blocks"]
    report = cka(*words, "--block_threshold", "-1", out=tmp_path / "low")
    deep, shallow = report["deletions"]
    assert [(block["modality"], block["block"], block["inside"]) for block in deep["blocks"]] == [
        ("video", "stage2.1", True),
        ("video", "stage2.2", True),
    ]
    inert, other = deep["blocks"]
    assert inert["neighbors"] == pytest.approx(1)
    assert inert["R@10"] == pytest.approx(deep["whole"]["R@10"])
    assert other["neighbors"] < 1
    assert (deep["num_clips"], deep["chance"]["R@10"]) == (20, 0.5)
    assert deep["chance"]["neighbors"] == pytest.approx(10 / 19)
    inside = deep["effects"][0]
    assert (inside["side"], inside["num_blocks"]) == ("inside", 2)
    assert inside["change"]["neighbors"] == pytest.approx((inert["neighbors"] + other["neighbors"]) / 2 - 1, abs=1e-5)
    assert shallow["blocks"] == []
    text = capsys.readouterr().out
    assert "mean change inside of block structure (2 of video): R@10 " in text
    assert "B: no residual block can be deleted" in text
    report = cka(*words, "--block_threshold", "1", out=tmp_path / "high")
    assert [block["inside"] for block in report["deletions"][0]["blocks"]] == [False, False]


def test_rows_are_chosen(videos, run, tmp_path):
    report = cka(run, run, "--data", videos, "--max_rows", "7", "--batch_size", "4", out=tmp_path / "out")
    assert (report["protocol"]["num_clips"], report["protocol"]["not_used"]) == (4, 3)  # a batch of three is none


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "required: --data"),
        (["--data", "{videos}", "--batch_size", "3"], 2, "--batch-size (3) must be at least 4"),
        (["--data", "{videos}", "--max_rows", "3"], 1, "3 rows, but CKA needs at least 4"),
        (["--data", "{videos}/no.csv"], 1, "no such manifest"),
        (["--data", "{videos}", "--delete_blocks"], 2, "add --detail blocks"),
        (["--data", "{videos}", "--delete_blocks", "--detail", "blocks"], 2, "no encoder of these runs has a residual"),
        (
            ["--data", "{videos}", "--delete_blocks", "--detail", "blocks", "--max_rows", "19"],
            1,
            "19 rows, but --delete-blocks needs at least 20",
        ),
    ],
)
def test_wrong_input_raises(videos, run, tmp_path, capsys, words, status, message):
    words = [word.format(videos=videos) for word in words]
    assert main(["cka", str(run), str(run), "-o", str(tmp_path / "out"), *words]) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_split_selects_rows_and_a_missing_split_raises(videos, run, tmp_path, capsys):
    path = videos.parent / "splits.csv"
    manifest = index_folder(videos, root=videos.parent).manifest
    write_table(manifest.table.append_column("split", [["train", "test"] * 10]), path)
    report = cka(run, run, "--data", path, "--split", "test", out=tmp_path / "out")
    assert report["protocol"]["num_clips"] == 10
    assert main(["cka", str(run), str(run), "--data", str(path), "--split", "val"]) == 1
    assert "no row has split 'val'; the manifest has test, train" in capsys.readouterr().err
