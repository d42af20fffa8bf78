"""The verb ``prepare``: a copy of a corpus in shards that train many times faster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.core.cpus import decoding_workers
from avssl.core.engines import EngineName, working_on
from avssl.core.errors import ConfigError, RunError
from avssl.core.manifest import COLUMNS, Manifest, ManifestError, is_columnar, read_manifest
from avssl.core.output_records import Command, place
from avssl.core.outputs import FolderKind, claimed_folder, remove_files
from avssl.core.parallel import parallel_map
from avssl.core.progress import Bar
from avssl.core.ranges import Count, CountOrZero, Workers, checked
from avssl.core.tables import write_table
from avssl.core.whole_file import write_json
from avssl.data.shards.copying import ShardJob, make_shard
from avssl.data.shards.format import is_whole
from avssl.data.splits import split_rows
from avssl.media.backends import BackendName
from avssl.media.limits import MediaLimits
from avssl.media.prepared.clip import CopySettings
from avssl.media.prepared.writer import check_encoders

_COPY = FolderKind(
    "a copy",
    (
        "manifest.csv",
        "manifest.parquet",
        "dropped_files.csv",
        "prepared.json",
        "shards/[0-9]*.tar",
        "shards/[0-9]*.json",
    ),
    advice="Use another folder, or replace it with --overwrite.",
)

FIRST = (
    "split",
    "num_workers",
    "engine",
    "address",
    "verify",
    "overwrite",
    "task_index",
    "num_tasks",
    "short_side",
    "frames_per_second",
    "video_codec",
)


@checked
def prepare(
    manifest: Path | str,
    out: Path | str,
    *,
    split: str | None = None,
    rows_per_shard: Count = 256,
    num_workers: Workers | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    task_index: CountOrZero = 0,
    num_tasks: Count = 1,
    verify: bool = False,
    overwrite: bool = False,
    backend: BackendName = "auto",
    limits: MediaLimits | None = None,
    settings: CopySettings | None = None,
    progress: bool = True,
) -> Manifest | None:
    """Copy a corpus into shards that train many times faster.

    Every row becomes a small clip with a fixed short side, frame rate and sample rate, in tar shards that WebDataset
    can read too, with an index for random access. ``avssl pretrain OUT/manifest.csv`` then trains on the copy; of a
    Parquet manifest, the manifest of the copy is OUT/manifest.parquet.

    An interrupted run continues where it stopped. On a cluster, each of N jobs makes its share
    (``--task-index I --num-tasks N``), and the job that ends last writes the manifest.

    Args:
        manifest: Rows to copy; ``avssl index`` makes a manifest.
        out: Folder of the copy, created if missing.
        split: Copy only the rows of this split.
        rows_per_shard: Clips in one tar file.
        num_workers: Processes; default: one per core. 0 works in this process.
        engine: Where shards are made: in processes of this machine, or "ray": on all cores of a Ray cluster (pip
            install 'avssl[ray]'), which read the sources and write OUT under the same path on shared storage.
        address: Address of the Ray cluster: "auto" on one of its machines, or HOST:PORT of its head; default: Ray on
            this machine alone.
        task_index: Index of this job, from 0.
        num_tasks: Number of jobs that share the work.
        verify: Only compare the shards in OUT with their checksums.
        overwrite: Replace a copy of another manifest or with other settings; shards that fit are kept.
        backend: Decoder of the sources.
        limits: Limits on the sources; where they are the defaults, those in the manifest count.
        settings: Format of the clips.
        progress: Show progress bars.

    Returns:
        The manifest of the copy, or None while other jobs have shards to make.

    Raises:
        ManifestError: If there is no row, no row could be copied, or ``verify`` is set and there is no shard.
        ValueError: If a codec does not take the settings.
        ConfigError: If a number is out of range.
        OutputError: If ``out`` holds a copy with other settings or other files, or another process makes this share.
        ChildDied: If a process died, naming what it was copying; finished shards are kept.
        RunError: If ``verify`` is set and a shard is damaged.
    """
    if verify:
        _verify(Path(out))
        return None
    if not 0 <= task_index < num_tasks or rows_per_shard < 1:
        raise ConfigError(
            f"need 0 <= task_index < num_tasks and rows_per_shard >= 1, got {task_index}, {num_tasks} and "
            f"{rows_per_shard}."
        )
    out, settings = Path(out), settings or CopySettings()
    source = read_manifest(manifest)
    if split is not None:
        source = source.select(split_rows(source, "split", split))
    if not len(source):
        raise ManifestError(f"{manifest}: no rows to copy.")
    if "shard_header_bytes" in source:
        raise ManifestError(f"{manifest}: is a prepared copy already; name the manifest of the sources.")
    check_encoders(settings)
    about = {**asdict(settings), "rows_per_shard": rows_per_shard, "split": split or "all"}
    command, part = Command.of("prepare", manifest=place(manifest), **about), (task_index, num_tasks)
    with (
        working_on(engine, address, num_workers),
        claimed_folder(out, command, _COPY, overwrite=overwrite, reads=[manifest], part=part) as claim,
    ):
        claim.adopt()
        if overwrite:  # no manifest while its shards change
            remove_files(out, ["manifest.csv", "manifest.parquet"])
        jobs = list(_jobs(source, out, settings, rows_per_shard, backend, limits or MediaLimits()))
        began = time.monotonic()
        mine, workers = jobs[task_index::num_tasks], decoding_workers(num_workers)
        num_clips = sum(len(job.manifest) for job in mine)
        with Bar(desc="prepare", total=num_clips, unit="clip", show=progress) as bar:
            records = []
            for record in parallel_map(
                make_shard, mine, num_workers=workers, ahead=1, in_order=False, files=ShardJob.files
            ):
                bar.update(len(record["rows"]) + len(record["failures"]))
                records.append(record)
        _say_made(records, time.monotonic() - began)
        return _finish(out, jobs, about, out / ("manifest.parquet" if is_columnar(manifest) else "manifest.csv"))


def _verify(out: Path) -> None:
    """Compare every shard with its checksum."""
    files = sorted((out / "shards").glob("*.json"))
    if not files:
        raise ManifestError(f"{out}: there are no shards here.")
    damaged = [file for file in Bar(files, "verify", unit="shard", delay=1.0) if not is_whole(file)]
    for file in damaged:
        print(f"damaged: {file.with_suffix('.tar')}: remove it; from its sources, avssl prepare makes it again")
    print(f"{len(files) - len(damaged)} of {len(files)} shards are whole")
    if damaged:
        raise RunError(f"{out}: {len(damaged)} of {len(files)} shards are damaged.")


def _jobs(
    source: Manifest, out: Path, settings: CopySettings, rows_per_shard: int, backend: BackendName, limits: MediaLimits
) -> Iterator[ShardJob]:
    for number, first in enumerate(range(0, len(source), rows_per_shard)):
        rows = source.select(np.arange(first, min(first + rows_per_shard, len(source))))
        yield ShardJob(out, number, rows, first, settings, backend, limits)


def _finish(out: Path, jobs: list[ShardJob], settings: dict[str, Any], listed: Path) -> Manifest | None:
    """Write the manifest if every shard exists."""
    records = [job.finished() for job in jobs]
    missing = [job.number for job, record in zip(jobs, records, strict=True) if record is None]
    if missing:
        print(
            f"{len(missing)} of {len(jobs)} shards are still to be made by other jobs; the last job writes the manifest"
        )
        return None
    found = [record for record in records if record is not None]
    if foreign := len(list((out / "shards").glob("*.tar"))) - len(found):
        print(f"note: {foreign} shards in {out / 'shards'} belong to an earlier manifest; you may remove them")
    rows = [row for record in found for row in record["rows"]]
    failures = [failure for record in found for failure in record["failures"]]
    (out / "dropped_files.csv").unlink(missing_ok=True)
    if failures:
        write_table(pa.Table.from_pylist(failures), out / "dropped_files.csv")
        print(f"dropped: {len(failures)} rows: {out / 'dropped_files.csv'}")
    if not rows:
        raise ManifestError(f"none of {len(failures)} rows could be copied: {failures[0]['message']}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    order = [name for name in COLUMNS if name in names] + [name for name in names if name not in COLUMNS]
    manifest = Manifest.from_columns({name: [row.get(name) for row in rows] for name in order}, out)
    manifest.write(listed)
    hours = float(np.sum(manifest["duration_seconds"])) / 3600
    size = sum(record["bytes"] for record in found)
    totals = {"clips": len(rows), "dropped": len(failures), "hours": hours, "bytes": size, "clip_list": manifest.hash()}
    write_json(out / "prepared.json", {"settings": settings, **totals})
    print(f"{len(rows)} clips, {hours:.2f} h, {size / 2**30:.2f} GiB: {size / 2**20 / hours:.0f} MiB per hour")
    print(f"manifest: {listed}")
    return manifest


def _say_made(records: list[dict[str, Any]], seconds: float) -> None:
    new = [record for record in records if not record["reused"]]
    clips = sum(len(record["rows"]) for record in new)
    if clips:
        cpu = sum(record["cpu_seconds"] for record in new)
        print(
            f"{clips} clips in {seconds:.0f} s: {clips / seconds:.1f} per second, {clips / cpu:.1f} per second and core"
        )
    if len(new) < len(records):
        print(f"{len(records) - len(new)} shards existed already")
