"""State of a training run, as a checkpoint holds it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from avssl.core import distributed
from avssl.engine.average import WeightAverage
from avssl.engine.meter import Meter
from avssl.engine.protocols import Loader, Monitor, Task
from avssl.engine.replicas import collect_ranks, pick_parts, pick_rank
from avssl.engine.settings import LoopSettings
from avssl.engine.sharding import optimizer_parts, parts_like

_Task = TypeVar("_Task", bound=Task)


@dataclass(eq=False)
class RunState(Generic[_Task]):
    """Everything that the next step depends on."""

    task: _Task
    loader: Loader
    optimizer: torch.optim.Optimizer
    monitors: Sequence[Monitor[_Task]]
    average: WeightAverage | None
    meter: Meter
    settings: LoopSettings
    extra: Mapping[str, Any]
    """Plain values that every checkpoint keeps."""

    step: int = 0
    """Steps done."""
    samples_seen: int = 0
    wall_seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of every logged number."""
    best: float | None = None
    """Highest value of the number ``settings.best_by``."""

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint. Every rank must call it."""
        settings = self.settings
        return {
            "step": self.step,
            "samples_seen": self.samples_seen,
            "wall_seconds": self.wall_seconds,
            "metrics": dict(self.metrics),
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best": self.best,
            "monitors": [monitor.state_dict() for monitor in self.monitors],
            # These differ between ranks; each is a list in the order of the ranks.
            "loader": collect_ranks(self.loader.state_dict()),
            "rng": collect_ranks(_rng_state(settings.device)),
            "meter": collect_ranks(self.meter.state_dict()),
            **_numerics(settings),
            "extra": dict(self.extra),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint, and warn if the run will not continue bit for bit."""
        for name, value in _numerics(self.settings).items():
            if state[name] != value:
                warnings.warn(
                    f"resuming with {name} {value}, saved with {state[name]}: "
                    "the run continues, but its numbers will differ slightly from an uninterrupted run.",
                    stacklevel=2,
                )
        parameters = dict(self.task.named_parameters(remove_duplicate=False))
        self.task.load_state_dict(parts_like(state["task"], parameters))
        # Rates and decays are settings, which a resume may change; what the optimizer has gathered is state.
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(optimizer_parts(state["optimizer"], self.optimizer))
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for monitor, monitor_state in zip(self.monitors, state["monitors"], strict=True):
            monitor.load_state_dict(monitor_state)
        self.loader.load_state_dict(pick_parts(state["loader"]))
        self.meter.start(state["step"])
        if state["world_size"] == distributed.world_size():
            self.meter.load_state_dict(pick_rank(state["meter"]))
            _set_rng_state(pick_rank(state["rng"]), self.settings.device)
        self.step, self.samples_seen = state["step"], state["samples_seen"]
        self.wall_seconds, self.metrics = state["wall_seconds"], dict(state["metrics"])
        self.best = state["best"]


def _numerics(settings: LoopSettings) -> dict[str, Any]:
    """Return what must be equal for results that are equal bit for bit."""
    precision = settings.precision
    return {
        "world_size": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "precision": {"name": precision.name, "memory_format": precision.memory_format},
    }


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_rng_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
