"""The plan of a run on many processes, from what one process measured: bytes, cores and hours.

Memory, messages and checkpoints follow from the settings, by arithmetic. How fast other machines are does not: the
time of a step is given, or that of this machine.

Dimensions: W processes, B clips of each in a step, N rows of the corpus, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from avssl.config import Config, ConfigError
from avssl.core.cpus import decoding_workers
from avssl.core.divided_rows import divided_buffers
from avssl.core.exchanges import Exchange
from avssl.engine import checkpoint_bytes
from avssl.engine.cost import state_bytes
from avssl.objectives.cma import CMA
from avssl.training.search_plan import cost_lines
from avssl.training.setup import Measurements, counted_exchanges, measure_cost
from avssl.training.tasks import PretrainTask

_COUNTED_CLIPS = 4


@dataclass(frozen=True)
class Cluster:
    """The run to plan for."""

    world_size: int
    """W."""
    num_rows: int | None = None
    """N; None for the rows of the source."""
    step_seconds: float | None = None
    """Time of a step; None for that of this machine."""

    @classmethod
    def requested(
        cls, world_size: int | None, num_rows: int | None, step_seconds: float | None, *, dry_run: bool
    ) -> Cluster | None:
        """Return what a dry run is to plan for, or None.

        Raises:
            ConfigError: If the options do not go together.
        """
        if world_size is None:
            if num_rows is not None or step_seconds is not None:
                raise ConfigError("num_rows and step_seconds belong to a plan: add --world-size N, its processes.")
            return None
        if not dry_run:
            raise ConfigError("world_size plans a run: add --dry-run. To train on several GPUs, use torchrun.")
        return cls(world_size, num_rows, step_seconds)


@dataclass(frozen=True)
class Here:
    """One process on this machine, from which the plan is made."""

    measured: Measurements
    batch_size: int
    """Clips of its step."""
    num_rows: int
    """Rows of its source."""


def describe_cluster(config: Config, task: PretrainTask, here: Here, cluster: Cluster | None) -> str:
    """Describe memory, messages, checkpoints, loader and time of the run on W processes, in lines.

    Args:
        config: Settings, with the batch size of all processes together.
        task: The task, as built for the source.
        here: What was measured.
        cluster: What to plan for; None for nothing.

    Raises:
        ConfigError: If the processes cannot share the batch evenly, or the corpus does not fill it.
    """
    if cluster is None:
        return ""
    world, batch = cluster.world_size, config.optim.batch_size
    if batch % world:
        raise ConfigError(f"optim.batch_size ({batch}) must be a multiple of world_size ({world}).")
    rows = cluster.num_rows or here.num_rows
    if rows < batch:
        raise ConfigError(f"num_rows ({rows}) must fill a batch of {batch} clips (optim.batch_size).")
    own = batch // world
    steps = config.optim.epochs * (rows * config.data.clips_per_read // batch)
    seconds = cluster.step_seconds or here.measured.model_seconds * own / here.batch_size
    return "\n".join(
        [
            f"plan        {world} processes of {own} clips: batches of {batch}, {rows} rows, {steps} steps",
            _memory(config, task, here, own, rows, world),
            _exchange(task, here, own, world, is_sharded=config.train.parallel == "fsdp"),
            *_search(config, task, rows, world),
            _checkpoint(config, task, here, rows, world),
            _loader(config, here, own, seconds),
            f"  time      {seconds * steps / 3600:.3g} h: {steps} steps of {seconds:.3g} s"
            f"{' as on this machine (set --step-seconds)' if cluster.step_seconds is None else ', as given'}, "
            f"{seconds * steps * world / 3600:.4g} hours of a processor for all",
            "",
        ]
    )


def _bank_bytes(task: PretrainTask, x: Tensor, here: Here, rows: int) -> int:
    """Return the bytes of a buffer of the objective for the rows of the corpus."""
    if not task.objective.needs.memory or here.num_rows not in x.shape[:2]:
        return x.nbytes
    return round(x.nbytes / here.num_rows * rows)


def _divided_bytes(task: PretrainTask, here: Here, rows: int) -> int:
    """Return the bytes, for the rows of the corpus, of the buffers that the processes divide."""
    return sum(_bank_bytes(task, x, here, rows) for x in divided_buffers(task.objective))


def _memory(config: Config, task: PretrainTask, here: Here, own: int, rows: int, world: int) -> str:
    averaged = config.train.ema_decay is not None
    weights = state_bytes(task.model, config.optim.name, averaged=averaged)
    momentum = 0 if task.target is None else sum(x.nbytes for x in task.target.state_dict().values())
    divided = _divided_bytes(task, here, rows)
    banks = sum(_bank_bytes(task, x, here, rows) for x in task.objective.buffers()) - divided * (1 - 1 / world)
    local = replace(config, optim=replace(config.optim, batch_size=own))
    cost, _ = measure_cost(local, task, here.measured.sample, here.measured.precision)
    kept = (weights + momentum) / (world if config.train.parallel == "fsdp" else 1)
    total = kept + banks + cost.saved_bytes
    return (
        f"  memory    {_size(total)} a process: {_size(kept)} for weights, gradients and optimizer, "
        f"{_size(banks)} for banks and queues{' (divided)' if divided else ''}, "
        f"{_size(cost.saved_bytes)} for activations"
    )


def passed_bytes(weights: int, gradients: int, world: int, *, is_sharded: bool) -> float:
    """Return the bytes of weights and gradients that a process passes on in a step, each all but a W-th part.

    DDP sums the gradients and passes on the result. FSDP gathers the weights twice, for forward and backward, and
    leaves each part of the sum where it belongs; in bf16 the gathers are of half the size.
    """
    return (2 * weights + gradients if is_sharded else 2 * gradients) * (world - 1) / world


def _exchange(task: PretrainTask, here: Here, own: int, world: int, *, is_sharded: bool) -> str:
    gradients = sum(x.nbytes for x in task.model.parameters() if x.requires_grad)
    weights = sum(x.nbytes for x in task.model.parameters())
    averaged = passed_bytes(weights, gradients, world, is_sharded=is_sharded)
    exchanges = counted_exchanges(task, here.measured.sample, _COUNTED_CLIPS)
    received = received_bytes(exchanges, _COUNTED_CLIPS, own, world)
    # A fetch exchanges counts, numbers and rows.
    count = sum(3 if each.is_fetch else 1 + each.has_grad for each in exchanges)
    what = "weights and gradients" if is_sharded else "gradients"
    return (
        f"  exchange  {_size(averaged + received)} a step and process: {_size(averaged)} for {what}, "
        f"{_size(received)} in {count} collectives of the objective"
    )


def received_bytes(exchanges: Sequence[Exchange], counted_clips: int, own: int, world: int) -> float:
    """Return the bytes that a process receives for the objective in a step, from the exchanges of a few clips."""
    total = 0.0
    for each in exchanges:
        for shape, num_bytes in zip(each.shapes, each.num_bytes, strict=True):
            is_per_clip = bool(shape) and shape[0] % counted_clips == 0
            of_rank = num_bytes * (own / counted_clips if is_per_clip else 1)
            if each.is_pairs:
                of_rank *= own / counted_clips  # B columns of B clips from each of the others
            if each.is_fetch:
                of_rank /= world  # a part of the rows from each of the others
            total += of_rank * (world - 1) * (2 if each.has_grad else 1)
    return total


def _search(config: Config, task: PretrainTask, rows: int, world: int) -> list[str]:
    """Describe the search of positives in the memory, if there is one."""
    objective = task.objective
    if not isinstance(objective, CMA):
        return []
    count = len(range(objective.warmup_epochs, config.optim.epochs, objective.refresh_epochs))
    return cost_lines(objective, rows, world, count)


def _checkpoint(config: Config, task: PretrainTask, here: Here, rows: int, world: int) -> str:
    averaged = None if config.train.ema_decay is None else task.model
    size = checkpoint_bytes(task, config.optim.name, averaged=averaged)
    saved = task.objective.state_dict().values()
    size += sum(_bank_bytes(task, x, here, rows) - x.nbytes for x in saved)
    divided = _divided_bytes(task, here, rows)
    of_each = f", of which each process writes {_size(divided / world)} of memory" if divided else ""
    return f"  disk      {config.train.keep_checkpoints} checkpoints of {_size(size)}{of_each}"


def _loader(config: Config, here: Here, own: int, seconds: float) -> str:
    workers = max(1, decoding_workers(config.data.num_workers))
    a_core = here.batch_size / here.measured.read_seconds / workers
    needed = own / seconds
    return (
        f"  loader    {needed:.4g} clips per second a process: {needed / a_core:.3g} cores, as one decodes "
        f"{a_core:.3g} clips per second here"
    )


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:.4g} MiB" if num_bytes < 10 * 2**30 else f"{num_bytes / 2**30:.4g} GiB"
