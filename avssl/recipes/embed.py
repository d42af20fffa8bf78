"""The verb ``embed``: one table with the embeddings of all windows of many files."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from avssl.core import distributed
from avssl.core.batch import Modality
from avssl.core.cpus import decoding_workers
from avssl.core.engines import EngineName, working_on
from avssl.core.errors import InputError
from avssl.core.lock import OutputError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.core.output_records import Command, place
from avssl.core.outputs import ClaimedFile, claimed_files
from avssl.core.progress import Bar
from avssl.core.ranges import Count, Step, Workers, checked
from avssl.core.tables import write_table
from avssl.data import ClipDataset, EvalLoader, Failure, index_folder
from avssl.data.eval_loader import Window
from avssl.data.file_stamps import stamped
from avssl.data.health.report import MIN_SECONDS, HealthSettings
from avssl.data.ledger import failures_table
from avssl.data.one_stream import read_stream
from avssl.data.packed.sources import is_named
from avssl.data.row_parts import Span, expected_windows, plan_parts
from avssl.data.sampling import ClipSampling
from avssl.engine import choose_device
from avssl.features.embed import embed_windows, relative_place, table_info, windows_of_row
from avssl.features.extract import content_key
from avssl.features.table import FeatureTableError, TableInfo, TableParts
from avssl.hub.pretrained import PretrainedModel, from_pretrained
from avssl.media import MediaError
from avssl.media.backends import BackendName
from avssl.media.limits import MediaLimits
from avssl.models import TableVectors

WINDOWS_PER_PART = 1024
"""Windows that an interruption loses at most, beside those of one file: a minute or two on a CPU."""


@checked
def embed(
    source: Path | str,
    *,
    checkpoint: Path | str,
    out: Path | str = "features.parquet",
    stride_seconds: Step = 1.0,
    what: TableVectors = "embeddings",
    modality: Literal["video", "audio", "both"] = "both",
    batch_size: Count = 32,
    num_workers: Workers | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    backend: BackendName = "auto",
    limits: MediaLimits | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write the embeddings of all windows of many files to one table.

    A window starts every second (``--stride-seconds``), from the start of each file to its end. The Parquet table has
    one row per window: id, path, start and stop in seconds, and two unit vectors, ``video`` and ``audio``, that are
    comparable with each other. ``avssl search`` reads it. Files that cannot be read are listed with the reason in
    NAME.failures.csv beside it. An interrupted run continues where it stopped when it is called again. Under
    ``torchrun`` all processes, one a GPU, divide the files; the table is that of one process.

    Args:
        source: Folder of videos, or a manifest.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        out: Table to write.
        stride_seconds: Time from the start of one window to the next, > 0.
        what: "embeddings" (after the heads) can be searched across modalities; so can "moments", the embeddings of
            every moment of a window, for models trained frame by frame; "features" (before the heads) hold more
            information on each modality but cannot be compared between the two.
        modality: Modality to embed. With "video" or "audio" alone, rows of a manifest need only that stream, such as
            audio files, and the table has no vectors of the other.
        batch_size: Windows per batch.
        num_workers: Decoding processes; default: one per core.
        engine: Where files are checked and decoded: in processes of this machine, or "ray": on all cores of a Ray
            cluster (pip install 'avssl[ray]'), which read the files under the same path on shared storage.
        address: Address of the Ray cluster: "auto" on one of its machines, or HOST:PORT of its head; default: Ray on
            this machine alone.
        backend: Decoder of media files.
        limits: Limits on media files; where they are the defaults, those in a manifest count.
        overwrite: Replace an earlier table and start over.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Returns:
        ``out``, for :func:`avssl.features.table.read_feature_table`.

    Raises:
        ManifestError: If the source has no usable row.
        HubError: If there is no model at ``checkpoint``.
        OutputError: If another command or program made ``out``, or another process writes it.
        FeatureTableError: If files or weights of a complete table have changed, parts of another embedding exist, or a
            vector is not finite.
        ValueError: If no file can be read, or a number is out of range.
    """
    out = Path(out)
    command = Command.of(
        "embed",
        source=place(source),
        checkpoint=place(checkpoint),
        stride_seconds=stride_seconds,
        what=what,
        modality=modality,
    )
    stream: Modality | None = None if modality == "both" else modality
    parts = TableParts(out)
    with (
        working_on(engine, address, num_workers),
        distributed.process_group(choose_device(device)) as own_device,
        ExitStack() as held,
    ):
        # ---------------------------------------------------------------- rows, found by rank 0
        claim, rows = None, None
        if distributed.is_main():
            outputs, reads = (_failures_of(out), out), (source, checkpoint)
            _, claim = held.enter_context(claimed_files(outputs, command, overwrite=overwrite, reads=reads))
        pretrained = from_pretrained(checkpoint, own_device)
        if claim is not None:
            if overwrite:
                parts.discard()
            found, unusable = _rows(source, parts, pretrained.sampling, backend, limits or MediaLimits(), progress)
            _refuse_own_files(out, found)
            rows = stamped(found), unusable
        rows = distributed.broadcast_object(rows)
        assert rows is not None, "rank 0 found them"
        manifest, unusable = rows
        dataset = read_stream(manifest, pretrained.sampling, stream, backend=backend, limits=limits)
        places = {"checkpoint": checkpoint, "root": manifest.place}
        relative = {name: relative_place(value, out.parent) for name, value in places.items()}
        info = table_info(pretrained, manifest.hash(), stride_seconds, what, stream=stream, **relative)

        # ---------------------------------------------------------------- parts, divided over the ranks
        missing = None if claim is None else _missing_parts(parts, claim, pretrained, dataset, info, overwrite)
        missing = distributed.broadcast_object(missing)
        if missing is None:
            if distributed.is_main():
                parts.discard()
                print(f"features: {out}, complete already")
            return out
        mine = missing[distributed.rank() :: distributed.world_size()]
        num_done = len(manifest) - sum(stop - first for first, stop in missing)
        num_mine = sum(stop - first for first, stop in mine)
        workers = decoding_workers(num_workers)
        with Bar(total=num_done + num_mine, initial=num_done, desc="embed", unit="row", show=progress) as bar:
            for span in mine:
                windows, failures = _windows(dataset, span, stride_seconds)
                loader = EvalLoader(dataset, batch_size, windows=windows, num_workers=workers)
                move = _mover(bar, span[0])
                table = embed_windows(pretrained, loader, info, move)
                parts.add_table(*span, table, [*failures, *loader.ledger])
                move(span[1])
        distributed.barrier()
        if distributed.is_main():
            _finish(parts, info, unusable, len(manifest))
        distributed.barrier()
    return out


