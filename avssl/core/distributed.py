"""Ranks: the process group, a gather that keeps gradients, and values on which all ranks must agree.

Every function works without a process group: there is then one rank, number 0, and collectives
return their input. The same code thus runs under ``python`` and under ``torchrun``.

Gradients. W ranks hold B clips each. Rank r computes L_r, the mean over its own rows, and the loss of
the global batch is L = (L_0 + ... + L_{W-1}) / W. Every L_r depends on the embeddings of all ranks,
because columns are gathered::

    rank 0:  x_0 ──┐                     ┌── rows of rank 0 × [x_0 x_1] ── L_0
                   ├─ gather → [x_0 x_1] ┤
    rank 1:  x_1 ──┘                     └── rows of rank 1 × [x_0 x_1] ── L_1

    backward of the gather on rank r:   dx_r = Σ_s ∂L_s/∂x_r          reduce_scatter(sum)
                                             = W ∂L/∂x_r
    backward of the model on rank r:    g_r  = (∂x_r/∂θ)ᵀ W ∂L/∂x_r
    mean over ranks, taken by DDP:      g    = 1/W Σ_r g_r = Σ_r (∂x_r/∂θ)ᵀ ∂L/∂x_r = dL/dθ

The sum in the gather and the mean in DDP belong together. With a mean in both, or without the
reduce_scatter, the loss is right and the gradient is wrong: the gradients from the rows of other ranks,
which hold this rank's clips as negatives, would be lost.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import re
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from avssl.core.errors import AvsslError, InputError, RunError
from avssl.core.exchanges import note

_Value = TypeVar("_Value")

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_JOIN_TIMEOUT_SECONDS = 30 * 60.0  # as torch's own timeout
_RETRY_SECONDS = 0.05
_HOST_TIMEOUT = timedelta(days=7)
"""Longest wait for another rank on the host, such as for rank 0 while it reads the headers of a million files. A rank
that has ended is noticed at once, whatever the timeout. Collectives of a step keep torch's (10 minutes for nccl)."""
_PEER_IS_GONE = re.compile(r"Connection (closed|reset) by peer|Broken pipe|remote process exited", re.IGNORECASE)
"""Errors of gloo and nccl when the process of another rank has ended."""


_host: dist.ProcessGroup | None = None  # of the group that start() joined


