"""Compare video towers on SoundingShapes: small convolutions, and a ViT of timm from scratch or pretrained on images.

    python benchmarks/backbones.py                  train what is missing for three minutes, then print the results
    python benchmarks/backbones.py --minutes 40     the same for longer; a row takes up to three minutes of one core
    python benchmarks/backbones.py --results        print the measurements so far
    python benchmarks/backbones.py --table          the table of docs/backbones.md: sizes and times of many backbones;
                                                    the fastest of --repeats passes of one clip, nothing is downloaded

All towers are trained by InfoNCE beside the same audio network, on the same clips and epochs. The ViT on images was
first a classifier of the 12 kinds of objects on single frames of other clips, saved as timm saves its weights, and is
then frozen, frozen under a trained layer of attention over the frames of each cell, adapted by LoRA, or trained whole.
Each tower first tries the same learning rates for a third of the epochs on a separate seed, and uses the one with the
better mean of pointing and R@10 on validation clips. The default pair and the tower that points best get three seeds.
Rows are appended to --file, and a run continues where the last one stopped.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbone_pictures import BATCH as PICTURE_BATCH
from backbone_pictures import STEPS as PICTURE_STEPS
from backbone_pictures import train_on_pictures
from backbone_sizes import print_table
from objectives import BATCH, COLUMNS, PRECISION, SCENE, chance_cells, signed, spread
from rows import append_row, machine, read_rows
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes
from shapes_measures import encode, pointing_numbers, probes, retrieval_numbers

from avssl.config import Config, config_from_dict, read_yaml
from avssl.core.draws import text_keys
from avssl.data.sampling import ClipSampling
from avssl.engine import LoopSettings, fit, seed_everything
from avssl.objectives import MemoryRows
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.tasks import PretrainTask
from avssl.transforms import estimate_statistics

EPOCHS = 10
SEEDS = (0, 1, 2)
TUNING_SEED = 9
RATES = (1e-3, 3e-3)
SAMPLING = {"num_frames": 4, "frames_per_second": 8 / 3, "audio_seconds": 1.5}
SPLITS = {
    "train": Split(1280, SceneSettings(**SCENE)),
    "pictures": Split(1280, SceneSettings(**SCENE | {"object_weights": (1.0,)})),
    "val": Split(200, SceneSettings(**SCENE | {"object_weights": (0.0, 1.0, 1.0)})),
    "single": Split(400, SceneSettings(**SCENE | {"object_weights": (1.0,)})),
    "several": Split(400, SceneSettings(**SCENE | {"object_weights": (0.0, 1.0, 1.0)})),
}
ARCHITECTURE = "vit_tiny_patch16_224"
ARGUMENTS = {"depth": 3, "embed_dim": 64, "num_heads": 2, "img_size": SCENE["width"], "patch_size": 8}
# The best cell says what an image shows, as InfoNCE's best cell says what sounds.
CLASSIFIER = ARGUMENTS | {"global_pool": "max", "fc_norm": False}
SCRATCH = {
    "name": "timm",
    "backbone": ARCHITECTURE,
    "config": [f"{key}={value}" for key, value in ARGUMENTS.items()],
    "pool": "max",
}
PICTURES = {"name": "timm", "pretrained": "PICTURES", "pool": "max"}
PAIR = "small convolutions"
CONVOLUTIONS = {"name": "small_video", "width": 24}
TRAINED: dict[str, dict[str, Any]] = {
    PAIR: CONVOLUTIONS,
    "ViT from scratch": SCRATCH,
    "ViT on images, frozen": PICTURES | {"frozen": True},
    "ViT on images, frozen, under attention over time": PICTURES | {"frozen": True, "temporal_layers": 1},
    "ViT on images, LoRA of rank 8": PICTURES | {"lora": 8},
    "ViT on images, trained whole": PICTURES,
}
"""Settings of the video tower."""
UNTRAINED: dict[str, dict[str, Any]] = {
    "small convolutions, random-init": CONVOLUTIONS,
    "ViT, random-init": SCRATCH,
    "ViT on images, untrained here": PICTURES,
}


def settings(tower: str, pictures: Path, seed: int, lr: float, epochs: int) -> Config:
    """Return the pretraining config of `avssl demo` with smaller and fewer frames and another video tower."""
    tree = copy.deepcopy(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_cpu.yaml"))
    own = (TRAINED | UNTRAINED)[tower]
    own = {key: str(pictures) if value == "PICTURES" else value for key, value in own.items()}
    tree["transform"]["video"] |= {"size": SCENE["width"], "eval_crop": "full"}
    tree["transform"]["spectrogram"]["hop_seconds"] = 0.02
    tree["sampling"] |= SAMPLING
    tree["model"]["video"] = own
    tree["objective"] = {"name": "info_nce", "temperature": 0.1, "pooling": "both"}
    tree["optim"] |= {"lr": lr or RATES[0], "epochs": epochs, "batch_size": BATCH}
    tree["train"]["seed"] = seed
    return config_from_dict(tree)


def train(config: Config, world: Shapes, *, is_trained: bool) -> PretrainTask:
    """Return the trained task of a tower, or the untrained one."""
    rows, seed = world.rows("train"), config.train.seed
    seed_everything(seed)
    task = build_task(config, MemoryRows(text_keys(world.ids[rows]), torch.arange(len(rows))), pretrained=True)
    sampling = build_sampling(config)
    sounds = (task.transform.spectrogram(raw.audio) for raw in fixed_batches(world, rows[:256], sampling))
    task.transform.standardize.set_statistics(*estimate_statistics(sounds))
    if is_trained:
        loader = MemoryLoader(world, rows, BATCH, seed, sampling)
        total = config.optim.epochs * loader.steps_per_epoch
        loop = LoopSettings(
            total, loader.steps_per_epoch, log_every=100, grad_clip=config.optim.grad_clip, precision=PRECISION
        )
        optimizer, schedule = build_optimizer(config, task), build_schedule(config, total)
        fit(task, loader, optimizer, schedule, settings=loop, progress=sys.stderr.isatty())
    return task


def measure(world: Shapes, task: PretrainTask, sampling: ClipSampling, seed: int) -> dict[str, float]:
    """Return probes fitted on training clips with one object, retrieval and pointing, on test clips."""
    labeled = np.flatnonzero((world.split == "train") & (world.num_objects == 1) & (world.kind != ""))
    rows = np.concatenate([labeled, world.rows("single")])
    features = encode(task.model, task.transform, fixed_batches(world, rows, sampling), PRECISION)
    fitted, tested = np.arange(len(labeled)), np.arange(len(labeled), len(rows))
    return {
        **probes(replace(world, kind=world.kind[rows], action=world.action[rows]), features, fitted, tested, seed),
        **retrieval_numbers(features, tested),
        **pointing_numbers(task.model, task.transform, world, world.rows("several"), sampling, seed=seed),
        "n_fit": float(len(labeled)),
        "n_test": float(len(tested)),
    }


def check(world: Shapes, task: PretrainTask, sampling: ClipSampling, seed: int) -> dict[str, float]:
    """Return retrieval and pointing on validation clips, all of several objects."""
    rows = world.rows("val")
    features = encode(task.model, task.transform, fixed_batches(world, rows, sampling), PRECISION)
    retrieval = retrieval_numbers(features, np.arange(len(rows)))
    return retrieval | pointing_numbers(task.model, task.transform, world, rows, sampling, seed=seed)


def run(stage: str, tower: str, lr: float, seed: int, *, pictures: Path, world: Shapes, file: Path) -> dict[str, Any]:
    """Make one row and append it."""
    began, began_cpu = time.perf_counter(), time.process_time()
    epochs = EPOCHS // 3 if stage == "tune" else EPOCHS
    config = settings(tower, pictures, seed, lr, epochs)
    task = train(config, world, is_trained=tower in TRAINED)
    trained_cpu = time.process_time() - began_cpu
    parameters = list(task.model.video_encoder.parameters())
    numbers = (check if stage == "tune" else measure)(world, task, build_sampling(config), seed)
    row = {
        "stage": stage,
        "tower": tower,
        "lr": lr,
        "seed": seed,
        "epochs": epochs if tower in TRAINED else 0,
        "parameters": sum(each.numel() for each in parameters),
        "trainable": sum(each.numel() for each in parameters if each.requires_grad),
        **numbers,
        "train_cpu_seconds": trained_cpu,
        "cpu_seconds": time.process_time() - began_cpu,
        "seconds": time.perf_counter() - began,
        "machine": machine(torch.device("cpu")),
    }
    append_row(file, row)
    return row


def score(row: dict[str, Any]) -> float:
    """Return the criterion for learning rates."""
    return statistics.mean((row["pointing"], row["R@10"]))


def missing(rows: list[dict[str, Any]]) -> list[tuple[str, str, float, int]]:
    """Return (stage, tower, learning rate, seed) of every row that can be made now, in order."""
    done = {(row["stage"], row["tower"], row["lr"], row["seed"]) for row in rows}
    jobs = [("final", tower, 0.0, SEEDS[0]) for tower in UNTRAINED]
    jobs += [("tune", tower, lr, TUNING_SEED) for tower in TRAINED for lr in RATES]
    best_lr = {}
    for tower in TRAINED:
        tried = [row for row in rows if row["stage"] == "tune" and row["tower"] == tower]
        if len(tried) == len(RATES):
            best_lr[tower] = max(tried, key=score)["lr"]
    jobs += [("final", tower, lr, SEEDS[0]) for tower, lr in best_lr.items()]
    todo = [job for job in jobs if job not in done]
    if todo:
        return todo
    repeated = dict.fromkeys((best(rows), PAIR))
    return [job for tower in repeated for seed in SEEDS if (job := ("final", tower, best_lr[tower], seed)) not in done]


def best(rows: list[dict[str, Any]]) -> str:
    """Return the trained tower that points best with the first seed."""
    final = [row for row in rows if row["stage"] == "final" and row["tower"] in TRAINED and row["seed"] == SEEDS[0]]
    return str(max(final, key=lambda row: row["pointing"])["tower"])


def results(rows: list[dict[str, Any]]) -> str:
    """Return Markdown tables: means, standard deviations where there are several seeds, and differences of seeds."""
    final = [row for row in rows if row["stage"] == "final"]
    if not final:
        return "no final row yet"
    columns = {key: title for key, title in COLUMNS.items() if not key.startswith("rank")}
    lines = [
        f"| video tower | seeds | lr | parameters, trained | {' | '.join(columns.values())} | s of a core, training |",
        f"| --- | ---: | ---: | ---: |{' ---: |' * (len(columns) + 1)}",
    ]
    by_seed: dict[str, dict[int, dict[str, Any]]] = {}
    for tower in (*TRAINED, *UNTRAINED):
        own = by_seed[tower] = {row["seed"]: row for row in final if row["tower"] == tower}
        if own:
            first, same = next(iter(own.values())), own.values()
            cells = [spread([row[key] for row in same], key) for key in columns]
            size = f"{first['parameters'] / 1e6:.3f} M, {first['trainable'] / 1e6 if first['epochs'] else 0:.3f} M"
            took = f"{statistics.mean(row['train_cpu_seconds'] for row in same):.0f}" if first["epochs"] else "–"
            lr = f"{first['lr']:g}" if first["epochs"] else "–"
            lines.append(f"| {tower} | {len(own)} | {lr} | {size} | {' | '.join(cells)} | {took} |")
    first = final[0]
    cells = chance_cells(first, columns)
    lines.append(f"| chance; for pointing a random object | | | | {' | '.join(cells)} | |")
    lines += [
        "",
        f"n: probes fitted on {first['n_fit']:.0f} and scored on {first['n_test']:.0f} clips of one object; R@10 among "
        f"{first['gallery']:.0f} (with shuffled audio at most {max(row['R@10_shuffled'] for row in final):.3f}); "
        f"pointing on {first['pointing_n']:.0f} clips of two or three objects, where a center blob has "
        f"{first['pointing_center']:.3f}. {EPOCHS} epochs of {SPLITS['train'].num_clips} clips. {first['machine']}.",
        "",
        f"Learning rate of each trained tower: the better of {' and '.join(f'{lr:g}' for lr in RATES)} by the mean of "
        f"pointing and R@10 on {SPLITS['val'].num_clips} validation clips, after {EPOCHS // 3} epochs with seed "
        f"{TUNING_SEED}.",
    ]
    for pictures in (row for row in rows if row["stage"] == "pictures"):
        lines += [
            "",
            f"The classifier of images has {pictures['accuracy']:.3f} on {first['n_test']:.0f} test frames (chance "
            f"{pictures['chance']:.3f}), after {PICTURE_STEPS} steps of {PICTURE_BATCH} frames and "
            f"{pictures['cpu_seconds']:.0f} s of a core.",
        ]
    lines += [
        "",
        f"| difference, seed by seed | {' | '.join(columns.values())} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    pair = by_seed[PAIR]
    for tower in TRAINED:
        seeds = [seed for seed in SEEDS if seed in by_seed[tower] and seed in pair]
        if tower != PAIR and seeds:
            cells = [signed([by_seed[tower][seed][key] - pair[seed][key] for seed in seeds]) for key in columns]
            lines.append(f"| {tower} − {PAIR} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Make the missing rows while there is time, then print the results; or the table of many backbones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("backbones.jsonl"))
    parser.add_argument("--clips", type=Path, default=Path("backbones.clips"), help="folder of clips and of weights")
    parser.add_argument("--minutes", type=float, default=3.0, help="start no row later")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", action="store_true", help="only print the measurements so far")
    parser.add_argument("--table", action="store_true", help="print the table of docs/backbones.md")
    parser.add_argument("--repeats", type=int, default=1, help="passes of a row of --table")
    parser.add_argument("--only", nargs="*", default=[], help="backbones of --table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.table:
        print_table(options.only, options.repeats)
        return
    pictures = options.clips / "pictures"
    if not options.results:
        import timm.layers

        timm.layers.set_fused_attn(False)  # on a CPU its backward pass takes three times as long
        until = time.monotonic() + 60 * options.minutes
        sampling = ClipSampling(**SAMPLING)
        world = shapes(options.clips / "world", SPLITS, 0, sampling)
        about = train_on_pictures(pictures, world, ARCHITECTURE, CLASSIFIER)
        if not any(row["stage"] == "pictures" for row in read_rows(options.file)):
            append_row(options.file, about)
        while (todo := missing(read_rows(options.file))) and time.monotonic() < until:
            row = run(*todo[0], pictures=pictures, world=world, file=options.file)
            print(
                f"{row['stage']} {row['tower']}, lr {row['lr']:g}, seed {row['seed']}: pointing {row['pointing']:.3f}, "
                f"R@10 {row['R@10']:.3f}, {row['seconds']:.0f} s",
                flush=True,
            )
    print(results(read_rows(options.file)))


if __name__ == "__main__":
    main()
