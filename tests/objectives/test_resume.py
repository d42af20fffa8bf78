"""N steps, a saved state and N more equal 2N steps, bit for bit, for every objective.

Those with a memory are continued in their own test files, by the cases of ``memory_ranks.py``; real processes that are
killed, in tests/recipes/test_pretrain_killed.py.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.objectives import OBJECTIVES


def _load_script() -> Any:
    path = Path(__file__).with_name("resume_steps.py")
    spec = importlib.util.spec_from_file_location("resume_steps", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _load_script()


def test_every_objective_is_continued(tiny: Any) -> None:
    here = {name for name, _ in script.VARIANTS.values()}
    assert sorted(here | {case["name"] for case in tiny.CASES.values()}) == sorted(OBJECTIVES)


@pytest.mark.parametrize("variant", script.VARIANTS)
def test_n_and_n_steps_equal_2n(variant: str) -> None:
    task, optimizer = script.create(variant)
    whole = script.train(task, optimizer, range(script.TOTAL_STEPS))

    first, first_optimizer = script.create(variant)
    losses = script.train(first, first_optimizer, range(4))
    file = io.BytesIO()
    torch.save({"task": first.state_dict(), "optimizer": first_optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, second_optimizer = script.create(variant)
    second.load_state_dict(saved["task"])
    second_optimizer.load_state_dict(saved["optimizer"])
    losses += script.train(second, second_optimizer, range(4, 8))

    assert torch.equal(torch.stack(losses), torch.stack(whole))
    assert len(set(map(float, whole))) == 8
    state = second.state_dict()
    for name, value in task.state_dict().items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("variant", script.VARIANTS)
def test_forward_changes_nothing(variant: str) -> None:
    task, optimizer = script.create(variant)
    script.train(task, optimizer, range(3))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    totals = [task(script.batch(3, slice(None))).total for _ in range(2)]
    assert torch.equal(*totals)
    statistics = {"running_mean", "running_var", "num_batches_tracked"}  # BatchNorm of predictors moves them, as ever
    for name, value in task.state_dict().items():
        assert torch.equal(before[name], value) or name.rpartition(".")[2] in statistics, name


@pytest.fixture(scope="module")
def ranks(torchrun: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("queue_ranks")
    torchrun(Path(script.__file__), folder)
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(2)]


@pytest.mark.parametrize("variant", script.ON_RANKS)
def test_two_ranks_equal_one_process_over_steps(ranks: list[dict[str, Any]], variant: str) -> None:
    """Weights after five steps carry every gradient; the queue wraps, and a target follows."""
    task, optimizer = script.create(variant)
    start = {name: value.clone() for name, value in task.state_dict().items()}
    losses = script.train(task, optimizer, range(5))
    both = [rank[variant] for rank in ranks]
    mean = (torch.stack(both[0]["losses"]) + torch.stack(both[1]["losses"])) / 2
    torch.testing.assert_close(mean, torch.stack(losses), rtol=1e-5, atol=1e-6)
    for name, value in task.state_dict().items():
        assert not torch.equal(value, start[name]), name
        for rank in both:
            torch.testing.assert_close(rank["state"][name], value, rtol=1e-5, atol=1e-6, msg=name)
