import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from avssl.engine import load_checkpoint, read_metrics
from avssl.engine.replicas import collect_ranks, pick_parts, pick_rank, replicated

SCRIPT = Path(__file__).with_name("two_ranks.py")


def test_two_ranks_equal_one_process_resume_exactly_and_stop_together(torchrun, tmp_path):
    torchrun(SCRIPT, tmp_path)
    module = runpy.run_path(str(SCRIPT))
    task = module["EvalTask"]()
    module["train"](tmp_path / "one", task, 12)
    one, two = (load_checkpoint(tmp_path / name / "checkpoints" / "step-000000012.pt") for name in ("one", "two"))
    assert one["task"].keys() == two["task"].keys()
    for name, value in one["task"].items():
        torch.testing.assert_close(two["task"][name], value, rtol=1e-5, atol=1e-7)
    assert [state["rank"] for state in two["loader"]] == [0, 1]
    for first, second in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        assert first["step"] == second["step"]
        assert first["samples_seen"] == second["samples_seen"]
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-5)
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-5)


def test_one_rank_needs_no_wrapper():
    task = nn.Module()
    task.model = nn.Linear(2, 2)
    model = task.model
    with replicated(task, torch.device("cpu")):
        assert task.model is model
    assert collect_ranks({"a": 1}) == [{"a": 1}]
    assert pick_rank([{"a": 1}]) == {"a": 1}
    assert pick_parts([{"a": 1}]) == {"a": 1}
    assert pick_rank([{"a": 1}, {"a": 2}]) == {"a": 1}  # saved on two ranks, resumed on one
