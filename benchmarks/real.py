"""Evaluate training on real photographs, recordings and faces: StampScenes and GRID, beside their baselines.

    python benchmarks/real.py --stamps FOLDERS --grid MANIFEST     train what is missing for three minutes, then print
    python benchmarks/real.py ... --minutes 30                     the same for longer
    python benchmarks/real.py --table                              print the measurements so far
    python benchmarks/real.py --stamps FOLDERS --augmentation      print what strong augmentation does to the audio

FOLDERS are those of the Debian packages (docs/worlds.md, StampScenes); without --stamps the installed ones are used.
MANIFEST is that of `python datasets/grid.py FOLDER`; without --grid there are no rows of GRID. Rows of a backbone with
public weights need --imagenet, the folder of `python benchmarks/efficientnet_lite.py FILE FOLDER`.

StampScenes: 3 840 training clips of 96 x 96 pixels, two thirds with one object, 5 % with off-screen sound. Pointing,
cIoU and IIoU are measured at a sound event of clips of two or three objects, on photographs and recordings of the
training and on others. The test clips of unseen photographs have unseen silent objects and places too. GRID: the lips
and the voice of speaker s1, 603 sentences to train on and 200 to test with (the copy that was measured has 803); models
of the whole frame have to find the lips themselves, and the share of peaks in the box of the lips is measured.

A row is one method with one seed. Seeds set the initial weights and the order of the clips. Rows are appended to
--file, weights are kept in --work, and an interrupted training continues in the next run. The last weights of a
training are measured: nothing is chosen on test clips.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import real_grid
import real_stamps_measures as stamps_measures
import torch
from demo_weights import SPLITS as SHAPES_SPLITS
from localization import train, untrained
from real_augmentation import share_table, shares
from real_frozen import frame_maps, reading
from real_stamps import WINDOW, stamps
from real_tables import tables
from rows import append_row, machine, read_rows
from shapes_in_memory import Shapes, shapes
from short_runs import work

from avssl.training.build import build_sampling
from avssl.training.tasks import PretrainTask

SEEDS = (0, 1, 2)
RESULTS = Path(__file__).parent / "results" / "real.jsonl"

Job = tuple[str, str, int]
"""(world, method, seed)."""


@dataclass(frozen=True)
class Bench:
    """Places of packages, clips, weights and rows, and the time to stop."""

    packages: tuple[Path, ...]
    grid: Path | None
    work: Path
    file: Path
    until: float
    """By :func:`time.monotonic`."""
    imagenet: Path | None = None
    """Folder of the public weights of images, as timm writes it."""

    @cached_property
    def stamps(self) -> Shapes:
        """Clips of StampScenes."""
        return stamps(self.work / "stamps.clips", self.packages)

    @cached_property
    def shapes(self) -> Shapes:
        """Clips of SoundingShapes, those of demo_weights.py."""
        return shapes(self.work / "shapes.clips", SHAPES_SPLITS, 3, WINDOW)

    def sentences(self, view: str) -> real_grid.Sentences:
        """Return the clips of GRID in a view."""
        assert self.grid is not None, "there are no rows of GRID without it"
        return real_grid.sentences(self.grid, self.work / f"grid-{view}.clips".replace(" ", "_"), view)

    def place(self, world: str, method: str, seed: int) -> Path:
        """Return the folder of a training; its weights are beside it."""
        return self.work / "models" / f"{world}-{method}-{seed}".replace(" ", "_").replace(",", "").replace(":", "")


def of_stamps(bench: Bench, method: str, seed: int) -> dict[str, Any]:
    """Return the numbers of a row of StampScenes."""
    if method == stamps_measures.BASELINES:
        return stamps_measures.measure_baselines(bench.stamps, seed)
    chosen = stamps_measures.METHODS.get(method, stamps_measures.METHODS[stamps_measures.DEFAULT])
    config = stamps_measures.settings(chosen, seed, bench.imagenet)
    task = untrained(config, bench.stamps)
    if chosen.first_on_shapes:
        task.model.load_state_dict(on_shapes(bench, seed).model.state_dict())
    trained_epochs = 0
    if method != stamps_measures.UNTRAINED:
        place = bench.place("stamps", method, seed)
        with contextlib.ExitStack() as stack:
            clips = stack.enter_context(frozen_clips(bench, task, chosen, place)) if chosen.video else bench.stamps
            train(task, config, clips, place, bench.until)
        trained_epochs = chosen.epochs
    numbers = stamps_measures.measure(task, bench.stamps, build_sampling(config), seed)
    return numbers | {"epochs": trained_epochs, "n_train": len(bench.stamps.rows("train"))}


def frozen_clips(
    bench: Bench, task: PretrainTask, method: stamps_measures.Method, place: Path
) -> contextlib.AbstractContextManager[Shapes]:
    """Return the clips whose frames are read as maps of the frozen encoder; seeds share those of public weights."""
    file = bench.work / "maps" / ("imagenet.npy" if method.is_pretrained else f"{place.name}.npy")
    maps = frame_maps(file, task, bench.stamps, stamps_measures.whole_frames(task.transform.video_eval))
    return reading(task, bench.stamps, maps)


def on_shapes(bench: Bench, seed: int) -> PretrainTask:
    """Return the default, trained on SoundingShapes."""
    config = stamps_measures.settings(stamps_measures.Method(epochs=stamps_measures.SHAPES_EPOCHS), seed)
    task = untrained(config, bench.shapes)
    train(task, config, bench.shapes, bench.place("shapes", stamps_measures.DEFAULT, seed), bench.until)
    return task


def of_grid(bench: Bench, method: str, seed: int) -> dict[str, Any]:
    """Return the numbers of a row of GRID."""
    config, clips = real_grid.settings(method, seed), bench.sentences(real_grid.view_of(method))
    task = untrained(config, clips)
    place = bench.place("grid", method, seed)
    if method in real_grid.METHODS:
        train(task, config, clips, place, bench.until)
    numbers = real_grid.measure(task, config, clips, build_sampling(config), place)
    return numbers | {"epochs": config.optim.epochs if method in real_grid.METHODS else 0}


WORLDS: dict[str, Callable[[Bench, str, int], dict[str, Any]]] = {"stamps": of_stamps, "grid": of_grid}


def run(bench: Bench, job: Job) -> dict[str, Any]:
    """Make one row and append it."""
    world, method, seed = job
    began, began_cpu = time.perf_counter(), time.process_time()
    numbers = WORLDS[world](bench, method, seed)
    row = {"world": world, "method": method, "seed": seed, **numbers}
    # The time of the last run alone, where a training took several.
    row |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}
    row |= {"machine": machine(torch.device("cpu"))}
    append_row(bench.file, row)
    return row


def jobs(worlds: list[str], methods: list[str]) -> list[Job]:
    """Return all rows: every method once, then the other seeds."""
    of_world = {
        "stamps": (stamps_measures.BASELINES, stamps_measures.UNTRAINED, *stamps_measures.METHODS),
        "grid": (*real_grid.UNTRAINED, *real_grid.METHODS),
    }
    found = [(world, method, seed) for seed in SEEDS for world in worlds for method in of_world[world]]
    return [job for job in found if not methods or job[1] in methods]


def missing(file: Path, worlds: list[str], methods: list[str]) -> list[Job]:
    """Return the rows that are not in a file."""
    done = {(row["world"], row["method"], row["seed"]) for row in read_rows(file)}
    return [job for job in jobs(worlds, methods) if job not in done]


def main() -> None:
    """Make the missing rows while there is time, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamps", type=Path, nargs="+", default=[], help="folders of the packages of StampScenes")
    parser.add_argument("--grid", type=Path, help="manifest of datasets/grid.py")
    parser.add_argument("--imagenet", type=Path, help="folder of efficientnet_lite.py")
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), help="only these worlds")
    parser.add_argument("--methods", nargs="*", default=[], help="only these methods")
    parser.add_argument("--file", type=Path, default=Path("real.jsonl"))
    parser.add_argument("--work", type=Path, default=Path("real.work"), help="folder of clips (7 GB) and weights")
    parser.add_argument("--minutes", type=float, default=3.0, help="an unfinished training continues in the next run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the measurements so far")
    parser.add_argument("--results", action="store_true", help="print what was measured for docs/results_real.md")
    parser.add_argument("--augmentation", action="store_true", help="only print the shares of augmentation in audio")
    options = parser.parse_args()
    file = RESULTS if options.results else options.file
    if not (options.table or options.results):
        torch.set_num_threads(options.threads)
        until = time.monotonic() + 60 * options.minutes
        bench = Bench(tuple(options.stamps), options.grid, options.work, file, until, options.imagenet)
        if options.augmentation:
            print(share_table(shares(bench.stamps)))
            return
        worlds = options.worlds or ["stamps", *(["grid"] if options.grid else [])]
        if options.imagenet is None and "stamps" in worlds:
            print(f"skipped, as they need --imagenet: {'; '.join(stamps_measures.PRETRAINED)}")
        skipped = () if options.imagenet else stamps_measures.PRETRAINED
        work(
            lambda: [job for job in missing(file, worlds, options.methods) if job[1] not in skipped],
            partial(run, bench),
            bench.until,
        )
    print(tables(read_rows(file)))


if __name__ == "__main__":
    main()
