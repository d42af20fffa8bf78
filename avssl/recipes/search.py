"""The verb ``search``: the windows of a table that match a query."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from avssl.core.batch import Modality
from avssl.core.claimed_verb import writes_files
from avssl.core.errors import ConfigError
from avssl.core.names import printable
from avssl.core.ranges import Count, SecondsOrZero, checked
from avssl.evaluation import Aggregation
from avssl.features.familiarity import check_familiarity
from avssl.features.search import (
    GalleryHits,
    Query,
    find_moments,
    is_itself,
    model_of_table,
    moment_group,
    query_moment,
    query_of_both,
    query_of_file,
    query_of_table,
    query_of_text,
    table_place,
)
from avssl.features.search_page import write_search_page
from avssl.features.table import Column, FeatureTable, read_feature_table
from avssl.media import MediaLimits, open_media


@checked
@writes_files(lambda given: [given["out"]], reads=("features", "audio", "video", "checkpoint"))
def search(
    features: Path | str,
    *,
    audio: Path | str | None = None,
    video: Path | str | None = None,
    text: str | None = None,
    id: str | None = None,
    by: Column = "audio",
    at_seconds: SecondsOrZero | None = None,
    gallery: Literal["video", "audio", "joint", "both"] | None = None,
    k: Count = 10,
    aggregation: Aggregation | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    checkpoint: Path | str | None = None,
    root: Path | str | None = None,
    limits: MediaLimits | None = None,
    device: str = "auto",
) -> list[GalleryHits]:
    """Find the windows of a table that match an audio clip, an image, a video or words.

    The table comes from ``avssl embed``. The query (``--audio FILE``, ``--video FILE``, ``--text WORDS`` or ``--id
    ID``) is compared with the frames of every window, with their audio, or with both. The search is exact. Overlapping
    windows of one file count once. Words need a model with a text tower.

    The list always has a first hit, so each has a z-score: its distance from the median of the whole gallery, in
    robust standard deviations. "~" marks hits that are no better than the best of as many unrelated windows, "="
    marks the query itself. A query file unlike the clips that the model was trained on gets a warning; rows of the
    table (``--id``) are not checked.

    Args:
        features: Table of ``avssl embed``.
        audio: Search for the audio of this file.
        video: Search for the frames of this file.
        text: Search for what these words say, such as "a dog barks".
        id: Search for a row of the table.
        by: Modality of the row, with ``--id``; "joint" for its embedding of both.
        at_seconds: Center of the query's window; default: the center of the file.
        gallery: Modality to compare with; "joint" for embeddings of both modalities together. Default: all that the
            table allows, in a list each.
        k: Largest number of hits per list.
        aggregation: Similarity of two windows in a table of ``--what moments``, from the cosines of each frame with the
            audio of each time: "mean", "max", or of equal times alone "diagonal_mean" (default) or "diagonal_max".
        out: HTML page to write, with thumbnails and players.
        overwrite: Replace a file that another command or program made.
        checkpoint: Model of the table, if it has moved.
        root: Folder of the table's files, if it has moved.
        limits: Limits on the files that are opened.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.

    Returns:
        One list for each gallery.

    Raises:
        OutputError: If another command or program made ``out``, or another process writes it.
        ConfigError: If not exactly one query is given. ``audio`` and ``video`` together are one, for models with a
            joint head.
        FeatureTableError: If the table cannot be used, is empty, lacks the id, belongs to other weights, or cannot be
            compared by ``aggregation``.
        MediaError: If the query's file cannot be read or lacks the stream.
        HubError: If there is no model at ``checkpoint``, or it has no text tower.
        ValueError: If ``k`` or ``at_seconds`` is out of range.
    """
    queries = (("audio", audio), ("video", video), ("text", text), ("id", id))
    given = {name: value for name, value in queries if value is not None}
    if len(given) != 1 and set(given) != {"audio", "video"}:
        raise ConfigError("name one query: --audio FILE, --video FILE, --text WORDS or --id ID.")
    if text is not None and at_seconds is not None:
        raise ConfigError("--at-seconds is a time of a file; leave it out with --text.")
    kind, query = ("joint", given["video"]) if len(given) == 2 else next(iter(given.items()))
    table, files = read_feature_table(features), dict[Modality, Path | str]()
    if kind == "joint" and not table.info.joint_size:
        raise ConfigError(
            "name one query: --audio and --video together need a table with joint embeddings, of a model with a joint "
            "head (objective.name joint)."
        )
    folder = Path(root) if root is not None else table_place(features, table.info.root)
    if kind == "id":
        asked = query_of_table(table, str(query), by, at_seconds, folder)
    elif kind == "text":
        if table.info.what == "moments":
            raise ConfigError("--text has no moments to compare; make a table with avssl embed --what embeddings.")
        asked = query_of_text(model_of_table(table, features, checkpoint, device), str(query))
    elif kind == "joint":
        pretrained, files = (
            model_of_table(table, features, checkpoint, device),
            {"video": given["video"], "audio": given["audio"]},
        )
        asked = query_of_both(pretrained, files["video"], files["audio"], at_seconds, limits)
    else:
        pretrained, by = model_of_table(table, features, checkpoint, device), cast(Modality, kind)
        files = {by: query}
        asked = query_of_file(pretrained, query, by, table.info, at_seconds, limits)
    familiar = []
    for stream, file in files.items():
        with open_media(file, limits=limits) as reader:
            familiar.append(check_familiarity(reader, pretrained, modalities=(stream,)))
    modalities: tuple[Column, ...] = table.info.columns if kind != "text" else table.info.modalities
    if gallery is not None:
        modalities = table.info.modalities if gallery == "both" else (gallery,)
    elif table.info.what == "features":
        modalities = (by,)
    found = [find_moments(table, asked, modality, k, aggregation) for modality in modalities]
    print(f"query: {asked.line}")
    for familiarity in familiar:
        print(familiarity.line)
    for part in found:
        print(as_text(table, part, asked, folder))
    if out is not None:
        title = f"Matches for {asked.title}"
        groups = [moment_group(table, part, asked, folder) for part in found]
        warning = " ".join(familiarity.line for familiarity in familiar if familiarity.is_foreign)
        write_search_page(out, title, query_moment(asked), groups, limits, warning)
        print(f"page: {out}")
    return found


def as_text(table: FeatureTable, found: GalleryHits, query: Query, folder: Path) -> str:
    """Return the hits of one gallery in lines; ``=`` marks the query itself, ``~`` hits at chance level."""
    lines = ["", f"{found.heading(query.kind)}. {found.note(table)}"]
    lines.append(f"{'':>5}{'cosine':>8}{'z':>7}{'start':>10}{'stop':>10}  file")
    for number, hit in enumerate(found.hits, start=1):
        times = f"{table.start_seconds[hit.row]:>10.2f}{table.stop_seconds[hit.row]:>10.2f}"
        mark = "=" if is_itself(table, hit, query, folder) else "~" if hit.is_weak else " "
        lines.append(f"{number:>4}{mark}{hit.cosine:>8.3f}{hit.z:>7.1f}{times}  {printable(table.paths[hit.row])}")
    return "\n".join(lines)