def _missing_parts(
    parts: TableParts,
    claim: ClaimedFile,
    pretrained: PretrainedModel,
    dataset: ClipDataset,
    info: TableInfo,
    overwrite: bool,
) -> list[Span] | None:
    """Return the parts of the table that are still to be made; None if it is complete."""
    settings: dict[str, object] = {
        "every_seconds": info.every_seconds,
        "what": info.what,
        "backend": dataset.backend,
        "for": "table",
    }
    settings |= {} if dataset.stream is None else {"stream": dataset.stream}
    manifest, sampling = dataset.manifest, dataset.sampling
    key = content_key(pretrained, manifest, settings)
    if not overwrite and _is_complete(parts.out, claim.known, key):
        return None
    claim.note(content=key)
    clip_seconds = max(sampling.video_seconds, sampling.audio_seconds)
    windows = expected_windows(manifest, clip_seconds, info.every_seconds)
    return parts.begin(key, plan_parts(windows, WINDOWS_PER_PART))


def _refuse_own_files(out: Path, manifest: Manifest) -> None:
    """Raise OutputError if an output is a file of the manifest."""
    for path in (out, _failures_of(out)):
        target = os.path.realpath(path)
        is_there = os.path.exists(target) and not is_url(manifest.place)
        for row in range(len(manifest)) if is_there else ():
            if target in (os.path.realpath(manifest.file(row)), os.path.realpath(manifest.sound_file(row))):
                raise OutputError(f"{path}: is a file of row {row} of the source. Name another output.")


