"""The verb ``finetune``: a classifier of labeled videos on pretrained encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avssl.config import ConfigError, FinetuneConfig, base_of, config_from_dict
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.data.splits import Division
from avssl.downstream.finetuning import ClassifierRun, fold_rows, run_fold, run_folds, summary_text
from avssl.hub.classifier import create_classifier
from avssl.hub.pretrained import PretrainedModel, from_pretrained
from avssl.models import Classifier
from avssl.training.build import check_options, load_public_weights
from avssl.training.run_directory import default_directory
from avssl.training.setup import set_statistics
from avssl.training.tasks import ClassifyTask, balanced_weights
from avssl.transforms import ClipTransform

SHORT_NAMES = {"source": "data.source", "--checkpoint": "train.checkpoint"}
FIRST = (
    "out",
    "resume",
    "overwrite",
    "fold",
    "labels.label_column",
    "labels.split_column",
    "labels.split_shares",
    "labels.unknown_classes",
    "labels.per_class",
    "labels.fraction",
    "classifier.inputs",
    "optim.lr",
    "optim.epochs",
    "optim.batch_size",
    "train.seed",
    "train.device",
)


def settings(source: Path | str, checkpoint: Path | str, tree: dict[str, Any] | None = None) -> FinetuneConfig:
    """Return the settings of a run: those of ``tree``, over those of the checkpoint, over the defaults.

    Args:
        source: The manifest, or a folder of class folders.
        checkpoint: A run, its weights folder or hf-hub:OWNER/NAME; ``"none"`` starts from random weights.
        tree: Nested settings, as in a YAML file.
    """
    config = config_from_dict(tree or {}, "", FinetuneConfig, _base(str(checkpoint)))
    data, train = replace(config.data, source=str(source)), replace(config.train, checkpoint=str(checkpoint))
    return replace(config, data=data, train=train)


def finetune(
    config: FinetuneConfig,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    overwrite: bool = False,
    fold: str | None = None,
    progress: bool = True,
) -> tuple[Path, dict[str, Any]]:
    """Train a classifier on labeled rows, from a checkpoint or from scratch.

    The source is a manifest with labels, or a folder of class folders (``FOLDER/dog/1.mp4``), whose files are checked
    and whose recordings are divided into train, val and test as by ``avssl index --labels folders``.

    Encoders and classifier are trained on one split and tested on another, once per split or fold. ``--checkpoint
    none`` starts from random weights: the baseline. The checkpoint determines sampling, transform and encoders unless
    they are set here. Continue an interrupted run with ``--resume RUN``. Under ``torchrun`` all processes train one
    model together.

    Args:
        config: Every setting; :func:`settings` makes them in Python.
        out: Run directory; default: runs/NAME-finetune.
        resume: Continue the run in this directory with its own settings.
        overwrite: Replace an earlier run in the run directory.
        fold: Run only this split or fold; the others can follow with ``--resume``.
        progress: Show progress bars.

    Returns:
        The run directory and the contents of its ``results.json``: ``protocol``, ``mean`` and ``sd`` over the folds,
        and ``folds``, one dict per fold.

    Raises:
        ConfigError: If a setting does not fit the checkpoint or the rows.
        ManifestError: If a folder has no class folders that can be trained on, or a column,
            a split, a fold or the rows of a class are missing.
        ValueError: If a class has fewer labels than requested, or the classifier returns NaN.
        RunDirectoryError: If ``out`` must not be written, or the run cannot be continued.
        Interruption: If a signal other than Ctrl-C asked to stop; everything is saved.
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the training rows cannot be read.
    """
    check_settings(config)
    pretrained = _pretrained(config)

    def run_one(
        run: ClassifierRun[FinetuneConfig], division: Division, device: torch.device
    ) -> ClassifierRun[FinetuneConfig]:
        rows = fold_rows(run, division)
        model, transform = create_classifier(run.config, len(run.labels.classes))
        _load_checkpoint(model, transform, pretrained, run.config, rows.train)
        task = create_task(run.config, model, transform, rows.train_targets)
        return run_fold(run, division, rows, task, device, progress=progress)

    folder = resume or out or default_directory(config.data.source, "-finetune")
    path, summary = run_folds(
        config,
        folder,
        "finetune",
        run_one,
        fold=fold,
        resume=resume is not None,
        overwrite=overwrite,
        progress=progress,
        reads=(config.train.checkpoint,),
    )
    if distributed.is_main():
        print(summary_text(summary))
    return path, summary


# ---------------------------------------------------------------- a fold


def create_task(config: FinetuneConfig, model: Classifier, transform: ClipTransform, targets: Tensor) -> ClassifyTask:
    """Return the task of a fold, which holds its loss."""
    chosen = config.classifier
    weights = balanced_weights(targets, model.num_classes) if chosen.class_weights == "balanced" else None
    return ClassifyTask(
        transform,
        model,
        targets,
        label_smoothing=chosen.label_smoothing,
        class_weights=weights,
        mixup_alpha=chosen.mixup,
        frozen_batch_norm=chosen.frozen_batch_norm,
    )


def _load_checkpoint(
    model: Classifier,
    transform: ClipTransform,
    pretrained: PretrainedModel | None,
    config: FinetuneConfig,
    manifest: Manifest,
) -> None:
    """Load the checkpoint's encoders, used layers of its heads and, for the same spectrogram, its statistics.

    Those of another spectrogram are estimated from the rows.
    """
    if pretrained is None:
        load_public_weights(*model.encoders.values())
    else:
        for name, encoder in model.encoders.items():
            encoder.load_state_dict(getattr(pretrained.model, f"{name}_encoder").state_dict())
        for name, projection in model.projections.items():
            head = getattr(pretrained.model, f"{name}_head").first_layers(config.classifier.from_head_layer)
            projection.load_state_dict(head.state_dict())
        theirs = pretrained.config
        spectrogram = (config.transform.spectrogram, config.sampling.sample_rate_hz)
        if spectrogram == (theirs.transform.spectrogram, theirs.sampling.sample_rate_hz):
            transform.load_state_dict(pretrained.transform.state_dict())
            return
    assert transform.standardize is not None, "build_transform always sets it"
    if config.classifier.inputs == "video":  # unused, and the files may have no audio
        transform.standardize.set_statistics(*(torch.full_like(transform.standardize.mean, x) for x in (0.0, 1.0)))
    else:
        set_statistics(config.network(), manifest, transform)


# ---------------------------------------------------------------- settings and checkpoint


def base_settings(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of the checkpoint, which the command line and its file override."""
    return _base(given.get("train.checkpoint"))


