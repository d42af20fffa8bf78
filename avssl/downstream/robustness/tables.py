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
    modalities = list(groups["gap"])
    header = ["group", "n", *(cell for modality in modalities for cell in (modality, "95 %"))]
    body = []
    for name, group in groups["groups"].items():
        cells = [cell for m in modalities for cell in (percent(group[m]["accuracy"]), _interval(group[m]["interval"]))]
        body.append([name, str(group["n"]), *cells])
    gaps = [cell for m in modalities for cell in (percent(groups["gap"][m]["gap"]), _best_worst(groups["gap"][m]))]
    tests = [cell for m in modalities for cell in _test(groups["gap"][m]["test"])]
    return header, [*body, ["gap", "", *gaps], ["p-value of the gap", "", *tests]]


def _test(test: dict[str, Any] | None) -> tuple[str, str]:
    """Return the p-value, and the interval of the gap in percent."""
    return ("", "") if test is None else (f"{test['p_value']:.3f}", f"gap {_interval(test['interval'])}")


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
