"""See inside small models of SoundingShapes: depth of the projection head, blocks of a deep encoder, classifier losses.

    python benchmarks/inside.py head      projection heads of 0 to 4 layers, with linear probes of every layer
    python benchmarks/inside.py blocks    CKA of the blocks of a deep encoder, and what removing each block costs
    python benchmarks/inside.py losses    class separation of the classifier's losses, against transfer
    python benchmarks/inside.py --table   print the measurements so far

Rows are appended to --file, and a run continues where the last one stopped; each row takes about half a minute of one
core. "random-init" rows are the same networks without training. Papers: SimCLR, https://arxiv.org/abs/2002.05709;
SimCLRv2, https://arxiv.org/abs/2006.10029; Nguyen et al., https://arxiv.org/abs/2010.15327; Veit et al.,
https://arxiv.org/abs/1605.06431; Kornblith et al., 2021, https://arxiv.org/abs/2010.16402.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inside_tables import tables
from rows import append_row, machine, read_rows
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes

from avssl.config import Config, config_from_dict
from avssl.engine import LoopSettings, Precision, Task, fit, seed_everything
from avssl.evaluation import MinibatchCKA, class_separation, find_blocks, knn_classifier, linear_probe
from avssl.models import AVModel, Classifier, ClipEncoder, StagePooling, create_classifier_loss
from avssl.models.blocks import Detail, removable_blocks, without_blocks
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.monitors.embedding import embedding_numbers
from avssl.training.tasks import ClassifyTask, PretrainTask
from avssl.transforms import ClipTransform, estimate_statistics

EPOCHS = 12
SEEDS = (0, 1, 2)
DEPTHS = (0, 1, 2, 3, 4)
BLOCKS = {"shallow": (2, 2), "deep": (8, 8)}
THRESHOLD = 0.9
"""Least CKA of any two blocks of a block structure."""
SCENE = {"width": 64, "height": 64, "video_fps": 8.0, "clutter": 0, "background_contrast": 0.0}
SPLITS = {
    name: Split(count, SceneSettings(**SCENE, object_weights=(1.0,))) for name, count in (("train", 768), ("test", 400))
}
LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "dropout 0.5": {"dropout": 0.5},
    "logit normalization": {"loss": "logit_norm"},
    "cosine softmax": {"loss": "cosine_softmax"},
    "sigmoid": {"loss": "sigmoid"},
    "squared error": {"loss": "squared_error"},
}
UNTRAINED = "random-init"
LR = 3e-3

Job = tuple[str, str, int]
"""Part, name of the model and seed."""


def settings(seed: int, head_depth: int = 3, num_blocks: tuple[int, int] = (1, 1)) -> Config:
    """Return the config of InfoNCE with small encoders of 64 features each."""
    return config_from_dict(
        {
            "sampling": {
                "num_frames": 6,
                "frames_per_second": 4.0,
                "audio_seconds": 1.5,
                "sample_rate_hz": 16000,
                "short_side": 64,
            },
            "transform": {"video": {"size": 64}, "spectrogram": {"num_mels": 64, "hop_seconds": 0.02}},
            "model": {
                "video": {"width": 16, "num_blocks": list(num_blocks)},
                "audio": {"width": 8},
                "head": {"name": "mlp_bn", "hidden": 128, "out_features": 64, "depth": head_depth},
            },
            "objective": {"name": "info_nce", "temperature": 0.1},
            "optim": {"lr": LR, "epochs": EPOCHS, "batch_size": 32},
            "train": {"seed": seed},
        }
    )


def untrained(config: Config, world: Shapes) -> PretrainTask:
    """Return the task of a config with its spectrogram statistics."""
    seed_everything(config.train.seed)
    task = build_task(config)
    first = fixed_batches(world, world.rows("train")[:256], build_sampling(config))
    sounds = (task.transform.spectrogram(raw.audio) for raw in first)
    task.transform.standardize.set_statistics(*estimate_statistics(sounds))
    return task


def train(task: Task, config: Config, world: Shapes, rows: np.ndarray) -> None:
    """Train a task on rows of the corpus."""
    loader = MemoryLoader(world, rows, config.optim.batch_size, config.train.seed, build_sampling(config))
    total = config.optim.epochs * loader.steps_per_epoch
    fit(
        task,
        loader,
        build_optimizer(config, task),  # type: ignore[arg-type]
        build_schedule(config, total),
        settings=LoopSettings(total, loader.steps_per_epoch, log_every=100, precision=Precision()),
        progress=sys.stderr.isatty(),
    )


def encode(
    model: AVModel, transform: ClipTransform, world: Shapes, config: Config, detail: Detail | None = None
) -> dict[str, torch.Tensor]:
    """Return (N, F) features of all clips by name: ``video``, ``video_embedding``; with detail ``video/stem`` ..."""
    encoder = ClipEncoder(model.eval(), transform.eval())
    pooling = StagePooling(None, "mean", 1024, keep_time=True, detail=detail or "stages")
    parts: dict[str, list[torch.Tensor]] = {}
    for raw in fixed_batches(world, np.arange(len(world.ids)), build_sampling(config)):
        for modality in ("video", "audio"):
            encoding = encoder.encode_batch(raw, modality, detail=detail)
            found = {modality: encoding.features, f"{modality}_embedding": encoding.embedding}
            stages = pooling.pool_stages(modality, encoding.stages)
            found |= {f"{modality}/{name}": value.flatten(1) for name, value in stages.items()}
            for name, value in found.items():
                parts.setdefault(name, []).append(value.float())
    return {name: torch.cat(values) for name, values in parts.items()}


def retrieval(features: dict[str, torch.Tensor], world: Shapes) -> dict[str, float]:
    """Return R@10 between video and audio of the test clips, its chance, and with shuffled audio."""
    rows = torch.from_numpy(world.rows("test"))
    found = embedding_numbers(*(features[f"{name}_embedding"][rows] for name in ("video", "audio")))
    return {
        "R@10": found["retrieval/R@10"],
        "R@10_chance": found["retrieval/chance_R@10"],
        "R@10_shuffled": found["retrieval_shuffled/R@10"],
    }


def accuracy(x: torch.Tensor, world: Shapes, labels: np.ndarray, seed: int, *, knn: bool = False) -> float:
    """Return the accuracy on the test clips of a linear probe, or of 20 neighbors, fitted on the training clips."""
    fit_rows, test = world.rows("train"), world.rows("test")
    values = x.numpy()
    given = values[fit_rows], labels[fit_rows], values[test], labels[test]
    result = knn_classifier(*given) if knn else linear_probe(*given, seed=seed)
    return float(result.accuracy)


def head_row(name: str, seed: int, world: Shapes) -> dict[str, Any]:
    """Train a model whose head has a depth and probe every layer: mean of video and audio, for kind and action."""
    config = settings(seed, head_depth=3 if name == UNTRAINED else int(name))
    task = untrained(config, world)
    if name != UNTRAINED:
        train(task, config, world, world.rows("train"))
    features = encode(task.model, task.transform, world, config, "blocks")
    layers = [layer.split("/")[1] for layer in features if layer.startswith("video/head")]
    probes: dict[str, dict[str, float]] = {}
    for label, values in (("object", world.kind), ("action", world.action)):
        for layer in ("encoder", *layers):
            keys = [m if layer == "encoder" else f"{m}/{layer}" for m in ("video", "audio")]
            scores = [accuracy(features[key], world, values, seed) for key in keys]
            probes.setdefault(layer, {})[label] = float(np.mean(scores))
    return {"probes": probes, **retrieval(features, world)}


def blocks_row(name: str, seed: int, world: Shapes) -> dict[str, Any]:
    """Train a model, find blocks of its video encoder by CKA, and remove one residual block after the other."""
    depth, _, state = name.partition(", ")
    config = settings(seed, num_blocks=BLOCKS[depth])
    task = untrained(config, world)
    if state != UNTRAINED:
        train(task, config, world, world.rows("train"))
    features = encode(task.model, task.transform, world, config, "blocks")
    test = world.rows("test")
    names = list(task.model.video_encoder.blocks())
    similarity = MinibatchCKA(("linear",))
    similarity.update({block: features[f"video/{block}"][test] for block in names})
    matrix = similarity.matrix("linear")
    removed = {}
    if state != UNTRAINED:
        for block in removable_blocks(task.model.video_encoder):
            shorter = copy.deepcopy(task.model)
            shorter.video_encoder = without_blocks(task.model.video_encoder, [block])
            removed[block] = _scores(encode(shorter, task.transform, world, config), world, seed)
    return {
        "names": names,
        "cka": matrix.round(4).tolist(),
        "found": find_blocks(matrix, THRESHOLD),
        **_scores(features, world, seed),
        **retrieval(features, world),
        "removed": removed,
    }


def _scores(features: dict[str, torch.Tensor], world: Shapes, seed: int) -> dict[str, float]:
    """Return the 20-neighbor accuracy of video features for the kind of object, and R@10."""
    knn = accuracy(features["video"], world, world.kind, seed, knn=True)
    return {"knn": knn, "R@10": retrieval(features, world)["R@10"]}


def losses_row(name: str, seed: int, world: Shapes) -> dict[str, Any]:
    """Train a video classifier of the kind of object by a loss; probe its features for the kind and the action."""
    config, chosen = settings(seed), {} if name == UNTRAINED else dict(LOSSES[name])
    task = untrained(config, world)
    names, truth = np.unique(world.kind, return_inverse=True)
    rows, test = world.rows("train"), world.rows("test")
    loss = create_classifier_loss(chosen.get("loss", "softmax"))
    model = Classifier(task.model.video_encoder, num_classes=len(names), dropout=chosen.get("dropout", 0.0), loss=loss)
    numbers: dict[str, float] = {}
    if name != UNTRAINED:
        targets = torch.from_numpy(truth[rows])
        smoothing = chosen.get("label_smoothing", 0.0)
        train(ClassifyTask(task.transform, model, targets, label_smoothing=smoothing), config, world, rows)
    features = encode(task.model, task.transform, world, config)
    if name != UNTRAINED:
        with torch.no_grad():
            logits = model.eval().head_logits({"video": features["video"][torch.from_numpy(test)]})["video"]
        numbers["top1"] = float((logits.argmax(1).numpy() == truth[test]).mean())
    numbers["separation"] = class_separation(features["video"][torch.from_numpy(test)], world.kind[test])
    for label, values in (("object", world.kind), ("action", world.action)):
        numbers[f"linear_{label}"] = accuracy(features["video"], world, values, seed)
        numbers[f"knn_{label}"] = accuracy(features["video"], world, values, seed, knn=True)
    return numbers


PARTS: dict[str, tuple[Callable[[str, int, Shapes], dict[str, Any]], list[str]]] = {
    "head": (head_row, [*map(str, DEPTHS), UNTRAINED]),
    "blocks": (blocks_row, [f"{depth}, {state}" for depth in BLOCKS for state in ("trained", UNTRAINED)]),
    "losses": (losses_row, [*LOSSES, UNTRAINED]),
}


def jobs(parts: list[str], file: Path) -> list[Job]:
    """Return the rows that are missing, seed by seed."""
    done = {(row["part"], row["name"], row["seed"]) for row in read_rows(file)}
    wanted = [(part, name, seed) for part in parts for seed in SEEDS for name in PARTS[part][1]]
    return [job for job in wanted if job not in done]


def run(job: Job, world: Shapes, file: Path) -> dict[str, Any]:
    """Make one row and append it."""
    part, name, seed = job
    began = time.process_time()
    numbers = PARTS[part][0](name, seed, world)
    counts = {"n_fit": len(world.rows("train")), "n_test": len(world.rows("test"))}
    chance = {f"{label}_chance": _largest(values[world.rows("test")]) for label, values in _labels(world).items()}
    row = {"part": part, "name": name, "seed": seed, "epochs": EPOCHS, **counts, **chance, **numbers}
    row |= {"cpu_seconds": round(time.process_time() - began, 1), "machine": machine(torch.device("cpu"))}
    append_row(file, row)
    return row


def _labels(world: Shapes) -> dict[str, np.ndarray]:
    return {"object": world.kind, "action": world.action}


def _largest(labels: np.ndarray) -> float:
    """Return the share of the most frequent class."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def main() -> None:
    """Make the missing rows while there is time, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="head, blocks, losses; default: all")
    parser.add_argument("--file", type=Path, default=Path("inside.jsonl"))
    parser.add_argument("--clips", type=Path, default=Path("inside.clips"), help="folder of the rendered clips")
    parser.add_argument("--minutes", type=float, default=15.0, help="start no row later")
    parser.add_argument("--table", action="store_true", help="only print the measurements so far")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        until = time.monotonic() + 60 * options.minutes
        world = shapes(options.clips, SPLITS, 0, build_sampling(settings(0)))
        for job in jobs(options.parts or list(PARTS), options.file):
            if time.monotonic() > until:
                break
            print(job, f"{run(job, world, options.file)['cpu_seconds']} s", flush=True)
    print(tables(read_rows(options.file), options.file.parent))


if __name__ == "__main__":
    main()
