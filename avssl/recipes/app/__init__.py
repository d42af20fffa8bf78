"""``avssl app``: a page in your browser that shows where the sound of a video comes from.

Drop a video or take an example, watch it under its heat map, look for another sound in it, and search for moments
that are alike. The page is served to this machine alone, and nothing is sent or fetched. Needs gradio:
pip install 'avssl[demo]'.
"""

from __future__ import annotations

from collections.abc import Sequence

from avssl.config import new_parser, parse_arguments
from avssl.recipes.app.server import serve
from avssl.recipes.app.settings import AppSettings


def main(argv: Sequence[str]) -> int:
    """Parses the command line and serves the page until Ctrl-C."""
    parser = new_parser("avssl app", __doc__)
    parser.add_argument(
        "--checkpoint",
        help="A run folder, its weights folder, or a release on the hub; by default the model of --features, or the "
        "small one that comes with avssl.",
    )
    parser.add_argument("--examples", metavar="FOLDER", help="Videos to choose from; rendered scenes by default.")
    parser.add_argument("--features", metavar="TABLE", help="A table of avssl embed to search in, not the examples.")
    parser.add_argument("--root", metavar="FOLDER", help="The files of the table, where they are not where it says.")
    parser.add_argument("--port", type=int, help="Of 127.0.0.1; the first free one from 7860 on by default.")
    parser.add_argument("--seconds", type=float, default=60.0, help="How much of a video is looked at, from its start.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    serve(
        AppSettings(
            checkpoint=options.checkpoint,
            examples=options.examples,
            features=options.features,
            root=options.root,
            port=options.port,
            seconds=options.seconds,
            device=options.device,
        )
    )
    return 0
