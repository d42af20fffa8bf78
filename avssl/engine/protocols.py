"""What the loop needs of the things it is handed, and all it knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import nn

from avssl.core.batch import Batch, LossTerms


class Task(Protocol):
    """Transforms, model and objective as one ``nn.Module``.

    All that lasts is in its ``state_dict``, and decides the same on every rank: banks move by
    gathered embeddings. Rank 0's is saved, and every rank continues from it.
    """

    model: nn.Module
    """The part that holds the parameters, called once a step; DDP wraps it and nothing else. A task may have a
    ``target`` beside it, a model without gradient, which computes in the same precision, and a ``transform`` whose
    ``video_augment``, if it has one, is told in what format pictures come (``output_format``, and
    ``set_output(dtype, memory_format)``)."""

    def forward(self, batch: Batch) -> LossTerms:
        """The loss of a batch on the model's device; changes nothing that outlives the step."""

    def after_step(self) -> None:
        """Moves banks, queues and averages, after the optimizer."""

    def on_epoch_start(self, number: int) -> None:
        """Before the first step of pass ``number``, >= 0; not again when a run resumes within it."""


class Loader(Protocol):
    """An endless stream of batches whose position can be saved.

    It may also offer ``worker_report() -> str``: what its dead worker processes were doing.
    """

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch handed out, however much was read ahead."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Monitor(Protocol):
    """Numbers measured during training.

    It may also offer ``observe(record)``, which is told the numbers of every log.
    """

    every_steps: int

    def run(self, task: Any) -> dict[str, float]:
        """Measures; may put the task in eval mode, which the loop undoes. All ranks call it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
