"""Train a classifier on the rows of a manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from avssl.config import Cosine, FinetuneConfig, FinetuneOptimConfig, Steps
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.data.ledger import Failure
from avssl.engine import (
    Checkpointer,
    FitResult,
    LoopSettings,
    Precision,
    RateGroup,
    Schedule,
    Task,
    WarmupCosine,
    WarmupSteps,
    create_optimizer,
    fit,
    seed_everything,
)
from avssl.engine.sharding import shard, whole
from avssl.hub.classifier import create_classifier
from avssl.models import Classifier
from avssl.models.undecayed import undecayed
from avssl.training.build import build_loader
from avssl.training.tracking import create_log


@dataclass(frozen=True)
class TrainingLength:
    """Length of a training in steps."""

    steps_per_epoch: int
    epoch_factor: int
    """Factor on every number of epochs, so that few rows still give ``min_steps``."""
    head_steps: int
    """First steps, in which only the classifier head is trained."""
    total_steps: int

    @classmethod
    def from_config(cls, optim: FinetuneOptimConfig, steps_per_epoch: int) -> TrainingLength:
        """Multiply the epochs by the smallest whole factor that gives ``min_steps``."""
        epochs = optim.head_epochs + optim.epochs
        factor = max(1, math.ceil(optim.min_steps / (epochs * steps_per_epoch)))
        unit = factor * steps_per_epoch
        return cls(steps_per_epoch, factor, optim.head_epochs * unit, epochs * unit)

    @property
    def epochs(self) -> int:
        """Epochs over the training rows."""
        return self.total_steps // self.steps_per_epoch


@dataclass(frozen=True)
class TrainingResult:
    """Length and cost of a finished training."""

    length: TrainingLength
    fit: FitResult
    """Steps, clips and time."""
    failures: list[Failure]
    """Training rows that could not be read."""


def train_classifier(
    task: Task,
    manifest: Manifest,
    config: FinetuneConfig,
    folder: Path | str,
    *,
    device: torch.device,
    progress: bool = True,
) -> TrainingResult:
    """Train a task's classifier on every row, starting from the newest checkpoint in the folder if there is one.

    Under ``torchrun`` every process calls it, and they train one model together.

    Args:
        task: A :class:`~avssl.training.tasks.ClassifyTask` or another engine task whose ``model`` is a
            :class:`~avssl.models.Classifier`; moved to ``device``. It ends with a whole one, also if that is trained in
            shards.
        manifest: The rows, in the order of the task's targets.
        config: The batch must fit the rows, and the precision must be resolved.
        folder: Directory of ``checkpoints/`` and ``metrics.jsonl``.

    Raises:
        Interruption: After a signal other than Ctrl-C, once everything is saved.
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the rows cannot be read.
        RuntimeError: If the loss becomes NaN.
    """
    folder, train = Path(folder), config.train
    seed_everything(train.seed)  # dropout draws from it; a resume continues where the generator was
    loader = build_loader(config.network(), manifest, device, config.data.max_bad_fraction, config.classifier.inputs)
    length = TrainingLength.from_config(config.optim, loader.steps_per_epoch)
    precision, mesh = Precision.resolved(train.precision, train.memory_format), None
    if train.parallel == "fsdp" and distributed.world_size() > 1:
        mesh = shard(task, device, precision)  # unit by unit, so that no device ever holds the whole classifier
    task.to(device)
    model, optim = task.model, config.optim
    assert isinstance(model, Classifier), "the task has a classifier"
    result = fit(
        task,
        loader,
        create_optimizer(
            rate_groups(model, optim, length.head_steps),
            optim.name,
            lr=optim.lr,
            weight_decay=optim.weight_decay,
            betas=optim.betas,
            undecayed=() if optim.decay_tokens else undecayed(model),
        ),
        build_schedule(config, length),
        settings=LoopSettings(
            length.total_steps,
            length.steps_per_epoch,
            log_every=train.log_every,
            checkpoint_every=train.checkpoint_every_steps,
            grad_clip=optim.grad_clip,
            device=device,
            precision=precision,
            compile=train.compile,
        ),
        checkpointer=Checkpointer(folder / "checkpoints", model=task.model, mesh=mesh),
        metrics_log=create_log(config, folder, folder.name),
        progress=progress,
        resume=True,  # a fresh run has no checkpoint
        extra={"manifest_hash": manifest.hash()},
    )
    if mesh is not None:
        state = whole(model.state_dict(), on_every_rank=True)
        task.model, _ = create_classifier(config, model.num_classes)
        task.model.load_state_dict(state)
        task.to(device)
    loader.share_bad_files()
    return TrainingResult(length, result, list(loader.ledger))


def rate_groups(model: Classifier, optim: FinetuneOptimConfig, head_steps: int) -> list[RateGroup]:
    """Group the parameters by learning rate, relative to ``lr``, the rate of the encoders' last stages.

    The classifier head has its own rate; each earlier stage has ``layer_decay`` times the rate of the next
    one. Only the head is trained in the first ``head_steps``.
    """
    head = RateGroup(model.head_parameters(), (optim.head_lr or optim.lr) / optim.lr)
    stages = [
        RateGroup(parameters, optim.layer_decay**depth, head_steps) for depth, parameters in model.backbone_parameters()
    ]
    return [head, *stages]


def build_schedule(config: FinetuneConfig, length: TrainingLength) -> Schedule:
    """Return the learning rate of the encoders' last stages by step."""
    unit, optim, settings = length.steps_per_epoch * length.epoch_factor, config.optim, config.schedule
    warmup = optim.warmup_epochs * unit
    if isinstance(settings, Steps):
        milestones = tuple(length.head_steps + epoch * unit for epoch in settings.at_epochs)
        return WarmupSteps(optim.lr, milestones, settings.factor, warmup)
    assert isinstance(settings, Cosine), "there are two schedules"
    return WarmupCosine(optim.lr, length.total_steps, min(warmup, length.total_steps), settings.final_lr)
