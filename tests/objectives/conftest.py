"""The tiny training shared by the tests of objectives with a memory, in one process and on two ranks."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

RANKS_SCRIPT = Path(__file__).with_name("memory_ranks.py")


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The module ``memory_ranks.py``."""
    return _load(RANKS_SCRIPT)


@pytest.fixture(scope="session")
def small_training() -> Any:
    """The module ``small_training.py``."""
    return _load(Path(__file__).with_name("small_training.py"))


@pytest.fixture(scope="session")
def ranks(torchrun: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every case of ``memory_ranks.py`` gave on each of two ranks."""
    folder = tmp_path_factory.mktemp("memory_ranks")
    torchrun(RANKS_SCRIPT, folder)
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(2)]


@pytest.fixture(scope="session")
def assert_ranks_equal_one_process(ranks: list[dict[str, Any]], tiny: Any) -> Callable[[str], None]:
    """Compares a case in loss, terms, gradients and the memory it ends with."""

    def check(case: str) -> None:
        objective = tiny.make_objective(case)
        one = tiny.train(tiny.TinyModel(objective.needs), objective, range(tiny.NUM_STEPS))
        two = [rank[case] for rank in ranks]
        for step, expected in enumerate(one):
            parts = [rank["steps"][step] for rank in two]
            for name in expected["terms"]:
                mean = (parts[0]["terms"][name] + parts[1]["terms"][name]) / 2
                torch.testing.assert_close(mean, expected["terms"][name], rtol=1e-4, atol=1e-5, equal_nan=True)
            torch.testing.assert_close((parts[0]["total"] + parts[1]["total"]) / 2, expected["total"])
            for part in parts:  # DDP leaves the mean on every rank
                for got, gradient in zip(part["gradients"], expected["gradients"], strict=True):
                    torch.testing.assert_close(got, gradient, rtol=1e-4, atol=1e-5)
        assert all(gradient.abs().max() > 1e-4 for gradient in one[-1]["gradients"])
        for name, value in objective.state_dict().items():
            torch.testing.assert_close(two[0]["state"][name], value, rtol=1e-4, atol=1e-5, equal_nan=True)
            assert two[0]["state"][name].equal(two[1]["state"][name]) or value.isnan().all(), name

    return check


@pytest.fixture(scope="session")
def assert_resume_is_exact(tiny: Any) -> Callable[[str], None]:
    """N steps, a new model and objective from their states, and N more: 2 N steps bit for bit."""

    def check(case: str, first: int = 3, total: int = 7) -> None:
        whole = tiny.make_objective(case)
        model, before_model, after_model = (tiny.TinyModel(whole.needs) for _ in range(3))
        losses = [step["total"] for step in tiny.train(model, whole, range(total))]
        before = tiny.make_objective(case)
        tiny.train(before_model, before, range(first))
        after = tiny.make_objective(case, seed=5)
        after.load_state_dict(before.state_dict())
        after_model.load_state_dict(before_model.state_dict())
        resumed = [step["total"] for step in tiny.train(after_model, after, range(first, total))]
        assert torch.stack(resumed).equal(torch.stack(losses[first:]))
        for name, value in whole.state_dict().items():
            assert after.state_dict()[name].equal(value) or value.isnan().all(), name
        for ours, theirs in zip(after_model.parameters(), model.parameters(), strict=True):
            assert ours.equal(theirs)

    return check
