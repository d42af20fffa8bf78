"""``avssl demo [FOLDER]``: everything once, on a world whose truth is known, with a report.

Synthesizes a SoundingShapes corpus as mp4 files, indexes it, pretrains without labels, measures
linear probes, retrieval and localization beside their baselines, draws overlay videos with their
sound, and writes one report.html. Takes under 15 minutes on two CPU cores. A second call reuses
every finished stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avssl.config import new_parser, parse_arguments
from avssl.recipes.demo.settings import DemoSettings
from avssl.recipes.demo.stages import run_demo


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs the demo."""
    parser = new_parser("avssl demo", __doc__)
    parser.add_argument("folder", nargs="?", default="avssl_demo", help="Where everything goes.")
    parser.add_argument("--seed", type=int, default=0, help="Of the corpus, the weights and every draw.")
    parser.add_argument("--tiny", action="store_true", help="Very little of everything: numbers mean nothing.")
    parser.add_argument("--fresh", action="store_true", help="Start over, even where stages are finished.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    settings = DemoSettings(seed=options.seed, tiny=options.tiny, device=options.device)
    report = run_demo(Path(options.folder), settings, fresh=options.fresh)
    print(report)
    return 0
