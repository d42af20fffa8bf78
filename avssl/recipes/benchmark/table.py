"""The one table of a benchmark, as Markdown, LaTeX, JSON and an HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avssl.core.whole_file import write_text
from avssl.recipes.benchmark.cells import Cell
from avssl.recipes.benchmark.models import Model
from avssl.recipes.benchmark.scores import Score
from avssl.reports.html_page import write_page
from avssl.reports.text_table import markdown_table, percent, text_table

FILES = ("table.md", "table.tex", "results.json", "index.html")


@dataclass
class Results:
    """Scores of all cells."""

    title: str
    suite: str
    """File of the suite."""
    models: Sequence[Model]
    cells: list[Cell] = field(default_factory=list)
    scores: dict[tuple[str, str, str], list[Score]] = field(default_factory=dict)
    """(data set, protocol, model) -> scores."""
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """Cells without scores -> why."""

    def add(self, cell: Cell, found: list[Score] | str) -> None:
        """Add the scores of a cell, or the message of its error."""
        self.cells.append(cell)
        key = (cell.data.name, cell.entry.name, cell.model.name)
        if isinstance(found, str):
            self.failures[key] = found
        else:
            self.scores[key] = found

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each data set, protocol and measure, with the scores of all models."""
        rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        for (data, protocol, model), scores in self.scores.items():
            for score in scores:
                row = rows.setdefault(
                    (data, protocol, score.measure),
                    {"data": data, "protocol": protocol, "measure": score.measure, "scores": {}},
                )
                row["scores"][model] = score
        order = {cell: number for number, cell in enumerate((c.data.name, c.entry.name) for c in self.cells)}
        return sorted(rows.values(), key=lambda row: order[row["data"], row["protocol"]])


def write_tables(folder: Path, results: Results) -> None:
    """Write the table in all its forms."""
    header, body = table_cells(results)
    write_text(folder / "results.json", json.dumps(plain(results), indent=1, allow_nan=False) + "\n")
    conditions = condition_lines(results)
    notes = "\n".join(f"- {line}" for line in conditions)
    write_text(folder / "table.md", f"# {results.title}\n\n{markdown_table(header, body)}\n\n{notes}\n")
    write_text(folder / "table.tex", latex_table(header, body, results.title))
    commands = [(cell.data.name, cell.entry.name, cell.model.name, cell.command) for cell in results.cells]
    write_page(
        folder / "index.html",
        "benchmark.html",
        title=results.title,
        header=header,
        rows=body,
        conditions=conditions,
        all_rows=table_cells(results, headlines_only=False)[1],
        commands=commands,
    )


def as_text(results: Results) -> str:
    """Return the table and its conditions for a terminal."""
    header, body = table_cells(results)
    labels = [" / ".join(row[:3]) for row in body]
    aligned = text_table(
        [" / ".join(header[:3]), *header[3:]], [[a, *row[3:]] for a, row in zip(labels, body, strict=True)]
    )
    return "\n".join([results.title, "in percent", "", aligned, "", *condition_lines(results)])


def table_cells(results: Results, headlines_only: bool = True) -> tuple[list[str], list[list[str]]]:
    """Return header and cells in percent, with 95 % intervals in brackets or standard deviations after ±."""
    models = [model.name for model in results.models]
    header = ["data", "protocol", "measure", "n", "chance", *models, "other baselines"]
    body = []
    for row in results.rows():
        scores: Mapping[str, Score] = row["scores"]
        if headlines_only and not any(score.is_headline for score in scores.values()):
            continue
        first = next(scores[name] for name in models if name in scores)
        baselines = dict(first.baselines)
        chance = percent(baselines.pop("chance", None))
        others = ", ".join(f"{name} {percent(value)}" for name, value in baselines.items() if name not in models)
        cells = [score_text(scores[name]) if name in scores else "–" for name in models]
        body.append([row["data"], row["protocol"], row["measure"], str(first.n), chance, *cells, others])
    return header, body


def score_text(score: Score) -> str:
    """Return a score in percent, with its interval or standard deviation."""
    text = percent(score.value)
    if score.sd is not None:
        return f"{text} ± {percent(score.sd)}"
    return text if score.interval is None else f"{text} [{', '.join(map(percent, score.interval))}]"


def condition_lines(results: Results) -> list[str]:
    """Return what other numbers must share to be comparable, and which cells are missing."""
    lists: dict[str, dict[str, None]] = {}
    for (data, protocol, _), scores in results.scores.items():
        for score in scores:
            lists.setdefault(score.clip_list, {})[f"{data} / {protocol}"] = None
    models = results.models
    lines = [f"Suite {results.suite}; numbers in percent, [95 % interval] or ± standard deviation over splits."]
    lines += [f"Clip list {found}: {', '.join(names)}." for found, names in lists.items()]
    lines += [f"{model.name}: {model.checkpoint}, weights {model.weights}." for model in models]
    lines.append("Other baselines are those that the protocol prints for the first model.")
    if any("best stage" in score.measure for each in results.scores.values() for score in each):
        lines.append("Of several stages the best is shown, chosen on the test rows as in published tables.")
    lines += [f"Missing: {' / '.join(key)}: {reason}" for key, reason in results.failures.items()]
    return lines


def latex_table(header: Sequence[str], body: Sequence[Sequence[str]], caption: str) -> str:
    """Return a LaTeX table for the package booktabs; the last column, the other baselines, is wrapped."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex(caption)}, in \%}}",
        rf"\begin{{tabular}}{{lll{'r' * (len(header) - 4)}p{{5cm}}}}",
    ]
    lines += [r"\toprule", " & ".join(map(_latex, header)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_latex, row)) + r" \\" for row in body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def plain(results: Results) -> dict[str, Any]:
    """Return everything as plain values, for JSON."""
    cells = []
    for cell in results.cells:
        key = (cell.data.name, cell.entry.name, cell.model.name)
        scores = [score.plain() for score in results.scores.get(key, [])]
        about = dict(zip(("data", "protocol", "model"), key, strict=True))
        cells.append({**about, "command": cell.command, "error": results.failures.get(key), "scores": scores})
    models = [{"name": m.name, "checkpoint": m.checkpoint, "weights": m.weights} for m in results.models]
    return {"title": results.title, "suite": results.suite, "models": models, "cells": cells}
