"""A memory divided over four ranks gives the bits of a whole one, and its state is that of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.objectives import CMA, MemoryRows

SCRIPT = Path(__file__).with_name("sharded_ranks.py")
CASES = ("avid softmax", "avid nce_running", "robust_xid", "robust_xid swapped")
NUM_RANKS = 4


@pytest.fixture(scope="module")
def folder(torchrun: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    torchrun(SCRIPT, folder, ranks=NUM_RANKS)
    return folder


@pytest.fixture(scope="module")
def four(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(NUM_RANKS)]


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got["total"].equal(expected["total"])
    for name, value in expected["terms"].items():
        torch.testing.assert_close(got["terms"][name], value, rtol=0, atol=0, equal_nan=True)
    for ours, theirs in zip(got["gradients"], expected["gradients"], strict=True):
        assert ours.equal(theirs)


@pytest.mark.parametrize("case", CASES)
def test_divided_memory_equals_the_whole_one_bit_for_bit(four: list[dict[str, Any]], case: str) -> None:
    for rank in four:
        whole, divided, resumed = (rank[case][name] for name in ("whole", "divided", "resumed"))
        assert (whole["rows"], divided["rows"]) == (14, 4 + 1)  # a quarter, and one that nobody reads
        for got, expected in zip(divided["steps"], whole["steps"], strict=True):
            assert_same(got, expected)
        for got, expected in zip(resumed["steps"], whole["steps"][-len(resumed["steps"]) :], strict=True):
            assert_same(got, expected)
    for name in ("divided", "resumed"):
        for key, value in four[0][case]["whole"]["state"].items():
            torch.testing.assert_close(four[0][case][name]["state"][key], value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_one_process_equals_four_ranks_and_continues_their_state(
    four: list[dict[str, Any]], folder: Path, tiny: Any, case: str
) -> None:
    whole, after = tiny.make_objective(case), tiny.make_objective(case, seed=5)
    model = tiny.TinyModel(whole.needs)
    everyone = slice(0, NUM_RANKS)
    steps = tiny.train(model, whole, range(3), everyone)
    after.load_state_dict(torch.load(folder / f"{case}.pt", weights_only=True))
    steps += tiny.train(model, after, range(3, tiny.NUM_STEPS), everyone)
    for number, expected in enumerate(steps):
        parts = [rank[case]["divided"]["steps"][number] for rank in four]
        mean = torch.stack([part["total"] for part in parts]).mean()
        torch.testing.assert_close(mean, expected["total"], rtol=1e-4, atol=1e-5)
        for got, gradient in zip(parts[0]["gradients"], expected["gradients"], strict=True):
            torch.testing.assert_close(got, gradient, rtol=1e-4, atol=1e-5)


def test_a_search_refuses_a_divided_memory() -> None:
    with pytest.raises(ValueError, match="leave out sharded"):
        CMA(MemoryRows.from_ids([str(number) for number in range(9)]), 4, num_positives=2, sharded=True)
