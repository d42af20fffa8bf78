"""Shared parts of all layouts: read an untrusted file, and move every tensor of it exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avssl.config import Config
from avssl.core.data_files import torch_file
from avssl.core.errors import InputError
from avssl.core.user_files import FileError
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


def load_renamed(model: nn.Module, tensors: Mapping[str, Any], their_names: Mapping[str, str], source: str) -> None:
    """Load a model from tensors under other names, each of which is used exactly once.

    Args:
        model: Model on the CPU; unchanged if this raises.
        tensors: Tensors by the names in the file.
        their_names: Name in the file of each entry of ``model.state_dict()``.
        source: Prefix of error messages: the file and the part of it.

    Raises:
        ConvertError: If a tensor is missing, unknown, of another shape or dtype, or not finite; names the first.
    """
    wanted = set(their_names.values())
    assert len(wanted) == len(their_names), "two entries would share a tensor"
    missing, unknown = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted, key=str)
    if missing:
        raise ConvertError(f"{source}: {missing[0]} is missing ({len(missing)} of {len(wanted)} are).")
    if unknown:
        raise ConvertError(f"{source}: {unknown[0]!r} is not a key of this layout ({len(unknown)} are not).")
    entries = {ours: tensors[theirs] for ours, theirs in their_names.items()}
    for ours, expected in model.state_dict().items():
        _check_tensor(entries[ours], expected, f"{source}: {their_names[ours]}")
    model.load_state_dict(entries)


def _check_tensor(value: Any, expected: Tensor, name: str) -> None:
    if not isinstance(value, Tensor) or _kind(value) != _kind(expected):
        found = " ".join(map(str, _kind(value))) if isinstance(value, Tensor) else type(value).__name__
        raise ConvertError(f"{name} is {found}, but must be {' '.join(map(str, _kind(expected)))}.")
    if not bool(value.isfinite().all()):
        raise ConvertError(f"{name} holds NaN or infinite values: the run diverged, or the file is damaged.")


def _kind(value: Tensor) -> tuple[tuple[int, ...], torch.dtype, torch.layout, str]:
    return tuple(value.shape), value.dtype, value.layout, value.device.type
