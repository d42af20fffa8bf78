"""Measure the gain of pretraining for action recognition on SoundingShapes, and its applications.

    python benchmarks/recognition.py                train what is missing for three minutes, then print the tables
    python benchmarks/recognition.py --minutes 60   the same for longer
    python benchmarks/recognition.py --table        print the measurements so far
    python benchmarks/recognition.py --plot FILE    plot accuracy over labels

The pretraining set has 1 920 clips of one to three objects and the 800 clips of the training split, without labels. The
task is the action of the only object of a clip, eight classes, from video; the test set has 400 unseen clips. For each
initialization, two learning rates are tried with 10 % of the labels on validation clips. Rows are appended to --file,
weights are kept in --models, and a run continues where the last one stopped. Seeds set the initial weights, the order
of the clips and the choice of labels.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from objectives import PRECISION, SCENE, read_rows, settings
from recognition_tables import NUM_TEST, draw, tables
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes
from shapes_measures import encode, retrieval_numbers
from short_runs import fit_in_runs, work
from torch import Tensor, nn

from avssl.core.batch import Batch
from avssl.core.whole_file import whole_file
from avssl.data.splits import label_subset
from avssl.engine import LoopSettings, RateGroup, WarmupCosine, create_optimizer, seed_everything
from avssl.evaluation import MinibatchCKA, correspondence, linear_probe, modality_probes
from avssl.evaluation.active_learning import STRATEGIES, label_curve
from avssl.evaluation.classification import top_k_accuracy
from avssl.evaluation.linear_probe import DEFAULT_L2_GRID
from avssl.models import AVModel, Classifier, create_encoder
from avssl.synthetic import ACTIONS, SceneSettings, Split
from avssl.training.build import build_sampling, build_task
from avssl.training.tasks import ClassifyTask, DistillTask, PretrainTask
from avssl.transforms import ClipTransform, estimate_statistics

SEEDS = (0, 1, 2)
TUNING_SEED = 9
FRACTIONS = (0.01, 0.05, 0.1, 0.25, 1.0)
STEPS = {0.01: 150, 0.05: 150, 0.1: 150, 0.25: 240, 1.0: 480}
RATES = {"pretrained": ((3e-3, 0.1), (3e-3, 1.0)), "scratch": ((1e-3, 1.0), (3e-3, 1.0))}
"""Candidates, tried with 10 % of the labels: (learning rate, factor of the encoder's)."""
DISTILL_RATE = 3e-3
PRETRAIN_RATE = 3e-3
PRETRAIN_EPOCHS = 30
DISTILL_EPOCHS = 8
BATCH = 32
STUDENT_WIDTH = 11
OBJECTIVE = {"name": "info_nce", "temperature": 0.1, "pooling": "both"}
BUDGET, ROUNDS = 8, 10
NUM_ACTIONS = len(ACTIONS)

ALONE = SceneSettings(**SCENE | {"object_weights": (1.0,)})
SPLITS = {
    "unlabeled": Split(1920, SceneSettings(**SCENE)),
    "train": Split(800, ALONE),
    "val": Split(200, ALONE),
    "test": Split(NUM_TEST, ALONE),
}
Job = tuple[str, str, float, int]
"""(what, how, fraction of the labels or learning rate, seed)."""


@dataclass
class Bench:
    """Clips, and the places of rows and weights."""

    world: Shapes
    file: Path
    models: Path
    until: float = math.inf
    """Time to stop, by :func:`time.monotonic`."""
    job: str = "none"
    """Name of the current training, under which it is kept when time is up."""

    def save(self, name: str, model: nn.Module) -> None:
        with whole_file(self.models / f"{name}.pt") as temporary:
            torch.save(model.state_dict(), temporary)

    def load(self, name: str, model: nn.Module) -> None:
        model.load_state_dict(torch.load(self.models / f"{name}.pt", weights_only=True))

    # ------------------------------------------------------------ models

    def untrained(self, seed: int) -> PretrainTask:
        """Return the transform with its statistics, and an untrained model."""
        config = settings(OBJECTIVE, PRETRAIN_RATE, 1, seed)
        task = build_task(config)
        first = self.unlabeled()[:256]
        sounds = (task.transform.spectrogram(raw.audio) for raw in fixed_batches(self.world, first, self.sampling))
        task.transform.standardize.set_statistics(*estimate_statistics(sounds))
        return task

    def pretrained(self, seed: int) -> PretrainTask:
        task = self.untrained(seed)
        self.load(f"pretrained-{seed}", task)
        return task

    @property
    def sampling(self) -> Any:
        return build_sampling(settings(OBJECTIVE, PRETRAIN_RATE, 1, 0))

    def unlabeled(self) -> np.ndarray:
        return np.flatnonzero(np.isin(self.world.split, ["unlabeled", "train"]))

    # ------------------------------------------------------------ training and measuring

    def fit(
        self, task: nn.Module, rows: np.ndarray, steps: int, lr: float, seed: int, groups: list[RateGroup] | None = None
    ) -> None:
        """Train ``task.model`` on windows of ``rows``; ``groups`` are its parameters if their rates differ."""
        loader = MemoryLoader(self.world, rows, min(BATCH, len(rows)), seed, self.sampling)
        fit_in_runs(
            task,
            loader,
            create_optimizer(groups or task.model, "adamw", lr=lr, weight_decay=0.05),  # type: ignore[arg-type]
            WarmupCosine(lr, steps, steps // 20),
            LoopSettings(steps, loader.steps_per_epoch, log_every=100, grad_clip=5.0, precision=PRECISION),
            self.models / "unfinished" / self.job,
            self.until,
        )

    def labeled(self, fraction: float, seed: int) -> np.ndarray:
        """Return the training rows with known labels."""
        train = self.world.rows("train")
        return train[label_subset(self.world.ids[train], self.world.action[train], fraction=fraction, seed=seed)]

    def targets(self, rows: np.ndarray) -> Tensor:
        """Return (n,) int64 actions."""
        return torch.from_numpy(
            np.searchsorted(np.unique(self.world.action[self.world.rows("train")]), self.world.action[rows])
        )

    def classify(
        self, task: PretrainTask, fraction: float, steps: int, rates: tuple[float, float], seed: int
    ) -> Classifier:
        """Fine-tune the video encoder on a share of the labels."""
        rows = self.labeled(fraction, seed)
        model = Classifier.of(task.model, NUM_ACTIONS, dropout=0.2)
        groups = [
            RateGroup(model.head_parameters()),
            *(RateGroup(parameters, rates[1]) for _, parameters in model.backbone_parameters()),
        ]
        self.fit(ClassifyTask(task.transform, model, self.targets(rows)), rows, steps, rates[0], seed, groups)
        return model

    @torch.inference_mode()
    def accuracy(self, model: Classifier, transform: ClipTransform, split: str) -> float:
        model.eval()
        transform.eval()
        rows = self.world.rows(split)
        parts = []
        for raw in fixed_batches(self.world, rows, self.sampling):
            with PRECISION.autocast("cpu"):
                parts.append(model(PRECISION.arrange(transform(raw).video)).float())
        return top_k_accuracy(torch.cat(parts).numpy(), self.targets(rows).numpy())

    def features(self, task: PretrainTask) -> dict[str, np.ndarray]:
        every = np.arange(len(self.world.ids))
        return encode(task.model, task.transform, fixed_batches(self.world, every, self.sampling), PRECISION)

    def pretrained_features(self, seed: int) -> dict[str, np.ndarray]:
        """Return :meth:`features` of the pretrained model, cached beside its weights."""
        file = self.models / f"features-{seed}.npz"
        if not file.exists():
            features = self.features(self.pretrained(seed))
            with whole_file(file) as temporary, temporary.open("wb") as kept:
                np.savez(kept, **features)  # type: ignore[arg-type]
        with np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}


# ---------------------------------------------------------------- jobs: one row each


def pretrain(bench: Bench, how: str, lr: float, seed: int) -> dict[str, Any]:
    """Pretrain, and measure frozen features beside those of the untrained model."""
    task = bench.untrained(seed)
    numbers = {f"random_{name}": value for name, value in frozen(bench, task, seed).items()}
    rows = bench.unlabeled()
    bench.fit(task, rows, PRETRAIN_EPOCHS * (len(rows) // BATCH), lr, seed)
    bench.save(f"pretrained-{seed}", task)
    return numbers | frozen(bench, task, seed)


def frozen(bench: Bench, task: PretrainTask, seed: int) -> dict[str, float]:
    """Return linear probes of the action from each modality and both, and retrieval."""
    world, features = bench.world, bench.features(task)
    found = modality_probes(
        features["video"], features["audio"], world.action, world.rows("train"), world.rows("test"), seed=seed
    )
    names = {"video": "probe_video", "audio": "probe_audio", "video + audio": "probe_both"}
    return {names[name]: result.accuracy for name, result in found.items()} | {
        "R@10": retrieval_numbers(features, world.rows("test"))["R@10"]
    }


def tune(bench: Bench, how: str, choice: float, seed: int) -> dict[str, Any]:
    task = bench.pretrained(SEEDS[0]) if how == "pretrained" else bench.untrained(seed)
    lr, factor = rates = RATES[how][int(choice)]
    model = bench.classify(task, 0.1, STEPS[0.1], rates, seed)
    return {"lr": lr, "encoder_factor": factor, "accuracy": bench.accuracy(model, task.transform, "val")}


def finetune(bench: Bench, how: str, fraction: float, seed: int) -> dict[str, Any]:
    task = bench.pretrained(seed) if how == "pretrained" else bench.untrained(seed)
    lr, factor = rates = best_rates(read_rows(bench.file), how)
    model = bench.classify(task, fraction, STEPS[fraction], rates, seed)
    if fraction == 1.0:
        bench.save(f"{how}-classifier-{seed}", model)
    return {
        "accuracy": bench.accuracy(model, task.transform, "test"),
        "lr": lr,
        "encoder_factor": factor,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def probe(bench: Bench, how: str, fraction: float, seed: int) -> dict[str, Any]:
    """Return a linear probe of the frozen video features on the same labels."""
    features, action = bench.pretrained_features(seed)["video"], bench.world.action
    rows, test = bench.labeled(fraction, seed), bench.world.rows("test")
    grid = DEFAULT_L2_GRID if len(rows) > NUM_ACTIONS else (1e-2,)  # one clip a class leaves none for validation
    result = linear_probe(features[rows], action[rows], features[test], action[test], l2_grid=grid, seed=seed)
    return {"accuracy": result.accuracy, "labels": len(rows)}


def distill(bench: Bench, how: str, lr: float, seed: int) -> dict[str, Any]:
    """Train a student with at most a quarter of the parameters, by distillation or on labels alone."""
    task, world = bench.untrained(seed), bench.world
    teacher = Classifier.of(task.model, NUM_ACTIONS)
    bench.load(f"pretrained-classifier-{seed}", teacher)
    seed_everything(seed)
    student = Classifier(create_encoder("small_video", width=STUDENT_WIDTH), num_classes=NUM_ACTIONS, dropout=0.0)
    numbers = {"parameters": sum(p.numel() for p in student.parameters())}
    rows = bench.unlabeled()
    steps = DISTILL_EPOCHS * (len(rows) // BATCH)
    if how == "taught":
        bench.fit(DistillTask(task.transform, student, teacher), rows, steps, lr, seed)
    else:
        train = world.rows("train")
        bench.fit(ClassifyTask(task.transform, student, bench.targets(train)), train, steps, lr, seed)
    return numbers | {"accuracy": bench.accuracy(student, task.transform, "test")}


def active(bench: Bench, how: str, lr: float, seed: int) -> dict[str, Any]:
    """Return a strategy's curve: a linear classifier of frozen features whose labels are chosen in rounds."""
    world, features = bench.world, bench.pretrained_features(seed)
    two = {name: features[name] for name in ("video", "audio")}
    embeddings = {name: features[f"{name}_embedding"] for name in two}
    train, test = world.rows("train"), world.rows("test")
    curve = label_curve(
        how, two, world.action, train, test, budget=BUDGET, rounds=ROUNDS, embeddings=embeddings, seed=seed
    )
    return {
        "labels": [point.num_labels for point in curve],
        "accuracies": [point.accuracy for point in curve],
        "mean_accuracy": statistics.mean(point.accuracy for point in curve),
    }


def similarity(bench: Bench, how: str, lr: float, seed: int) -> dict[str, Any]:
    """Run CKA's sanity check between this seed and the next: are corresponding stages the most similar?"""
    other = SEEDS[(SEEDS.index(seed) + 1) % len(SEEDS)]
    make: Callable[[int], PretrainTask] = bench.pretrained if how == "pretrained" else bench.untrained
    models = {name: make(number) for name, number in (("a", seed), ("b", other))}
    found = MinibatchCKA()
    for raw in fixed_batches(bench.world, bench.world.rows("test"), bench.sampling):
        found.update(dict(_stages(models, raw)))
    numbers: dict[str, Any] = {"other_seed": other, "clips": found.num_clips}
    for modality in ("video", "audio"):
        first, second = (
            [i for i, name in enumerate(found.names) if name.startswith(f"{model} {modality} ")] for model in models
        )
        numbers[f"{modality}_stages"] = len(first)
        for kernel in ("linear", "rbf"):
            block = found.matrix(kernel)[np.ix_(first, second)]  # type: ignore[arg-type]
            numbers[f"{modality}_{kernel}"] = (correspondence(block) + correspondence(block.T)) / 2
    return numbers


@torch.inference_mode()
def _stages(models: dict[str, PretrainTask], raw: Batch) -> Iterator[tuple[str, Tensor]]:
    for name, task in models.items():
        task.eval()
        model: AVModel = task.model
        batch: Batch = task.transform(raw)
        for modality, encoder, x in (
            ("video", model.video_encoder, batch.video),
            ("audio", model.audio_encoder, batch.audio),
        ):
            for stage, value in encoder.forward_stages(x).items():
                yield f"{name} {modality} {stage}", value.flatten(1).float()


JOBS: dict[str, Callable[[Bench, str, float, int], dict[str, Any]]] = {
    "pretrain": pretrain,
    "tune": tune,
    "finetune": finetune,
    "probe": probe,
    "distill": distill,
    "active": active,
    "similarity": similarity,
}


def jobs() -> list[Job]:
    """Return the names of all rows, each after the rows it needs."""
    found: list[Job] = [("pretrain", "info_nce", PRETRAIN_RATE, SEEDS[0])]
    found += [("tune", how, choice, TUNING_SEED) for how, tried in RATES.items() for choice in range(len(tried))]
    for seed in SEEDS:
        found += [("pretrain", "info_nce", PRETRAIN_RATE, seed)] if seed != SEEDS[0] else []
        found += [("finetune", how, share, seed) for share in FRACTIONS for how in ("pretrained", "scratch")]
        found += [("probe", "pretrained", share, seed) for share in FRACTIONS]
        found += [("active", how, 0.0, seed) for how in STRATEGIES]
    found += [("similarity", how, 0.0, seed) for seed in SEEDS for how in ("pretrained", "untrained")]
    return [*found, *(("distill", how, DISTILL_RATE, seed) for how in ("taught", "labels") for seed in SEEDS)]


def done(rows: list[dict[str, Any]]) -> set[Job]:
    return {(row["job"], row["how"], row["value"], row["seed"]) for row in rows}


def best_rates(rows: list[dict[str, Any]], how: str) -> tuple[float, float]:
    tried = [row for row in rows if row["job"] == "tune" and row["how"] == how]
    return RATES[how][int(max(tried, key=lambda row: row["accuracy"])["value"])]


def run(bench: Bench, job: Job) -> dict[str, Any]:
    """Make one row and append it."""
    name, how, value, seed = job
    began = time.perf_counter()
    seed_everything(seed)
    named = replace(bench, job=f"{name}-{how}-{value:g}-{seed}")
    numbers = JOBS[name](named, how, value, seed)
    about = {"threads": torch.get_num_threads(), "torch": torch.__version__, "seconds": time.perf_counter() - began}
    row = {"job": name, "how": how, "value": value, "seed": seed} | numbers | about
    with bench.file.open("a") as out:
        out.write(json.dumps(row) + "\n")
    return row


def main() -> None:
    """Make the missing rows while there is time, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("recognition.jsonl"))
    parser.add_argument("--clips", type=Path, default=Path("recognition.clips"), help="folder of the rendered clips")
    parser.add_argument("--models", type=Path, default=Path("recognition.models"), help="folder of the weights")
    parser.add_argument("--minutes", type=float, default=3.0, help="an unfinished training continues in the next run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the measurements so far")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="only plot accuracy over labels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    until = time.monotonic() + 60 * options.minutes
    if options.plot:
        draw(read_rows(options.file), options.plot)
        return
    if not options.table:
        sampling = build_sampling(settings(OBJECTIVE, PRETRAIN_RATE, 1, 0))
        bench = Bench(shapes(options.clips, SPLITS, 1, sampling), options.file, options.models, until)
        work(lambda: [job for job in jobs() if job not in done(read_rows(options.file))], partial(run, bench), until)
    print(tables(read_rows(options.file)))


if __name__ == "__main__":
    main()
