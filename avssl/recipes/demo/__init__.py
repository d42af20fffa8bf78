"""The verb ``demo``: everything once, with a report."""

from __future__ import annotations

from pathlib import Path

from avssl.recipes.demo.settings import DemoSettings
from avssl.recipes.demo.stages import run_demo


def demo(folder: Path | str = "avssl_demo", *, settings: DemoSettings | None = None, overwrite: bool = False) -> Path:
    """Run everything once on synthetic videos with known sources, and write a report.

    Renders a SoundingShapes corpus as mp4 files, indexes it, pretrains without labels, measures linear probes,
    retrieval and localization beside their baselines, draws heat-map videos with their audio, and writes report.html.
    Takes under 15 minutes on two CPU cores: it begins by measuring a training step, and says what it shortens on a
    slower machine. A second call reuses every finished stage.

    Args:
        folder: Folder of everything that is made.
        settings: Size and seed of the demo.
        overwrite: Start over, even if stages are finished or belong to other settings. Files that the demo did not make
            are never removed.

    Returns:
        The report.
    """
    report = run_demo(Path(folder), settings or DemoSettings(), overwrite=overwrite)
    print(report)
    return report
