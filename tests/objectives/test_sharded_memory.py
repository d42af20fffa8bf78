"""A memory divided over four ranks gives the bits of a whole one, and any number of ranks continues its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.engine.checkpoint import load_checkpoint
from avssl.objectives import positive_sets

SCRIPT = Path(__file__).with_name("sharded_ranks.py")
NUM_RANKS, STOP = 4, 3
CASES = (
    "avid softmax",
    "avid nce_running",
    "robust_xid",
    "robust_xid swapped",
    "cma softmax",
    "cma nce_frozen",
    "cma both",
    "selavi",
    "selavi apart",
    "xdc",
    "xdc apart",
    "cma both, all lists",
)


@pytest.fixture(scope="module")
def folder(torchrun: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    torchrun(SCRIPT, folder, ranks=NUM_RANKS)
    torchrun(SCRIPT, folder)
    return folder


@pytest.fixture(scope="module")
def four(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(NUM_RANKS)]


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank{r} of 2.pt", weights_only=True) for r in range(2)]


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got["total"].equal(expected["total"])
    for name, value in expected["terms"].items():
        torch.testing.assert_close(got["terms"][name], value, rtol=0, atol=0, equal_nan=True)
    for ours, theirs in zip(got["gradients"], expected["gradients"], strict=True):
        assert ours.equal(theirs)


def assert_near(parts: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare one step by the means over ranks."""
    totals = [torch.stack([part["total"] for part in side]).mean() for side in (parts, expected)]
    torch.testing.assert_close(*totals, rtol=1e-4, atol=1e-5)
    for got, gradient in zip(parts[0]["gradients"], expected[0]["gradients"], strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-4, atol=1e-5)


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
def test_one_process_equals_four_ranks_and_continues_their_checkpoint(
    four: list[dict[str, Any]], folder: Path, tiny: Any, case: str
) -> None:
    name = case.split(",")[0]
    whole, after = tiny.make_objective(name), tiny.make_objective(name, seed=5)
    model = tiny.TinyModel(whole.needs)
    everyone = slice(0, NUM_RANKS)
    steps = tiny.train(model, whole, range(STOP), everyone)
    after.load_state_dict(load_checkpoint(folder / case / f"step-{STOP:09d}")["objective"])
    steps += tiny.train(model, after, range(STOP, tiny.NUM_STEPS), everyone)
    for number, expected in enumerate(steps):
        assert_near([rank[case]["divided"]["steps"][number] for rank in four], [expected])
    if "found" in whole.state_dict():
        assert four[0][case]["divided"]["state"]["found"].equal(after.found)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_continue_the_checkpoint_of_four(
    four: list[dict[str, Any]], two: list[dict[str, Any]], folder: Path, case: str
) -> None:
    saved = load_checkpoint(folder / case / f"step-{STOP:09d}")["objective"]
    for rank in two:
        assert rank[case]["rows"] == 7 + 1
        for key, value in saved.items():
            torch.testing.assert_close(rank[case]["loaded"][key], value, rtol=0, atol=0, equal_nan=True)
    assert_near([rank[case]["steps"][0] for rank in two], [rank[case]["divided"]["steps"][STOP] for rank in four])


@pytest.mark.parametrize("case", ["cma softmax", "selavi"])
def test_rows_of_another_order_are_fetched_from_their_ranks(two: list[dict[str, Any]], folder: Path, case: str) -> None:
    saved = load_checkpoint(folder / case / f"step-{STOP:09d}")["objective"]
    order = torch.tensor([13, 3, 0, 12, 1, 2, 11, 10, 4, 5, 6, 7, 8, 9])
    known, source = order < 12, (order + 2).clamp(max=13)
    for rank in two:
        before, after = (rank["reordered"][case][name] for name in ("before", "after"))
        prefix = "labels.bank." if case == "selavi" else "bank."
        for name in (f"{prefix}video", f"{prefix}audio"):
            assert after[name].equal(torch.where(known[:, None], saved[name][source], before[name]))
        if case == "selavi":
            assert after["labels.labels"].equal(torch.where(known, saved["labels.labels"][:, source], -1))
        else:
            assert after["found"].equal(positive_sets(after["bank.video"], after["bank.audio"], 3, "consensus"))


def test_every_rank_saves_its_rows_only(folder: Path) -> None:
    shards = sorted((folder / CASES[0] / f"step-{STOP:09d}").glob("*.safetensors"))
    assert len(shards) == NUM_RANKS
