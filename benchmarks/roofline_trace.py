"""Operations of a step with their arithmetic and memory traffic, and the shortest time in which a GPU runs them.

Each operation that the dispatcher runs is a kernel. It reads each input once and writes each output once; only training
BatchNorm reads its inputs twice, as it needs the mean over all clips before it can normalize. Its time is that of its
arithmetic or of its traffic, whichever is longer, as in Williams et al., "Roofline", 2009,
https://doi.org/10.1145/1498765.1498785. No tensor stays in a cache between two kernels, no kernel is slower than the
data sheet allows, and arithmetic is that of products and convolutions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Gpu:
    """Figures of a GPU's data sheet, per second, without sparsity."""

    name: str
    bf16_flops: float
    """Products in bf16 on tensor cores."""
    tf32_flops: float
    """Convolutions in float32, which cuDNN computes in TF32 as torch sets it."""
    fp32_flops: float
    """Matrix products in float32, as torch sets them."""
    bytes: float
    """Bytes moved to and from memory."""

    def seconds(self, operation: Operation) -> float:
        """Return the shortest time of an operation."""
        return max(self.matmul_seconds(operation), operation.num_bytes / self.bytes)

    def matmul_seconds(self, operation: Operation) -> float:
        """Return the shortest time of an operation's arithmetic."""
        if operation.dtype in (torch.bfloat16, torch.float16):
            return operation.flops / self.bf16_flops
        return operation.flops / (self.tf32_flops if "conv" in operation.name else self.fp32_flops)


H200 = Gpu("H200", 989e12, 494.5e12, 67e12, 4.8e12)
"""SXM version, https://www.nvidia.com/en-us/data-center/h200/; its figures of tensor cores with sparsity are twice."""


@dataclass(frozen=True)
class Operation:
    """One kernel, or several that are fused into one."""

    name: str
    part: str
    flops: int
    dtype: torch.dtype | None
    """Format of the first input."""
    reads: dict[int, int]
    """Bytes read of each storage, by its number."""
    writes: dict[int, int]
    """Bytes written of each storage."""
    second_reads: int = 0
    """Bytes that are read once more."""

    @property
    def num_bytes(self) -> int:
        """Bytes moved to and from memory."""
        return sum(self.reads.values()) + sum(self.writes.values()) + self.second_reads


@dataclass
class Trace(TorchDispatchMode):
    """Records the operations that run while it is active, on tensors with or without values.

    Args:
        is_launch: Tells whether an operation runs a kernel; others only make views or allocate memory.
    """

    is_launch: Callable[[Any], bool]
    operations: list[Operation] = field(default_factory=list)
    part: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._numbers: dict[int, int] = {}
        self._held: list[Tensor] = []

    @contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Record what runs in the context under this name."""
        before, self.part = self.part, part
        try:
            with self:
                yield
        finally:
            self.part = before

    def count_calls(self, module: torch.nn.Module, part: str) -> None:
        """From now on, record every call of a module or of a part of it under this name."""
        before: list[str] = []

        def enter(*_: Any) -> None:
            before.append(self.part)
            self.part = part

        def leave(*_: Any) -> None:
            self.part = before.pop()

        for child in module.modules():  # a network's method may call its parts and not the network
            child.register_forward_pre_hook(enter)
            child.register_forward_hook(leave)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = operation(*args, **kwargs)
        inputs, changed = _inputs(operation, args, kwargs)
        makes = changed or any(isinstance(x, Tensor) for x in tree_iter(output))
        if makes and self.is_launch(operation):  # what changes a list of tensors returns nothing
            self.operations.append(self._described(operation, args, kwargs, inputs, changed, output))
        return output

    def _described(
        self, operation: Any, args: Any, kwargs: Any, inputs: list[Tensor], changed: list[Tensor], output: Any
    ) -> Operation:
        outputs = [x for x in tree_iter(output) if isinstance(x, Tensor)]
        packet = operation._overloadpacket
        name, formula = str(packet).removeprefix("aten."), flop_registry.get(packet)
        flops = 0 if formula is None else formula(*args, **kwargs, out_val=output)
        reads, writes = self._bytes(inputs), self._bytes([*outputs, *changed])
        if name in _READS_ROWS:  # only the rows that come out
            source = self._number(inputs[0])
            reads[source] = min(reads[source], sum(writes.values()))
        if name in _WRITES_ROWS:  # only the rows that go in
            target, values = self._number(changed[0] if changed else outputs[0]), inputs[-1]
            writes[target] = min(writes[target], _touched(values))
        again = sum(_touched(args[place]) for place in _SECOND_READS.get(name, ()))
        return Operation(name, self.part, flops, inputs[0].dtype if inputs else None, reads, writes, again)

    def _bytes(self, tensors: list[Tensor]) -> dict[int, int]:
        """Return the bytes of the tensors in each storage; the same view counts once."""
        views = {(self._number(x), x.storage_offset(), x.shape, x.stride()): x for x in tensors}
        found: dict[int, int] = {}
        for (number, *_), x in views.items():
            found[number] = min(found.get(number, 0) + _touched(x), x.untyped_storage().nbytes())
        return found

    def _number(self, x: Tensor) -> int:
        storage = x.untyped_storage()._cdata  # a fake tensor has no address
        if storage not in self._numbers:
            self._numbers[storage] = len(self._numbers)
            self._held.append(x.detach())  # a later storage could reuse the same object address
        return self._numbers[storage]


_SECOND_READS = {"native_batch_norm": (0,), "native_batch_norm_backward": (0, 1)}
"""Arguments that training BatchNorm reads twice."""
_READS_ROWS = {"index", "index_select", "gather", "embedding"}
_WRITES_ROWS = {"index_put_", "index_copy_", "scatter_", "index_add_"}
_OVERWRITES = {"copy_", "fill_", "zero_", "uniform_", "normal_", "random_", "bernoulli_"}
"""Operations that do not read what they change."""


def _inputs(operation: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors that an operation reads, and those that it changes."""
    read, changed = [], []
    overwrites = str(operation._overloadpacket).removeprefix("aten.") in _OVERWRITES
    values = {argument.name: value for argument, value in zip(operation._schema.arguments, args, strict=False)} | kwargs
    for argument in operation._schema.arguments:
        tensors = [x for x in tree_iter(values.get(argument.name)) if isinstance(x, Tensor)]
        is_changed = argument.alias_info is not None and argument.alias_info.is_write
        if is_changed:
            changed += tensors
        if not is_changed or not (overwrites or argument.is_out):
            read += tensors
    return read, changed


