"""avssl push against the stand-in of the hub."""

import json

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants

from avssl import cli
from avssl.config import FinetuneConfig, config_from_dict, to_dict
from avssl.hub.classifier import create_classifier, load_classifier, save_classifier
from avssl.hub.pretrained import demo_weights, from_pretrained, save_pretrained

pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # by the client, of its own library


def push(*words):
    return cli.main(["push", *map(str, words)])


@pytest.fixture
def run(tiny_release, tmp_path):
    """Return a run directory with the tiny model and the numbers of its monitors."""
    loaded = from_pretrained(tiny_release)
    folder = tmp_path / "runs" / "first"
    save_pretrained(folder / "weights", loaded.model, loaded.transform, loaded.config, {"rows": 80}, license_id="mit")
    (folder / "config.yaml").write_text("data: {source: /home/somebody/videos/manifest.csv}\n")
    monitors = {"retrieval/held_out": 1.0, "retrieval/gallery_size": 24.0, "retrieval/chance_R@10": 10 / 24}
    records = [
        {"step": 8, "loss": 1.0},
        {"step": 16, "retrieval/R@10": 0.625, "retrieval_shuffled/R@10": 0.4} | monitors,
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_release_that_is_pushed_is_loaded_to_the_bit(hub, run, capsys):
    assert push(run, "hf-hub:owner/tiny", "--yes", "--private", "--message", "first") == 0
    text = capsys.readouterr().out
    assert "model.safetensors  " in text
    assert "to: hf-hub:owner/tiny (new private)" in text
    repository = hub.repositories["owner/tiny"]
    assert repository.private
    assert repository.messages[-1] == "first"
    assert set(repository.files()) == {".gitattributes", "model.safetensors", "config.json", "README.md"}
    ours, theirs = from_pretrained(run), from_pretrained("hf-hub:owner/tiny")
    tensors = theirs.model.state_dict() | theirs.transform.state_dict()
    assert all(
        torch.equal(tensors[name], x) for name, x in (ours.model.state_dict() | ours.transform.state_dict()).items()
    )
    assert theirs.config == ours.config


def test_the_card_has_license_results_and_usage(hub, run):
    assert push(run, "hf-hub:owner/tiny", "--yes") == 0
    card = ModelCard(hub.repositories["owner/tiny"].files()["README.md"].decode())
    assert (card.data.library_name, card.data.license) == ("avssl", "mit")
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == (
        "videos",
        "r@10_mean_of_both_directions",
        0.625,
    )
    assert result.metric_args == {"n": 24, "chance": 0.4167, "shuffled audio": 0.4}
    assert 'avssl.from_pretrained("hf-hub:owner/tiny")' in card.text
    assert "| videos | retrieval among held-out rows | R@10, mean of both directions | 0.625 | 24 |" in " ".join(
        card.text.split()
    )
    assert "somebody" not in card.content


def test_a_dry_run_shows_everything_and_sends_nothing(hub, run, capsys):
    assert push(run, "hf-hub:owner/tiny", "--dry-run", "--license", "cc-by-4.0") == 0
    text = capsys.readouterr().out
    assert "license: cc-by-4.0" in text
    assert "model-index:" in text
    assert "nothing is sent (--dry-run)" in text
    assert hub.requests == []
    assert "license: mit" in (run / "weights" / "README.md").read_text()


def test_without_a_terminal_the_answer_must_be_given(hub, run, monkeypatch, capsys):
    assert push(run, "hf-hub:owner/tiny") == 2
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    answers = iter(["n", "y"])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert push(run, "hf-hub:owner/tiny") == 0
    assert hub.repositories == {}
    assert push(run, "hf-hub:owner/tiny") == 0
    assert "owner/tiny" in hub.repositories


def test_a_new_release_replaces_the_earlier_one(hub, run, capsys):
    assert push(demo_weights(), "hf-hub:owner/tiny", "--yes") == 0
    assert "training_world.safetensors" in hub.repositories["owner/tiny"].files()
    assert push(run, "hf-hub:owner/tiny", "--revision", "small", "--yes") == 0
    assert "removed there: training_world.safetensors" in capsys.readouterr().out
    assert "training_world.safetensors" not in hub.repositories["owner/tiny"].files("small")
    assert from_pretrained("hf-hub:owner/tiny@small").weights_hash() == from_pretrained(run).weights_hash()
    assert from_pretrained("hf-hub:owner/tiny").weights_hash() == from_pretrained(demo_weights()).weights_hash()


def test_a_classifier_names_its_base_and_the_scores_of_its_test(hub, tiny_release, tmp_path):
    base = to_dict(from_pretrained(tiny_release).config)
    tree = {name: base[name] for name in ("sampling", "transform", "model")}
    config = config_from_dict({**tree, "train": {"checkpoint": "hf-hub:owner/base@v2"}}, "", FinetuneConfig)
    model, transform = create_classifier(config, 2)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    fold = tmp_path / "birds-finetune" / "folds" / "fold-split"
    save_classifier(fold / "weights", model, transform, ["robin", "wren"], config)
    numbers = {"top1": 0.75, "mean_per_class": 0.7, "chance": 0.5, "largest_class": 0.55}
    (fold / "results.json").write_text(json.dumps({"fold": "split", "n_test": 40, "numbers": numbers}))
    (fold.parents[1] / "config.yaml").write_text("data: {source: birds.csv}\n")
    assert push(fold.parents[1], "hf-hub:owner/birds", "--yes") == 0
    card = ModelCard(hub.repositories["owner/birds"].files()["README.md"].decode())
    assert card.data.base_model == ["owner/base"]
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_name, result.metric_type) == ("video-classification", "birds", "accuracy")
    assert (result.metric_value, result.metric_args) == (0.75, {"n": 40, "chance": 0.5, "largest class": 0.55})
    assert load_classifier("hf-hub:owner/birds").classes == ["robin", "wren"]


