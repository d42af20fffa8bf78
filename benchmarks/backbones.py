"""Compare video towers on SoundingShapes: small convolutions, and a ViT of timm from scratch or pretrained on pictures.

    python benchmarks/backbones.py                  train what is missing for three minutes, then print the results
    python benchmarks/backbones.py --minutes 40     the same for longer; a row takes about three minutes of one core
    python benchmarks/backbones.py --results        print the measurements so far
    python benchmarks/backbones.py --table          the table of docs/backbones.md: sizes and times of many backbones;
                                                    the fastest of --repeats passes of one clip, nothing is downloaded

All towers are trained by InfoNCE beside the same audio network, on the same clips and epochs. The ViT on pictures was
first a classifier of the 12 kinds of objects on single frames of other clips, saved as timm saves its weights, and is
then frozen, adapted by LoRA, or trained whole. Rates of learning are not tuned. The tower that points best gets three
seeds. Rows are appended to --file, and a run continues where the last one stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from backbone_sizes import print_table
from objectives import BATCH, COLUMNS, PRECISION, SCENE, chance_cells, measure, spread
from rows import append_row, machine, read_rows
from safetensors.torch import save_file
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes

from avssl.config import Config, config_from_dict, read_yaml
from avssl.core.draws import text_keys
from avssl.core.progress import Bar
from avssl.engine import LoopSettings, fit, seed_everything
from avssl.objectives import MemoryRows
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.tasks import PretrainTask
from avssl.transforms import estimate_statistics

EPOCHS = 12
SEEDS = (0, 1, 2)
PICTURE_STEPS, PICTURE_BATCH = 600, 64
SPLITS = {
    "train": Split(1280, SceneSettings(**SCENE)),
    "pictures": Split(1280, SceneSettings(**SCENE | {"object_weights": (1.0,)})),
    "single": Split(400, SceneSettings(**SCENE | {"object_weights": (1.0,)})),
    "several": Split(400, SceneSettings(**SCENE | {"object_weights": (0.0, 1.0, 1.0)})),
}
ARCHITECTURE = "vit_tiny_patch16_224"
ARGUMENTS = {"depth": 4, "embed_dim": 96, "num_heads": 3, "img_size": SCENE["width"], "patch_size": 16}
SCRATCH = {"name": "timm", "backbone": ARCHITECTURE, "config": [f"{key}={value}" for key, value in ARGUMENTS.items()]}
PICTURES = {"name": "timm", "pretrained": "PICTURES"}
TOWERS: dict[str, tuple[dict[str, Any], float]] = {
    "small convolutions": ({"name": "small_video", "width": 24}, 2e-3),
    "small convolutions, random-init": ({"name": "small_video", "width": 24}, 0.0),
    "ViT, random-init": (SCRATCH, 0.0),
    "ViT from scratch": (SCRATCH, 1e-3),
    "ViT on pictures, untrained here": (PICTURES, 0.0),
    "ViT on pictures, frozen": (PICTURES | {"frozen": True}, 2e-3),
    "ViT on pictures, LoRA of rank 8": (PICTURES | {"lora": 8}, 2e-3),
    "ViT on pictures, trained whole": (PICTURES, 1e-3),
}
"""Settings of the video tower and the learning rate; 0 for a tower that is not trained."""
FROM_BACKBONE = ("size", "mean", "std", "eval_crop", "eval_resize_short", "eval_interpolation")
FROM_BACKBONE += ("eval_keep_aspect", "eval_antialias")


def settings(tower: str, pictures: Path, seed: int) -> Config:
    """Return the pretraining config of `avssl demo` with smaller frames and another video tower."""
    tree = copy.deepcopy(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_cpu.yaml"))
    own, lr = TOWERS[tower]
    own = {key: str(pictures) if value == "PICTURES" else value for key, value in own.items()}
    tree["transform"]["video"]["size"] = SCENE["width"]
    if own["name"] == "timm":
        video = tree["transform"]["video"]
        tree["transform"]["video"] = {key: value for key, value in video.items() if key not in FROM_BACKBONE}
    tree["transform"]["spectrogram"]["hop_seconds"] = 0.02
    tree["sampling"] |= {"num_frames": 6, "audio_seconds": 1.5}
    tree["model"]["video"] = own
    tree["objective"] = {"name": "info_nce", "temperature": 0.1, "pooling": "both"}
    tree["optim"] |= {"lr": lr or 1e-3, "epochs": EPOCHS, "batch_size": BATCH}
    tree["train"]["seed"] = seed
    return config_from_dict(tree)


# ---------------------------------------------------------------- weights of pictures


def train_on_pictures(folder: Path, world: Shapes) -> dict[str, float]:
    """Train the ViT as a classifier of single frames, save it as timm does, and return its accuracy on test frames."""
    import timm

    done = folder / "accuracy.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    began = time.process_time()
    seed_everything(0)
    rng = np.random.default_rng(0)
    names = sorted(set(world.kind) - {""})
    network = timm.create_model(ARCHITECTURE, num_classes=len(names), **ARGUMENTS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, PICTURE_STEPS, pct_start=0.1)
    rows = world.rows("pictures")
    for _ in Bar(range(PICTURE_STEPS), desc="pictures", unit="step", show=sys.stderr.isatty()):
        chosen = rng.choice(rows, PICTURE_BATCH, replace=False)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(frames(world, chosen, rng.integers(world.settings.num_frames, size=len(chosen)), rng))
        loss = F.cross_entropy(logits.float(), torch.tensor([names.index(kind) for kind in world.kind[chosen]]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    tested = world.rows("single")
    with torch.inference_mode():
        middle = np.full(len(tested), world.settings.num_frames // 2)
        found = network(frames(world, tested, middle)).argmax(dim=1).numpy()
    accuracy = float(np.mean([names[place] == kind for place, kind in zip(found, world.kind[tested], strict=True)]))
    folder.mkdir(parents=True, exist_ok=True)
    size, half = SCENE["width"], [0.5, 0.5, 0.5]
    about = {
        "architecture": ARCHITECTURE,
        "num_classes": len(names),
        "model_args": ARGUMENTS,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": half,
            "std": half,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "classifier": "head",
            "license": "apache-2.0",
        },
    }
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(about))
    numbers = {"accuracy": accuracy, "chance": 1 / len(names), "cpu_seconds": time.process_time() - began}
    done.write_text(json.dumps(numbers))
    return numbers


def frames(world: Shapes, rows: np.ndarray, at: np.ndarray, rng: np.random.Generator | None = None) -> torch.Tensor:
    """Return one frame of each row as (B, 3, H, W), shifted and mirrored at random where ``rng`` is given."""
    x = torch.from_numpy(np.stack([world.video[row][frame] for row, frame in zip(rows, at, strict=True)]))
    x = x.float() / 127.5 - 1
    if rng is not None:
        dy, dx = rng.integers(-12, 13, size=2).tolist()
        x = x.roll((dy, dx), dims=(2, 3))
        x = x.flip(3) if rng.random() < 0.5 else x
    return x


# ---------------------------------------------------------------- rows


def train(tower: str, pictures: Path, world: Shapes, seed: int) -> PretrainTask:
    """Return the trained task of a tower, or the untrained one."""
    config = settings(tower, pictures, seed)
    rows = world.rows("train")
    seed_everything(seed)
    task = build_task(config, MemoryRows(text_keys(world.ids[rows]), torch.arange(len(rows))))
    sampling = build_sampling(config)
    sounds = (task.transform.spectrogram(raw.audio) for raw in fixed_batches(world, rows[:256], sampling))
    task.transform.standardize.set_statistics(*estimate_statistics(sounds))
    if TOWERS[tower][1]:
        loader = MemoryLoader(world, rows, BATCH, seed, sampling)
        total = EPOCHS * loader.steps_per_epoch
        loop = LoopSettings(total, loader.steps_per_epoch, log_every=100, grad_clip=5.0, precision=PRECISION)
        optimizer, schedule = build_optimizer(config, task), build_schedule(config, total)
        fit(task, loader, optimizer, schedule, settings=loop, progress=sys.stderr.isatty())
    return task


def run(tower: str, pictures: Path, world: Shapes, seed: int, file: Path) -> dict[str, Any]:
    """Make one row and append it."""
    began, began_cpu = time.perf_counter(), time.process_time()
    task = train(tower, pictures, world, seed)
    trained_cpu = time.process_time() - began_cpu
    parameters = list(task.model.video_encoder.parameters())
    row = {
        "tower": tower,
        "seed": seed,
        "epochs": EPOCHS if TOWERS[tower][1] else 0,
        "parameters": sum(each.numel() for each in parameters),
        "trainable": sum(each.numel() for each in parameters if each.requires_grad),
        **measure(world, task, "single", seed),
        "train_cpu_seconds": trained_cpu,
        "cpu_seconds": time.process_time() - began_cpu,
        "seconds": time.perf_counter() - began,
        "machine": machine(torch.device("cpu")),
    }
    append_row(file, row)
    return row


def missing(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return (tower, seed) of what can be made now: every tower once, then the seeds of the one that points best."""
    done = {(row["tower"], row["seed"]) for row in rows}
    todo = [(tower, SEEDS[0]) for tower in TOWERS if (tower, SEEDS[0]) not in done]
    if todo:
        return todo
    best = max((row for row in rows if row["seed"] == SEEDS[0]), key=lambda row: row["pointing"])["tower"]
    return [(best, seed) for seed in SEEDS if (best, seed) not in done]


