"""Functions of plain values that torch.compile cannot trace: a program holds their results as constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FUNCTIONS: list[Callable[..., Any]] = []


def constant(function: _Function) -> _Function:
    """Declare that a function's result depends on its plain arguments alone.

    Example:
        >>> @constant
        ... def length(text: str) -> int:
        ...     return len(text)
        >>> length("abc")
        3
    """
    _FUNCTIONS.append(function)
    return function


def mark_constants() -> None:
    """Let torch.compile call the declared functions as it makes a program; without a call, it is not imported."""
    for function in _FUNCTIONS:
        torch.compiler.assume_constant_result(function)