def test_results_of_a_benchmark_are_those_of_these_weights(hub, run, tmp_path, capsys):
    score = {"measure": "accuracy, video", "value": 0.8, "n": 500, "baselines": {"chance": 0.1}, "is_headline": True}
    cell = {"data": "UCF101", "protocol": "linear", "model": "first", "scores": [score]}
    models = [{"name": "first", "checkpoint": "runs/first", "weights": from_pretrained(run).weights_hash()}]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"models": models, "cells": [cell, cell | {"model": "random init"}]}))
    assert push(run, "hf-hub:owner/tiny", "--dry-run", "--results", tmp_path) == 0
    text = capsys.readouterr().out
    assert "result: UCF101, linear: accuracy, video 0.800 (n = 500, chance 0.100)" in text
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert [each["dataset"]["name"] for each in metadata["model-index"][0]["results"]] == ["videos", "UCF101"]
    assert push(demo_weights(), "hf-hub:owner/tiny", "--dry-run", "--results", path) == 1
    assert "has no scores of these weights" in capsys.readouterr().err
    path.write_text("{}")
    assert push(run, "hf-hub:owner/tiny", "--dry-run", "--results", path) == 1
    assert "not the results of avssl benchmark" in capsys.readouterr().err


def test_errors_say_what_to_do_before_anything_is_sent(hub, run, tiny_release, tmp_path, monkeypatch, capsys):
    hub.add("owner/other", {"pytorch_model.bin": b"", "config.json": b'{"model_type": "clip"}'})
    kind = {"format_version": 2, "kind": "classifier", "config": {}}
    hub.add("owner/birds", {"model.safetensors": b"", "config.json": json.dumps(kind).encode()})
    hub.add("owner/public", {})

    def error_of(*words):
        assert push(*words, "--yes") in (1, 2)
        return capsys.readouterr().err

    assert "named hf-hub:OWNER/NAME" in error_of(run, "owner/tiny")
    assert "no such folder" in error_of(tmp_path / "none", "hf-hub:owner/tiny")
    assert "neither a release" in error_of(tmp_path, "hf-hub:owner/tiny")
    assert "is on the hub already" in error_of("hf-hub:owner/public", "hf-hub:owner/tiny")
    assert "name the branch once" in error_of(run, "hf-hub:owner/tiny@a", "--revision", "b")
    assert "something else than a release of avssl (config.json, pytorch" in error_of(run, "hf-hub:owner/other")
    assert "holds a classifier release, and this is a pretrained" in error_of(run, "hf-hub:owner/birds")
    assert "exists and is public" in error_of(run, "hf-hub:owner/public", "--private")
    assert "may not do that" in error_of(run, "hf-hub:somebody/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in error_of(run, "hf-hub:owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_may_read")
    assert "may not do that" in error_of(run, "hf-hub:owner/public")
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token of the hub. Log in with: hf auth login" in error_of(run, "hf-hub:owner/tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_may_write")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in error_of(run, "hf-hub:owner/tiny")
    assert not any(request.startswith(("PUT", "POST /api/models/")) and "commit" in request for request in hub.requests)
