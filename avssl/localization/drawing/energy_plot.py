"""Plot of the energy over offsets."""

from __future__ import annotations

from pathlib import Path

from avssl.localization.energy import SyncCurve
from avssl.reports.figures import new_figure, save_figure


def draw_sync_curve(curve: SyncCurve, out_path: Path | str, title: str = "") -> None:
    """Write a PNG of 800 x 450 pixels: energy over offset, with the minimum and offset 0 marked.

    Args:
        out_path: Output file; its folder is created.
        title: Title, not parsed as TeX.
    """
    figure = new_figure(800, 450, dpi=100)
    axes = figure.add_axes((0.1, 0.14, 0.86, 0.76))
    axes.plot(curve.offset_seconds.numpy(), curve.energy.numpy(), marker="o", markersize=3, color="#1f4e79")
    best = curve.best_offset_seconds
    axes.axvline(0, color="#999999", linewidth=1)
    axes.axvline(best, color="#c0392b", linewidth=1, linestyle="--")
    axes.set_xlabel("offset of the audio in seconds: positive if it is late")
    axes.set_ylabel("mean energy (1 - cosine)")
    axes.set_title(
        f"{title}  lowest at {best:+.2f} s, confidence {curve.confidence:.3f}".strip(), fontsize=10, parse_math=False
    )
    save_figure(figure, out_path)
