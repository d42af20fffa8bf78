"""Networks sharded over ranks by FSDP2: each rank holds a part of every weight, its gradient and optimizer state.

Source: Zhao et al., "PyTorch FSDP", VLDB 2023, https://arxiv.org/abs/2304.11277, in the form of
:func:`torch.distributed.fsdp.fully_shard`. The weights of one unit (:mod:`avssl.core.units`: a transformer block, a
residual block) are gathered before it runs and freed behind it; what lies outside of units (heads, patches, positions)
is one more group, gathered for the whole step::

    rank 0   1/W of block 1   1/W of block 2  ...   1/W of the rest    so do gradients, optimizer, average, momentum
    step     gather 1 → run → free   gather 2 → run → free  ...        backward in reverse, each gradient → its shard

A sharded weight is a DTensor with the name and the shape of the whole one. Gradients are means over ranks, as DDP's.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from avssl.core import distributed
from avssl.core.batch import AugmentedPair, Embeddings, Patches
from avssl.core.errors import InputError
from avssl.core.sharded import full, is_sharded, part_like
from avssl.core.units import units_in
from avssl.engine.precision import Precision
from avssl.engine.protocols import Task

if TYPE_CHECKING:  # their import takes a second, which one process need not wait for
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import MixedPrecisionPolicy
    from torch.distributed.tensor.placement_types import Shard


def shard(task: Task, device: torch.device, precision: Precision, mesh: DeviceMesh | None = None) -> DeviceMesh:
    """Shard the networks of a task in place over all ranks, and move them to the device unit by unit.

    Call it before the optimizer and the average are made, on a task that is equal on every rank. Everything else of the
    task (transforms, banks, buffers) stays whole, and so does a
    network that is no part of the task's state, such as a teacher.

    Args:
        task: The task.
        device: Device of this rank.
        precision: With bf16, the weights of units are gathered and multiplied in bf16, and their gradients reduced in
            float32. Units with BatchNorm (on a CPU: with any norm) and the rest of the model gather float32 weights,
            which autocast converts.
        mesh: The ranks; all of them by default.

    Returns:
        The ranks, as checkpoints need them.

    Raises:
        InputError: If there is one rank, a weight is a scalar, or ``precision`` rearranges kernels.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    world = distributed.world_size()
    if world == 1:
        raise InputError("one process has no other to share weights with: use train.parallel ddp, or start more ranks.")
    if precision.memory_format != "contiguous":
        raise InputError("FSDP shards contiguous weights: set train.memory_format contiguous or train.parallel ddp.")
    _register_outputs()
    mesh = mesh or init_device_mesh(device.type, (world,))

    def placement(parameter: nn.Parameter) -> Shard:
        return placement_of(parameter.shape, world)

    own = set(task.modules())
    for network in (network for network in task.networks() if network in own):
        _refuse_scalars(network)
        for unit in _own_units(network):
            fully_shard(unit, mesh=mesh, mp_policy=_policy(unit, precision, device), shard_placement_fn=placement)
        # A trained network is gathered for its backward pass too; a momentum model has none.
        is_trained = any(parameter.requires_grad for parameter in network.parameters())
        fully_shard(network, mesh=mesh, reshard_after_forward=not is_trained, shard_placement_fn=placement)
    return mesh


def sharded_units(network: nn.Module) -> list[nn.Module]:
    """Return the units of a network whose weights are gathered apart from the rest; none if it is not sharded."""
    return [part for part in network.modules() if _is_fsdp(part) and part is not network]


def placement_of(shape: torch.Size, num_ranks: int) -> Shard:
    """Return the dimension by which a weight is divided: the first one, or one that gives every rank an equal part."""
    from torch.distributed.tensor.placement_types import Shard

    if len(shape) == 0 or shape[0] >= num_ranks:
        return Shard(0)
    return Shard(next((number for number, size in enumerate(shape) if size and size % num_ranks == 0), 0))


@contextmanager
def gathered(task: Task) -> Iterator[None]:
    """Within the context, every rank has the whole networks, in evaluation by their parts too; for no training step."""
    sharded: list[Any] = [part for network in task.networks() for part in network.modules() if _is_fsdp(part)]
    for part in sharded:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        roots = {id(network) for network in task.networks() if any(p.requires_grad for p in network.parameters())}
        for part in sharded:
            part.reshard()
            part.set_reshard_after_forward(id(part) not in roots, recurse=False)


def whole(state: Any, *, on_every_rank: bool = False) -> Any:
    """Return nested containers with sharded tensors gathered on the CPU of rank 0, or of each; all ranks must call it.

    The other ranks get None in their places. One tensor is gathered at a time.
    """
    if isinstance(state, Tensor):
        if not is_sharded(state):
            return state
        gathered = full(state)
        return gathered.cpu() if on_every_rank or distributed.is_main() else None
    if isinstance(state, Mapping):
        return {key: whole(value, on_every_rank=on_every_rank) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole(value, on_every_rank=on_every_rank) for value in state)
    return state


def unsharded_copy(task: Task) -> Task:
    """Return a copy of a task whose weights are those of the task itself, in no memory of their own, to be sharded.

    Sharding it gives the copy weights of its own, and leaves the task as it is.
    """
    weights = [weight for network in task.networks() for weight in network.parameters()]
    shared = {id(weight): nn.Parameter(weight.detach(), weight.requires_grad) for weight in weights}
    return copy.deepcopy(task, shared)


def parts_like(values: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole tensors sharded as those of the same names are, such as those of a checkpoint of one process."""
    return {name: part_like(value, like[name]) if name in like else value for name, value in values.items()}


def optimizer_parts(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer sharded as its parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        **state,
        "state": {
            number: {
                name: part_like(value, parameters[number]) if _has_shape(value, parameters[number]) else value
                for name, value in values.items()
            }
            for number, values in state["state"].items()
        },
    }


def _has_shape(value: Any, parameter: Tensor) -> bool:
    """Return True for a tensor with a number for each of the parameter's, not a count of steps."""
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _own_units(network: nn.Module) -> list[nn.Module]:
    """Return the units that share no weight with another one; shared weights stay with the rest of the network."""
    units = [unit for unit in units_in(network) if any(True for _ in unit.parameters())]
    owners = Counter(id(parameter) for unit in units for parameter in unit.parameters())
    return [unit for unit in units if all(owners[id(parameter)] == 1 for parameter in unit.parameters())]


def _policy(unit: nn.Module, precision: Precision, device: torch.device) -> MixedPrecisionPolicy:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    # BatchNorm takes float32 weights only; autocast converts the weights of the other norms on GPUs, not on CPUs.
    whole = (_BatchNorm,) if device.type == "cuda" else (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
    if precision.name == "fp32" or any(isinstance(part, whole) for part in unit.modules()):
        return MixedPrecisionPolicy()
    # Autocast converts the inputs where it should, as without FSDP.
    return MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)


def _refuse_scalars(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if parameter.ndim == 0:
            raise InputError(f"{name} is a scalar, which FSDP cannot shard: use train.parallel ddp for this model.")


def _is_fsdp(module: nn.Module) -> bool:
    return hasattr(module, "set_reshard_after_forward")


def _register_outputs() -> None:
    """Let FSDP find the tensors in what models return; without them, backward would not gather weights."""
    for kind in (Embeddings, AugmentedPair, Patches):
        if kind not in pytree.SUPPORTED_NODES:
            pytree.register_dataclass(kind)
