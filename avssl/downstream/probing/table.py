"""Text table of a probing report."""

from __future__ import annotations

from typing import Any

from avssl.downstream.probing.protocol import ProbeProtocol

_TITLES = {"mean_per_class": "per class", "top_5": "top 5"}


def protocol_table(protocol: ProbeProtocol, report: dict[str, Any]) -> str:
    """Format a report in percent: the headline number with its interval or deviation, then the other numbers.

    The best layer of a model is marked with a star.
    """
    about, rows = report["protocol"], report["rows"]
    layers = any("layer" in row for row in rows)
    several = len(about["divisions"]) > 1
    head = f"{'model':<17}{'modality':<20}" + (f"{'layer':<15}" if layers else "")
    head += f"{protocol.headline:>9}" + (f"{'sd':>7}" if several else f"{'95 %':>17}")
    head += "".join(f"{_TITLES.get(name, name):>11}" for name in protocol.columns[1:])
    lines = [about["name"], _summary(about), "", head]
    for row in rows:
        line = f"{row['model']:<17}{row['modality']:<20}"
        if layers:
            line += f"{row.get('layer', '') + ('*' if row.get('best_layer') else ''):<15}"
        line += f"{100 * row[protocol.headline]:>9.1f}" + _spread(row, protocol.headline, several)
        line += "".join(f"{100 * row[name]:>11.1f}" if name in row else " " * 11 for name in protocol.columns[1:])
        lines.append(line.rstrip())
    if any(row.get("best_layer") for row in rows):
        lines.append("* best layer, chosen on the test rows as in published tables")
    if any(row.get("converged", 1) < 1 for row in rows):
        lines.append("some solvers did not converge; try a higher --svm-iterations")
    if about.get("unlabeled"):
        lines.append(f"{about['unlabeled']} rows have no label or several and are left out")
    if about.get("several_labels"):
        lines.append(f"{about['several_labels']} of them have several labels; --multi-label measures them by mAP")
    if about["unreadable"]:
        lines.append(f"{about['unreadable']} rows could not be read and are left out")
    return "\n".join(lines)


def _summary(about: dict[str, Any]) -> str:
    def count(name: str) -> str:
        return _range([part[name] for part in about["divisions"]])

    text = f"{about['label_column']}: {about['num_classes']} classes, "
    if "gallery_size" in about:
        text += f"{count('n_test')} queries in a gallery of {count('gallery_size')}"
    else:
        text += f"{count('n_train')} training rows, {count('n_test')} test rows"
    if len(about["divisions"]) > 1:
        text += f", in each of {len(about['divisions'])} divisions"
    return f"{text}; in percent"


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _spread(row: dict[str, Any], headline: str, several: bool) -> str:
    if several:
        return f"{100 * row[f'{headline}_sd']:>7.1f}"
    if "interval" not in row:
        return " " * 17
    low, high = (100 * value for value in row["interval"])
    return f"{f'{low:.1f} to {high:.1f}':>17}"
