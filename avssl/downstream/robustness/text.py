"""A robustness report as text for a terminal."""

from __future__ import annotations

from typing import Any

from avssl.downstream.robustness.tables import (
    accuracy_table,
    corruption_table,
    disturbance_table,
    group_note,
    group_table,
)
from avssl.reports.text_table import percent, text_table


def as_text(report: dict[str, Any]) -> str:
    """Format the tables of a report, in percent."""
    about = report["protocol"]
    lines = [f"{about['name']}", summary(report)]
    if report["rows"]:
        lines += ["", "accuracy in %", text_table(*accuracy_table(report["rows"]))]
    for modality in dict.fromkeys(row["modality"] for row in report["rows"]):
        lines += ["", f"predictions from {modality}, in %", text_table(*disturbance_table(report["rows"], modality))]
    for title, cells in corruption_sections(report):
        lines += ["", title, text_table(*cells)]
    for column, groups in report["groups"].items():
        lines += ["", f"by {column}, in %", text_table(*group_table(groups)), group_note(groups)]
    if "pasted" in about:
        lines += ["", f"pasted into {about['n_pasted']} clips: {about['pasted']}"]
    if about["unreadable"]:
        lines.append(f"{about['unreadable']} rows could not be read and are left out")
    if about.get("unlabeled"):
        lines.append(f"{about['unlabeled']} test rows have no label or several and are left out")
    return "\n".join(lines)


def summary(report: dict[str, Any]) -> str:
    """Return one line on the clips and the baselines."""
    about, baselines = report["protocol"], report["baselines"]
    if report["measure"] == "classification":
        return (
            f"{about['label_column']}: {about['num_classes']} classes, {about['n_test']} clips disturbed; "
            f"chance {percent(about['chance'])}, largest class {percent(about['largest_class'])}"
        )
    levels = [
        f"{name}: {', '.join(f'{number} {percent(value)}' for number, value in values.items())}"
        for name, values in baselines.items()
    ]
    labels = f"{about['label_column']}: {about['num_classes']} classes, " if "label_column" in about else ""
    return f"{labels}{about['n_test']} clips scored; {'; '.join(levels)}"


def corruption_sections(report: dict[str, Any]) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
    """Return the table of each number under corruptions, with its title."""
    if "corruptions" not in report:
        return []
    rows, headline = report["corruptions"]["rows"], report["protocol"].get("headline")
    kind = "accuracy" if report["measure"] == "classification" else headline
    return [
        (
            f"{f'{kind} of ' if kind else ''}{number} under corruptions, in %; drop: share of the clean score lost",
            corruption_table(rows, number, report["baselines"]["chance"][number]),
        )
        for number in dict.fromkeys(row["number"] for row in rows if row["severity"])
    ]
