"""The verb ``explore``: what is in a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.core.claimed_verb import writes_files
from avssl.core.errors import ConfigError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.core.progress import Bar
from avssl.core.ranges import Count, CountOrZero, Seed, checked
from avssl.core.tables import write_table
from avssl.evaluation.corpus import NUM_PROBES
from avssl.features.corpus import COLUMNS, Corpus, explore_table
from avssl.features.corpus_page import CorpusView, write_corpus_page
from avssl.features.search import table_place
from avssl.features.table import FeatureTable, read_feature_table
from avssl.media import MediaLimits

FIRST = ("out", "overwrite", "manifest", "num_clusters", "num_examples", "label_column", "root")


def _outputs(given: Mapping[str, Any]) -> list[Path | None]:
    page, manifest = Path(given["out"]), given["manifest"]
    if page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out ({page}) must be the name of a page, such as {page.with_suffix('.html')}.")
    return [page, _table_of(page), None if manifest is None else explored_manifest(manifest)]


def _table_of(page: Path) -> Path:
    return page.with_suffix(".csv")


def explored_manifest(manifest: Path | str) -> Path:
    """Return the place of the manifest with the new columns: beside the other, as paths are relative to its folder."""
    return Path(manifest).with_suffix(".explored.csv")


@checked
@writes_files(_outputs, reads=("features", "manifest"))
def explore(
    features: Path | str,
    *,
    out: Path | str = "corpus.html",
    manifest: Path | str | None = None,
    num_clusters: Count | None = None,
    num_examples: CountOrZero = 12,
    num_probes: Count = NUM_PROBES,
    label_column: str = "label",
    root: Path | str | None = None,
    seed: Seed = 0,
    limits: MediaLimits | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Corpus:
    """Show what is in a corpus: clusters, copies, clips whose audio does not match, off-screen sounds, voice-overs.

    The table comes from ``avssl embed``. The page has the most central clips of every cluster, copies beside their
    originals, and ranked lists of clips to look at, with thumbnails and players. Beside it, NAME.csv has one row per
    clip with the columns

    - "cluster": number of the cluster, 0 is the largest;
    - "duplicate_of": id of the clip that this one is a copy of, in another file;
    - "match": rank in [0, 1] of its own pair of video and audio among pairs with other files; 0.5 is chance;
    - "off_screen" and "voice_over": suspicion in [0, 1] that its audio is that of something that is not shown, or is
      laid over the frames.

    With ``--manifest``, the columns are also added to the manifest, as MANIFEST.explored.csv beside it, and training
    can choose rows by them: ``avssl pretrain MANIFEST.explored.csv --data.where "match>=0.3 duplicate_of=''"``.

    Args:
        features: Table of ``avssl embed``.
        out: HTML page to write.
        manifest: Manifest that was embedded; its rows get the columns, and its labels name the clusters.
        num_clusters: Number of clusters; default: the square root of half the number of clips, at most 100.
        num_examples: Largest number of clips or pairs in each list of the page.
        num_probes: Lists of a thousand windows or so in which neighbors are searched, of large tables; more find more
            copies and take longer.
        label_column: Column of the labels.
        root: Folder of the table's files, if it has moved.
        seed: Random seed of clusters and samples.
        limits: Limits on the files that are opened.
        overwrite: Replace files that another command or program made.
        progress: Show a progress bar.

    Returns:
        The columns of all clips.

    Raises:
        OutputError: If another command or program made an output, or another process writes it.
        FeatureTableError: If the table cannot be used, holds one modality or features, or has fewer than two files.
        ManifestError: If the manifest has no row of the table, or has these columns already.
        ConfigError: If ``out`` is no page.
        InputError: If there are more clusters than clips.
    """
    out = Path(out)
    rows = None if manifest is None else _manifest_rows(manifest, label_column)
    table = read_feature_table(features)
    if rows is not None:
        _check_ids(rows, table, manifest, features)
    with Bar(desc="explore", unit="row", show=progress) as bar:

        def on_progress(step: str, done: int, total: int) -> None:
            bar.set_description(step)
            bar.move(done, total)

        corpus = explore_table(
            table, num_clusters=num_clusters, num_probes=num_probes, seed=seed, on_progress=on_progress
        )
    folder = Path(root) if root is not None else table_place(features, table.info.root)
    with Bar(desc="page", unit="group", show=progress) as bar:
        view = CorpusView(table, corpus, folder, _labels(corpus, rows, label_column), num_examples)
        write_corpus_page(out, f"Corpus of {Path(features).name}", view, limits, bar.move)
    write_table(_columns_of_clips(table, corpus), _table_of(out))
    print("\n".join(f"{name}: {value}" for name, value in view.facts()))
    print(f"page: {out}")
    print(f"columns {', '.join(COLUMNS)}: {_table_of(out)}")
    if rows is not None and manifest is not None:
        _write_manifest(rows, corpus, explored_manifest(manifest))
    return corpus


def _manifest_rows(path: Path | str, label_column: str) -> Manifest:
    """Read the manifest; raise ManifestError, before any work, if it cannot get the columns."""
    if is_url(path):
        raise ManifestError(
            f"{path}: the columns are written beside the manifest, which must be a file of this machine."
        )
    rows = read_manifest(path)
    if there := [name for name in COLUMNS if name in rows]:
        raise ManifestError(f"{path}: has the column {there[0]} already. Name the manifest that was embedded.")
    if label_column not in rows and label_column != "label":
        raise ManifestError(f"{path}: no column {label_column!r}; it has {', '.join(rows.table.column_names)}.")
    return rows


def _check_ids(rows: Manifest, table: FeatureTable, path: Path | str | None, features: Path | str) -> None:
    if not set(rows["id"]) & set(table.ids):
        raise ManifestError(
            f"{path}: none of its {len(rows)} ids is in {features}, such as {rows.value(0, 'id')!r}. Name the manifest "
            f"that was embedded, or embed this one: avssl embed {path}"
        )


def _labels(corpus: Corpus, rows: Manifest | None, label_column: str) -> list[str | None]:
    """Return the label of each clip; None without a manifest, or for a clip that it lacks."""
    if rows is None or label_column not in rows:
        return [None] * len(corpus.clips.ids)
    label_of = dict(zip(rows["id"], rows[label_column], strict=True))
    return [label_of.get(name) for name in corpus.clips.ids]


def _columns_of_clips(table: FeatureTable, corpus: Corpus) -> pa.Table:
    """Return one row per clip: id, path, span and the new columns."""
    windows, clips = corpus.clips.windows, corpus.clips
    firsts = [rows[0] for rows in windows]
    columns: dict[str, Any] = {
        "id": pa.array(list(clips.ids), pa.string()),
        "path": pa.array(list(table.paths[firsts]), pa.string()),
        "start_seconds": pa.array(table.start_seconds[firsts]),
        "stop_seconds": pa.array(np.array([table.stop_seconds[rows].max() for rows in windows])),
    }
    return pa.table(columns | corpus.columns(clips.ids))


def _write_manifest(rows: Manifest, corpus: Corpus, path: Path) -> None:
    explored = rows.with_columns(corpus.columns(rows["id"]))
    explored.write(path)
    missing = len(set(rows["id"]) - set(corpus.clips.ids))
    print(f"manifest: {path}")
    if missing:
        print(f"{missing} of its {len(rows)} rows are not in the table, and have empty cells")
    print(f"train on a choice: avssl pretrain {path} --data.where \"match>=0.3 duplicate_of=''\"")
