"""Plot of the energy over offsets."""

from __future__ import annotations

from pathlib import Path

from avssl.localization.sync import SyncCurve
from avssl.reports.figures import new_figure, save_figure


def draw_sync_curve(curve: SyncCurve, out_path: Path | str, title: str = "", warning: str = "") -> None:
    """Write a PNG of 800 x 450 pixels: energy over offset, with offset 0 and, if it is decided, the minimum marked.

    Args:
        curve: From :func:`~avssl.localization.sync_curve`.
        out_path: Output file; its folder is created.
        title: Title, not parsed as TeX.
        warning: A line in black on amber above everything; none if empty.

    Example:
        >>> from pathlib import Path
        >>> curve = SyncCurve(torch.tensor([-0.1, 0.0, 0.1]).double(), torch.tensor([[0.9, 0.2, 0.9]]))
        >>> draw_sync_curve(curve, "sync.png", title="video.mp4")
        >>> Path("sync.png").is_file()
        True
    """
    figure = new_figure(800, 450, dpi=100)
    axes = figure.add_axes((0.1, 0.14, 0.86, 0.7 if warning else 0.76))
    axes.plot(curve.offset_seconds.numpy(), curve.energy.numpy(), marker="o", markersize=3, color="#1f4e79")
    axes.axvline(0, color="#999999", linewidth=1)
    found = f"undecided, confidence {curve.confidence:.3f}"
    if curve.offset is not None:
        axes.axvline(curve.offset, color="#c0392b", linewidth=1, linestyle="--")
        found = f"lowest at {curve.offset:+.2f} s, confidence {curve.confidence:.3f}"
    axes.set_xlabel("offset of the audio in seconds: positive if it is late")
    axes.set_ylabel("mean energy (1 - cosine)")
    axes.set_title(f"{title}  {found}".strip(), fontsize=10, parse_math=False)
    if warning:
        box = {"facecolor": "#ffbf00", "edgecolor": "none", "pad": 4}
        figure.text(0.53, 0.965, warning, ha="center", va="center", fontsize=9, bbox=box, parse_math=False)
    save_figure(figure, out_path)
