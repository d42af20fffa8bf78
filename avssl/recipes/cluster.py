"""The verb ``cluster``: clusters of a manifest's rows as labels to train on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from avssl.core.batch import Modality
from avssl.core.claimed_verb import writes_files
from avssl.core.cpus import decoding_workers
from avssl.core.errors import ConfigError, InputError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.core.progress import Bar
from avssl.core.ranges import Count, CountOrZero, Seed, Workers, checked
from avssl.engine import choose_device
from avssl.evaluation.corpus import cluster as cluster_vectors
from avssl.evaluation.corpus import label_agreement, medoids
from avssl.features.cluster_page import write_cluster_page
from avssl.features.corpus import default_clusters
from avssl.features.extract import Features, extract_features
from avssl.hub.pretrained import from_pretrained
from avssl.media.limits import MediaLimits

FIRST = ("out", "num_clusters", "modality", "column", "fit_split", "num_examples", "seed", "overwrite", "device")


def clustered_manifest(manifest: Path | str) -> Path:
    """Return the default place of the manifest with clusters: beside the other."""
    return Path(manifest).with_suffix(".clustered.csv")


def _outputs(given: Mapping[str, Any]) -> list[Path | None]:
    out = _out(given["manifest"], given["out"])
    return [out, out.with_suffix(".html") if given["num_examples"] else None]


def _out(manifest: Path | str, out: Path | str | None) -> Path:
    """Return the place of the new manifest; raise ManifestError if its paths would be wrong there."""
    if is_url(manifest):
        raise ManifestError(f"{manifest}: clusters are written beside the manifest; copy it to this machine.")
    place = clustered_manifest(manifest) if out is None else Path(out)
    if place.suffix.lower() != ".csv":
        raise ConfigError(f"--out ({place}) must be the name of a manifest, such as {place.with_suffix('.csv')}.")
    if place.resolve().parent != Path(manifest).resolve().parent:
        raise ManifestError(
            f"--out ({place}) must be in {Path(manifest).parent}, because the paths of {manifest} are relative to it."
        )
    return place


@checked
@writes_files(_outputs, reads=("checkpoint", "manifest"))
def cluster(
    checkpoint: Path | str,
    manifest: Path | str,
    *,
    out: Path | str | None = None,
    num_clusters: Count | None = None,
    modality: Literal["both", "video", "audio"] = "both",
    what: Literal["features", "embeddings"] = "features",
    column: str = "cluster",
    fit_split: str | None = None,
    split_column: str = "split",
    label_column: str = "label",
    num_examples: CountOrZero = 6,
    seed: Seed = 0,
    windows_per_clip: Count = 1,
    num_workers: Workers | None = None,
    cache_folder: Path | str | None = None,
    limits: MediaLimits | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Manifest:
    """Cluster the rows of a manifest by a trained model, as pseudo-labels that ``avssl finetune`` trains on.

    This is ClusterFit (Yan et al., CVPR 2020, https://arxiv.org/abs/1912.03330): k-means of the features of a
    pretrained model labels the corpus, and a new model is trained from scratch to classify its clusters, which keeps
    the structure of the features and loses what belongs to the pretraining task.

    ``avssl finetune OUT.csv --labels.label-column cluster --checkpoint none`` trains that model. The clusters are
    numbered by size, 0 is the largest; rows that cannot be read have none and are left out of the training. A page
    beside the manifest shows the most central clips of each cluster.

    Args:
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        manifest: Rows to cluster.
        out: Manifest to write, in the folder of the other; default: MANIFEST.clustered.csv.
        num_clusters: Number of clusters, >= 2; default: the square root of half the number of rows, at most 100.
        modality: Features to cluster by: of the video, of the audio, or both side by side with equal weight. With one
            of the two, files without the other stream have a cluster too.
        what: "features" before the projection heads, or "embeddings" after them.
        column: Column of the clusters, which the manifest must not have.
        fit_split: Find the clusters in the rows of this split, such as train; the other rows get the nearest one.
            Default: all rows.
        split_column: Column of the splits.
        label_column: Column of labels, if there is one, that the clusters are compared with.
        num_examples: Clips of each cluster on the page; 0 writes no page.
        seed: Random seed of k-means.
        windows_per_clip: Evenly spaced windows whose features are averaged.
        num_workers: Decoding processes; default: one per core.
        cache_folder: Folder where features are kept for later runs.
        limits: Limits on media files.
        overwrite: Replace files that another command or program made.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Returns:
        The manifest with the new column.

    Raises:
        ManifestError: If the column exists, the split has no row, or ``out`` is in another folder.
        InputError: If there are fewer rows than clusters, or no row can be read.
        HubError: If there is no model at ``checkpoint``.
        OutputError: If another command or program made an output, or another process writes it.
    """
    out, rows = _out(manifest, out), read_manifest(manifest)
    fit = _rows_to_fit(rows, manifest, column, split_column, fit_split)
    count = default_clusters(len(rows)) if num_clusters is None else num_clusters
    if not 2 <= count <= fit.sum():
        raise InputError(f"num_clusters ({count}) must be at least 2 and at most the {fit.sum()} rows to cluster.")
    stream: Modality | None = None if modality == "both" else modality
    features = extract_features(
        from_pretrained(checkpoint, choose_device(device)),
        rows,
        windows_per_clip=windows_per_clip,
        what=what,
        stream=stream,
        num_workers=decoding_workers(num_workers),
        cache_folder=cache_folder,
        progress=progress,
    )
    vectors = _vectors(features, modality)
    clusters = np.full(len(rows), -1)
    clusters[features.rows] = cluster_vectors(vectors, count, seed, among=fit[features.rows])
    names = [None if number < 0 else f"{number:0{len(str(count - 1))}d}" for number in clusters.tolist()]
    labeled = rows.with_columns({column: pa.array(names, pa.string())})
    facts = _facts(rows, clusters, count, label_column, len(features.failures))
    labeled.write(out)
    print("\n".join(f"{name}: {value}" for name, value in facts))
    print(f"manifest with the column {column}: {out}")
    if num_examples:
        page = out.with_suffix(".html")
        found = clusters[features.rows]
        central = [features.rows[own] for own in medoids(vectors, found, int(found.max()) + 1, num_examples)]
        title = f"Clusters of {Path(manifest).name}"
        with Bar(desc="page", unit="cluster", show=progress) as bar:
            write_cluster_page(
                page,
                title,
                rows,
                clusters,
                central,
                facts,
                label_column=label_column,
                limits=limits,
                on_progress=bar.move,
            )
        print(f"page: {page}")
    print(f"train on them: avssl finetune {out} --labels.label-column {column} --checkpoint none")
    return labeled


def _rows_to_fit(rows: Manifest, path: Path | str, column: str, split_column: str, fit_split: str | None) -> np.ndarray:
    """Return the (N,) bool mask of the rows that the clusters are found in; raise ManifestError before any work."""
    if column in rows:
        raise ManifestError(f"{path}: has the column {column} already. Name another with --column.")
    if fit_split is None:
        return np.ones(len(rows), dtype=bool)
    if split_column not in rows:
        raise ManifestError(f"{path}: no column {split_column!r}; it has {', '.join(rows.table.column_names)}.")
    fit: np.ndarray = rows[split_column] == fit_split
    if not fit.any():
        there = ", ".join(sorted({str(name) for name in rows[split_column]}))
        raise ManifestError(f"{path}: no row has {split_column} {fit_split!r}; there are {there}.")
    return fit


def _vectors(features: Features, modality: str) -> np.ndarray:
    """Return (N, C) float32 unit vectors, those of two modalities side by side with equal weight."""
    names = ("video", "audio") if modality == "both" else (modality,)
    parts = [np.asarray(getattr(features, name), dtype=np.float32) for name in names]
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in parts]
    return np.concatenate(unit, axis=1) / np.float32(np.sqrt(len(unit)))


def _facts(
    rows: Manifest, clusters: np.ndarray, count: int, label_column: str, num_failures: int
) -> list[tuple[str, str]]:
    """Return lines of the overview: number and sizes of the clusters, and how they agree with labels."""
    sizes = np.bincount(clusters[clusters >= 0], minlength=count)
    facts = [
        ("clips", f"{(clusters >= 0).sum()} of {len(rows)} rows"),
        ("clusters", f"{(sizes > 0).sum()} of {count} with clips"),
        ("clips of a cluster", f"{sizes.max()} at most, {int(np.median(sizes))} in the middle, {sizes.min()} at least"),
    ]
    if num_failures:
        facts.append(("cannot be read", f"{num_failures} rows, which have no cluster"))
    if label_column in rows:
        labels = np.array([text or "" for text in rows[label_column]], dtype=object)
        known = (labels != "") & (clusters >= 0)
        if known.any():
            agreement = label_agreement(clusters[known], labels[known].astype(str))
            facts.append(
                (f"agreement with {label_column}", f"{agreement:.3f} adjusted mutual information (chance: 0.000)")
            )
    return facts
