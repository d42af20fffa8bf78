"""Tensors of models by name: all of them, and those that a release holds.

A release of a frozen backbone, or of adapters, names the public weights that it was trained on in place of holding
them: it is small, and they are loaded and compared by their hash when it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from avssl.models.foreign.tower import ForeignEncoder


def named_tensors(**parts: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of some modules as ``part.name``."""
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of all values, as 16 hex digits."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Base:
    """Public weights that a release names in place of holding them."""

    encoder: ForeignEncoder
    names: list[str]
    """Names of the tensors in :func:`named_tensors`."""

    def describe(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the entry of the base in ``config.json``."""
        held = {name: tensors[name] for name in self.names}
        return {
            "pretrained": self.encoder.pretrained,
            "license": self.encoder.license_id,
            "num_tensors": len(held),
            "hash": tensors_hash(held),
        }


def bases(**parts: nn.Module) -> dict[str, Base]:
    """Return the bases of modules by the name of the encoder: those of frozen backbones and of adapters."""
    found = {}
    for part, module in parts.items():
        for path, inner in module.named_modules():
            if isinstance(inner, ForeignEncoder) and (names := inner.base_names()):
                found[f"{part}.{path}"] = Base(inner, [f"{part}.{path}.{name}" for name in names])
    return found


def stored_tensors(**parts: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of :func:`named_tensors` that a release holds: all but the bases of frozen backbones."""
    tensors = named_tensors(**parts)
    for name in (name for base in bases(**parts).values() for name in base.names):
        del tensors[name]
    return tensors


def describe_bases(**parts: nn.Module) -> dict[str, Any]:
    """Return the entry ``bases`` of ``config.json``; nothing where all weights are in the release."""
    found, tensors = bases(**parts), named_tensors(**parts)
    return {"bases": {name: base.describe(tensors) for name, base in found.items()}} if found else {}


def public_weights(model: nn.Module) -> dict[str, ForeignEncoder]:
    """Return the encoders of a model that started from public weights, by modality."""
    encoders = (module for module in model.modules() if isinstance(module, ForeignEncoder))
    return {encoder.modality: encoder for encoder in encoders if encoder.pretrained}
