"""``avssl search FEATURES --audio FILE | --video FILE | --id ID``: the moments that fit a sound or a picture.

FEATURES is a table of ``avssl embed``. A sound (of any sound or video file) is compared with the pictures of every
window, with their sounds, or with both (``--in``); so is a picture. The search is exact. Windows of one file that
overlap count once.

There is always a first hit. What it is worth is shown beside it: z counts spreads above the middle of the whole
gallery, and hits that are no better than the best of as many unrelated windows are marked with "~"; "=" marks the
query itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.features.search import (
    NAMES,
    GalleryHits,
    Query,
    find_moments,
    is_itself,
    model_of_table,
    moment_group,
    query_moment,
    query_of_file,
    query_of_table,
    table_place,
)
from avssl.features.search_page import write_search_page
from avssl.features.table import FeatureTable, read_feature_table
from avssl.models import Modality


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`search`."""
    parser = new_parser("avssl search", __doc__)
    parser.add_argument("features", help="A table of avssl embed.")
    parser.add_argument("--audio", metavar="FILE", help="Look for what fits the sound of this file, or is like it.")
    parser.add_argument("--video", metavar="FILE", help="Look for what fits the picture of this file, or is like it.")
    parser.add_argument("--id", help="Look for what fits a row of the table itself; see --by.")
    parser.add_argument("--by", choices=["audio", "video"], default="audio", help="Which of the row's two, with --id.")
    parser.add_argument(
        "--at", type=float, metavar="SECONDS", help="The middle of the window looked for; by default that of the file."
    )
    parser.add_argument(
        "--in",
        choices=["video", "audio", "both"],
        help="Compare with pictures, sounds or both, in two lists; both by default, where the table allows it.",
    )
    parser.add_argument("-k", "--k", type=int, default=10, help="How many moments.")
    parser.add_argument("-o", "--out", metavar="HTML", help="Also write a page with thumbnails and players.")
    parser.add_argument("--checkpoint", help="The model of the table, where it is not where the table says.")
    parser.add_argument("--root", metavar="FOLDER", help="The files, where they are not where the table says.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    given = [name for name in ("audio", "video", "id") if getattr(options, name) is not None]
    if len(given) != 1:
        raise ConfigError("name one thing to look for: --audio FILE, --video FILE or --id ID.")
    search(
        options.features,
        getattr(options, given[0]),
        by=options.by if given[0] == "id" else cast(Modality, given[0]),
        is_id=given[0] == "id",
        at_seconds=options.at,
        gallery=options["in"],
        k=options.k,
        out=options.out,
        checkpoint=options.checkpoint,
        root=options.root,
        device=options.device,
    )
    return 0


def search(
    features: Path | str,
    query: Path | str,
    *,
    by: Modality = "audio",
    is_id: bool = False,
    at_seconds: float | None = None,
    gallery: Literal["video", "audio", "both"] | None = None,
    k: int = 10,
    out: Path | str | None = None,
    checkpoint: Path | str | None = None,
    root: Path | str | None = None,
    device: str = "auto",
) -> list[GalleryHits]:
    """Searches, prints what it finds, and writes a page if asked.

    Args:
        features: A table of :func:`avssl.recipes.embed.embed`.
        query: A file, or an id of the table.
        by: Look for the query's sound or its picture.
        is_id: Whether ``query`` is an id.
        at_seconds: The middle of the window looked for, on the query's own clock; None takes that of the file.
        gallery: Compare with pictures, sounds or both; None takes both, or ``by`` alone in a table of features.
        k: Most moments a list, >= 1.
        out: An HTML page with thumbnails and players.
        checkpoint: The table's model, if it is elsewhere now.
        root: The folder of the table's files, if it is elsewhere now.
        device: Where the query is embedded.

    Returns:
        One list for each gallery.

    Raises:
        FeatureTableError: If the table cannot be used, is empty, lacks the id, or is of other weights.
        MediaError: If the query's file cannot be read or lacks the stream.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If ``k`` or ``at_seconds`` is out of range.
    """
    table = read_feature_table(features)
    folder = Path(root) if root is not None else table_place(features, table.info.root)
    if is_id:
        asked = query_of_table(table, str(query), by, at_seconds, folder)
    else:
        pretrained = model_of_table(table, features, checkpoint, device)
        asked = query_of_file(pretrained, query, by, table.info.what, at_seconds)
    if gallery is None:
        gallery = "both" if table.info.what == "embeddings" else by
    modalities: tuple[Modality, ...] = ("video", "audio") if gallery == "both" else (gallery,)
    found = [find_moments(table, asked, modality, k) for modality in modalities]
    print(
        f"looked for: the {NAMES[by]} of {_plain(asked.name)}, {asked.start_seconds:.2f} to {asked.stop_seconds:.2f} s"
    )
    for part in found:
        print(as_text(table, part, asked, folder))
    if out is not None:
        title = f"What fits the {NAMES[by]} of {asked.name}"
        write_search_page(out, title, query_moment(asked), [moment_group(table, part, asked, folder) for part in found])
        print(f"page: {out}")
    return found


def as_text(table: FeatureTable, found: GalleryHits, query: Query, folder: Path) -> str:
    """The moments of one gallery in lines: ``=`` marks the query itself, ``~`` what chance would find."""
    lines = ["", f"{found.heading(query.modality)}. {found.note(table)}"]
    lines.append(f"{'':>5}{'cosine':>8}{'z':>7}{'start':>10}{'stop':>10}  file")
    for number, hit in enumerate(found.hits, start=1):
        times = f"{table.start_seconds[hit.row]:>10.2f}{table.stop_seconds[hit.row]:>10.2f}"
        mark = "=" if is_itself(table, hit, query, folder) else "~" if hit.is_weak else " "
        lines.append(f"{number:>4}{mark}{hit.cosine:>8.3f}{hit.z:>7.1f}{times}  {_plain(table.paths[hit.row])}")
    return "\n".join(lines)


def _plain(name: str) -> str:
    """A name of strangers without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
