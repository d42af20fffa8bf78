"""Weights that no step changes, such as those of a frozen encoder: one copy beside all checkpoints of a run.

A checkpoint has a note in the place of each such tensor, and the hash of the file that holds them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avssl.core.user_files import regular_file
from avssl.core.whole_file import whole_file

FROZEN_NAME = "frozen.safetensors"
_NOTE = "frozen tensor"
_HASH = "frozen_hash"


def frozen_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are not trained by name; shared ones once."""
    return {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad and p.numel()}


class FrozenWeights:
    """The parameters of a model that are not trained, written once.

    Args:
        model: The model.
        folder: Folder of the checkpoints.
    """

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self._model, self._folder, self._digest = model, folder, ""

    def left_out(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a checkpoint with notes in place of these parameters."""
        tensors = frozen_parameters(self._model)
        if not tensors:
            return dict(content)
        self._digest = self._digest or self._written(tensors)
        names = {_key(value): name for name, value in tensors.items()}

        def note(value: Tensor) -> Any:
            name = names.get(_key(value))
            return value if name is None else {_NOTE: name}

        noted: dict[str, Any] = _replaced(content, note)
        return noted | {_HASH: self._digest}

    def _written(self, tensors: Mapping[str, Tensor]) -> str:
        """Write the file unless it is there already; return its hash."""
        file, digest = self._folder / FROZEN_NAME, _digest(tensors)
        if file.exists() and _digest(load_file(regular_file(file))) == digest:
            return digest
        on_cpu = {name: value.cpu().contiguous() for name, value in tensors.items()}
        num_bytes = sum(value.nbytes for value in on_cpu.values())
        with whole_file(file, durable=True, num_bytes=num_bytes) as temporary:
            save_file(on_cpu, temporary, metadata={"format": "pt"})
        return digest


def with_frozen(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of a checkpoint with the frozen tensors in their places.

    Raises:
        ValueError: If the file that holds them is missing, damaged or another one.
    """
    if _HASH not in state:
        return state
    file = folder / FROZEN_NAME
    try:
        tensors = load_file(regular_file(file))
    except Exception as error:  # safetensors raises its own errors
        raise ValueError(f"{file}, which holds the weights that are not trained, cannot be read: {error}") from error
    if _digest(tensors) != state[_HASH]:
        raise ValueError(f"{file} does not hold the weights that this checkpoint was trained with.")
    rest = {name: value for name, value in state.items() if name != _HASH}
    filled: dict[str, Any] = _replaced(rest, lambda value: value, lambda name: tensors[name])
    return filled


def _replaced(value: Any, tensor: Callable[[Tensor], Any], noted: Callable[[str], Tensor] | None = None) -> Any:
    """Return nested containers with each tensor, and each note, replaced."""
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, Mapping):
        if noted is not None and set(value) == {_NOTE}:
            return noted(value[_NOTE])
        return {key: _replaced(inner, tensor, noted) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(inner, tensor, noted) for inner in value)
    return value


def _key(value: Tensor) -> tuple[int, tuple[int, ...], str]:
    return value.data_ptr(), tuple(value.shape), str(value.device)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(os.fsencode(name))
        digest.update(tensors[name].detach().cpu().contiguous().flatten().numpy().tobytes())
    return digest.hexdigest()
