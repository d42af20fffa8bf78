"""Convert traced towers to files, read them back, and compare them with the model that they were made of."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import RunError
from avssl.core.user_files import open_regular
from avssl.core.whole_file import whole_file
from avssl.hub.export.towers import Tower
from avssl.hub.export.tracing import Traced, example, first_line, other_shapes, quiet, trace, trace_trained
from avssl.hub.release import HubError

Format = Literal["onnx", "pt2"]
TOLERANCE = 1e-4
"""Largest accepted difference of an output from the model, relative to 1 or to the largest value if that is more."""
_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
_LARGEST_ONNX_BYTES = 2**31 - 2**20  # a protocol buffer ends at 2 GiB; larger weights need a file of their own
_NO_FORMULA = "is not in _SYM_OPS"  # of torch.export about a function of a size, such as math.ceil
_UNSAVED = "files of torch.export cannot hold how the network computes other ones; --format onnx may"


@dataclass(frozen=True, eq=False)
class Program:
    """A tower in the form of a file that is not written yet."""

    traced: Traced
    form: Format
    content: Any
    """ONNX program of torch.onnx, or the bytes of a file of torch.export."""
    num_bytes: int
    """Size of its weights."""

    @property
    def tower(self) -> Tower:
        """The tower it was made of."""
        return self.traced.tower


@dataclass(frozen=True)
class Written:
    """An exported file and how it was checked."""

    tower: Tower
    path: Path
    inputs: dict[str, list[str | int]]
    """Shape of each input; dimensions of any size by name."""
    fixed: dict[str, str]
    """Dimensions that have the size of training only, with the reasons."""
    checked: list[list[list[int]]]
    """Shapes of the inputs that were compared."""
    difference: float
    """Largest difference of an output from the model."""


def check_packages(form: Format) -> None:
    """Raise HubError with the line that installs what a format needs."""
    for name in _PACKAGES[form]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise HubError(
                f"--format {form} needs {name}: pip install 'avssl[export]'. --format pt2 needs no other package."
            ) from error


def convert(tower: Tower, form: Format, about: Mapping[str, str]) -> Program:
    """Convert a tower; nothing is written.

    Args:
        tower: The tower.
        form: Format of its file.
        about: Texts to store in an ONNX file, such as the license.

    Raises:
        HubError: If the exporter fails.
    """
    traced = trace(tower)
    num_bytes = sum(value.nbytes for value in traced.program.state_dict.values())
    with quiet():
        if form == "onnx":
            return Program(traced, form, _to_onnx(traced, about), num_bytes)
        return Program(*_to_pt2(traced), num_bytes)


def write(program: Program, path: Path) -> Written:
    """Write a program, read it back, and compare it with the model on random clips.

    Raises:
        RunError: If an output is further than :data:`TOLERANCE` from the model. There is no file then.
    """
    traced, tower = program.traced, program.tower
    shapes = [[[3, *port.size] for port in tower.inputs], other_shapes(tower.inputs, traced.fixed)]
    differences = []
    with whole_file(path, num_bytes=program.num_bytes) as temporary:
        _save(program, path, temporary)
        run = _runner(temporary, program.form)
        differences += [_difference(tower, run, each, path) for each in shapes]
    return Written(tower, path, traced.inputs, traced.fixed, shapes, max(differences))


# ---------------------------------------------------------------- formats


def _to_onnx(traced: Traced, about: Mapping[str, str]) -> Any:
    """Return the program of torch.onnx."""
    tower, inputs = traced.tower, traced.inputs
    names = tuple(
        {place: name for place, name in enumerate(shape) if isinstance(name, str)} for shape in inputs.values()
    )
    try:
        made = torch.onnx.export(
            traced.program,
            input_names=list(inputs),
            output_names=[port.name for port in tower.outputs],
            dynamic_shapes=names,
            dynamo=True,
            verbose=False,
        )
    except Exception as error:  # the exporter has many kinds of errors, all of which mean that it cannot
        raise HubError(
            f"the {tower.name} tower cannot be converted to ONNX: {first_line(error)} Try --format pt2."
        ) from error
    assert made is not None, "dynamo=True returns the program"
    fixed = "; ".join(f"{name}: {reason}" for name, reason in traced.fixed.items())
    made.model.metadata_props.update({**about, "fixed": fixed})
    graph = made.model.graph
    inner = [value for node in graph for value in node.outputs if not value.is_graph_output()]
    for value in inner:
        value.shape = None  # onnxruntime plans its memory by these, and two that look equal may differ
    taken = {*inputs, *(port.name for port in tower.outputs)}
    for value in [*inner, *graph.initializers.values()]:
        if value.name in taken:  # the exporter gives the name of an output a second time
            value.name = f"{value.name}_inside"
    return made


def _to_pt2(traced: Traced) -> tuple[Traced, Format, io.BytesIO]:
    """Return a program and its file of torch.export, which has fixed lengths if it cannot hold their formulas."""
    buffer = io.BytesIO()
    try:
        torch.export.save(traced.program, buffer)
    except Exception as error:  # of many kinds
        if _NO_FORMULA in str(error) and _UNSAVED not in traced.fixed.values():
            return _to_pt2(trace_trained(traced, _UNSAVED))
        raise HubError(
            f"the {traced.tower.name} tower cannot be saved by torch.export: {first_line(error)} Try --format onnx."
        ) from error
    return traced, "pt2", buffer


def _save(program: Program, path: Path, temporary: Path) -> None:
    """Write the file of a program; large ONNX files have their weights beside them, as NAME.data."""
    if program.form == "pt2":
        temporary.write_bytes(program.content.getbuffer())
    elif program.num_bytes < _LARGEST_ONNX_BYTES:
        program.content.save(temporary, external_data=False)
    else:
        program.content.save(path, external_data=True)  # names its weights by the name of the file
        path.rename(temporary)


# ---------------------------------------------------------------- check

_Run = Callable[[Sequence[Tensor]], list[np.ndarray]]


def _runner(path: Path, form: Format) -> _Run:
    """Return a function that runs the file."""
    if form == "pt2":
        with quiet(), open_regular(path) as stream:  # by its unfinished name the file would get a warning
            module = torch.export.load(io.BytesIO(stream.read())).module()

        def run(inputs: Sequence[Tensor]) -> list[np.ndarray]:
            with torch.no_grad():
                return [value.numpy() for value in module(*inputs)]

        return run
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run_onnx(inputs: Sequence[Tensor]) -> list[np.ndarray]:
        return list(session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)}))

    return run_onnx


def _difference(tower: Tower, run: _Run, shapes: Sequence[Sequence[int]], path: Path) -> float:
    """Return the largest difference of the file from the model on a random clip of each shape."""
    inputs = example(tower.inputs, shapes)
    with torch.no_grad():
        expected = [value.numpy() for value in tower.reference(*inputs)]
    found = run(inputs)
    largest = 0.0
    for port, ours, theirs in zip(tower.outputs, expected, found, strict=True):
        if ours.shape != theirs.shape or not np.isfinite(theirs).all():
            raise RunError(f"{path}: {port.name} is {theirs.shape}, the model gives {ours.shape}, or it is not finite.")
        difference = float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(ours).max())))
        if difference > TOLERANCE:
            raise RunError(
                f"{path}: {port.name} differs by {difference:.2g} from the model on random input {list(shapes)}; more "
                f"than {TOLERANCE:g} is not accepted. Try the other --format, or --spectrogram outside."
            )
        largest = max(largest, difference)
    return largest
