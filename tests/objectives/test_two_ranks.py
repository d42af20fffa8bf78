"""Two real ranks equal one process, in value and in every gradient, for every way to score a batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("objective_ranks.py")


def _load_script() -> Any:
    spec = importlib.util.spec_from_file_location("objective_ranks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _load_script()


@pytest.fixture(scope="module")
def ranks(torchrun: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(SCRIPT, folder)
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(2)]


@pytest.mark.parametrize("variant", script.VARIANTS)
def test_two_ranks_equal_one_process_in_value_and_gradient(ranks: list[dict[str, Any]], variant: str) -> None:
    model = script.create_model(variant)
    one = script.step(model, slice(None), variant)
    two = [rank[variant] for rank in ranks]
    torch.testing.assert_close((two[0]["total"] + two[1]["total"]) / 2, one["total"], rtol=1e-5, atol=1e-6)
    for name, value in one["terms"].items():
        torch.testing.assert_close((two[0]["terms"][name] + two[1]["terms"][name]) / 2, value, rtol=1e-5, atol=1e-6)
    assert len(one["gradients"]) == len(list(model.parameters()))
    for rank in two:  # DDP leaves the mean on every rank
        for got, expected in zip(rank["gradients"], one["gradients"], strict=True):
            if expected.ndim > 1:  # standardized embeddings leave no gradient at an offset
                assert expected.abs().max() > 1e-3
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