def _failures_of(out: Path) -> Path:
    return out.with_suffix(".failures.csv")


def _is_complete(out: Path, known: dict[str, Any] | None, key: str) -> bool:
    """Return True if the table exists and was made from these files and weights; raise an error if from others."""
    if not out.is_file() or known is None:
        return False
    if known.get("content") != key:
        raise FeatureTableError(
            f"{out}: exists already, and its files or weights have changed since. Replace it with --overwrite, or name "
            "another table with --out."
        )
    return True


def _rows(
    source: Path | str,
    parts: TableParts,
    sampling: ClipSampling,
    backend: BackendName,
    limits: MediaLimits,
    progress: bool,
) -> tuple[Manifest, pa.Table]:
    """Return one row per file of a folder, or the rows of a manifest; and the unusable files."""
    if not is_url(source) and not is_named(source) and not Path(source).exists():
        raise ManifestError(
            f"{source}: no such folder or manifest. Name a folder of videos, or a manifest of avssl index."
        )
    if is_url(source) or not Path(source).is_dir():
        manifest, unusable = read_manifest(source), failures_table([])
        if not len(manifest):
            raise ManifestError(f"{source}: the manifest has no rows.")
        return manifest, unusable
    parts.folder.mkdir(parents=True, exist_ok=True)
    found = index_folder(
        source,
        segment_over_seconds=math.inf,
        health=HealthSettings(backend=backend, min_seconds=min(MIN_SECONDS, sampling.audio_seconds), limits=limits),
        progress=progress,
    )
    if not len(found.manifest):
        parts.discard()
        first = next(iter(found.failures.values()))
        raise ManifestError(f"{source}: none of its {len(found.failures)} media files can be used: {first}")
    return found.manifest, found.failures_table()


def _windows(dataset: ClipDataset, span: Span, stride_seconds: float) -> tuple[list[Window], list[Failure]]:
    """Return the windows of the rows of a part, and the rows whose header cannot be read."""
    windows: list[Window] = []
    failures: list[Failure] = []
    for row in range(*span):
        try:
            windows += windows_of_row(dataset, row, stride_seconds)
        except MediaError as error:
            failures.append(Failure.of(dataset.manifest, row, error))
    return windows, failures


def _mover(bar: Bar, first: int) -> Callable[[int], None]:
    """Return a function that moves a bar to a row of the part that begins with row ``first``."""
    before = bar.n
    return lambda row: bar.update(before + row - first - bar.n)


def _finish(parts: TableParts, info: TableInfo, unusable: pa.Table, num_rows: int) -> None:
    """Write the failures, join the parts and print a summary."""
    failures = pa.concat_tables([unusable, failures_table(parts.failures())])
    listed = _failures_of(parts.out)
    listed.unlink(missing_ok=True)  # of an earlier embedding
    if len(failures):
        write_table(failures, listed)
    num_windows = parts.num_windows()
    if not num_windows:
        parts.discard()
        raise InputError(f"no file can be read: {str(failures['message'][0]).rstrip('.')}. See them all in {listed}")
    parts.join(info, num_rows)
    print(f"{num_windows} windows, one every {info.every_seconds:g} s, of model {info.weights_hash}")
    print(f"features: {parts.out}")
    if len(failures):
        counts = Counter(failures["reason"].to_pylist()).most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
        print(f"{len(failures)} rows could not be read to the end ({reasons}): {listed}")
