"""A classifier, trained on the rows of a manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from avssl.config import Cosine, FinetuneConfig, FinetuneOptimConfig, Steps
from avssl.core.manifest import Manifest
from avssl.data.ledger import Failure
from avssl.engine import (
    Checkpointer,
    FitResult,
    LoopSettings,
    MetricsLog,
    Precision,
    RateGroup,
    Schedule,
    WarmupCosine,
    WarmupSteps,
    create_optimizer,
    fit,
    seed_everything,
)
from avssl.models import Classifier
from avssl.training.build import build_loader


@dataclass(frozen=True)
class Plan:
    """The length of a run in steps."""

    steps_per_epoch: int
    """Of the loader."""
    stretch: int
    """Every number of epochs is multiplied by it."""
    head_steps: int
    """First steps, in which the classifier alone learns."""
    total_steps: int
    """All steps."""

    @classmethod
    def of(cls, optim: FinetuneOptimConfig, steps_per_epoch: int) -> Plan:
        """The shortest run of whole multiples of the epochs that has ``min_steps``."""
        epochs = optim.head_epochs + optim.epochs
        stretch = max(1, math.ceil(optim.min_steps / (epochs * steps_per_epoch)))
        unit = stretch * steps_per_epoch
        return cls(steps_per_epoch, stretch, optim.head_epochs * unit, epochs * unit)

    @property
    def epochs(self) -> int:
        """Epochs over the data."""
        return self.total_steps // self.steps_per_epoch


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    plan: Plan
    """What was planned, and done."""
    result: FitResult
    """Steps, clips and time."""
    failures: list[Failure]
    """Training rows that could not be read."""


def train_classifier(
    task: nn.Module,
    manifest: Manifest,
    config: FinetuneConfig,
    folder: Path | str,
    *,
    device: torch.device,
    progress: bool = True,
) -> Trained:
    """Trains a task's classifier on every row, from start to end or from the newest checkpoint in the folder.

    Under ``torchrun`` every process calls it, and they train one model together.

    Args:
        task: A :class:`~avssl.training.tasks.ClassifyTask` or another engine task whose ``model`` is a
            :class:`~avssl.models.Classifier`; moved to ``device``.
        manifest: The rows; what the task knows of rows is by their place in it.
        config: ``data``, ``sampling``, ``optim``, ``schedule`` and ``train`` are read. The batch must fit the
            rows, and the precision be decided.
        folder: Of ``checkpoints/`` and ``metrics.jsonl``.
        device: Where it runs.
        progress: Show a bar.

    Raises:
        Interrupted: If it was sent SIGTERM or SIGUSR1, once everything is saved.
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the rows cannot be read.
        RuntimeError: If the loss becomes NaN.
    """
    folder, train = Path(folder), config.train
    assert train.precision != "auto", "resolved before training"
    assert train.memory_format != "auto", "resolved before training"
    seed_everything(train.seed)  # dropout draws from it; a resume continues where the generator was
    loader = build_loader(config.network(), manifest, device, config.data.max_bad_fraction, config.classifier.inputs)
    plan = Plan.of(config.optim, loader.steps_per_epoch)
    task.to(device)
    model, optim = task.model, config.optim
    assert isinstance(model, Classifier), "what is trained here"
    result = fit(
        task,
        loader,
        create_optimizer(
            rate_groups(model, optim, plan.head_steps),
            optim.name,
            lr=optim.lr,
            weight_decay=optim.weight_decay,
            betas=optim.betas,
        ),
        schedule(config, plan),
        settings=LoopSettings(
            plan.total_steps,
            plan.steps_per_epoch,
            log_every=train.log_every,
            checkpoint_every=train.checkpoint_every_steps,
            grad_clip=optim.grad_clip,
            device=device,
            precision=Precision(train.precision, train.memory_format),
        ),
        checkpointer=Checkpointer(folder / "checkpoints"),
        metrics_log=MetricsLog(folder),
        progress=progress,
        resume=True,  # a fresh run has no checkpoint
        extra={"manifest_hash": manifest.hash()},
    )
    loader.share_bad_files()
    return Trained(plan, result, list(loader.ledger))


def rate_groups(model: Classifier, optim: FinetuneOptimConfig, head_steps: int) -> list[RateGroup]:
    """The classifier at its own rate, and every stage of the encoders at ``layer_decay`` times that of the one above.

    The last stages have ``lr``. Before ``head_steps`` the classifier learns alone.
    """
    head = RateGroup(model.head_parameters(), (optim.head_lr or optim.lr) / optim.lr)
    stages = [
        RateGroup(parameters, optim.layer_decay**depth, head_steps) for depth, parameters in model.backbone_parameters()
    ]
    return [head, *stages]


def schedule(config: FinetuneConfig, plan: Plan) -> Schedule:
    """The rate of the encoders' last stages by step."""
    unit, optim, chosen = plan.steps_per_epoch * plan.stretch, config.optim, config.schedule
    warmup = optim.warmup_epochs * unit
    if isinstance(chosen, Steps):
        milestones = tuple(plan.head_steps + number * unit for number in chosen.at_epochs)
        return WarmupSteps(optim.lr, milestones, chosen.factor, warmup)
    assert isinstance(chosen, Cosine), "there are two schedules"
    return WarmupCosine(optim.lr, plan.total_steps, min(warmup, plan.total_steps), chosen.final_lr)
