"""Tables of numbers as plain text, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from avssl.core.names import printable


def text_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Align columns of text, the first to the left and the others to the right; each row is one line."""
    header, *body = [[printable(cell) for cell in row] for row in (header, *body)]
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    lines = []
    for row in (header, *body):
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """Format a share in percent with one decimal; empty for None."""
    return "" if value is None else f"{100 * value:.1f}"


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table, the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(
        "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in row) + " |" for row in (header, rule, *body)
    )
