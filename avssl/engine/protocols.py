"""Interfaces of the things that the loop is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import nn

from avssl.core.batch import Batch, LossTerms


class Task(nn.Module):
    """Base class of what the loop trains: transforms, model and loss as one module.

    A subclass sets ``model`` and implements :meth:`forward`; the other methods are optional.

    The ``state_dict`` must hold everything that lasts, and must be the same on every rank: memory
    banks are updated with gathered embeddings. Rank 0's is saved, and every rank resumes from it. Of sharded tensors
    (DTensor) every rank saves its part, and resumes from its part.

    Example:
        >>> from avssl.core.batch import LossTerms
        >>> class Loudness(Task):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.model = torch.nn.Linear(1, 1)
        ...     def forward(self, batch):
        ...         return LossTerms(self.model(batch.audio.std(1, keepdim=True)).square().mean())
        >>> task = Loudness()
        >>> sorted(task.weights()), task.networks() == [task.model]
        (['model.bias', 'model.weight'], True)
    """

    model: nn.Module
    """The trained part, called once per step. DDP wraps it and nothing else."""

    def forward(self, batch: Batch) -> LossTerms:
        """Return the loss of a raw batch on the model's device, without changing what outlives the step."""
        raise NotImplementedError

    def on_step_start(self, share_done: float) -> None:
        """Prepare for a step, before its forward pass.

        Args:
            share_done: Share of the steps of the run that are done, in [0, 1). It follows from the number of the step,
                so that a schedule over it needs no state of its own.
        """

    def after_step(self) -> None:
        """Update memory banks, queues and momentum models, after the optimizer."""

    def on_epoch_start(self, number: int) -> None:
        """Prepare for epoch ``number``, counted from 0. Not called again when a run resumes within the epoch."""

    def networks(self) -> list[nn.Module]:
        """Return the modules that compute in the precision of the run: the model, and a momentum model or teacher."""
        return [self.model]

    def compilable(self) -> dict[Literal["model", "transforms"], list[nn.Module]]:
        """Return the modules that may run as compiled programs, each called as a whole in a step."""
        return {"model": self.networks(), "transforms": []}

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Set the format of augmented frames, so that the model need not convert them."""

    def weights(self) -> dict[str, Any]:
        """Return the part of the ``state_dict`` that the trained model needs, for ``best.pt``."""
        return self.state_dict()


_AnyTask = TypeVar("_AnyTask", bound=Task, contravariant=True)


class Loader(Protocol):
    """An endless stream of batches whose position can be saved.

    Example:
        >>> class Repeated:
        ...     def __init__(self, batch):
        ...         self.batch, self.position = batch, 0
        ...     def __iter__(self):
        ...         while True:
        ...             self.position += 1
        ...             yield self.batch
        ...     def state_dict(self):
        ...         return {"position": self.position}
        ...     def load_state_dict(self, state):
        ...         self.position = state["position"]
        >>> loader: Loader = Repeated("a batch")
        >>> next(iter(loader)), loader.state_dict()
        ('a batch', {'position': 1})
    """

    def __iter__(self) -> Iterator[Batch]:
        """Yield raw batches without end, from the position on; a generator is closed when the training ends."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch handed out, however much was read ahead."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the position of a checkpoint."""


class Monitor(Protocol[_AnyTask]):
    """Numbers measured during training.

    Example:
        >>> class WeightNorm:
        ...     every_steps = 100
        ...     def run(self, task):
        ...         return {"weight_norm": task.model.weight.norm().item()}
        ...     def observe(self, record): ...
        ...     def state_dict(self):
        ...         return {}
        ...     def load_state_dict(self, state): ...
        >>> monitor: Monitor = WeightNorm()
        >>> task = Task()
        >>> task.model = torch.nn.LayerNorm(4)  # four weights of 1
        >>> monitor.run(task)
        {'weight_norm': 2.0}
    """

    every_steps: int
    """Steps between measurements."""

    def run(self, task: _AnyTask) -> dict[str, float]:
        """Return the numbers by name. May leave the task in eval mode. Every rank calls it."""

    def observe(self, record: Mapping[str, float]) -> None:
        """Read the numbers of a log."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint; empty if nothing lasts."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the values of a checkpoint."""
