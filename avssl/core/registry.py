"""Build an object by the name that a table gives its class, with errors that say which options exist."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from avssl.core.errors import InputError
from avssl.core.lazy import load

_Entry = TypeVar("_Entry")


def entry(kind: str, table: Mapping[str, _Entry], name: str) -> _Entry:
    """Return the entry of a name in a table.

    Args:
        kind: The word for what the table holds, such as ``"objective"``.
        table: The entries by name.
        name: A key of the table.

    Raises:
        ValueError: If the name is unknown; lists the known ones.
    """
    if name not in table:
        raise InputError(unknown(kind, name, list(table)))
    return table[name]


def build(kind: str, table: Mapping[str, str], name: str, *args: Any, **options: Any) -> Any:
    """Build what a table names, of checked options.

    Args:
        kind: As for :func:`entry`.
        table: Import path, ``module:name``, of the class or function of each name.
        name: A key of the table.
        *args: What it needs, by position.
        **options: Keyword arguments.

    Raises:
        ValueError: If the name or an option is unknown, or an argument is missing; says which there are.
    """
    builder = load(entry(kind, table, name))
    parameters = parameters_of(builder)
    positional = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    if len(args) > len(positional):
        raise InputError(f"{kind} {name} takes at most {len(positional)} values by position, got {len(args)}.")
    known = [option for option in parameters if option not in positional[: len(args)]]
    for option in options:
        if option not in known:
            raise InputError(unknown(f"option of {kind} {name}", option, known))
    missing = [option for option in known if parameters[option].default is inspect.Parameter.empty]
    missing = [option for option in missing if option not in options]
    if missing:
        needed = ", ".join(f"{option}=..." for option in missing)
        texts = "".join(f" {option}: {text}" for option in missing if (text := _documented(builder, option)))
        raise InputError(f"{kind} {name} also needs {' and '.join(missing)}: create it with {needed}.{texts}")
    return builder(*args, **options)


def parameters_of(builder: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class or function; with ``**options``, also those of the base classes."""
    found: dict[str, inspect.Parameter] = {}
    callables = [c.__init__ for c in builder.__mro__] if isinstance(builder, type) else [builder]  # type: ignore[misc]
    for function in callables:
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and parameter.name != "self":
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """Return the message for an unknown name: the nearest known one, and all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{name!r} is not a known {kind}.{hint} Known: {', '.join(known) or 'none'}."


def _documented(builder: Callable[..., Any], option: str) -> str:
    """Return the text of an option in the ``Args`` of a docstring."""
    found = re.search(rf"^ *{option}: (.*(?:\n {{8,}}.*)*)", inspect.getdoc(builder) or "", re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
