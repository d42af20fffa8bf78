"""Your own folder: which moments look or sound like this clip?

    python demos/my_clips_search.py FOLDER QUERY [RUN_OR_WEIGHTS]

Embeds every window of the videos in FOLDER (once: a second call continues, or finds the table complete), then searches
for the audio of QUERY, a video or an audio file, among their frames and their audio. Writes search.parquet and
search.html, a page with players. Default: the weights that come with avssl.
"""

from __future__ import annotations

import sys
from pathlib import Path

from avssl.hub.pretrained import demo_weights
from avssl.recipes.embed import embed
from avssl.recipes.search import search


def main(folder: str, query: str, weights: str | None = None) -> None:
    """Embed the folder, then search it."""
    out = Path.cwd()
    checkpoint = weights or demo_weights()
    table = embed(folder, checkpoint=checkpoint, out=out / "search.parquet", stride_seconds=1.0)
    found = search(table, audio=query, checkpoint=checkpoint, out=out / "search.html", k=5)
    weak = all(hit.is_weak for gallery in found for hit in gallery.hits)
    if weak:
        print("No hit is better than chance would find: the model does not tell these clips apart.")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
