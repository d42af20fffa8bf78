"""The table and the plot of a sweep: the last value of each metric, by setting, over seeds."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from avssl.config import Config, Grid, GridRun
from avssl.core.errors import InputError
from avssl.core.tables import write_table
from avssl.core.user_files import read_text
from avssl.core.whole_file import write_json, write_text
from avssl.engine.trackers.json_lines import FILE_NAME
from avssl.evaluation import mean_and_deviation
from avssl.reports.plots import draw_curves
from avssl.reports.text_table import markdown_table, text_table
from avssl.training.metric_names import metric_names
from avssl.training.monitors import BEST_BY

FILES = ("table.md", "table.csv", "sweep.json", "sweep.png")
SEED = "train.seed"
_DEFAULT = (BEST_BY, BEST_BY.replace("retrieval/", "retrieval_shuffled/"), "loss")
_MAX_BYTES = 2**31


@dataclass(frozen=True)
class Row:
    """One combination of values, over its seeds."""

    values: dict[str, str]
    """Values of all axes but the seed."""
    num_seeds: int
    """Number of finished runs."""
    metrics: dict[str, tuple[float, float]]
    """Mean and sample standard deviation; the deviation is 0 with one run."""


@dataclass(frozen=True)
class Summary:
    """Metrics of a sweep."""

    axes: dict[str, tuple[str, ...]]
    metrics: tuple[str, ...]
    rows: list[Row]
    runs: list[dict[str, Any]]
    """Folder, values and metrics of each finished run."""
    num_missing: int
    """Runs that are not finished."""


def summarize(grid: Grid, finished: Mapping[Path, GridRun], metrics: Sequence[str]) -> Summary:
    """Return the table of the finished runs.

    Raises:
        InputError: If a requested metric is in none of the runs.
    """
    numbers = {path: last_numbers(path / FILE_NAME) for path in finished}
    known = _check_names(numbers.values(), metrics)
    chosen = tuple(metrics) or tuple(name for name in _DEFAULT if name in known)
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, float]]] = {}
    runs = []
    for path, run in finished.items():
        values = {key: value for key, value in run.values.items() if key != SEED}
        groups.setdefault(tuple(values.items()), []).append(numbers[path])
        found = {name: numbers[path][name] for name in chosen if name in numbers[path]}
        runs.append({"folder": path.name, "values": run.values, "metrics": found})
    rows = []
    for key, found_runs in groups.items():
        of_metric = {name: [each[name] for each in found_runs if name in each] for name in chosen}
        means = {name: mean_and_deviation(values) for name, values in of_metric.items() if values}
        rows.append(Row(dict(key), len(found_runs), means))
    return Summary(grid.axes, chosen, rows, runs, len(grid.runs) - len(finished))


def check_metrics(finished: Iterable[Path], metrics: Sequence[str]) -> None:
    """Raise InputError if a requested metric is in none of the finished runs, of which there are some."""
    _check_names([last_numbers(path / FILE_NAME) for path in finished], metrics)


def refuse_unknown_metrics(configs: Sequence[Config], metrics: Sequence[str]) -> None:
    """Raise InputError if no run of these settings would log a requested metric; nothing is read."""
    known: list[str] = []
    seen: set[str] = set()
    for config in configs:
        about = f"{config.objective} {config.monitor} {config.transform} {config.model}"
        if about not in seen and not set(metrics) <= set(known):
            seen.add(about)
            known += metric_names(config)
    _check_names([dict.fromkeys(known, 0.0)], metrics)


def _check_names(numbers: Iterable[Mapping[str, float]], metrics: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(name for found in numbers for name in found))
    for name in metrics if known else ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"--metric {name}: the runs have no such metric, but {', '.join(known)}.{hint}")
    return known


def last_numbers(path: Path) -> dict[str, float]:
    """Return the last value of every number in metrics.jsonl."""
    found: dict[str, float] = {}
    if path.exists():
        for line in read_text(path, _MAX_BYTES).splitlines():
            found |= {name: value for name, value in json.loads(line).items() if isinstance(value, int | float)}
    return found


def write_summary(folder: Path, summary: Summary) -> None:
    """Write the table, and the plot of the first metric."""
    header, body = _cells(summary)
    write_text(folder / "table.md", markdown_table(header, body) + "\n")
    columns = {key: [run["values"].get(key, "") for run in summary.runs] for key in ("folder", *summary.axes)}
    columns["folder"] = [run["folder"] for run in summary.runs]
    table = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    for name in summary.metrics:
        table[name] = pa.array([run["metrics"].get(name) for run in summary.runs], pa.float64())
    write_table(pa.table(table), folder / "table.csv")
    rows = [{"values": row.values, "runs": row.num_seeds, "metrics": row.metrics} for row in summary.rows]
    write_json(folder / "sweep.json", {"axes": summary.axes, "rows": rows, "runs": summary.runs})
    if summary.rows and summary.metrics:
        _draw(folder / "sweep.png", summary)


def as_text(summary: Summary) -> str:
    """Return the table for a terminal."""
    missing = f"\n{summary.num_missing} runs are not finished" if summary.num_missing else ""
    return text_table(*_cells(summary)) + "\nlast values, mean ± sample standard deviation over the runs" + missing


def _cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    keys = [key for key in summary.axes if key != SEED]
    body = []
    for row in summary.rows:
        cells = [row.values[key] for key in keys] or ["all runs"]
        for name in summary.metrics:
            mean, deviation = row.metrics.get(name, (None, None))
            cells.append("" if mean is None else f"{mean:.4f}" + f" ± {deviation:.4f}" * (row.num_seeds > 1))
        body.append([*cells, str(row.num_seeds)])
    return [*(keys or ["setting"]), *summary.metrics, "runs"], body


def _draw(path: Path, summary: Summary) -> None:
    """Plot the first metric over the first axis, with a line for each combination of the others."""
    metric = summary.metrics[0]
    keys = [key for key in summary.axes if key != SEED]
    first, others = (keys[0] if keys else ""), keys[1:]
    values = summary.axes.get(first, ("all runs",))
    is_number = all(_is_number(value) for value in values)
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row in summary.rows:
        if metric in row.metrics:
            value = row.values.get(first, values[0])
            x = float(value) if is_number else float(values.index(value))
            name = ", ".join(f"{key.rpartition('.')[2]} {row.values[key]}" for key in others) or metric
            lines.setdefault(name, []).append((x, *row.metrics[metric]))
    curves: dict[str, Any] = {name: tuple(zip(*sorted(points), strict=True)) for name, points in lines.items()}
    numbered = "" if is_number else ": " + ", ".join(f"{number} = {value}" for number, value in enumerate(values))
    draw_curves(curves, path, x_label=(first or "run") + numbered, y_label=metric, title="mean ± standard deviation")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
