"""From a folder of videos to a heat map, with every objective that trains maps."""

import json

import pytest
import torch

from avssl.cli import main
from avssl.config import config_from_dict
from avssl.engine import read_metrics
from avssl.objectives import OBJECTIVES, MemoryRows
from avssl.recipes.pretrain import pretrain
from avssl.training import setup
from avssl.training.build import build_model, build_objective

ROWS = MemoryRows.from_ids([str(number) for number in range(100)])
MAPPED = [
    name
    for name in sorted(OBJECTIVES)
    if build_objective(config_from_dict({"objective": {"name": name}}), ROWS).needs.maps
]


def test_objectives_that_train_maps_are_listed():
    assert {"info_nce", "margin_nce", "slavc"} <= set(MAPPED)
    assert "moco" not in MAPPED


@pytest.mark.parametrize("name", MAPPED)
def test_run_is_localized(videos, tiny_config, tmp_path, name):
    model = {"dropout": {"video": 0.25}}
    if name == "framewise":  # as many steps of audio as frames
        model["audio"] = {"strides": [4, 2, 2, 1]}
    config = tiny_config(videos, objective={"name": name}, model=model, monitor={"every_steps": 0})
    run, result = pretrain(config, out=tmp_path / "run", progress=False)
    assert result.step == 8
    peaks = []
    for sound in ([], ["--audio", str(videos / "clip19.mp4")]):
        readout = tmp_path / "peaks.json"
        words = [
            "localize",
            str(videos / "clip00.mp4"),
            "--checkpoint",
            str(run),
            *sound,
            "--device",
            "cpu",
            "--overwrite",
        ]
        assert main([*words, "-o", str(tmp_path / "map.mp4"), "--readout", str(readout)]) == 0
        peaks.append(json.loads(readout.read_text())["maps"][0]["peaks"])
    assert len(peaks[0]) == 8
    assert all(-1 <= peak["confidence"] <= 1 for peak in peaks[0])
    assert peaks[0] != peaks[1]


def test_run_with_two_heads_and_visual_dropout_resumes_bit_for_bit(videos, tiny_config, assert_resumes_bit_for_bit):
    """Dropout draws from torch's generator, which a checkpoint keeps."""
    config = tiny_config(
        videos,
        objective={"name": "slavc", "temperature": 0.1, "momentum": 0.7},
        model={"dropout": {"video": 0.5}},
        monitor={"every_steps": 0},
    )
    state = assert_resumes_bit_for_bit(config)
    name = "where_heads.video.0.weight"
    assert not torch.equal(state[f"model.{name}"], state[f"target.model.{name}"])
    assert not torch.equal(state[f"target.model.{name}"], build_model(config).state_dict()[name])


def test_measuring_before_the_first_step_does_not_change_dropout(videos, tiny_config, tmp_path, monkeypatch):
    config = tiny_config(videos, model={"dropout": {"video": 0.5}}, optim={"epochs": 1}, monitor={"every_steps": 0})
    losses = []
    choose = setup.choose_precision

    def drawing(*arguments):
        torch.rand(5)
        return choose(*arguments)

    for number, function in enumerate((choose, drawing)):
        monkeypatch.setattr(setup, "choose_precision", function)
        run, _ = pretrain(config, out=tmp_path / str(number), progress=False)
        losses.append([row["loss"] for row in read_metrics(run)])
    assert losses[0] == losses[1]
