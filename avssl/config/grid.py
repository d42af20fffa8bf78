"""Grids of settings: a command line that gives several values to some settings is one run for each combination."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from avssl.config.settings import Config
from avssl.core.errors import ConfigError


@dataclass(frozen=True)
class GridRun:
    """One run of a grid.

    Example:
        >>> values = {"optim.lr": "1e-4", "objective.name": "vicreg"}
        >>> run = GridRun(values, parse_settings(values))
        >>> run.config.optim.lr, run.config.objective.name
        (0.0001, 'vicreg')
    """

    values: dict[str, str]
    """Value of each axis, as written on the command line."""
    config: Config
    """Its settings, checked."""


@dataclass(frozen=True)
class Grid:
    """Runs of all combinations of values.

    Example:
        >>> rates = ("1e-3", "1e-4")
        >>> runs = [GridRun({"optim.lr": rate}, parse_settings({"optim.lr": rate})) for rate in rates]
        >>> grid = Grid({"optim.lr": rates}, tuple(runs))
        >>> [run.config.optim.lr for run in grid.runs]
        [0.001, 0.0001]
    """

    ROOT: ClassVar[type] = Config
    """Settings of a run."""
    axes: dict[str, tuple[str, ...]]
    """Values of each setting that has several."""
    runs: tuple[GridRun, ...]
    """All runs; the last axis changes fastest."""


def make_grid(
    given: Mapping[str, Sequence[str]], is_list: Callable[[str], bool], parse: Callable[[Mapping[str, Any]], Config]
) -> Grid:
    """Return the grid of a command line, every run of which is checked.

    Args:
        given: Words of each setting.
        is_list: Returns True for settings whose value is a list, which takes all words.
        parse: Returns the checked settings of one run.

    Raises:
        ConfigError: If a value is given twice, or a setting of a run is wrong.
    """
    fixed, axes = {}, {}
    for key, value in given.items():
        words = [value] if isinstance(value, str) else list(value)
        if len(words) == 1 or is_list(key):
            fixed[key] = words if is_list(key) else words[0]
        else:
            axes[key] = tuple(words)
        if key in axes and len(set(words)) < len(words):
            raise ConfigError(f"--{key.replace('_', '-')} ({' '.join(words)}): a value is given twice.")
    runs = []
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        runs.append(GridRun(values, parse({**fixed, **values})))
    return Grid(axes, tuple(runs))
