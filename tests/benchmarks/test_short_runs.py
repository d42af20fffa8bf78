"""Trainings in several short runs equal an uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avssl.core.batch import LossTerms
from avssl.engine import LoopSettings, Task, WarmupCosine, create_optimizer


class Fit(Task):
    """Fit a line to the batches of the loader."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)

    def forward(self, batch: Tensor) -> LossTerms:
        return LossTerms((self.model(batch) - batch.sum(dim=1, keepdim=True)).square().mean())


class Numbers:
    steps_per_epoch = 4

    def __init__(self) -> None:
        self.step = 0

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            self.step += 1
            yield torch.randn(5, 3, generator=torch.Generator().manual_seed(self.step))

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


@pytest.fixture
def short_runs(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("short_runs")
    monkeypatch.setattr(module, "SLICE_STEPS", 3)
    return module


def train(short_runs: ModuleType, folder: Path, until: float) -> Tensor:
    task = Fit()
    optimizer = create_optimizer(task.model, "adamw", lr=0.1, weight_decay=0.0)
    short_runs.fit_in_runs(task, Numbers(), optimizer, WarmupCosine(0.1, 10, 2), LoopSettings(10, 4), folder, until)
    return task.model.weight.detach()


def test_runs_that_are_cut_short_equal_one(short_runs: ModuleType, tmp_path: Path) -> None:
    whole = train(short_runs, tmp_path / "whole", until=1e12)
    for done in (3, 6, 9):
        with pytest.raises(short_runs.OutOfTime, match=f"parts: {done} of 10 steps"):
            train(short_runs, tmp_path / "parts", until=0)
    assert train(short_runs, tmp_path / "parts", until=0).tolist() == whole.tolist()
    assert not (tmp_path / "parts").exists()