def is_initialized() -> bool:
    """Return True if there is a process group; without one there is a single rank."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return the number of this process, in [0, world_size())."""
    return dist.get_rank() if is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together, >= 1."""
    return dist.get_world_size() if is_initialized() else 1


def is_main() -> bool:
    """Return True on rank 0, which writes files and logs."""
    return rank() == 0


def start(device: torch.device | str) -> torch.device:
    """Join the process group that ``torchrun`` announced: gloo for tensors on the host, nccl for those on GPUs.

    Flags, small objects and barriers go by a group of their own on the host (:func:`host_group`), so that no rank waits
    for its GPU to exchange them, and a rank may wait for days while rank 0 reads files.

    Without torchrun's environment, or with a single process, no group is started. An existing group is kept.

    Args:
        device: "cpu" or "cuda". Under torchrun, the index of a GPU is replaced by LOCAL_RANK.

    Returns:
        The device of this rank, which becomes the current GPU of the process.

    Raises:
        RuntimeError: If torchrun's environment variables are set only in part.
        TimeoutError: If rank 0 does not answer.
        ValueError: If this machine has fewer GPUs than ranks.
    """
    device = torch.device(device)
    present = [name for name in _TORCHRUN if name in os.environ]
    if present and len(present) < len(_TORCHRUN):
        missing = [name for name in _TORCHRUN if name not in present]
        raise RunError(
            f"{', '.join(present)} set but {', '.join(missing)} missing. Start ranks with "
            "torchrun --nproc-per-node N, which sets them all, or unset them to run one process."
        )
    if not present or int(os.environ["WORLD_SIZE"]) == 1:
        return device
    if device.type == "cuda":
        device = _own_gpu(int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not is_initialized():
        # DDP imports it later, and the defaults of its functions would then hold the group until the process ends.
        importlib.import_module("torch.distributed.nn.functional")
        on_gpu = device.type == "cuda"
        store, own_rank, size = next(dist.rendezvous("env://"))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=_store_of_attempt(store, own_rank, size),
            rank=own_rank,
            world_size=size,
            device_id=device if on_gpu else None,
        )
        global _host
        _host = new_host_group()
    return device


def new_host_group() -> dist.ProcessGroup:
    """Return a new group of all ranks for values on the host, such as for a thread of its own; every rank must call it.

    Its operations wait for a rank as long as that lives.
    """
    return dist.new_group(backend="gloo", timeout=_HOST_TIMEOUT)


def host_group() -> dist.ProcessGroup | None:
    """Return the group of :func:`start` for values on the host; None, the default group, if others started it."""
    return _host


def _own_gpu(local_rank: int) -> torch.device:
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise InputError(
            f"rank {local_rank} of this machine has no GPU: {count} visible. Start at most {count} ranks a machine "
            "(torchrun --nproc-per-node), or run on the CPU with --device cpu."
        )
    return torch.device("cuda", local_rank)


def _store_of_attempt(store: dist.Store, rank: int, world_size: int) -> dist.Store:
    """Return a part of the store in which no earlier attempt of the job has written.

    torchrun keeps one store through all restarts, and a group uses the same keys each time. A restarted
    rank could therefore read the values of a dead one: on CPUs its address, on GPUs the id of its
    communicator. Neither a count of restarts (each machine has its own) nor the content of the store
    distinguishes the attempts, but only a live rank 0 answers a name that was made just now::

        rank 0    attempt = A ── waits for A/1 ──────────── A/1/x = answered ── enters A
        rank 1    reads attempt, perhaps an old one ── A/1 = x ── asks again until A/1/x ── enters A
    """
    own = uuid.uuid4().hex
    store = dist.PrefixStore("avssl", store)
    if rank == 0:
        store.set("attempt", own)
        for other in range(1, world_size):
            caller = store.get(f"{own}/{other}").decode()  # blocks until it is set
            store.set(f"{own}/{other}/{caller}", "answered")
        return dist.PrefixStore(own, store)
    deadline = time.monotonic() + _JOIN_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        attempt = store.get("attempt").decode()
        store.set(f"{attempt}/{rank}", own)
        if store.check([f"{attempt}/{rank}/{own}"]):
            return dist.PrefixStore(attempt, store)
        time.sleep(_RETRY_SECONDS)
    raise TimeoutError(f"rank {rank} waited {_JOIN_TIMEOUT_SECONDS:.0f} s for rank 0, which did not answer.")


def stop() -> None:
    """Leave the process group, if there is one, and end its threads.

    The last operations must end first: a rank that is needed for them and does not come ends them by leaving.

    torch joins the threads of gloo when nothing holds the group any more. One that outlives the interpreter would abort
    the process, as it needs Python to release the tensors of its last operation ("terminate called without an active
    exception"). DDP holds the group too, so that a model must be out of it before.
    """
    global _host
    _host = None
    if is_initialized():
        gc.collect()  # DDP is part of reference cycles
        dist.destroy_process_group()


@contextmanager
def process_group(device: torch.device | str) -> Iterator[torch.device]:
    """Within the context, be one rank of the group that ``torchrun`` announced; yield its device.

    Raises as :func:`start`, and :class:`RunError` if another rank has ended.
    """
    own = os.environ.get("RANK", "0")
    try:
        yield start(device)
    except BaseException as error:
        is_torchs = isinstance(error, RuntimeError) and not isinstance(error, AvsslError)
        _clear_frames(error)
        if is_torchs and _PEER_IS_GONE.search(str(error)):
            raise RunError(
                f"rank {own} stops, as another rank has ended. Its own message says why; if there is none, it was "
                "killed (out of memory, a lost machine)."
            ) from error
        raise
    finally:
        stop()


def _clear_frames(error: BaseException | None) -> None:
    """Release the variables of the functions that an error has left, among them the model in DDP."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


class _Gather(torch.autograd.Function):
    """One all_gather of several tensors in forward; one reduce_scatter of all their gradients in backward."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.needs = ctx.needs_input_grad
        ctx.own = [(x.shape, x.dtype) for x in tensors]
        parts = _gather_bytes([_as_bytes(x) for x in tensors])
        everyone = tuple(
            part.view(x.dtype).view(world_size() * len(x), *x.shape[1:]) for part, x in zip(parts, tensors, strict=True)
        )
        ctx.mark_non_differentiable(*(x for x, needed in zip(everyone, ctx.needs, strict=True) if not needed))
        return everyone

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = [gradient for gradient, wanted in zip(gradients, ctx.needs, strict=True) if wanted]
        # Sums of numbers of half precision are made in float32.
        exact = functools.reduce(torch.promote_types, (gradient.dtype for gradient in needed), torch.float32)
        # (W, number of values): row r is what this rank adds to the gradients of rank r.
        every = torch.cat([gradient.reshape(world_size(), -1).to(exact) for gradient in needed], dim=1)
        total = every.new_empty(every.shape[1])
        dist.reduce_scatter_tensor(total, every.view(-1))
        parts = iter(total.split([gradient.numel() // world_size() for gradient in needed]))
        return tuple(
            next(parts).view(shape).to(dtype) if wanted else None
            for (shape, dtype), wanted in zip(ctx.own, ctx.needs, strict=True)
        )


def _as_bytes(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(-1).view(torch.uint8)


def _gather_bytes(own: list[Tensor]) -> list[Tensor]:
    """Return the bytes of each tensor from all ranks, those of rank 0 first, by one all_gather."""
    if len(own) == 1:
        everyone = own[0].new_empty(world_size() * len(own[0]))
        dist.all_gather_into_tensor(everyone, own[0])
        return [everyone]
    packed = torch.cat(own)
    together = packed.new_empty(world_size() * len(packed))
    dist.all_gather_into_tensor(together, packed)
    parts = together.view(world_size(), -1).split([len(x) for x in own], dim=1)
    return [part.clone(memory_format=torch.contiguous_format).view(-1) for part in parts]


def gather_together(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return :func:`gather_with_grad` of each tensor, by one exchange of all and one of all their gradients.

    A collective takes about as long for all tensors of a loss as for one of them, as these are small.

    Args:
        *tensors: (B, ...) each; B and the type may differ between tensors, but not between ranks.
    """
    if world_size() == 1:
        note(*tensors)
        return tensors
    gathered: tuple[Tensor, ...] = _Gather.apply(*tensors)
    return gathered


def gather_with_grad(x: Tensor) -> Tensor:
    """Return the rows of all ranks in order of rank, with gradients to every rank's own rows.

    Row i of rank r becomes row ``r * B + i``. The gradient is the sum over ranks (see the top of this
    file), which DDP's mean over ranks turns into the gradient of a single process.

    Args:
        x: ``(B, ...)``, with the same shape and dtype on every rank.

    Returns:
        ``(world_size() * B, ...)``; ``x`` itself if there is one rank.
    """
    return gather_together(x)[0]


def own_rows(everyone: Tensor) -> Tensor:
    """Return this rank's (B, ...) part of the (W * B, ...) rows of all ranks."""
    if world_size() == 1:
        return everyone
    return everyone.view(world_size(), -1, *everyone.shape[1:])[rank()]


class _ToColumns(torch.autograd.Function):
    """all_to_all of blocks of columns; its own backward, as it sends every number to one place."""

    @staticmethod
    def forward(ctx: Any, blocks: Tensor) -> Tensor:
        return swap_blocks(blocks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return swap_blocks(gradient)


def swap_blocks(blocks: Tensor) -> Tensor:
    """Return the (W, ...) blocks that each rank has for this one, from this rank's for each, without gradient."""
    if world_size() == 1:
        return blocks
    blocks = blocks.contiguous()
    received = torch.empty_like(blocks)
    dist.all_to_all_single(received, blocks)
    return received


def own_columns_of_all(x: Tensor) -> Tensor:
    """Return the columns of this rank's clips from the rows of all ranks, with gradient: (B, W * B) to (W * B, B).

    As ``gather_with_grad(x)[:, rank * B : (rank + 1) * B]``, but each rank receives the numbers that it uses only, B
    times B from each other rank instead of B times W * B.
    """
    if world_size() == 1:
        note(x, is_pairs=True)
        return x
    swapped: Tensor = _ToColumns.apply(x.view(len(x), world_size(), -1).transpose(0, 1))  # (W, B, B)
    return swapped.flatten(0, 1)


def mean(x: Tensor) -> Tensor:
    """Return the mean over ranks of a float tensor, detached and on its device. Used for logged numbers."""
    x = x.detach()
    if world_size() == 1:
        note(x)
        return x
    return total(x) / world_size()


def total(x: Tensor) -> Tensor:
    """Return the sum over ranks of a tensor, detached and on its device."""
    x = x.detach()
    if world_size() == 1:
        return x
    summed = x.clone()
    dist.all_reduce(summed)
    return summed


def any_true(flag: bool) -> bool:
    """Return True if the flag is True on at least one rank. Every rank must call it; the host waits."""
    return bool(largest(int(flag)))


def largest(value: int) -> int:
    """Return the largest of the numbers of all ranks. Every rank must call it; the host waits."""
    if world_size() == 1:
        return value
    everyone = torch.tensor(value)
    dist.all_reduce(everyone, dist.ReduceOp.MAX, group=host_group())
    return int(everyone.item())


def broadcast_object(value: _Value, source: int = 0) -> _Value:
    """Return the value of rank ``source`` on every rank. It is pickled between the ranks of one run."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=source, group=host_group(), device=torch.device("cpu"))
    return box[0]


def set_flag(name: str) -> None:
    """Set a flag in torchrun's store that survives a restart of the ranks; without torchrun, do nothing."""
    store = _store_of_job()
    if store is not None:
        store.set(name, "")


def has_flag(name: str) -> bool:
    """Return True if a rank of this job set the flag, in this attempt or in one that was killed.

    Every rank must call it and gets the same result. Flags of other jobs are never seen.
    """
    store = _store_of_job() if is_main() else None
    return broadcast_object(store is not None and store.check([name]))


def _store_of_job() -> dist.Store | None:
    """Return the store that torchrun keeps through restarts, or None without torchrun."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return dist.PrefixStore("avssl marks", store)


def barrier() -> None:
    """Wait on the host until every rank has called it, however long that takes."""
    if world_size() > 1:
        dist.barrier(group=host_group())
