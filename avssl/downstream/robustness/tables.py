"""Tables of a robustness report, in percent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from avssl.reports.text_table import percent


def accuracy_table(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells: one row per disturbance, one column per modality."""
    accuracy = {(row["disturbance"], row["modality"]): row["accuracy"] for row in rows}
    names, modalities = (list(dict.fromkeys(row[key] for row in rows)) for key in ("disturbance", "modality"))
    body = [[name, *(percent(accuracy[name, modality]) for modality in modalities)] for name in names]
    return ["disturbance", *modalities], body


def disturbance_table(rows: Sequence[dict[str, Any]], modality: str) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the disturbances that change a modality."""
    body = [[cell(row) for cell in _COLUMNS.values()] for row in rows if row["modality"] == modality and row["reached"]]
    return list(_COLUMNS), body


def group_table(groups: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells: one row per group, then the gap between the best and the worst and its test."""
    numbers = list(groups["gap"])
    header = ["group", "n", *(cell for number in numbers for cell in (number, "95 %"))]
    body = []
    for name, group in groups["groups"].items():
        cells = [cell for m in numbers for cell in (percent(group[m]["mean"]), _interval(group[m]["interval"]))]
        body.append([name, str(group["n"]), *cells])
    gaps = [cell for m in numbers for cell in (percent(groups["gap"][m]["gap"]), _best_worst(groups["gap"][m]))]
    tests = [cell for m in numbers for cell in _test(groups["gap"][m]["test"])]
    return header, [*body, ["gap", "", *gaps], ["p-value of the gap", "", *tests]]


def group_note(groups: dict[str, Any]) -> str:
    """Return what the test of a column covers, or why there is none."""
    if groups["no_test"]:
        return f"no test of the gap: {groups['no_test']}."
    return (
        "p-value: the share of random exchanges of the groups among recordings with a gap as large. The interval of "
        "the gap does not cover that the best and the worst group were chosen after looking; the p-value does, for "
        "one column and one number."
    )


def corruption_table(rows: Sequence[dict[str, Any]], number: str, chance: float) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of one number: a corruption in each row, its severities in the columns."""
    chosen = {(row["corruption"], row["severity"]): row for row in rows if row["number"] == number}
    clean = next(row for (_, severity), row in chosen.items() if severity == 0)
    severities = sorted({severity for _, severity in chosen if severity})
    body = []
    for name in dict.fromkeys(name for name, severity in chosen if severity):
        means = [percent(chosen[name, severity]["mean"]) for severity in severities]
        worst = chosen[name, severities[-1]]
        drop = [percent(worst["drop"]), _interval(worst["drop_interval"])]
        body.append([name.replace("_", " "), percent(clean["mean"]), *means, percent(chance), *drop])
    titles = [f"severity {severity}" for severity in severities]
    return ["corruption", "clean", *titles, "chance", f"drop at {severities[-1]}", "95 %"], body


def strength_table(about: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells: the strengths of each corruption at the severities 1 to 5, with their sources."""
    body = [
        [name.replace("_", " "), *(f"{value:g}" for value in kind["strengths"]), kind["meaning"], kind["source"]]
        for name, kind in about.items()
    ]
    return ["corruption", *(f"severity {i}" for i in range(1, 6)), "strength", "source"], body


def _test(test: dict[str, Any] | None) -> tuple[str, str]:
    """Return the p-value, and the interval of the gap in percent."""
    return ("", "") if test is None else (p_text(test["p_value"]), f"gap {_interval(test['interval'])}")


def p_text(p_value: float) -> str:
    """Format a p-value with three decimals."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _interval(values: Sequence[float] | None) -> str:
    return "" if values is None else " to ".join(map(percent, values))


def _best_worst(gap: dict[str, Any]) -> str:
    return "one group" if gap["best"] == gap["worst"] else f"{gap['best']} over {gap['worst']}"


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "disturbance": lambda row: row["disturbance"],
    "accuracy": lambda row: percent(row["accuracy"]),
    "change": lambda row: percent(row["change"]),
    "95 %": lambda row: _interval(row["interval"]),
    "changed prediction": lambda row: percent(row["changed"]),
    "partner's class": lambda row: percent(row["became_partner"]),
}
