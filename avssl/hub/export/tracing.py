"""Trace a tower by torch.export, with the lengths and frame sizes that its network takes.

The batch is of any size. A length is free unless the network has one only, which the network itself tells: its
contract says so, or it raises an error at another length. The tracer may keep a length too, where the network computes
other lengths in another way. Both are noted with their reasons; any other error is one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.hub.export.towers import Port, Tower
from avssl.hub.release import HubError

_TOGETHER = (("frames",), ("height", "width"), ("samples",), ("time",))
"""Dimensions of any size by name; a network that fixes one of a group fixes all of it."""
_OF_SIZES = re.compile(r"\b(sizes?|shapes?|lengths?|dimensions?|channels|invalid for input)\b|match", re.IGNORECASE)
"""Words of errors that a network raises for another length."""
_GUARD = "Guard failed: "
_OTHERWISE = "the network computes other ones in another way"
_SEED = 0


@dataclass(frozen=True, eq=False)
class Traced:
    """A program of a tower, with the sizes that it takes."""

    tower: Tower
    program: torch.export.ExportedProgram
    inputs: dict[str, list[str | int]]
    """Shape of each input; dimensions of any size by name."""
    fixed: dict[str, str]
    """Dimensions that have the size of training only, with the reasons."""


def trace(tower: Tower) -> Traced:
    """Trace a tower for batches, lengths and frames of any size, as far as its network takes them.

    Raises:
        HubError: If it cannot be traced, or its batch has a fixed size.
    """
    return _traced(tower, _lengths_of_the_network(tower))


def trace_trained(traced: Traced, reason: str) -> Traced:
    """Trace a tower again for the lengths and frames of its training alone, for a reason."""
    free = _all_names(traced.tower) - set(traced.fixed)
    return _traced(traced.tower, traced.fixed | dict.fromkeys(sorted(free), reason))


def _traced(tower: Tower, fixed: dict[str, str]) -> Traced:
    program = _exported(tower, fixed)
    fixed |= _lengths_of_the_trace(tower, program, fixed)
    if rejected := _lengths_of_the_program(tower, program, fixed):
        fixed |= rejected
        program = _exported(tower, fixed)
        fixed |= _lengths_of_the_trace(tower, program, fixed)
    inputs = _input_shapes(tower, program)
    _allow_one_clip(tower, program)
    return Traced(tower, program, inputs, fixed)


def example(ports: Sequence[Port], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return noise in the range of each input; frames are multiples of 1 / 255."""
    generator = torch.Generator().manual_seed(_SEED)
    return [_noise(port, shape, generator) for port, shape in zip(ports, shapes, strict=True)]


def other_shapes(ports: Sequence[Port], fixed: Collection[str], batch: int = 1) -> list[list[int]]:
    """Return shapes that differ from those of training in every dimension that is not fixed."""
    return [
        [batch, *(size if name in fixed else port.other(name, size) for name, size in port.trained())] for port in ports
    ]


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings of torch and of the exporter about their own code."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings(
                "ignore", category=category, module=r"(torch|copyreg|onnxscript|onnx_ir|onnx|transformers)(\..*)?$"
            )
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)  # of torch.export.load
        warnings.filterwarnings("ignore", "No complete tensor found in the group", UserWarning)  # of torch.export.save
        warnings.filterwarnings("ignore", "# ", UserWarning)  # torch.onnx about dimensions with two names
        yield