def results(rows: list[dict[str, Any]], pictures: dict[str, float] | None) -> str:
    """Return a Markdown table: means, and standard deviations where there are several seeds."""
    if not rows:
        return "no row yet"
    columns = {key: title for key, title in COLUMNS.items() if not key.startswith("rank")}
    lines = [
        f"| video tower | seeds | parameters, trained | {' | '.join(columns.values())} | s of a core, training |",
        f"| --- | ---: | ---: |{' ---: |' * (len(columns) + 1)}",
    ]
    for tower in TOWERS:
        own = [row for row in rows if row["tower"] == tower]
        if own:
            cells = [spread([row[key] for row in own], key) for key in columns]
            size = f"{own[0]['parameters'] / 1e6:.2f} M, {own[0]['trainable'] / 1e6 if own[0]['epochs'] else 0:.2f} M"
            took = f"{statistics.mean(row['train_cpu_seconds'] for row in own):.0f}" if own[0]["epochs"] else "–"
            lines.append(f"| {tower} | {len(own)} | {size} | {' | '.join(cells)} | {took} |")
    first = rows[0]
    cells = chance_cells(first, columns)
    lines.append(f"| chance; for pointing a random object | | | {' | '.join(cells)} | |")
    lines += [
        "",
        f"n: probes fitted on {first['n_fit']:.0f} and scored on {first['n_test']:.0f} clips of one object; R@10 among "
        f"{first['gallery']:.0f} (with shuffled audio at most {max(row['R@10_shuffled'] for row in rows):.3f}); "
        f"pointing on {first['pointing_n']:.0f} clips of two or three objects, where a center blob has "
        f"{first['pointing_center']:.3f}. {EPOCHS} epochs of {SPLITS['train'].num_clips} clips. {first['machine']}.",
    ]
    if pictures:
        lines.append(
            f"The classifier of pictures has {pictures['accuracy']:.3f} on {first['n_test']:.0f} test frames (chance "
            f"{pictures['chance']:.3f}), after {PICTURE_STEPS} steps of {PICTURE_BATCH} frames and "
            f"{pictures['cpu_seconds']:.0f} s of a core."
        )
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
        until = time.monotonic() + 60 * options.minutes
        sampling = build_sampling(settings("small convolutions", pictures, 0))
        world = shapes(options.clips / "world", SPLITS, 0, sampling)
        train_on_pictures(pictures, world)
        while (todo := missing(read_rows(options.file))) and time.monotonic() < until:
            row = run(todo[0][0], pictures, world, todo[0][1], options.file)
            print(
                f"{row['tower']}, seed {row['seed']}: pointing {row['pointing']:.3f}, {row['seconds']:.0f} s",
                flush=True,
            )
    about = pictures / "accuracy.json"
    print(results(read_rows(options.file), json.loads(about.read_text()) if about.exists() else None))


if __name__ == "__main__":
    main()
