"""Number format and memory layout of a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.core.sharded import is_sharded
from avssl.engine.protocols import Task
from avssl.engine.short_convolutions import pad_short_clips
from avssl.engine.views import use_views

_LOGGER = logging.getLogger(__name__)

PrecisionName = Literal["fp32", "bf16"]
Layout = Literal["contiguous", "channels_last", "channels_last_2d"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Precision:
    """Number format and memory layout of the model.

    With bf16, the model and the augmentation of frames compute in bf16. Spectrograms and objectives stay in float32,
    because decibels and similarities need its precision. On a 2-core CPU with AMX, bf16 with channels_last trained
    small (2+1)D networks three times faster than fp32 with contiguous.

    Raises:
        ValueError: If a name is unknown.

    Example:
        >>> precision = Precision("bf16", "channels_last")
        >>> print(precision)
        bf16 channels_last
        >>> precision.arrange(torch.zeros(1, 3, 4, 5)).stride()  # (B, C, H, W): the channels of a pixel are neighbors
        (60, 1, 15, 3)
        >>> model = torch.nn.Linear(2, 1)
        >>> handle = precision.apply(model, "cpu")
        >>> model(torch.ones(1, 2)).dtype, model.weight.dtype
        (torch.float32, torch.float32)
    """

    name: PrecisionName = "fp32"
    """Number format of matrix products and convolutions. Weights are always float32."""
    memory_format: Layout = "contiguous"
    """Memory layout of kernels and inputs; 5-D tensors use channels_last_3d. With "channels_last_2d", factorized
    convolutions over clips and their BatchNorm run as 2-D operations on views of it (:mod:`avssl.engine.views`)."""

    def __post_init__(self) -> None:
        if self.name not in ("fp32", "bf16"):
            raise InputError(f'precision.name ({self.name!r}) must be "fp32" or "bf16".')
        if self.memory_format not in LAYOUTS:
            names = ", ".join(f'"{layout}"' for layout in LAYOUTS)
            raise InputError(f"precision.memory_format ({self.memory_format!r}) must be one of {names}.")

    @classmethod
    def resolved(cls, name: PrecisionName | Literal["auto"], memory_format: Layout | Literal["auto"]) -> Precision:
        """Return the precision of settings in which ``"auto"`` has been replaced."""
        assert name != "auto", "resolved before training"
        assert memory_format != "auto", "resolved before training"
        return cls(name, memory_format)

    def __str__(self) -> str:
        return f"{self.name} {self.memory_format}"

    def native(self, device: torch.device | str) -> Precision:
        """Return this precision, or fp32 on a processor that would have to emulate bf16; for inference."""
        return self if self.name == "fp32" or computes_bf16(device) else replace(self, name="fp32")

    def autocast(self, device: torch.device | str) -> AbstractContextManager[Any]:
        """Return a context in which torch computes in this format."""
        return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.name == "bf16")

    @contextmanager
    def computing(self, model: nn.Module, device: torch.device | str) -> Iterator[None]:
        """Within the context, parts of a model compute in this precision; for inference, on arranged tensors."""
        with ExitStack() as undo:
            if self.memory_format == "channels_last_2d":
                undo.callback(use_views(model))
            undo.enter_context(self.autocast(device))
            yield

    def arrange(self, x: Tensor) -> Tensor:
        """Return the tensor in this layout. Tensors that are not 4-D or 5-D are returned unchanged."""
        if x.ndim not in (4, 5) or not x.is_floating_point():
            return x
        if self.memory_format == "contiguous":
            return x.contiguous()
        return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)

    def apply(self, model: nn.Module, device: torch.device | str) -> PrecisionHandle:
        """Make every call of ``model`` compute in this precision.

        Kernels are rearranged in place. Each call rearranges its inputs, runs under autocast and returns float32, also
        inside DDP and when activation checkpointing repeats it. ``remove()`` of the handle that is returned restores
        the forward pass; the layout of the weights stays. Warns of bf16 on a processor that has to emulate it.
        """
        if self.name == "bf16" and not computes_bf16(device):
            _warn_of_emulation()
        with torch.no_grad():
            for parameter in model.parameters():
                if not is_sharded(parameter):
                    parameter.data = self.arrange(parameter.data)
        return PrecisionHandle(model, self, torch.device(device))

    @contextmanager
    def applied_to(self, task: Task, device: torch.device | str) -> Iterator[None]:
        """Within the context, train a task in this precision.

        :meth:`apply` is called on each of the task's networks, and augmented frames come in the format in which
        the model computes. Frames in evaluation stay float32.
        """
        with ExitStack() as undo:
            for network in task.networks():
                undo.callback(self.apply(network, device).remove)
            undo.callback(task.set_output, torch.float32, torch.contiguous_format)
            task.set_output(*self.frame_format)
            yield

    @property
    def frame_format(self) -> tuple[torch.dtype, torch.memory_format]:
        """Format of (B, 3, T, H, W) frames that the model takes without a conversion."""
        layout = torch.contiguous_format if self.memory_format == "contiguous" else torch.channels_last_3d
        return torch.bfloat16 if self.name == "bf16" else torch.float32, layout


class PrecisionHandle:
    """Handle of what :meth:`Precision.apply` adds: a forward pass, views, on a CPU in bf16 the padding of short clips.

    ``model.forward`` is replaced rather than surrounded by hooks: torch.compile cannot trace a context that one hook
    enters and another leaves.
    """

    def __init__(self, model: nn.Module, precision: Precision, device: torch.device) -> None:
        self._undo = ExitStack()
        if precision.memory_format == "channels_last_2d":
            self._undo.callback(use_views(model))
        if precision.name == "bf16" and device.type == "cpu":
            self._undo.callback(pad_short_clips(model))
        self._model, self._before = model, vars(model).get("forward")
        # A bound method, whose copy belongs to the copy of the model.
        method = MethodType(_forward_in(precision, device, self._before), model)
        model.forward = method  # type: ignore[method-assign]

    def remove(self) -> None:
        del self._model.forward
        if self._before is not None:
            self._model.forward = self._before
        self._undo.close()


def _forward_in(precision: Precision, device: torch.device, before: Any) -> Callable[..., Any]:
    """Return a forward pass in a precision around that of a model's class, or around ``before``, the model's own."""
    is_function = before is not None and not isinstance(before, MethodType)  # that of a module of torch.compile

    def forward(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        inner = type(self).forward if before is None else getattr(before, "__func__", before)
        with precision.autocast(device):
            arranged = [precision.arrange(x) if isinstance(x, Tensor) else x for x in inputs]
            named = {name: precision.arrange(x) if isinstance(x, Tensor) else x for name, x in options.items()}
            output = inner(*(() if is_function else (self,)), *arranged, **named)
        return output if precision.name == "fp32" else _to_float32(output)

    return forward


def _to_float32(value: Any) -> Any:
    """Return the same structure with every bf16 tensor in float32."""
    match value:
        case Tensor():
            return value.float() if value.dtype == torch.bfloat16 else value
        case dict():
            return {key: _to_float32(item) for key, item in value.items()}
        case tuple() | list() if not hasattr(value, "_fields"):
            return type(value)([_to_float32(item) for item in value])
        case None:
            return None
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _to_float32(getattr(value, f.name)) for f in fields(value) if f.init})
    return value


_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}
"""Words of /proc/cpuinfo for bf16 arithmetic of x86 and of ARM."""
_CPUINFO = Path("/proc/cpuinfo")


def computes_bf16(device: torch.device | str) -> bool:
    """Return False if the device is a processor without bf16 arithmetic, which it emulates tens of times slower.

    Example:
        >>> computes_bf16("cuda")  # only processors may lack it
        True
    """
    return torch.device(device).type != "cpu" or _cpu_computes_bf16()


@cache
def _cpu_computes_bf16() -> bool:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").lower().splitlines()
    except OSError:  # another system than Linux: not known
        return True
    flags = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "features"))]
    return not flags or bool(_BF16_FLAGS & set(flags[0]))


@cache
def _warn_of_emulation() -> None:
    _LOGGER.warning(
        "bf16 on a processor without bf16 arithmetic (avx512_bf16, amx_bf16 or ARM's bf16) is emulated, up to 50 times "
        "slower than fp32. Use train.precision fp32 or auto, or a GPU."
    )