def first_line(error: BaseException | None) -> str:
    """Return the first line of an error, which ends with a period."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."


# ---------------------------------------------------------------- lengths


def _lengths_of_the_network(tower: Tower) -> dict[str, str]:
    """Return the dimensions that the network has one size of, with the reasons: by its contract, or by its error."""
    fixed = dict(tower.fixed)
    for names in _others(tower, fixed):
        shapes = other_shapes(tower.inputs, _all_names(tower) - set(names))
        try:
            with torch.no_grad():
                tower.reference(*example(tower.inputs, shapes))
        except (InputError, RuntimeError, AssertionError, ValueError) as error:
            if not isinstance(error, InputError) and not _OF_SIZES.search(str(error)):
                raise HubError(
                    f"the {tower.name} tower cannot be exported: at another {names[0]} its network raises: "
                    f"{first_line(error)}"
                ) from error
            fixed |= dict.fromkeys(names, f"at another one the network raises: {first_line(error)}")
    return fixed


def _lengths_of_the_trace(
    tower: Tower, program: torch.export.ExportedProgram, fixed: Mapping[str, str]
) -> dict[str, str]:
    """Return the dimensions that the tracer has turned into numbers."""
    return {
        name: f"{_OTHERWISE}, which the export has not"
        for port in tower.inputs
        for name, size in zip(port.dims, _input_shapes(tower, program)[port.name], strict=True)
        if isinstance(name, str) and isinstance(size, int) and name not in fixed
    }


def _lengths_of_the_program(
    tower: Tower, program: torch.export.ExportedProgram, fixed: Mapping[str, str]
) -> dict[str, str]:
    """Return the dimensions of which a program takes no other size, as its guards say."""
    rejected: dict[str, str] = {}
    for names in _others(tower, fixed):
        shapes = other_shapes(tower.inputs, _all_names(tower) - set(names), batch=2)
        if guard := _failed_guard(tower, program, shapes):
            rejected |= dict.fromkeys(names, f"{_OTHERWISE} (not {guard})")
    return rejected


def _allow_one_clip(tower: Tower, program: torch.export.ExportedProgram) -> None:
    """Remove the guards of a program in place if they exclude a batch of one clip.

    Its tensors may have other strides, on which the tracer then makes a guard although the numbers are the same; they
    are compared, also for one clip, when the program is written.
    """
    if _failed_guard(tower, program, [[1, *port.size] for port in tower.inputs]):
        program._guards_code.clear()


def _failed_guard(tower: Tower, program: torch.export.ExportedProgram, shapes: Sequence[Sequence[int]]) -> str:
    """Return the guard of a program that inputs of these shapes do not meet; "" if there is none."""
    try:
        with torch.no_grad():
            program.module()(*example(tower.inputs, shapes))
    except AssertionError as error:
        if not str(error).startswith(_GUARD):
            raise
        return str(error).removeprefix(_GUARD)
    return ""


def _others(tower: Tower, fixed: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield the groups of dimensions that are not fixed."""
    for names in _TOGETHER:
        if names[0] in _all_names(tower) and names[0] not in fixed:
            yield names


def _all_names(tower: Tower) -> set[str]:
    return {name for port in tower.inputs for name in port.dims[1:] if isinstance(name, str)}


def _noise(port: Port, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    if port.name == "frames":
        return torch.randint(256, tuple(shape), generator=generator) / 255
    noise = torch.randn(tuple(shape), generator=generator)
    return noise * 0.1 if port.name == "waveform" else noise * 20 - 40


# ---------------------------------------------------------------- torch.export


def _exported(tower: Tower, fixed: Mapping[str, str]) -> torch.export.ExportedProgram:
    examples = tuple(torch.rand(2, *port.size) for port in tower.inputs)
    batch = torch.export.Dim("batch", min=1)
    shapes = []
    for port in tower.inputs:
        free = [at for at, name in enumerate(port.dims) if at and isinstance(name, str) and name not in fixed]
        shapes.append({0: batch, **dict.fromkeys(free, torch.export.Dim.AUTO)})
    takes_several = tower.name == "classifier"  # its forward has *given
    arranged: Any = (tuple(shapes),) if takes_several else tuple(shapes)
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(tower.module, examples, dynamic_shapes=arranged)
    except Exception as error:  # the exporter has many kinds of errors, all of which mean that it cannot
        advice = "" if tower.name == "video" else " If the audio front end is the reason, use --spectrogram outside."
        raise HubError(f"the {tower.name} tower cannot be exported: {first_line(error)}{advice}") from error


def _input_shapes(tower: Tower, program: torch.export.ExportedProgram) -> dict[str, list[str | int]]:
    """Return the shape of each input; the tracer has found out which dimensions may have any size."""
    found = [node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    return {
        port.name: [
            int(str(size)) if str(size).isdigit() else str(name)  # an int, a constant symbol, or an expression
            for name, size in zip(port.dims, x.shape, strict=True)
        ]
        for port, x in zip(tower.inputs, found, strict=True)
    }
