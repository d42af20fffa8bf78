"""Shared parts of all layouts: read an untrusted file, and move every tensor of it exactly once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from avssl.config import Config
from avssl.core.data_files import torch_file
from avssl.core.errors import InputError
from avssl.core.user_files import FileError, open_regular, regular_file
from avssl.models import AVModel

MAX_CHECKPOINT_BYTES = 16 * 2**30
"""AVID-CMA's largest file is about 3 GB: two memories of 1.8 M rows, weights and optimizer."""


class ConvertError(InputError):
    """A file that cannot be converted."""


@dataclass
class Conversion:
    """A converted model with the facts that its release must state."""

    model: AVModel
    """Model with the weights, in evaluation mode, on the CPU."""
    config: Config
    """Its architecture and preprocessing."""
    about: dict[str, Any]
    """Facts for the card: the origin, and what was dropped."""
    license_id: str
    """License of the weights, as model hubs write it."""
    notice: str
    """Terms of use for the card, in Markdown."""
    statistics: tuple[Tensor, Tensor] | None = None
    """Mean and standard deviation of each bin that the authors publish; None if they have to be given or estimated."""


def _same(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Source:
    """Origin of one entry of our state dict."""

    names: tuple[str, ...]
    """Tensors of the file."""
    combine: Callable[..., Tensor] = field(default=_same)
    """Makes the entry of these tensors; by default a single one as it is."""


def of_tensor(name: str, change: Callable[[Tensor], Tensor] = _same) -> Source:
    """Return the source of an entry that a single tensor gives."""
    return Source((name,), change)


def joined(*sources: Source) -> Source:
    """Return the source of an entry whose rows are those of other sources, one after the other."""

    def combine(*values: Tensor) -> Tensor:
        parts, start = [], 0
        for source in sources:
            parts.append(source.combine(*values[start : start + len(source.names)]))
            start += len(source.names)
        return torch.cat(parts)

    return Source(tuple(name for source in sources for name in source.names), combine)


def shape_of(tensors: Mapping[str, Any], name: str, num_dimensions: int, source: str) -> tuple[int, ...]:
    """Return the shape of a tensor that the architecture follows from.

    Raises:
        ConvertError: If it is missing, or no tensor of so many dimensions.
    """
    if name not in tensors:
        raise ConvertError(f"{source}: {name} is missing; this is not a checkpoint of this layout.")
    value = tensors[name]
    if not isinstance(value, Tensor) or value.ndim != num_dimensions or not all(value.shape):
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ConvertError(f"{source}: {name} is {found}, but must be a tensor of {num_dimensions} dimensions.")
    return tuple(value.shape)


def count_numbered(tensors: Mapping[str, Any], before: str, after: str) -> int:
    """Return how many of ``before + "0" + after``, ``before + "1" + after`` ... there are."""
    number = 0
    while f"{before}{number}{after}" in tensors:
        number += 1
    return number


def origin(path: Path, project: str) -> dict[str, Any]:
    """Return the line of the card that says which file a release was made of."""
    with open_regular(path) as file:
        return {"converted from": f"{project} checkpoint, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"}


def load_tensors(path: Path) -> Mapping[str, Any]:
    """Load the mapping in a file of ``torch.save``, in its old or new format, on the CPU.

    Raises:
        ConvertError: If it is missing, too large, or anything but tensors and plain containers.
    """
    try:
        file = torch_file(path, MAX_CHECKPOINT_BYTES)
    except FileError as error:
        raise ConvertError(str(error)) from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds, and advises to run the file's code
        raise ConvertError(
            f"{path}: cannot be read as a checkpoint of tensors and plain containers ({type(error).__name__}). It is "
            "damaged, of another format, or holds objects that could run code when loaded, which is never done."
        ) from error
    if not isinstance(content, Mapping):
        raise ConvertError(f"{path}: holds a {type(content).__name__}, not the mapping of a checkpoint.")
    return content


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Load a file of safetensors on the CPU; raise ConvertError if it is missing, too large or no such file."""
    try:
        return load_file(regular_file(path, MAX_CHECKPOINT_BYTES))
    except FileError as error:
        raise ConvertError(str(error)) from error
    except Exception as error:  # safetensors raises its own errors
        raise ConvertError(f"{path}: not a readable safetensors file: {error}") from error


def load_renamed(model: nn.Module, tensors: Mapping[str, Any], their_names: Mapping[str, str], source: str) -> None:
    """Load a model from tensors under other names, each of which is used exactly once.

    Args:
        model: Model on the CPU; unchanged if this raises.
        tensors: Tensors by the names in the file.
        their_names: Name in the file of each entry of ``model.state_dict()``.
        source: Prefix of error messages: the file and the part of it.

    Raises:
        ConvertError: As :func:`load_combined`.
    """
    assert len(set(their_names.values())) == len(their_names), "two entries would share a tensor"
    load_combined(model, tensors, {ours: of_tensor(theirs) for ours, theirs in their_names.items()}, source)


def load_combined(
    model: nn.Module,
    tensors: Mapping[str, Any],
    sources: Mapping[str, Source],
    source: str,
    left_out: Collection[str] = (),
) -> None:
    """Load a model from the tensors of another project, all of which are used or left out by name.

    Args:
        model: Model on the CPU; unchanged if this raises.
        tensors: Tensors by the names in the file.
        sources: Origin of each entry of ``model.state_dict()``.
        source: Prefix of error messages: the file and the part of it.
        left_out: Tensors that a file of this layout has and the model does not need.

    Raises:
        ConvertError: If a tensor is missing, unknown, of another shape or dtype, or not finite; names the first.
    """
    wanted = {name for origin in sources.values() for name in origin.names} | set(left_out)
    missing, unknown = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted, key=str)
    if missing:
        raise ConvertError(f"{source}: {missing[0]} is missing ({len(missing)} of {len(wanted)} are).")
    if unknown:
        raise ConvertError(f"{source}: {unknown[0]!r} is not a key of this layout ({len(unknown)} are not).")
    entries = {}
    for ours, expected in model.state_dict().items():
        names = sources[ours].names
        label = f"{source}: {' with '.join(names)}"
        values = [_finite(tensors[name], expected, f"{source}: {name}") for name in names]
        try:
            entries[ours] = sources[ours].combine(*values)
        except (RuntimeError, IndexError, ValueError) as error:
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            raise ConvertError(f"{label} cannot be combined: their shapes are {shapes}.") from error
        _check_tensor(entries[ours], expected, label)
    model.load_state_dict(entries)


def _finite(value: Any, expected: Tensor, name: str) -> Tensor:
    """Return a tensor of the file after checking that it is one, and finite."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        _check_tensor(value, expected, name)
    if not bool(value.isfinite().all()):
        raise ConvertError(f"{name} holds NaN or infinite values: the run diverged, or the file is damaged.")
    return value


def _check_tensor(value: Any, expected: Tensor, name: str) -> None:
    if not isinstance(value, Tensor) or _kind(value) != _kind(expected):
        found = " ".join(map(str, _kind(value))) if isinstance(value, Tensor) else type(value).__name__
        raise ConvertError(f"{name} is {found}, but must be {' '.join(map(str, _kind(expected)))}.")


def _kind(value: Tensor) -> tuple[tuple[int, ...], torch.dtype, torch.layout, str]:
    return tuple(value.shape), value.dtype, value.layout, value.device.type
