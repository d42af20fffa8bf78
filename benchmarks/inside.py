"""See inside small models of SoundingShapes: depth of the projection head, blocks of a deep encoder, classifier losses.

    python benchmarks/inside.py blocks    CKA and SVCCA of the blocks of an encoder, and what deleting each one costs
    python benchmarks/inside.py losses    class separation of the classifier's losses, against transfer
    python benchmarks/inside.py head      heads of 0 to 4 layers: probes of each layer, fine-tuning from the middle
    python benchmarks/inside.py --table   print the measurements so far

Rows are appended to --file, and a run continues where the last one stopped; a row takes 10 to 100 s of one core.
"random-init" rows are the same networks without training. Papers: SimCLR, https://arxiv.org/abs/2002.05709;
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
from avssl.core.batch import Modality
from avssl.engine import LoopSettings, Precision, Task, fit, seed_everything
from avssl.evaluation import MinibatchCKA, class_separation, kept_neighbors, knn_classifier, linear_probe
from avssl.evaluation.svcca import svcca_matrix
from avssl.models import AVModel, Classifier, ClipClassifier, ClipEncoder, StagePooling, create_classifier_loss
from avssl.models.blocks import Detail, delete_each_block
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.monitors.embedding import embedding_numbers
from avssl.training.tasks import ClassifyTask, PretrainTask
from avssl.transforms import ClipTransform, estimate_statistics

EPOCHS = 8
SEEDS = (0, 1, 2)
DEPTHS = (0, 1, 2, 3, 4)
DEPTH = 3
"""Layers of the head from whose middle models are fine-tuned."""
NUM_LABELED = 256
FINETUNE_EPOCHS = 15
BLOCKS = {"deep": (8, 8), "shallow": (2, 2)}
SCENE = {
    "width": 64,
    "height": 64,
    "video_fps": 8.0,
    "sample_rate_hz": 16000,
    "object_weights": (1.0,),
    "clutter": 0,
    "background_contrast": 0.0,
}
SPLITS = {name: Split(count, SceneSettings(**SCENE)) for name, count in (("train", 2048), ("test", 400))}
PRECISION = Precision("bf16", "channels_last")
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

HOWS = {"classifier": 1, "InfoNCE": 1, UNTRAINED: 1, "classifier, twice as long": 2}
"""How encoders with blocks are trained, the classifier for the action, and how many times :data:`EPOCHS` that takes."""

Job = tuple[str, str, int]
"""Part, name of the model and seed."""


def settings(
    seed: int,
    *,
    head_depth: int = DEPTH,
    num_blocks: tuple[int, int] = (1, 1),
    size: int = 64,
    num_frames: int = 6,
    epochs: int | None = None,
    lr: float = LR,
) -> Config:
    """Return the config of InfoNCE with small encoders of 64 features each."""
    return config_from_dict(
        {
            "sampling": {
                "num_frames": num_frames,
                "frames_per_second": 4.0,
                "audio_seconds": 1.5,
                "sample_rate_hz": SCENE["sample_rate_hz"],
                "short_side": SCENE["height"],
            },
            "transform": {"video": {"size": size}, "spectrogram": {"num_mels": 64, "hop_seconds": 0.02}},
            "model": {
                "video": {"width": 16, "num_blocks": list(num_blocks)},
                "audio": {"width": 8},
                "head": {"name": "mlp_bn", "hidden": 128, "out_features": 64, "depth": head_depth},
            },
            "objective": {"name": "info_nce", "temperature": 0.1},
            "optim": {"lr": lr, "epochs": epochs or EPOCHS, "batch_size": 32},
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
        settings=LoopSettings(total, loader.steps_per_epoch, log_every=100, precision=PRECISION),
        progress=sys.stderr.isatty(),
    )


def classify(
    task: PretrainTask, model: Classifier, config: Config, world: Shapes, label: str, rows: np.ndarray, **options: Any
) -> float:
    """Train a classifier of a label on rows, and return its accuracy on the test clips."""
    _, truth = np.unique(labels(world)[label], return_inverse=True)
    train(ClassifyTask(task.transform, model, torch.from_numpy(truth[rows]), **options), config, world, rows)
    return top_1(ClipClassifier(model.eval(), task.transform.eval()), world, config, label)


def top_1(classifier: ClipClassifier, world: Shapes, config: Config, label: str) -> float:
    """Return the accuracy of a classifier on the test clips."""
    _, truth = np.unique(labels(world)[label], return_inverse=True)
    test = world.rows("test")
    logits = [classifier.logits(raw) for raw in fixed_batches(world, test, build_sampling(config))]
    return float((torch.cat(logits).argmax(dim=1).numpy() == truth[test]).mean())


def encode(
    model: AVModel,
    transform: ClipTransform,
    world: Shapes,
    config: Config,
    *,
    rows: np.ndarray | None = None,
    modalities: tuple[Modality, ...] = ("video", "audio"),
    detail: Detail | None = None,
    max_features: int = 1024,
) -> dict[str, torch.Tensor]:
    """Return (N, F) features of clips by name: ``video``, ``video_embedding``; with detail ``video/stem`` ..."""
    encoder = ClipEncoder(model.eval(), transform.eval())
    pooling = StagePooling(None, "mean", max_features, keep_time=True, detail=detail or "stages")
    parts: dict[str, list[torch.Tensor]] = {}
    for raw in fixed_batches(world, np.arange(len(world.ids)) if rows is None else rows, build_sampling(config)):
        for modality in modalities:
            encoding = encoder.encode_batch(raw, modality, detail=detail)
            found = {modality: encoding.features, f"{modality}_embedding": encoding.embedding}
            stages = pooling.pool_stages(modality, encoding.stages)
            found |= {f"{modality}/{name}": value.flatten(1) for name, value in stages.items()}
            for name, value in found.items():
                parts.setdefault(name, []).append(value.float())
    return {name: torch.cat(values) for name, values in parts.items()}


def retrieval(video: torch.Tensor, audio: torch.Tensor) -> dict[str, float]:
    """Return R@10 between embeddings, its chance, and with shuffled audio."""
    found = embedding_numbers(video, audio)
    return {
        "R@10": found["retrieval/R@10"],
        "R@10_chance": found["retrieval/chance_R@10"],
        "R@10_shuffled": found["retrieval_shuffled/R@10"],
    }


def accuracy(x: torch.Tensor, world: Shapes, label: str, seed: int, *, knn: bool = False) -> float:
    """Return the accuracy on the test clips of a linear probe, or of 20 neighbors, fitted on the training clips."""
    fit_rows, test = world.rows("train"), world.rows("test")
    values, truth = x.numpy(), labels(world)[label]
    given = values[fit_rows], truth[fit_rows], values[test], truth[test]
    result = knn_classifier(*given) if knn else linear_probe(*given, seed=seed)
    return float(result.accuracy)


def head_row(name: str, seed: int, world: Shapes) -> dict[str, Any]:
    """Train a model whose head has a depth, probe every layer (mean of video and audio), and fine-tune it."""
    depth = DEPTH if name == UNTRAINED else int(name)
    config = settings(seed, head_depth=depth)
    task = untrained(config, world)
    if name != UNTRAINED:
        train(task, config, world, world.rows("train"))
    features = encode(task.model, task.transform, world, config, detail="blocks")
    layers = [layer.split("/")[1] for layer in features if layer.startswith("video/head")]
    probes: dict[str, dict[str, float]] = {}
    for label in labels(world):
        for layer in ("encoder", *layers):
            keys = [m if layer == "encoder" else f"{m}/{layer}" for m in ("video", "audio")]
            scores = [accuracy(features[key], world, label, seed) for key in keys]
            probes.setdefault(layer, {})[label] = float(np.mean(scores))
    test = torch.from_numpy(world.rows("test"))
    row = {"probes": probes, **retrieval(features["video_embedding"][test], features["audio_embedding"][test])}
    return row | ({"finetuned": _finetuned(task, seed, world)} if depth == DEPTH else {})


def _finetuned(task: PretrainTask, seed: int, world: Shapes) -> dict[str, dict[str, float]]:
    """Return the accuracy after fine-tuning the video encoder and the first layers of its head on a few labels."""
    config = settings(seed, epochs=FINETUNE_EPOCHS, lr=LR / 3)
    found: dict[str, dict[str, float]] = {}
    for label, values in labels(world).items():
        for layers in range(DEPTH):
            seed_everything(seed)
            own = copy.deepcopy(task)
            model = Classifier.of(own.model, len(set(values)), from_head_layer=layers, dropout=0.0)
            few = world.rows("train")[:NUM_LABELED]
            found.setdefault(str(layers), {})[label] = classify(own, model, config, world, label, few)
    return found


def blocks_row(name: str, seed: int, world: Shapes) -> dict[str, Any]:
    """Train a model, compare the blocks of its video encoder, and delete one residual block after the other."""
    depth, _, how = name.partition(", ")
    config = settings(seed, num_blocks=BLOCKS[depth], size=48, epochs=EPOCHS * HOWS[how])
    task = untrained(config, world)
    transform, encoder, rows, test = task.transform, task.model.video_encoder, world.rows("train"), world.rows("test")
    names, truth = np.unique(world.action, return_inverse=True)
    model = Classifier(encoder, num_classes=len(names), dropout=0.0)
    if how == "InfoNCE":
        train(task, config, world, rows)
    elif how != UNTRAINED:
        classify(task, model, config, world, "action", rows)
    audio = encode(task.model, transform, world, config, rows=test, modalities=("audio",))["audio_embedding"]

    def measure() -> tuple[dict[str, float], np.ndarray]:
        found = encode(task.model, transform, world, config, rows=test, modalities=("video",))
        scores = {}
        if how == "InfoNCE":
            scores["R@10"] = retrieval(found["video_embedding"], audio)["R@10"]
        elif how != UNTRAINED:
            with torch.no_grad():
                logits = model.eval().head_logits({"video": found["video"]})["video"]
            scores["top1"] = float((logits.argmax(dim=1).numpy() == truth[test]).mean())
        return scores, found["video"].numpy()

    whole, before = measure()
    deleted = {
        block: {**scores, "neighbors": kept_neighbors(before, after)}
        for block, (scores, after) in delete_each_block(encoder, measure).items()
    }
    return {
        "names": list(encoder.blocks()),
        **similarities(task, config, world),
        "whole": {**whole, "neighbors": 1.0},
        "deleted": deleted,
        "neighbors_chance": 10 / (len(test) - 1),
        "R@10_chance": 10 / len(test),
    }


def similarities(task: PretrainTask, config: Config, world: Shapes) -> dict[str, Any]:
    """Return linear CKA and SVCCA of the blocks of the video encoder on the test clips, as matrices."""
    names, test = list(task.model.video_encoder.blocks()), world.rows("test")
    grids, means = (
        encode(
            task.model,
            task.transform,
            world,
            config,
            rows=test,
            modalities=("video",),
            detail="blocks",
            max_features=size,
        )
        for size in (1024, 1)
    )
    similarity = MinibatchCKA(("linear",))
    similarity.update({block: grids[f"video/{block}"] for block in names})
    svcca, _ = svcca_matrix({block: means[f"video/{block}"] for block in names})
    return {"cka": similarity.matrix("linear").round(4).tolist(), "svcca": svcca.round(4).tolist()}


def losses_row(name: str, seed: int, world: Shapes) -> dict[str, Any]:
    """Train a classifier of sounds by a loss; measure the separation of its classes, and probe it for both labels."""
    source, _, how = name.partition(", ")
    config = settings(seed, size=32, num_frames=1)  # one small frame: only the sound counts
    task = untrained(config, world)
    chosen = dict(LOSSES.get(how, {}))
    loss = create_classifier_loss(chosen.get("loss", "softmax"))
    classes = len(set(labels(world)[source]))
    model = Classifier(task.model.audio_encoder, num_classes=classes, dropout=chosen.get("dropout", 0.0), loss=loss)
    numbers: dict[str, float] = {}
    if how != UNTRAINED:
        smoothing = chosen.get("label_smoothing", 0.0)
        numbers["top1"] = classify(task, model, config, world, source, world.rows("train"), label_smoothing=smoothing)
    features = encode(task.model, task.transform, world, config, modalities=("audio",))["audio"]
    test = world.rows("test")
    numbers["separation"] = class_separation(features[torch.from_numpy(test)], labels(world)[source][test])
    for label in labels(world):
        kind = "source" if label == source else "transfer"
        numbers[f"linear_{kind}"] = accuracy(features, world, label, seed)
        numbers[f"knn_{kind}"] = accuracy(features, world, label, seed, knn=True)
    return numbers


PARTS: dict[str, tuple[Callable[[str, int, Shapes], dict[str, Any]], list[str]]] = {
    "blocks": (blocks_row, [f"{depth}, {how}" for depth in BLOCKS for how in HOWS]),
    "losses": (losses_row, [f"{label}, {how}" for label in ("object", "action") for how in (*LOSSES, UNTRAINED)]),
    "head": (head_row, [*map(str, DEPTHS), UNTRAINED]),
}


def jobs(parts: list[str], file: Path) -> list[Job]:
    """Return the rows that are missing, seed by seed."""
    done = {(row["part"], row["name"], row["seed"]) for row in read_rows(file)}
    wanted = [(part, name, seed) for seed in SEEDS for part in parts for name in PARTS[part][1]]
    return [job for job in wanted if job not in done]


def run(job: Job, world: Shapes, file: Path) -> dict[str, Any]:
    """Make one row and append it."""
    part, name, seed = job
    began = time.process_time()
    numbers = PARTS[part][0](name, seed, world)
    counts = {"n_fit": len(world.rows("train")), "n_test": len(world.rows("test"))}
    chance = {f"{label}_chance": _largest(values[world.rows("test")]) for label, values in labels(world).items()}
    row = {"part": part, "name": name, "seed": seed, "epochs": EPOCHS, **counts, **chance, **numbers}
    row |= {"cpu_seconds": round(time.process_time() - began, 1), "machine": machine(torch.device("cpu"))}
    append_row(file, row)
    return row


def labels(world: Shapes) -> dict[str, np.ndarray]:
    """Return the (N,) labels of all clips by name."""
    return {"object": world.kind, "action": world.action}


def _largest(labels: np.ndarray) -> float:
    """Return the share of the most frequent class."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def main() -> None:
    """Make the missing rows while there is time, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="blocks, losses, head; default: all")
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