def check_settings(config: FinetuneConfig) -> None:
    """Raise the error of a setting that cannot be built."""
    check_options(config.network())


def _base(checkpoint: str | None) -> dict[str, Any] | None:
    return None if checkpoint in (None, "", "none") else base_of(from_pretrained(checkpoint).config)


def _pretrained(config: FinetuneConfig) -> PretrainedModel | None:
    """Load the checkpoint, which must have the encoders that the settings describe; None without one."""
    name = config.train.checkpoint
    if not name:
        raise ConfigError(
            "--checkpoint is required: a run, its weights folder or hf-hub:OWNER/NAME; none for random weights."
        )
    if name == "none":
        if config.classifier.frozen_batch_norm:
            raise ConfigError("classifier.frozen_batch_norm needs a checkpoint; random weights have no statistics yet.")
        return None
    pretrained = from_pretrained(name)
    for modality in ("video", "audio"):
        ours, theirs = (getattr(each.model, modality) for each in (config, pretrained.config))
        if config.classifier.inputs in (modality, "both") and ours != theirs:
            raise ConfigError(
                f"model.{modality} is {_named(ours)}, but {name} holds weights of {_named(theirs)}. "
                "Leave out the model's settings, or start from random weights with --checkpoint none."
            )
    _check_head(config, pretrained)
    return pretrained


def _check_head(config: FinetuneConfig, pretrained: PretrainedModel) -> None:
    """Raise ConfigError if the classifier starts from a layer of another head, or one that the head does not have."""
    layer, head = config.classifier.from_head_layer, pretrained.model.video_head
    if layer and config.model.head != pretrained.config.model.head:
        raise ConfigError(
            f"model.head is {_named(config.model.head)}, but {config.train.checkpoint} holds weights of "
            f"{_named(pretrained.config.model.head)}. Leave out the model's settings, or classifier.from_head_layer."
        )
    if layer > head.depth:
        raise ConfigError(
            f"classifier.from_head_layer ({layer}): the projection head of {config.train.checkpoint} has {head.depth} "
            f"layers; take one from 0 to {head.depth}."
        )


def _named(choice: Any) -> str:
    return f"{choice.name} ({', '.join(f'{key} {value}' for key, value in choice.options().items())})"
