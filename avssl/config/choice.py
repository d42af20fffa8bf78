"""A group of settings that a name selects, and the check that settings are made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avssl.core.errors import InputError


def check(condition: bool, message: str) -> None:
    """Raise :class:`ValueError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


@dataclass
class Choice:
    """A group of settings that a name selects."""

    name: str
    """Name."""

    def options(self) -> dict[str, Any]:
        """Every field but the name: the keyword arguments of what it names."""
        return {key: value for key, value in vars(self).items() if key != "name"}
