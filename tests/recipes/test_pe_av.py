"""The verbs with a tiny PE-AV in the format of transformers as their checkpoint."""

import json

import pytest

from avssl.cli import main
from avssl.features.table import read_feature_table
from avssl.hub.classifier import load_classifier


@pytest.fixture(scope="module")
def clips(tmp_path_factory, video_maker):
    """Two class folders of five clips, longer than PE-AV's windows of 4 s."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(10):
        video_maker(folder / ("narrow" if number % 2 else "wide") / f"{number}.mp4", number, seconds=4.5)
    return folder


def said_by(capsys, *words):
    """Run a command that must succeed; return what it printed."""
    assert main([*map(str, words)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_embed_and_search_by_words(clips, tiny_pe_av, tmp_path, capsys):
    table = tmp_path / "f.parquet"
    said_by(capsys, "embed", clips, "--checkpoint", tiny_pe_av, "-o", table, "--device", "cpu", "--num-workers", 0)
    assert read_feature_table(table).video.shape == (20, 24)
    page = tmp_path / "page.html"
    said = said_by(capsys, "search", table, "--text", "a dog barks", "-k", 3, "-o", page, "--device", "cpu")
    assert "query: the text “a dog barks”" in said
    assert said.count("  narrow/") + said.count("  wide/") == 6
    assert "<h1>Matches for “a dog barks”</h1>" in page.read_text(encoding="utf-8")


def test_maps_of_sounds_and_words(clips, tiny_pe_av, tmp_path, capsys):
    video, numbers = clips / "wide" / "0.mp4", tmp_path / "n.json"
    words = ["localize", video, "--checkpoint", tiny_pe_av, "--stride-seconds", 2, "--device", "cpu"]
    said_by(capsys, *words, "--text", "the violin", "--side-by-side", "-o", tmp_path / "m.png", "--readout", numbers)
    found = {each["sound"]: each["peaks"] for each in json.loads(numbers.read_text())["maps"]}
    assert list(found) == ["own audio", '"the violin"']
    assert found["own audio"] != found['"the violin"']


def test_curves_of_one_video(clips, tiny_pe_av, tmp_path, capsys):
    words = [clips / "wide" / "0.mp4", "--checkpoint", tiny_pe_av, "--device", "cpu"]
    assert said_by(capsys, "energy", *words)
    assert said_by(capsys, "sync", *words, "--max-offset-seconds", 0.2, "-o", tmp_path / "curve.png")


def test_export(tiny_pe_av, tmp_path, capsys):
    said = said_by(capsys, "export", tiny_pe_av, "-o", tmp_path / "exported", "--format", "pt2")
    assert "license: apache-2.0" in said
    about = json.loads((tmp_path / "exported" / "export.json").read_text())
    shapes = {name: next(iter(tower["inputs"].values()))["shape"] for name, tower in about["towers"].items()}
    assert shapes == {"video": ["batch", 3, "frames", 32, 32], "audio": ["batch", "samples"]}
    assert about["towers"]["video"]["fixed"]["height"] == "the network takes 32 x 32 pixels only"


def test_probe_and_finetune(clips, tiny_pe_av, tmp_path, capsys):
    manifest = clips / "rows.csv"
    said_by(capsys, "index", clips, "-o", manifest, "--labels", "folders", "--split", 0.6, 0, 0.4)
    said = said_by(capsys, "probe", manifest, "--checkpoint", tiny_pe_av, "--device", "cpu", "--num-workers", 0)
    assert "random" in said
    out = tmp_path / "classifier"
    words = ["finetune", manifest, "--checkpoint", tiny_pe_av, "-o", out, "--optim.epochs", 1, "--optim.batch-size", 4]
    said_by(capsys, *words, "--train.device", "cpu", "--data.num-workers", 0, "--train.precision", "fp32")
    classifier = load_classifier(out)
    assert classifier.predict(clips / "wide" / "0.mp4").label in ("narrow", "wide")
    assert classifier.config.model.video.name == "pe_video"
