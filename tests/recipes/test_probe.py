import json

import pytest

from avssl.cli import main
from avssl.manifest import read_manifest, write_table


@pytest.fixture
def labelled(videos, tmp_path):
    """The videos with a label (pitch, low or high), a split, and one row without a label."""
    main(["index", str(videos), "-o", str(videos.parent / "labelled.csv")])
    path = videos.parent / "labelled.csv"
    manifest = read_manifest(path)
    labels = ["low" if number < 10 else "high" for number in range(20)]
    labels[0] = None
    table = manifest.table.append_column("label", [labels])
    table = table.append_column("split", [["train" if number % 2 else "test" for number in range(20)]])
    write_table(table, path)
    yield path
    path.unlink()


def test_probe_reports_every_modality_beside_its_baselines(labelled, run, tmp_path, capsys):
    out = tmp_path / "probe.json"
    words = ["probe", str(labelled), "--checkpoint", str(run), "-o", str(out), "--num_workers", "0", "--device", "cpu"]
    assert main(words) == 0
    report = json.loads(out.read_text())
    modalities = ("video", "audio", "video + audio")
    named = {(row["model"], row["modality"]): row for row in report["rows"]}
    assert set(named) == {
        *((model, modality) for model in ("trained", "random init") for modality in modalities),
        ("largest class", ""),
        ("chance", ""),
    }
    assert report["protocol"]["n_train"] == 10
    assert report["protocol"]["n_test"] == 9  # one row has no label
    assert named["chance", ""]["accuracy"] == 0.5
    assert named["largest class", ""]["accuracy"] == pytest.approx(5 / 9)
    assert named["trained", "audio"]["accuracy"] >= 0.8  # pitch is easy to hear
    low, high = named["trained", "audio"]["interval"]
    assert low <= named["trained", "audio"]["accuracy"] <= high
    assert "label: 2 classes, 10 rows fitted, 9 scored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--test_split", "val"], "no row has split 'val'; the manifest has test, train"),
        (["--label_column", "kind"], "no column 'kind'"),
    ],
)
def test_missing_columns_and_splits_are_named(labelled, run, capsys, words, message):
    assert main(["probe", str(labelled), "--checkpoint", str(run), *words]) == 1
    assert message in capsys.readouterr().err


def test_checkpoint_is_asked_for(labelled, capsys):
    assert main(["probe", str(labelled)]) == 2
    assert "--checkpoint is needed" in capsys.readouterr().err
