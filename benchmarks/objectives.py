"""Compare the objectives of the AVID family on one corpus with equal encoders, clips, epochs and tuning.

    python benchmarks/objectives.py                train what is missing for three minutes, then print the table
    python benchmarks/objectives.py --minutes 90   the same for longer; every row takes about two minutes of one core
    python benchmarks/objectives.py --table        print the measurements so far

The corpus is SoundingShapes with 5 % off-screen sound, 15 % faulty pairs (the audio of another scene) and 10 %
near-duplicates; test clips are clean. Each method first tries two learning rates for half of the epochs on a separate
seed and uses the one with the better probes on validation clips; then it is trained with seeds 0, 1 and 2. Rows are
appended to --file, and a run continues where the last one stopped.

CMA is AVID for half of the epochs and then CMA, against AVID for all of them: equally long. "supervised" trains the
same encoders on the labels of clips with a visible source. Every method has one view, 32 clips a step. Objectives that
need other encoders or clips stand apart: masked prediction in masked.py, frames against their own audio in sync.py.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes
from shapes_measures import encode, pointing_numbers, probes, retrieval_numbers
from torch import Tensor, nn

from avssl.config import Config, config_from_dict, read_yaml
from avssl.core.batch import Batch, LossTerms
from avssl.core.draws import text_keys
from avssl.engine import LoopSettings, Precision, Task, fit, seed_everything
from avssl.models import AVModel
from avssl.objectives import MemoryRows
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.tasks import PretrainTask
from avssl.transforms import estimate_statistics

EPOCHS = 16
BATCH = 32
SEEDS = (0, 1, 2)
TUNING_SEED = 9
RATES = (1.5e-3, 4e-3)
PRECISION = Precision("bf16", "channels_last")

SCENE = {
    "width": 96,
    "height": 96,
    "video_fps": 8.0,
    "object_weights": (4.0, 1.0, 1.0),
    "clutter": 0,
    "background_contrast": 0.0,
}
FAULTS = {"off_screen_fraction": 0.05, "mismatched_fraction": 0.15, "near_duplicate_fraction": 0.1}
SPLITS = {
    "train": Split(1280, SceneSettings(**SCENE, **FAULTS)),
    "val": Split(240, SceneSettings(**SCENE | {"object_weights": (1.0,)})),
    "single": Split(400, SceneSettings(**SCENE | {"object_weights": (1.0,)})),
    "several": Split(400, SceneSettings(**SCENE | {"object_weights": (0.0, 1.0, 1.0)})),
}

# "warmup_epochs" becomes half of the epochs, with AVID's loss alone.
MEMORY = {"temperature": 0.1, "num_negatives": 256, "momentum": 0.5}
AVID = {"name": "avid", "loss": "softmax", **MEMORY}
CMA = {"num_positives": 16, "positive_negatives": 64, "warmup_epochs": 0, "refresh_epochs": 2}
METHODS: dict[str, dict[str, Any]] = {
    "InfoNCE": {"name": "info_nce", "temperature": 0.1, "pooling": "pooled"},
    "InfoNCE, pooled + best cell": {"name": "info_nce", "temperature": 0.1, "pooling": "both"},
    "Cross-AVID (= xID)": {**AVID, "variant": "cross"},
    "Joint-AVID": {**AVID, "variant": "joint"},
    "Self-AVID": {**AVID, "variant": "self"},
    "CMA": {**AVID, "name": "cma", "variant": "cross", **CMA},
    "Robust-xID": {"name": "robust_xid", **MEMORY, "warmup_epochs": 0},
    "MoCo": {"name": "moco", "temperature": 0.1, "queue_size": 1024, "momentum": 0.99},
    "SwAV": {"name": "swav", "prototypes": 256, "temperature": 0.2, "epsilon": 0.02},
    "XDC": {"name": "xdc", "temperature": 0.2},
    "SeLaVi": {"name": "selavi", "temperature": 0.1},
    "Barlow Twins": {"name": "barlow_twins", "off_diagonal": 0.01},
    "VICReg": {"name": "vicreg"},
    "SIGReg (LeJEPA)": {"name": "sigreg"},
    "BYOL": {"name": "byol", "predictor_hidden": 128},
    "SimSiam": {"name": "simsiam"},
    "DINO": {"name": "dino", "prototypes": 256},
    "Joint head (PE-AV)": {"name": "joint", "modality_dropout": 0.3},
    "InfoNCE, equivariant (EquiAV)": {"name": "info_nce", "temperature": 0.1, "pooling": "pooled", "equivariant": 1.0},
    "supervised": {"name": "info_nce"},  # the objective is not used
}
WIDE = {"out_features": 256, "hidden": 256}
HEADS = {"barlow_twins": WIDE, "vicreg": WIDE}
"""Settings of the heads for objectives that need wide embeddings, by name."""
UNTRAINED = "random-init"
COMPARISONS = (
    ("Cross-AVID (= xID)", "Joint-AVID"),
    ("Joint-AVID", "Self-AVID"),
    ("CMA", "Cross-AVID (= xID)"),
    ("Robust-xID", "Cross-AVID (= xID)"),
)
COLUMNS = {
    "object_video": "object, video",
    "action_video": "action, video",
    "object_audio": "object, audio",
    "action_audio": "action, audio",
    "R@10": "R@10",
    "pointing": "pointing",
    "pointing_shuffled": "pointing, other audio",
    "rank_video": "rank, video",
    "rank_audio": "rank, audio",
}


class SupervisedTask(Task):
    """The common encoders under linear classifiers of kind and action, for each modality alone."""

    def __init__(self, task: PretrainTask, world: Shapes, rows: np.ndarray) -> None:
        super().__init__()
        self.transform = task.transform
        self.labels: dict[str, Tensor] = {}
        sizes = {}
        for name, values in (("kind", world.kind[rows]), ("action", world.action[rows])):
            names = sorted(set(values) - {""})
            self.labels[name] = torch.tensor([names.index(value) if value else -1 for value in values])
            sizes[name] = len(names)
        self.model = _Classifiers(task.model, sizes)

    def forward(self, batch: Batch) -> LossTerms:
        views: Batch = self.transform(batch)
        logits = self.model(views.video, views.audio)
        wanted = {name: labels[batch.index.row] for name, labels in self.labels.items()}
        # Clips without a visible source have no label; the sum gives 0 and not NaN for a batch without labels.
        losses = [
            F.cross_entropy(value, wanted[name.split("/")[0]], ignore_index=-1, reduction="sum")
            for name, value in logits.items()
        ]
        total = torch.stack(losses).sum() / max(1, int((wanted["kind"] >= 0).sum()))
        return LossTerms(total, {"loss": total.detach()})

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        self.transform.video_augment.set_output(dtype, memory_format)


class _Classifiers(nn.Module):
    """Classifiers that return (B, K) logits by ``kind/video`` and so on."""

    def __init__(self, model: AVModel, sizes: dict[str, int]) -> None:
        super().__init__()
        self.video, self.audio = model.video_encoder, model.audio_encoder
        self.classify = nn.ModuleDict(
            {
                f"{name}/{modality}": nn.Linear(getattr(self, modality).num_features, count)
                for name, count in sizes.items()
                for modality in ("video", "audio")
            }
        )

    def forward(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        features = {"video": self.video(video), "audio": self.audio(audio)}
        return {name: layer(features[name.split("/")[1]]) for name, layer in self.classify.items()}


@dataclass(frozen=True)
class Sizes:
    """Side of a frame in pixels, frames of a clip, and channels of the video encoder's first stage."""

    side: int = SCENE["width"]
    num_frames: int = 6
    width: int = 24


