"""Units of a model: blocks that are called as a whole, one after the other.

FSDP gathers the weights of one unit at a time, and activation checkpointing keeps the input of each unit only. A module
names its own units, so that neither of the two knows any network.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class HasUnits(Protocol):
    """A module that names its units."""

    def units(self) -> list[nn.Module]:
        """Return blocks of this module, each of which is called as a module, never by its parts."""


def units_in(model: nn.Module) -> list[nn.Module]:
    """Return the units of all parts of a model in order, shared ones once."""
    found = [unit for part in model.modules() if isinstance(part, HasUnits) for unit in part.units()]
    return list({id(unit): unit for unit in found}.values())
