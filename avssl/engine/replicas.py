"""One model on several ranks: DDP around ``task.model``, and state that differs by rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avssl.core import distributed

_State = TypeVar("_State")


class Replica(DistributedDataParallel):
    """DDP that looks like the model it wraps: its methods, its attributes and its state's names.

    Buffers are not broadcast, and unused parameters are an error: a memory bank of 240 000 x 128
    inside a DDP module was once overwritten by rank 0's, and made a step 20 times slower.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=False,
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """The wrapped model's, so that checkpoints do not depend on how many ranks wrote them."""
        return self.module.state_dict(*args, **options)


@contextmanager
def replicated(task: nn.Module, device: torch.device) -> Iterator[None]:
    """Within it, ``task.model`` averages its gradients over ranks; nothing changes with one rank."""
    if distributed.world_size() == 1:
        yield
        return
    model = task.model
    assert isinstance(model, nn.Module), "a task has its model in .model"
    task.model = Replica(model, device)
    try:
        yield
    finally:
        task.model = model


def collect_ranks(state: _State) -> list[_State]:
    """Every rank's state, in order of rank, on every rank; it must be plain CPU values."""
    if distributed.world_size() == 1:
        return [state]
    states: list[Any] = [None] * distributed.world_size()
    dist.all_gather_object(states, state)
    return states


def pick_rank(states: Sequence[_State]) -> _State:
    """This rank's state; rank 0's when the number of ranks has changed, which the loader adapts."""
    return states[distributed.rank() if len(states) == distributed.world_size() else 0]