def settings(objective: dict[str, Any], lr: float, epochs: int, seed: int, sizes: Sizes | None = None) -> Config:
    """Return the pretraining config of `avssl demo` with smaller frames and encoders and the method's objective."""
    sizes = sizes or Sizes()
    tree = copy.deepcopy(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_cpu.yaml"))
    tree["transform"]["video"]["size"] = sizes.side
    tree["transform"]["spectrogram"]["hop_seconds"] = 0.02
    tree["sampling"] |= {"num_frames": sizes.num_frames, "audio_seconds": sizes.num_frames / 4}
    tree["model"]["video"]["width"] = sizes.width
    tree["local_views"] = {"size": sizes.side // 2}
    tree["objective"] = dict(objective)
    tree["model"]["head"] |= HEADS.get(objective["name"], {})
    if "warmup_epochs" in objective:
        tree["objective"]["warmup_epochs"] = epochs // 2
    tree["optim"] |= {"lr": lr, "epochs": epochs, "batch_size": BATCH}
    tree["train"]["seed"] = seed
    return config_from_dict(tree)


def train(method: str, world: Shapes, lr: float, epochs: int, seed: int, sizes: Sizes | None = None) -> PretrainTask:
    """Return the trained task of a method, or the untrained one for :data:`UNTRAINED`."""
    config = settings(METHODS.get(method, METHODS["InfoNCE"]), lr or RATES[0], epochs, seed, sizes)
    rows = world.rows("train")
    seed_everything(seed)
    memory = MemoryRows(text_keys(world.ids[rows]), torch.arange(len(rows)))
    task = build_task(config, memory)
    sampling = build_sampling(config)
    sounds = (task.transform.spectrogram(raw.audio) for raw in fixed_batches(world, rows[:256], sampling))
    task.transform.standardize.set_statistics(*estimate_statistics(sounds))
    if method == UNTRAINED:
        return task
    loader = MemoryLoader(world, rows, BATCH, seed, sampling)
    total = epochs * loader.steps_per_epoch
    trained = SupervisedTask(task, world, rows) if method == "supervised" else task
    fit(
        trained,
        loader,
        build_optimizer(config, trained),  # type: ignore[arg-type]
        build_schedule(config, total),
        settings=LoopSettings(
            total, loader.steps_per_epoch, log_every=100, grad_clip=config.optim.grad_clip, precision=PRECISION
        ),
        progress=sys.stderr.isatty(),
    )
    return task


def measure(world: Shapes, task: PretrainTask, test: str, seed: int, sizes: Sizes | None = None) -> dict[str, float]:
    """Return probe scores on ``test``, fitted on training clips with one object; finally retrieval and pointing too."""
    sampling = build_sampling(settings(METHODS["InfoNCE"], RATES[0], 1, seed, sizes))
    every = np.arange(len(world.ids))
    features = encode(task.model, task.transform, fixed_batches(world, every, sampling), PRECISION)
    labeled = (world.split == "train") & (world.num_objects == 1) & (world.kind != "")
    numbers = probes(world, features, np.flatnonzero(labeled), world.rows(test), seed)
    if test == "single":
        numbers |= retrieval_numbers(features, world.rows("single"))
        numbers |= pointing_numbers(task.model, task.transform, world, world.rows("several"), sampling, seed=seed)
    return numbers | {"n_fit": float(labeled.sum()), "n_test": float(len(world.rows(test)))}


def score(row: dict[str, Any]) -> float:
    """Return the criterion for learning rates: the mean of the four probes on validation clips."""
    return statistics.mean(row[name] for name in ("object_video", "action_video", "object_audio", "action_audio"))


def missing(rows: list[dict[str, Any]]) -> list[tuple[str, str, float, int]]:
    """Return (stage, method, learning rate, seed) of every row that can be made now, in order."""
    done = {(row["stage"], row["method"], row["lr"], row["seed"]) for row in rows}
    tuning = [("tune", method, lr, TUNING_SEED) for method in METHODS for lr in RATES]
    final = [("final", UNTRAINED, 0.0, seed) for seed in SEEDS]
    for seed in SEEDS:
        for method in METHODS:
            tried = [row for row in rows if row["stage"] == "tune" and row["method"] == method]
            if len(tried) == len(RATES):
                final.append(("final", method, max(tried, key=score)["lr"], seed))
    return [job for job in [*tuning, *final] if job not in done]


def run(world: Shapes, file: Path, stage: str, method: str, lr: float, seed: int) -> dict[str, Any]:
    """Make one row and append it."""
    began, began_cpu = time.perf_counter(), time.process_time()
    epochs = EPOCHS // 2 if stage == "tune" else EPOCHS
    task = train(method, world, lr, epochs, seed)
    numbers = measure(world, task, "val" if stage == "tune" else "single", seed)
    row = {
        "stage": stage,
        "method": method,
        "lr": lr,
        "seed": seed,
        "epochs": 0 if method == UNTRAINED else epochs,
        "samples": 0 if method == UNTRAINED else epochs * len(world.rows("train")) // BATCH * BATCH,
        **numbers,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - began_cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    with file.open("a") as out:
        out.write(json.dumps(row) + "\n")
    return row


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown tables: mean and sd over the seeds, chance, priors, and the papers' comparisons."""
    final = [row for row in rows if row["stage"] == "final"]
    if not final:
        return "no final row yet"
    lines = [
        f"| method | seeds | lr | {' | '.join(COLUMNS.values())} |",
        f"| --- | ---: | ---: |{' ---: |' * len(COLUMNS)}",
    ]
    for method in (*METHODS, UNTRAINED):
        own = [row for row in final if row["method"] == method]
        if own:
            cells = [spread([row[key] for row in own], key) for key in COLUMNS]
            if method == "supervised":  # its heads were never trained
                cells[4:] = ["–"] * (len(cells) - 4)
            lines.append(f"| {method} | {len(own)} | {own[0]['lr']:g} | {' | '.join(cells)} |")
    first = final[0]
    cells = chance_cells(first, COLUMNS)
    lines.append(f"| chance; for pointing a random object | | | {' | '.join(cells)} |")
    lines += [
        "",
        f"n: probes fitted on {first['n_fit']:.0f} and scored on {first['n_test']:.0f} clips of one object; R@10 among "
        f"{first['gallery']:.0f} (with shuffled audio at most {max(row['R@10_shuffled'] for row in final):.3f}); "
        f"pointing on {first['pointing_n']:.0f} clips of two or three objects, where a center blob has "
        f"{first['pointing_center']:.3f}. {max(row['epochs'] for row in final)} epochs, "
        f"{max(row['samples'] for row in final)} clips seen.",
        "",
        f"| difference, seed by seed | {' | '.join(list(COLUMNS.values())[:6])} |",
        f"| --- |{' ---: |' * 6}",
    ]
    by_key = {(row["method"], row["seed"]): row for row in final}
    for better, worse in COMPARISONS:
        seeds = [seed for seed in SEEDS if (better, seed) in by_key and (worse, seed) in by_key]
        if seeds:
            cells = [
                signed([by_key[better, seed][key] - by_key[worse, seed][key] for seed in seeds])
                for key in list(COLUMNS)[:6]
            ]
            lines.append(f"| {better} − {worse} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chance_cells(row: dict[str, Any], columns: Iterable[str]) -> list[str]:
    """Return the cells of chance, and for pointing of a random object; empty where there is none."""
    chance = {f"{task}_{m}": row[f"{task}_chance"] for task in ("object", "action") for m in ("video", "audio")}
    chance |= {"R@10": row["R@10_chance"], "pointing": row["pointing_random_object"]}
    return [f"{chance[key]:.3f}" if key in chance else "" for key in columns]


def spread(values: list[float], key: str) -> str:
    form: Callable[[float], str] = (lambda x: f"{x:.1f}") if key.startswith("rank") else (lambda x: f"{x:.3f}")
    mean = form(statistics.mean(values))
    return f"{mean} ± {form(statistics.stdev(values))}" if len(values) > 1 else mean


def signed(values: list[float]) -> str:
    """Return the mean difference, and in how many seeds it is above zero."""
    return f"{statistics.mean(values):+.3f} ({sum(value > 0 for value in values)} of {len(values)})"


def main() -> None:
    """Make the missing rows while there is time, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("objectives.jsonl"))
    parser.add_argument("--clips", type=Path, default=Path("objectives.clips"), help="folder of the rendered clips")
    parser.add_argument("--minutes", type=float, default=3.0, help="start no row that would end later")
    parser.add_argument("--methods", nargs="*", default=[], help="only these methods")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the measurements so far")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    until = time.monotonic() + 60 * options.minutes
    if not options.table:
        sampling = build_sampling(settings(METHODS["InfoNCE"], RATES[0], 1, 0))
        world = shapes(options.clips, SPLITS, 0, sampling)
        longest = 0.0
        while todo := [job for job in missing(read_rows(options.file)) if job[1] in (options.methods or [job[1]])]:
            if longest and time.monotonic() + longest > until:
                print(f"left for the next run: {len(todo)} rows", flush=True)
                break
            row = run(world, options.file, *todo[0])
            longest = max(longest, row["seconds"])
            print(
                f"{row['stage']} {row['method']} lr {row['lr']:g} seed {row['seed']}: {row['seconds']:.0f} s",
                flush=True,
            )
    print(table(read_rows(options.file)))


if __name__ == "__main__":
    main()
