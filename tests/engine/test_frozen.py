"""Weights that no step changes are written once for all checkpoints of a run."""

import copy

import pytest
import torch
from torch import nn

from avssl.engine.average import WeightAverage
from avssl.engine.checkpoint import Checkpointer, CheckpointError, load_checkpoint


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 2))
    model[0].requires_grad_(False)
    return model


def test_checkpoints_share_one_copy_and_are_whole_when_read(tmp_path):
    model = network()
    twin = copy.deepcopy(model, {id(p): p for p in model.parameters() if not p.requires_grad})
    checkpointer = Checkpointer(tmp_path, model=model)
    for step in (1, 2):
        state = {"task": {"model": model.state_dict(), "target": twin.state_dict()}, "step_size": [0.5, None]}
        path = checkpointer.save(step, state)
        assert path.stat().st_size < 200 * 200  # the frozen matrix has 160 kB
    assert (tmp_path / "frozen.safetensors").stat().st_size > 200 * 200 * 4
    read = checkpointer.load_latest()
    for part in ("model", "target"):
        for name, value in model.state_dict().items():
            assert torch.equal(read["task"][part][name], value)
    assert read["step_size"] == [0.5, None]


def test_another_file_of_frozen_weights_is_an_error(tmp_path):
    model = network()
    path = Checkpointer(tmp_path, model=model).save(1, {"task": model.state_dict()})
    other = network()
    Checkpointer(tmp_path, model=other).save_best(1, {"task": other.state_dict()})
    with pytest.raises(CheckpointError, match="does not hold the weights that this checkpoint was trained with"):
        load_checkpoint(path)
    (tmp_path / "frozen.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"frozen.safetensors, which holds the weights that are not trained"):
        load_checkpoint(path)


def test_models_without_frozen_weights_have_no_such_file(tmp_path):
    model = nn.Linear(3, 3)
    checkpointer = Checkpointer(tmp_path, model=model)
    checkpointer.save(1, {"task": model.state_dict()})
    assert [file.name for file in tmp_path.iterdir()] == ["step-000000001.pt"]


def test_an_average_holds_trained_weights_only():
    average = WeightAverage(network(), 0.9)
    assert set(average.state_dict()["average"]) == {"1.weight", "1.bias"}
