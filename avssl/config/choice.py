"""Groups of settings, derived from the classes and functions whose options they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from functools import cache
from typing import Any

from avssl.config.declared import Option, read_declaration
from avssl.core.errors import InputError
from avssl.core.ranges import checked


def check(condition: bool, message: str) -> None:
    """Raise :class:`ValueError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


@dataclass
class Choice:
    """A group of settings that a name selects.

    Example:
        >>> objective = choose("objective", "info_nce", temperature=0.1)
        >>> objective.name, objective.options()["temperature"]
        ('info_nce', 0.1)
    """

    name: str
    """Class or function of the group."""

    @property
    def title(self) -> str:
        """The name, with that of the backbone where it has one."""
        return " ".join(part for part in (self.name, vars(self).get("backbone", "")) if part)

    def options(self) -> dict[str, Any]:
        """Return every field but the name: the keyword arguments of the class or function that the name selects."""
        return {key: value for key, value in vars(self).items() if key != "name"}


def options_with_default(path: str, without: tuple[str, ...] = ()) -> list[Option]:
    """Return the options of a class or function that have a default; the others are not for the user to set."""
    options = read_declaration(path).options.values()
    return [option for option in options if option.default is not MISSING and option.name not in without]


def make_group(name: str, doc: str, options: Iterable[Option], base: type = object) -> type[Any]:
    """Return a dataclass with a field for each option, checked against its range.

    The metadata ``"help"`` of a field is its documentation.
    """
    fields = [(o.name, o.annotation or o.type, field(default=o.default, metadata={"help": o.help})) for o in options]
    namespace = {"__doc__": doc, "__module__": __name__}
    return checked(dataclasses.make_dataclass(name, fields, bases=(base,), namespace=namespace))


@cache
def _choice(path: str, without: tuple[str, ...]) -> type[Choice]:
    name, summary = path.partition(":")[2], read_declaration(path).summary
    return make_group(name, summary, options_with_default(path, without), Choice)


class Choices(Mapping[str, type[Choice]]):
    """The dataclass of each name in a table of import paths, derived when it is first used.

    Args:
        table: Names to import paths; it may grow later.
        without: Options that are not settings of this group, because another setting or the run gives them.
    """

    def __init__(self, table: Mapping[str, str], without: tuple[str, ...] = ()) -> None:
        self._table, self._without = table, without

    def __getitem__(self, name: str) -> type[Choice]:
        return _choice(self._table[name], self._without)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)