def _touched(x: Tensor) -> int:
    """Return the bytes of the elements of a tensor that lie at different places."""
    elements = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        elements *= 1 if stride == 0 and size > 0 else size
    return min(elements * x.element_size(), x.untyped_storage().nbytes())


# ---------------------------------------------------------------- fused kernels

_SEPARATE = {"_fft_r2c", "_fft_c2c", "_fft_c2r", "sort", "topk", "max_pool2d_with_indices", "max_pool3d_with_indices"}
"""Kernels without counted arithmetic that no compiler fuses with others."""


def fused(operations: list[Operation], parts: set[str]) -> list[Operation]:
    """Return the operations with every run of them between two products fused into one kernel, in some parts.

    A fused kernel reads what it does not make itself, and writes what is used after it. No real one does better.
    """
    names = {operation.part for operation in operations}
    if not parts <= names:
        raise ValueError(f"there are no parts {sorted(parts - names)}; there are {sorted(names)}.")
    last_read = {number: place for place, operation in enumerate(operations) for number in operation.reads}
    made_here: set[int] = set()
    given: set[int] = set()  # there before the first operation, as weights and running means are
    for operation in operations:
        given |= operation.reads.keys() - made_here
        made_here |= operation.writes.keys()

    def run_of(item: tuple[int, Operation]) -> Any:
        place, operation = item
        is_single = operation.part not in parts or operation.flops > 0 or operation.name in _SEPARATE
        return place if is_single else operation.part

    result = []
    for _, items in groupby(enumerate(operations), run_of):
        run = list(items)
        result.append(run[0][1] if len(run) == 1 else _as_one(run, last_read, given))
    return result


def _as_one(run: list[tuple[int, Operation]], last_read: dict[int, int], given: set[int]) -> Operation:
    reads: dict[int, int] = {}
    writes: dict[int, int] = {}
    for _, operation in run:
        for number, count in operation.reads.items():
            if number not in writes:
                reads[number] = max(reads.get(number, 0), count)
        for number, count in operation.writes.items():
            writes[number] = max(writes.get(number, 0), count)
    end = run[-1][0]
    kept = {number: count for number, count in writes.items() if last_read.get(number, -1) > end or number in given}
    first = run[0][1]
    again = sum(operation.second_reads for _, operation in run)
    return Operation("fused", first.part, 0, first.dtype, reads, kept, again)


# ---------------------------------------------------------------- bounds


@dataclass(frozen=True)
class Bound:
    """Shortest times in seconds of operations on a GPU."""

    matmul: float
    """Arithmetic alone."""
    memory: float
    """Memory traffic alone."""
    device: float
    """Each operation's arithmetic or traffic, whichever is longer."""
    launches: float
    """Launching the kernels, one after the other."""
    num_launches: int
    num_bytes: int
    flops: int
    """Operations of products and convolutions."""

    @property
    def seconds(self) -> float:
        """The device runs while the host launches; the slower of the two decides."""
        return max(self.device, self.launches)


def bound(operations: list[Operation], gpu: Gpu, launch_seconds: float) -> Bound:
    """Return the bound of some operations; launching one takes the host ``launch_seconds``."""
    num_bytes = sum(operation.num_bytes for operation in operations)
    return Bound(
        matmul=sum(map(gpu.matmul_seconds, operations)),
        memory=num_bytes / gpu.bytes,
        device=sum(map(gpu.seconds, operations)),
        launches=len(operations) * launch_seconds,
        num_launches=len(operations),
        num_bytes=num_bytes,
        flops=sum(operation.flops for operation in operations),
    )
