"""Select rows of a manifest by conditions on its columns: ``match>=0.3 duplicate_of=''``.

Conditions are separated by blanks, and a row has to meet all of them. A condition is a column, one of ``=``, ``!=``,
``<``, ``<=``, ``>`` and ``>=``, and a value, in quotation marks if it is empty or has blanks (``label='barking dog'``).
A column whose cells are all numbers is compared as numbers; an empty cell equals ``''`` and is neither above nor below
any number. Nothing is evaluated as code.
"""

from __future__ import annotations

import difflib
import logging
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from avssl.core.manifest import Manifest, ManifestError

_LOGGER = logging.getLogger(__name__)

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(
    r"""\s*(?P<column>[^\s=!<>'"]+)\s*(?P<sign>!=|<=|>=|=|<|>)\s*(?P<value>'[^']*'|"[^"]*"|[^\s'"=!<>]+)(?=\s|$)"""
)
_EXAMPLE = "Write conditions such as: match>=0.3 duplicate_of=''"
_SHOWN_VALUES = 8


@dataclass(frozen=True)
class Condition:
    """One condition on the cells of a column."""

    column: str
    """Name of the column."""
    sign: str
    """Comparison, one of ``= != < <= > >=``."""
    value: str
    """Value that cells are compared with."""

    def __str__(self) -> str:
        is_word = re.fullmatch(r"\S+", self.value) is not None
        return f"{self.column}{self.sign}{self.value if is_word else repr(self.value)}"

    def rows(self, manifest: Manifest) -> np.ndarray:
        """Return the (N,) bool mask of the rows that meet it.

        Raises:
            ManifestError: If the column is missing, numbers are compared with text, or no row has the value.
        """
        if self.column not in manifest:
            near = difflib.get_close_matches(self.column, manifest.table.column_names, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            has = ", ".join(manifest.table.column_names)
            raise ManifestError(f"the manifest has no column {self.column!r}; it has {has}.{hint}")
        cells = [_text(cell) for cell in manifest.table[self.column].to_pylist()]
        compare, numbers, value = _COMPARISONS[self.sign], _numbers(cells), _number(self.value)
        if self.sign in ("=", "!=") and (numbers is None or value is None):
            return self._checked(np.array([compare(cell, self.value) for cell in cells], dtype=bool), cells)
        if value is None:
            raise ManifestError(f"{self}: {self.value!r} is no number, and only numbers are larger or smaller.")
        if numbers is None:
            wrong = next(cell for cell in cells if cell and _number(cell) is None)
            raise ManifestError(
                f"{self}: the column {self.column!r} has text, such as {wrong!r}: compare with = or !=."
            )
        return self._checked(compare(numbers, value), cells)

    def _checked(self, rows: np.ndarray, cells: list[str]) -> np.ndarray:
        """Return the mask; raise an error if no row meets the condition, as that is mostly a misspelled value."""
        if len(rows) and not rows.any():
            raise ManifestError(f"{self}: no row meets this; {_summary(self.column, cells)}.")
        return rows


def parse_conditions(text: str) -> list[Condition]:
    """Parse conditions; an empty text has none.

    Raises:
        ManifestError: If a part of the text is no condition.

    Example:
        >>> parse_conditions("match>=0.3 duplicate_of=''")
        [Condition(column='match', sign='>=', value='0.3'), Condition(column='duplicate_of', sign='=', value='')]
    """
    conditions, place = [], 0
    text = text.rstrip()
    while place < len(text):
        found = _CONDITION.match(text, place)
        if found is None:
            raise ManifestError(
                f"{text[place:].strip()!r} is no condition: a column, a comparison, a value. {_EXAMPLE}"
            )
        value = found["value"]
        conditions.append(
            Condition(found["column"], found["sign"], value.strip(value[0]) if value[0] in "'\"" else value)
        )
        place = found.end()
    return conditions


def rows_where(manifest: Manifest, text: str, *, log: bool = True) -> Manifest:
    """Return the rows that meet all conditions of a text (``data.where``).

    Args:
        manifest: Rows to choose from.
        text: Conditions as in this module's description; an empty text selects every row.
        log: Log how many rows they are.

    Raises:
        ManifestError: If the text is not valid, a column is missing, or no row is left; the message names the
            condition and the values of its column.
    """
    try:
        conditions = parse_conditions(text)
        if not conditions:
            return manifest
        keep = np.logical_and.reduce([condition.rows(manifest) for condition in conditions])
    except ManifestError as error:
        raise ManifestError(f"data.where: {error}") from error
    if not keep.any():
        raise ManifestError(f"data.where: no row meets all of {' '.join(map(str, conditions))}. Leave one out.")
    if log:
        _LOGGER.info("note        data.where (%s): %d of %d rows", text.strip(), keep.sum(), len(manifest))
    return manifest.select(keep)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numbers(cells: list[str]) -> np.ndarray | None:
    """Return the cells as numbers, NaN for empty ones; None if one of them is no number, or all are empty."""
    numbers = [_number(cell) if cell else float("nan") for cell in cells]
    return None if None in numbers or not any(cells) else np.array(numbers, dtype=np.float64)


def _summary(column: str, cells: list[str]) -> str:
    """Return the values of a column in words: a range of numbers, or the first names."""
    filled = sorted({cell for cell in cells if cell})
    numbers = _numbers(cells)
    if not filled:
        return f"{column} is empty in all {len(cells)}"
    if numbers is not None and len(filled) > _SHOWN_VALUES:
        return f"{column} is in [{np.nanmin(numbers):g}, {np.nanmax(numbers):g}]"
    more = f" and {len(filled) - _SHOWN_VALUES} others" if len(filled) > _SHOWN_VALUES else ""
    empty = " or empty" if "" in cells else ""
    return f"{column} is {', '.join(filled[:_SHOWN_VALUES])}{more}{empty}"
