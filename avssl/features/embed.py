"""Embed windows of files into a feature table.

Example:
    >>> from avssl.hub.pretrained import from_pretrained
    >>> table, failures = table_of_files(from_pretrained("runs/first"), "corpus/train", ["000000.mp4", "000001.mp4"])
    >>> sorted(set(table.paths)), failures
    (['000000.mp4', '000001.mp4'], [])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from avssl.config import to_dict
from avssl.core.batch import Batch, Clip, Modality
from avssl.core.checkpoint_names import local_text
from avssl.core.manifest import Manifest, is_url
from avssl.core.version import __version__
from avssl.data import ClipDataset, EvalLoader, Failure
from avssl.data.eval_loader import Window
from avssl.data.transfer import one_behind, transfer_to
from avssl.features.table import Column, FeatureTable, TableInfo
from avssl.hub.pretrained import PretrainedModel
from avssl.media import MediaError, MediaLimits
from avssl.models import ClipEncoder, TableVectors

_BATCH_SIZE = 16


def table_info(
    pretrained: PretrainedModel,
    clip_list: str,
    every_seconds: float,
    what: TableVectors = "embeddings",
    *,
    stream: Modality | None = None,
    checkpoint: str = "",
    root: str = "",
) -> TableInfo:
    """Describe a table of this model's vectors.

    Args:
        clip_list: Hash of the rows, as :meth:`avssl.core.manifest.Manifest.hash`.
        every_seconds: Time from one window to the next.
        what: ``"embeddings"`` after the heads, ``"moments"``, those of every moment, or ``"features"`` before them.
        stream: The only modality that is embedded; None for both.
        checkpoint: Path of the model, relative to the table's folder.
        root: Folder that paths are relative to, itself relative to the table's folder.
    """
    model, config = pretrained.model, pretrained.config
    sizes = model.embedding_size, model.embedding_size
    moments = pretrained.num_moments() if what == "moments" else 0
    if what == "moments":
        sizes = moments * model.embedding_size, moments * model.embedding_size
    if what == "features":
        sizes = model.video_encoder.num_features, model.audio_encoder.num_features
    if stream is not None:
        sizes = (sizes[0], 0) if stream == "video" else (0, sizes[1])
    return TableInfo(
        what,
        *sizes,
        every_seconds,
        pretrained.weights_hash(),
        checkpoint=checkpoint,
        root=root,
        clip_list=clip_list,
        avssl_version=__version__,
        config=to_dict(replace(config, data=replace(config.data, source=""))),
        moments=moments,
        joint_size=model.embedding_size if what == "embeddings" and model.joint_head is not None else 0,
    )


def relative_place(place: Path | str, folder: Path | str) -> str:
    """Return a path relative to a folder, so that both can be moved together; URLs and hub ids are kept."""
    place = local_text(place)
    if is_url(place) or not Path(place).exists():
        return place
    return os.path.relpath(Path(place).resolve(), Path(folder).resolve())


def windows_of_row(dataset: ClipDataset, row: int, every_seconds: float) -> list[Window]:
    """Place windows over a whole row, by the file's header; raise MediaError if it cannot be read or lacks a stream."""
    starts = dataset.place_windows(row, every_seconds)
    return [(row, video, audio) for video, audio in zip(*starts, strict=True)]


def embed_windows(
    pretrained: PretrainedModel, loader: EvalLoader, info: TableInfo, on_row: Callable[[int], object] | None = None
) -> FeatureTable:
    """Run the model over windows of files.

    Args:
        loader: Its windows; unreadable ones are in its ledger afterwards.
        info: From :func:`table_info`.
        on_row: Called with the row that was reached, after each batch.

    Returns:
        One row for each readable window.
    """
    encoder, transfer = pretrained.encoder(), transfer_to(pretrained.device)
    places: list[_Span] = []
    names: tuple[Column, ...] = ("video", "audio", "joint")
    vectors: dict[str, list[np.ndarray]] = {name: [np.empty((0, info.size(name)), dtype=np.float32)] for name in names}
    with closing(loader.fed(transfer)) as batches:
        encoded = ((clips, transfer.fetch(_vectors(encoder, batch, info))) for clips, batch, _ in batches)
        for clips, fetched in one_behind(encoded):
            for name, found in fetched().items():
                vectors[name].append(found)
            places += [_Span.of(clip, loader.dataset) for clip in clips]
            if on_row is not None:
                on_row(clips[-1].row)
    columns = zip(*places, strict=True) if places else [()] * len(_Span._fields)
    ids, paths, starts, stops = (np.array(column, dtype=object) for column in columns)
    absent = {name: np.empty((len(places), 0), dtype=np.float32) for name in names if name not in info.columns}
    joined = (absent[name] if name in absent else np.concatenate(vectors[name]) for name in names)
    return FeatureTable(info, ids, paths, starts.astype(np.float64), stops.astype(np.float64), *joined)


def _vectors(encoder: ClipEncoder, batch: Batch, info: TableInfo) -> dict[str, Tensor]:
    """Return the vectors of a raw batch by column of the table, on its device."""
    inputs: dict[Modality, Tensor] = {name: encoder.model_input(batch, name) for name in info.modalities}
    found = {str(name): encoder.vectors(name, x, info.what, info.moments) for name, x in inputs.items()}
    if info.joint_size:
        found["joint"] = encoder.joint(inputs.get("video"), inputs.get("audio"))
    return found


def table_of_files(
    pretrained: PretrainedModel,
    root: Path | str,
    names: Sequence[str],
    every_seconds: float = 1.0,
    on_progress: Callable[[int, int], object] | None = None,
    limits: MediaLimits | None = None,
) -> tuple[FeatureTable, list[Failure]]:
    """Embed a few files in memory, in this process. ``avssl embed`` is for many.

    Args:
        root: Folder of the files.
        names: Their paths in it, as text of :mod:`avssl.core.names`, which are also their ids.
        every_seconds: Time from one window to the next, > 0.
        on_progress: Called with (files done, files in all).
        limits: Limits on the files.

    Returns:
        The table, and the files that could not be read or lack a stream.
    """
    manifest = Manifest.from_columns({"id": list(names), "path": list(names)}, root)
    dataset = ClipDataset(manifest, pretrained.sampling, limits=limits)
    windows: list[Window] = []
    failures: list[Failure] = []
    for row in range(len(manifest)):
        try:
            windows += windows_of_row(dataset, row, every_seconds)
        except MediaError as error:
            failures.append(Failure.of(manifest, row, error))
    loader = EvalLoader(dataset, _BATCH_SIZE, windows=windows)
    report = None if on_progress is None else lambda row: on_progress(row + 1, len(manifest))
    table = embed_windows(pretrained, loader, table_info(pretrained, manifest.hash(), every_seconds), report)
    return table, [*failures, *loader.ledger]


class _Span(NamedTuple):
    """The file and time span of one window."""

    id: str
    path: str
    start_seconds: float
    stop_seconds: float

    @classmethod
    def of(cls, clip: Clip, dataset: ClipDataset) -> _Span:
        manifest = dataset.manifest
        # Hundreds of recordings share the path of a shard or archive.
        path = next(text for text in (manifest.value(clip.row, name) for name in manifest.name_columns) if text)
        return cls(clip.id, str(path), *dataset.span(clip))
