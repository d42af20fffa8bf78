"""One model on several ranks: DDP around ``task.model``, and state that differs between ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avssl.core import distributed
from avssl.core.sharded import is_sharded
from avssl.engine.protocols import Task

_Model = TypeVar("_Model", bound=nn.Module)
_State = TypeVar("_State")


class Replica(DistributedDataParallel):
    """DDP with the methods, attributes and state names of the model that it wraps.

    Buffers are not broadcast: a memory bank of 240 000 x 128 would be overwritten by that of rank 0, and
    make a step 20 times slower. Unused parameters are an error. Gradients lie in the buffers that ranks
    exchange, not beside them, which saves the memory of one gradient and changes no number.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=False,
            gradient_as_bucket_view=True,
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Return the state of the wrapped model, so that checkpoints do not depend on the number of ranks."""
        return self.module.state_dict(*args, **options)


def unwrapped(model: _Model) -> _Model:
    """Return the model without DDP, whose forward is for training only."""
    return cast(_Model, model.module) if isinstance(model, Replica) else model


@contextmanager
def replicated(task: Task, device: torch.device) -> Iterator[None]:
    """Within the context, average the gradients of ``task.model`` over ranks, as FSDP does for a sharded one."""
    if distributed.world_size() == 1 or any(map(is_sharded, task.model.parameters())):
        yield
        return
    model = task.model
    task.model = Replica(model, device)
    try:
        yield
    finally:
        task.model = model


def collect_ranks(state: _State) -> list[_State]:
    """Return the state of every rank, in order, on every rank. States must be plain CPU values."""
    if distributed.world_size() == 1:
        return [state]
    states: list[Any] = [None] * distributed.world_size()
    dist.all_gather_object(states, state, group=distributed.host_group())
    return states


def pick_parts(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return :func:`pick_rank`, with the values of rank 0 in place of None: what all ranks share is saved once."""
    return {name: states[0][name] if value is None else value for name, value in pick_rank(states).items()}


def pick_rank(states: Sequence[_State]) -> _State:
    """Return this rank's state, or that of rank 0 if the number of ranks has changed."""
    return states[distributed.rank() if len(states) == distributed.world_size() else 0]
