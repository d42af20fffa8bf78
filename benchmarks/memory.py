"""Measure the memory of the loader over many clips, and of a manifest of millions of rows.

    python benchmarks/memory.py COPY               100 000 clips of a prepared corpus, the memory at every 10 000
    python benchmarks/memory.py --rows 2000000     how long such a manifest takes to open, and what each worker adds

COPY is a folder that ``avssl prepare`` or ``benchmarks/loader.py --folder`` made.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

from avssl.core.manifest import read_manifest
from avssl.data import ClipDataset, ClipSampling, TrainLoader


def memory_mib(pid: int, kind: str) -> float:
    """Return one line of a process's smaps_rollup in MiB: Rss, Pss (shared pages in parts) or Private_Dirty."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def over_clips(copy: Path, num_clips: int, every: int) -> None:
    """Print the memory of the main process and of its workers during loading."""
    sampling = ClipSampling(num_frames=8, frames_per_second=16.0, max_offset_seconds=0.5)
    loader = TrainLoader(ClipDataset(read_manifest(copy / "manifest.csv"), sampling), 8, num_workers=2)
    print("| clips | main process, MiB | workers, MiB | open files of a worker | clips a second |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    began, seen = time.monotonic(), 0
    for _ in loader:
        seen += loader.batch_size
        if seen % every < loader.batch_size or seen == loader.batch_size:
            workers = [process.pid for process in multiprocessing.active_children() if process.pid]
            rss = ", ".join(f"{memory_mib(pid, 'Rss'):.0f}" for pid in workers)
            files = max(len(os.listdir(f"/proc/{pid}/fd")) for pid in workers)
            rate = seen / (time.monotonic() - began)
            print(f"| {seen} | {memory_mib(os.getpid(), 'Rss'):.0f} | {rss} | {files} | {rate:.0f} |", flush=True)
        if seen >= num_clips:
            break


def big_manifest(num_rows: int) -> None:
    """Print the seconds to open a manifest of many rows, and the memory that forked workers add."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        with path.open("w") as file:
            file.write("id,path,duration_seconds,start_seconds,stop_seconds,label,split\n")
            for row in range(num_rows):
                name = f"class {row % 700:03d}/{row:011x}_{row % 300:06d}.mp4"
                file.write(f"{name},{name},10.0,0.0,10.0,class {row % 700:03d},train\n")
        began, cpu = time.monotonic(), time.process_time()
        manifest = read_manifest(path)
        read_seconds = time.monotonic() - began
        dataset = ClipDataset(manifest, ClipSampling())
        ready_seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
        loader = TrainLoader(dataset, 64, max_bad_fraction=1.0)
        loader.state_dict()
        state_seconds = time.monotonic() - began - ready_seconds
    before = memory_mib(os.getpid(), "Rss")
    connection, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_touch_rows, args=(dataset, child))
    process.start()
    added = connection.recv()
    process.join()
    print(f"{num_rows} rows: read in {read_seconds:.1f} s, ready for training in {ready_seconds:.1f} s")
    print(f"of these, {cpu_seconds:.1f} s on a processor")
    print(f"a checkpoint's state takes {state_seconds:.1f} s the first time (it names the list of ids)")
    print(f"this process holds {before:.0f} MiB; a worker that looked up 100 000 rows has {added:.0f} MiB of its own")


def _touch_rows(dataset: ClipDataset, connection: multiprocessing.connection.Connection) -> None:
    chooser = random.Random(0)
    for _ in range(100_000):
        row = chooser.randrange(len(dataset))
        dataset.manifest.location(row)
        dataset.manifest.value(row, "id")
    connection.send(memory_mib(os.getpid(), "Private_Dirty"))


def main() -> None:
    """Measure one or the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("copy", nargs="?", type=Path)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("--rows", type=int)
    options = parser.parse_args()
    if options.rows:
        big_manifest(options.rows)
    if options.copy:
        over_clips(options.copy, options.clips, options.every)
    if not options.rows and not options.copy:
        parser.error("name a prepared corpus, or --rows")


if __name__ == "__main__":
    main()
