"""Adapters and shared blocks: two real ranks equal one process, in value and gradient, and resume bit for bit."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("timm")
pytest.importorskip("peft")
SCRIPT = Path(__file__).with_name("tower_ranks.py")


def _load_script() -> Any:
    spec = importlib.util.spec_from_file_location("tower_ranks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _load_script()


@pytest.fixture(scope="module")
def ranks(torchrun, tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(SCRIPT, folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("pair", script.PAIRS)
def test_two_ranks_equal_one_process(ranks, pair):
    one, two = script.train(pair), [rank[pair]["whole"] for rank in ranks]
    torch.testing.assert_close((two[0]["losses"] + two[1]["losses"]) / 2, one["losses"], rtol=1e-4, atol=1e-5)
    trained = {name for name, p in script.create(pair).named_parameters() if p.requires_grad}
    if "adapters" in pair:
        assert {name for name in trained if ".network.blocks." in name and ".norm" not in name} == {
            name for name in one["gradients"] if "lora_" in name
        }
    for rank in two:  # DDP leaves the mean on every rank
        assert set(rank["gradients"]) == set(one["gradients"]) == trained
        for name, expected in one["gradients"].items():
            assert expected.abs().max() > 1e-6, name
            torch.testing.assert_close(rank["gradients"][name], expected, rtol=1e-4, atol=1e-6, msg=name)
        for name, expected in one["state"].items():
            torch.testing.assert_close(rank["state"][name], expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("pair", script.PAIRS)
def test_two_ranks_resume_bit_for_bit(ranks, pair):
    for rank in ranks:
        whole, parts = rank[pair]["whole"], rank[pair]["parts"]
        assert torch.equal(parts["losses"], whole["losses"])
        assert all(torch.equal(parts["state"][name], value) for name, value in whole["state"].items())
    for name, value in ranks[0][pair]["whole"]["state"].items():
        assert torch.equal(ranks[1][pair]["whole"]["state"][name], value), name
