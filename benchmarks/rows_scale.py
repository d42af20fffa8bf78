"""Measure how long a manifest of very many rows takes to open, and how much memory each process needs for it.

    python benchmarks/rows_scale.py --rows 100000000                a Parquet file, as of 100 M clips in shards
    python benchmarks/rows_scale.py --rows 1000000 --format csv     a CSV

It writes a manifest of N clips in shards into a temporary folder, and times, each in a process of its own:

- ``first start``: rank 0 of a new run opens it and writes the run's rows; once for each run;
- ``rank``: every rank opens the run's rows, sorts the first epoch's order, and looks up the first batch. A resumed run
  begins with this, and so do all other ranks.

Memory is the peak of the process beyond what it holds after its imports; file pages of a mapped file, which all
processes of a machine share and the system may drop, stand apart. ``--format csv`` opens the same rows as a CSV.
``--rank-only`` writes the run's rows block by block and leaves the first start out, which holds all rows in memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import torch

from avssl.core.draws import epoch_order
from avssl.core.manifest import Manifest, read_manifest
from avssl.core.text_keys import text_key_array
from avssl.data import ClipDataset, ClipSampling

_CHUNK_ROWS = 2_000_000
_CLIPS_PER_SHARD = 256
_BATCH = 256


def chunks(num_rows: int) -> Any:
    """Yield the rows of a prepared corpus: an id such as of AudioSet, a shard, and the clip's place in it."""
    for first in range(0, num_rows, _CHUNK_ROWS):
        rows = np.arange(first, min(first + _CHUNK_ROWS, num_rows))
        mixed = (rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(12)
        ids = pc.binary_join_element_wise(
            pa.array(mixed).cast(pa.string()), pa.array(rows % 300).cast(pa.string()), "_"
        )
        shards = pc.utf8_lpad(pa.array(rows // _CLIPS_PER_SHARD).cast(pa.string()), 6, "0")
        yield pa.table(
            {
                "id": ids,
                "path": pc.binary_join_element_wise("shards/", shards, ".tar", ""),
                "shard_offset": pa.array(rows % _CLIPS_PER_SHARD * 80_000),
                "shard_header_bytes": pa.array(np.full(len(rows), 3072)),
            }
        )


def write(num_rows: int, path: Path) -> None:
    """Write the manifest as another program would, without the keys that avssl stores."""
    first = next(chunks(1))
    writer = pa_csv.CSVWriter(path, first.schema) if path.suffix == ".csv" else pq.ParquetWriter(path, first.schema)
    with writer:
        for chunk in chunks(num_rows):
            writer.write_table(chunk)


def write_kept(num_rows: int, path: Path) -> None:
    """Write the run's rows as a first start does, with one block in memory; no rank looks at the hash of the ids."""
    keys = np.concatenate([text_key_array(chunk["id"].to_pylist()) for chunk in chunks(num_rows)])
    note = json.dumps({"rows": num_rows, "key_sum": int(keys.sum()), "hash": "not computed"})
    schema = next(chunks(1)).schema.append(pa.field("avssl.id_key", pa.int64()))
    schema = schema.append(pa.field("avssl.file_number", pa.int64())).with_metadata({"avssl.ids": note})
    first = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for chunk in chunks(num_rows):
            stop = first + len(chunk)
            own = [pa.array(keys[first:stop]), pa.array(np.arange(first, stop) // _CLIPS_PER_SHARD)]
            table = pa.Table.from_arrays([*chunk.columns, *own], schema=schema)
            writer.write_table(table, max_chunksize=1 << 20)
            first = stop


def memory_mib(kind: str) -> float:
    """Return one number of this process: RssAnon, its own memory; RssFile, pages of files."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) / 1024


def measured(work: Callable[[dict[str, float]], None], connection: Any) -> None:
    """Run work that notes its seconds, and send them with the peak of memory."""
    torch.set_num_threads(1)
    before, peak, done = memory_mib("RssAnon"), [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], memory_mib("RssAnon") - before)
            peak[1] = max(peak[1], memory_mib("RssFile"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds: dict[str, float] = {}
    began, cpu = time.monotonic(), time.process_time()
    work(seconds)
    total, cpu = time.monotonic() - began, time.process_time() - cpu
    done.set()
    watcher.join()
    connection.send((seconds, total, cpu, peak))


def in_process(name: str, work: Callable[[dict[str, float]], None]) -> None:
    """Print a line on work that was done in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=measured, args=(work, theirs))
    child.start()
    theirs.close()  # so that the end of the child is noticed
    seconds, total, cpu, peak = ours.recv()
    child.join()
    parts = ", ".join(f"{part} {value:.1f}" for part, value in seconds.items())
    print(
        f"| {name} | {total:.1f} | {cpu:.1f} | {parts} | {peak[0] / 1024:.2f} | {peak[1] / 1024:.2f} |",
        flush=True,
    )


def lap(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Note the seconds that a part takes."""
    began = time.monotonic()
    result = work()
    seconds[name] = time.monotonic() - began
    return result


def first_start(path: Path, kept: Path, seconds: dict[str, float]) -> None:
    """Open the manifest and write the rows of a run."""
    manifest: Manifest = lap(seconds, "open", lambda: read_manifest(path))
    if path.suffix == ".csv":
        lap(seconds, "hash", manifest.hash)
        return
    lap(seconds, "file numbers", manifest.keys.files)
    lap(seconds, "hash", manifest.hash)
    lap(seconds, "write", lambda: manifest.write_mapped(kept))


def rank(path: Path, root: Path, seconds: dict[str, float]) -> None:
    """Open the rows of a run and look up the first batch of an epoch."""
    manifest = lap(seconds, "open", lambda: read_manifest(path, root))
    dataset = lap(seconds, "dataset", lambda: ClipDataset(manifest, ClipSampling()))
    order = lap(seconds, "order", lambda: epoch_order(0, 0, dataset.id_keys))

    def look_up() -> None:
        rows = order[:_BATCH].tolist()
        dataset.index(rows, 0, [0] * len(rows))
        for row in rows:
            manifest.location(row), manifest.value(row, "id"), manifest.value(row, "shard_offset")

    lap(seconds, "batch", look_up)


def main() -> None:
    """Write a manifest, and measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("csv", "parquet"), default="parquet")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--rank-only", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    path, kept = folder / f"manifest.{options.format}", folder / "rows.arrow"
    try:
        written, make = (kept, write_kept) if options.rank_only else (path, write)
        make(options.rows, written)
        size = written.stat().st_size / 2**30
        print(f"{options.rows} rows, {written.suffix[1:]}, {size:.2f} GiB, {os.cpu_count()} cores")
        print("| part | seconds | processor seconds | of these | own memory, GiB | file pages, GiB |")
        print("| --- | ---: | ---: | --- | ---: | ---: |")
        if not options.rank_only:
            in_process("first start", lambda seconds: first_start(path, kept, seconds))
        in_process("rank", lambda seconds: rank(kept if kept.exists() else path, folder, seconds))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
