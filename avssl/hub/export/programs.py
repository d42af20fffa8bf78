"""Write a tower as a file, read the file back, and compare it with the model that it was made of."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import RunError
from avssl.core.user_files import open_regular
from avssl.core.whole_file import whole_file
from avssl.hub.export.towers import Port, Tower
from avssl.hub.release import HubError

Format = Literal["onnx", "pt2"]
TOLERANCE = 1e-4
"""Largest accepted difference of an output from the model, relative to 1 or to the largest value if that is more."""
_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
_LARGEST_ONNX_BYTES = 2**31 - 2**20  # a protocol buffer ends at 2 GiB; larger weights need a file of their own
_SEED = 0


@dataclass(frozen=True)
class Written:
    """An exported file and how it was checked."""

    tower: Tower
    path: Path
    inputs: dict[str, list[str | int]]
    """Shape of each input; dimensions of any size by name."""
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


def write_tower(tower: Tower, path: Path, form: Format, about: Mapping[str, str]) -> Written:
    """Export a tower and compare the file with the model on random clips.

    The batch is of any size. So are the length of the clip and the size of its frames, as far as the network allows.

    Args:
        tower: The tower.
        path: File to write.
        form: Its format.
        about: Texts to store in an ONNX file, such as the license.

    Raises:
        HubError: If the exporter fails.
        RunError: If an output of the file is further than :data:`TOLERANCE` from the model.
    """
    try:
        return _write_checked(tower, path, form, about, any_length=True)
    except Exception:  # the network has a fixed length, such as that of its position embeddings; if not, this says it
        return _write_checked(tower, path, form, about, any_length=False)


def _write_checked(tower: Tower, path: Path, form: Format, about: Mapping[str, str], *, any_length: bool) -> Written:
    program = _exported(tower, any_length)
    inputs = _input_shapes(tower, program)
    with _quiet():
        if form == "onnx":
            _write_onnx(tower, program, path, about, inputs)
        else:
            buffer = io.BytesIO()  # under its unfinished name the file would get a warning
            torch.export.save(program, buffer)
            with whole_file(path, num_bytes=buffer.tell()) as temporary:
                temporary.write_bytes(buffer.getbuffer())
    run = _runner(path, form)
    shapes = [[[3, *port.size] for port in tower.inputs], _other_shapes(tower.inputs, inputs)]
    differences = [_difference(tower, run, each, path) for each in shapes]
    return Written(tower, path, inputs, shapes, max(differences))


# ---------------------------------------------------------------- export


def _exported(tower: Tower, any_length: bool) -> torch.export.ExportedProgram:
    """Trace a tower for batches of any size."""
    examples = tuple(torch.rand(2, *port.size) for port in tower.inputs)
    batch = torch.export.Dim("batch", min=1)
    shapes = []
    for port in tower.inputs:
        named = [place for place, name in enumerate(port.dims) if place and isinstance(name, str) and any_length]
        shapes.append({0: batch, **dict.fromkeys(named, torch.export.Dim.AUTO)})
    takes_several = tower.name == "classifier"  # its forward has *given
    arranged: Any = (tuple(shapes),) if takes_several else tuple(shapes)
    try:
        with torch.no_grad(), _quiet():
            return torch.export.export(tower.module, examples, dynamic_shapes=arranged)
    except Exception as error:  # the exporter has many kinds of errors, all of which mean that it cannot
        raise HubError(
            f"the {tower.name} tower cannot be exported: {_first_line(error)} If the audio front end is the reason, "
            "use --spectrogram outside."
        ) from error


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


def _write_onnx(
    tower: Tower,
    program: torch.export.ExportedProgram,
    path: Path,
    about: Mapping[str, str],
    inputs: Mapping[str, Sequence[str | int]],
) -> None:
    names = tuple(
        {place: name for place, name in enumerate(shape) if isinstance(name, str)} for shape in inputs.values()
    )
    made = torch.onnx.export(
        program,
        input_names=list(inputs),
        output_names=[port.name for port in tower.outputs],
        dynamic_shapes=names,
        dynamo=True,
        verbose=False,
    )
    assert made is not None, "dynamo=True returns the program"
    made.model.metadata_props.update(about)
    for node in made.model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # onnxruntime plans its memory by these, and two that look equal may differ
    num_bytes = sum(value.nbytes for value in program.state_dict.values())
    if num_bytes < _LARGEST_ONNX_BYTES:
        with whole_file(path, num_bytes=num_bytes) as temporary:
            made.save(temporary, external_data=False)
    else:
        made.save(path, external_data=True)  # weights beside it, in NAME.data


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings of torch and of the exporter about their own code."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings(
                "ignore", category=category, module=r"(torch|copyreg|onnxscript|onnx_ir|onnx)(\..*)?$"
            )
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)  # of torch.export.load
        warnings.filterwarnings("ignore", "No complete tensor found in the group", UserWarning)  # of torch.export.save
        yield


# ---------------------------------------------------------------- check

_Run = Callable[[Sequence[Tensor]], list[np.ndarray]]


def _runner(path: Path, form: Format) -> _Run:
    """Return a function that runs the file."""
    if form == "pt2":
        with _quiet(), open_regular(path) as stream:
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


def _other_shapes(ports: Sequence[Port], inputs: Mapping[str, Sequence[str | int]]) -> list[list[int]]:
    """Return shapes of one clip, that differs from those of training in every dimension of any size."""
    more: dict[str | int, int] = {"frames": 2, "height": 32, "width": 32}
    shapes = []
    for port in ports:
        free = inputs[port.name][1:]
        sizes = zip(free, port.size, strict=True)
        shapes.append([1, *(size + more.get(name, size // 2) * isinstance(name, str) for name, size in sizes)])
    return shapes


def _difference(tower: Tower, run: _Run, shapes: Sequence[Sequence[int]], path: Path) -> float:
    """Return the largest difference of the file from the model on a random clip of each shape."""
    generator = torch.Generator().manual_seed(_SEED)
    inputs = [_random(port, shape, generator) for port, shape in zip(tower.inputs, shapes, strict=True)]
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


def _random(port: Port, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return noise in the range of an input; frames are multiples of 1 / 255."""
    if port.name == "frames":
        return torch.randint(256, tuple(shape), generator=generator) / 255
    noise = torch.randn(tuple(shape), generator=generator)
    return noise * 0.1 if port.name == "waveform" else noise * 20 - 40


def _first_line(error: Exception | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
