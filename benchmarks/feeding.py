"""Measure how many clips a second the training process can take in, apart from decoding.

Workers pretend to decode: they give the same noise for every row. Processor time of the parent is counted, in the
thread that trains and in all threads. Two ways take turns in one run: batches made in the thread that trains, out of
messages with memory of their own, clip by clip; and the loader, whose thread gathers them out of shared slots.

    python benchmarks/loader.py --feeding        about a minute; prints a table
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from avssl.core.batch import Batch, Clip
from avssl.core.manifest import Manifest
from avssl.core.parallel import parallel_map
from avssl.data import ClipDataset, ClipSampling, TrainLoader, collate
from avssl.data.packing import PackedClips, pack

ROWS, BATCH, WORKERS, TURNS = 4096, 64, 2, 5
WARM_UP, BATCHES = 12, 64
RATE, SECONDS, FRAMES, SIDE = 16_000, 2.0, 8, 112
KINDS = {"RGB, float audio": (False, False), "RGB, 16-bit audio": (False, True), "planes, 16-bit audio": (True, True)}
"""Name → luma and chroma planes instead of RGB; audio of 16 bits."""


class PretendedDataset(ClipDataset):
    """Noise for every row, which costs nothing to decode."""

    def __init__(self, planes: bool, int16: bool) -> None:
        names = [f"v{row}" for row in range(ROWS)]
        manifest = Manifest.from_columns({"id": names, "path": names}, "/nowhere")
        super().__init__(manifest, ClipSampling(FRAMES, 16.0, SECONDS, RATE, short_side=SIDE))
        draw = np.random.default_rng(0)

        def frames(channels: int, side: int) -> torch.Tensor:
            return torch.from_numpy(draw.integers(0, 256, (FRAMES, channels, side, side), np.uint8))

        self.video = frames(1 if planes else 3, SIDE)
        self.chroma = frames(2, SIDE // 2) if planes else None
        audio = draw.uniform(-1, 1, self.sampling.num_samples)
        self.audio = torch.from_numpy(np.round(audio * 2**15) / 2**15 if int16 else audio).float()

    def read_clips(self, row: int, epoch: int, clip_numbers: range) -> list[Clip]:  # type: ignore[override]
        """Return the noise."""
        return [Clip(f"v{row}", row, n, self.video, 0.0, self.audio, 0.0, self.chroma) for n in clip_numbers]


def one_thread(dataset: PretendedDataset) -> Iterator[Batch]:
    """Make batches in the calling thread, clip by clip, out of packs with memory of their own."""
    lists = ([(number * BATCH + i) % ROWS for i in range(BATCH)] for number in itertools.count())
    for rows, packed in parallel_map(partial(_read, dataset), lists, num_workers=WORKERS):
        clips = []
        for i, row in enumerate(rows):
            video, chroma = packed.planes(i)
            clips.append(Clip(f"v{row}", row, 0, video, 0.0, packed.samples(i), 0.0, chroma))
        yield collate(clips, dataset.index(rows, 0, [0] * len(rows)))


def _read(dataset: PretendedDataset, rows: list[int]) -> tuple[list[int], PackedClips]:
    return rows, pack([dataset.read_clips(row, 0, range(1))[0] for row in rows])


def loader(dataset: PretendedDataset) -> Iterator[Batch]:
    """Iterate the training loader."""
    return iter(TrainLoader(dataset, BATCH, num_workers=WORKERS))


WAYS = {"training thread, messages": one_thread, "thread of its own, slots": loader}


def measure_feeding() -> None:
    """Print clips a second of processor time, and of wall time, by way and kind of clip."""
    print(
        f"\nClips of {FRAMES} x {SIDE} x {SIDE} + {SECONDS:g} s at {RATE} Hz in batches of {BATCH}, {WORKERS} workers\n"
    )
    print("| clips | way | clips per CPU second: all threads | training thread | clips per wall second |")
    print("| --- | --- | ---: | ---: | ---: |")
    for kind, (planes, int16) in KINDS.items():
        dataset = PretendedDataset(planes, int16)
        rates = {way: [] for way in WAYS}  # type: dict[str, list[list[float]]]
        for _, (way, make) in itertools.product(range(TURNS), WAYS.items()):
            rates[way].append(_rates(make(dataset)))
        for way, values in rates.items():
            cells = [f"{middle:,.0f} ({low:,.0f}–{high:,.0f})" for low, middle, high in _spreads(values)]
            print(f"| {kind} | {way} | {' | '.join(cells)} |", flush=True)
    print(f"\nMedian (range) of {TURNS} turns of {BATCHES * BATCH} clips.")


def _rates(batches: Iterator[Batch]) -> list[float]:
    """Return clips per second of the process, of this thread and of the wall."""
    clocks = time.process_time, time.thread_time, time.perf_counter
    for _ in range(WARM_UP):
        next(batches)
    began = [clock() for clock in clocks]
    for _ in range(BATCHES):
        next(batches)
    seconds = [clock() - start for clock, start in zip(clocks, began, strict=True)]
    batches.close()  # type: ignore[attr-defined]
    return [BATCHES * BATCH / each for each in seconds]


def _spreads(values: list[list[float]]) -> list[tuple[float, float, float]]:
    columns = np.array(values).T
    return [(float(x.min()), float(np.median(x)), float(x.max())) for x in columns]
