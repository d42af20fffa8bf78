"""An accelerator that does not exist: tensors without memory on a device of their own, which show every mistake.

``torch._subclasses.FakeTensorMode`` computes shapes, types and devices, nothing else. Its tensors live on a device
"pretend", which stands for "cuda": CUDA itself needs a driver as soon as autograd runs. An operation on tensors of two
devices raises, and so does one whose shape depends on data or that reads a value: with CUDA the host would wait there.

A process that calls :func:`register` keeps the device, so tests run in a process of their own.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer
from torch.utils import _foreach_utils, backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

DEVICE = "pretend"
_AUTOCAST = "AutocastPrivateUse1"
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_LOWERED = ("linear", "conv1d", "conv2d", "conv3d", "matmul", "mm", "bmm", "addmm", "baddbmm")
"""Operations that autocast computes in bf16; more than these are in its list, none that avssl uses in another way."""


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def register() -> list[torch.library.Library]:
    """Register the device and its autocast; keep what is returned as long as it is used."""
    for kinds in (_foreach_utils._foreach_supported_types, optimizer._foreach_supported_types):
        if FakeTensor not in kinds:
            kinds.append(FakeTensor)  # as for a tensor of CUDA: one launch for many parameters
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, _Module())
    anything, named = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    anything.fallback(torch.library.fallthrough_kernel, _AUTOCAST)
    for name in _LOWERED:
        named.impl(name, _lowered(getattr(torch.ops.aten, name).default), _AUTOCAST)
    return [anything, named]


def _lowered(operation: Any) -> Any:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(x: Any) -> Any:
        return x.bfloat16() if isinstance(x, Tensor) and x.is_floating_point() else x

    def call(*inputs: Any, **options: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operation(*tree_map(cast, inputs), **options)

    return call


def move(module: nn.Module) -> nn.Module:
    """Move parameters and buffers to the device, in place and within a FakeTensorMode; shared ones stay shared.

    Other tensors stay where they are, as with ``module.to``: they are the mistakes to find.
    """
    moved: dict[int, Tensor] = {}

    def on_device(x: Tensor) -> Tensor:
        if id(x) not in moved:
            empty = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=DEVICE)
            moved[id(x)] = nn.Parameter(empty, x.requires_grad) if isinstance(x, nn.Parameter) else empty
        return moved[id(x)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: on_device(x) for name, x in tensors.items() if x is not None})
    return module


class Launches(TorchDispatchMode):
    """Counts the operations that write to the device, and copies between host and device with their place.

    A number that a tensor is made of is copied too. Other operations on both raise, as with CUDA.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.collectives: Counter[str] = Counter()
        self.num_bytes = 0
        """Bytes of the larger side of all collectives: what a rank receives, or what it sends."""
        self.part = ""
        self.files: Counter[str] = Counter()
        """Launches by part and file of avssl."""

    @contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Count what runs in the context under this name."""
        before, self.part = self.part, part
        try:
            with self:
                yield
        finally:
            self.part = before

    def count_calls(self, module: nn.Module, part: str) -> None:
        """From now on, count every call of a module under this name, within another part too."""
        before: list[str] = []

        def enter(*_: Any) -> None:
            before.append(self.part)
            self.part = part

        def leave(*_: Any) -> None:
            self.part = before.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)

    def clear(self) -> None:
        """Forget what was counted."""
        self.counts.clear()
        self.copies.clear()
        self.collectives.clear()
        self.num_bytes = 0
        self.files.clear()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = operation(*args, **(kwargs or {}))
        inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_iter(output) if isinstance(x, Tensor)]
        # What changes a list of tensors, such as a fused optimizer, returns nothing.
        written = outputs or [x for x in inputs if operation._schema.is_mutable]
        if any(x.device.type == DEVICE for x in written) and is_launch(operation):
            self.counts[self.part] += 1
            self.files[f"{self.part:<12}{innermost_file()}"] += 1
        if operation.namespace == "c10d":
            self.collectives[self.part] += 1
            # Inputs are among the arguments, and outputs too.
            self.num_bytes += max(x.nbytes for x in inputs)
        if operation in _COPIES and len({x.device.type for x in (*inputs, *outputs)}) > 1:
            self.copies[f"{operation} at {place()}"] += 1
        return output


_WITHOUT_KERNEL = re.compile(
    r"aten\.(new_)?empty(_strided|_like)?\.|aten\.(transpose_|t_|squeeze_|unsqueeze_|detach_|_unsafe_view)\."
)
"""Operations that only allocate memory or change a shape."""


def is_launch(operation: Any) -> bool:
    """Return False for views, and for what only allocates memory."""
    is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in operation._schema.returns)
    return not is_view and not _WITHOUT_KERNEL.match(str(operation))


def innermost_file() -> str:
    """Return the innermost file of avssl that is running, without the time that :func:`place` takes."""
    frame = sys._getframe(1)
    while frame is not None:
        before, found, name = frame.f_code.co_filename.rpartition("/avssl/")
        if found and "/tests" not in before:
            return name
        frame = frame.f_back
    return "no file of avssl"


def place() -> str:
    """Return the innermost line of avssl that is running."""
    frames = [f for f in traceback.extract_stack() if "/avssl/" in f.filename.replace("/tests/", "")]
    return f"{frames[-1].filename.rpartition('/avssl/')[2]}:{frames[-1].lineno}" if frames else "no line of avssl"


__all__ = ["DEVICE", "FakeTensorMode", "Launches", "is_launch", "move", "place", "register"]
