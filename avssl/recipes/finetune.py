"""``avssl finetune MANIFEST --checkpoint RUN``: a classifier of labeled videos on pretrained encoders.

Encoders and classifier learn from the rows of one split and are tested on another, once for each split or
fold. ``--checkpoint none`` begins from random weights: the baseline. Sampling, transform and encoders are
those of the checkpoint where nothing else is said. A run that was stopped is continued with ``--resume RUN``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from avssl.config import ConfigError, FinetuneConfig, base_of, config_from_dict, new_parser, parse_command, read_yaml
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.data.splits import Division
from avssl.downstream.finetuning import ClassifierRun, fold_rows, run_fold, run_folds, summary_text
from avssl.hub.classifier import create_classifier
from avssl.hub.pretrained import Pretrained, from_pretrained
from avssl.models import Classifier
from avssl.training.run_directory import RunDirectory, default_directory, refuse_changes, resumed_words, word_after
from avssl.training.setup import set_statistics
from avssl.training.tasks import ClassifyTask, balanced_weights
from avssl.transforms import ClipTransform


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`finetune`."""
    parser = new_parser("avssl finetune", __doc__)
    parser.usage = "avssl finetune MANIFEST --checkpoint RUN|none [--out RUN] [--config FILE] [settings]"
    parser.add_argument("source", nargs="?", metavar="MANIFEST", help="Rows with labels and splits or folds.")
    parser.add_argument(
        "--checkpoint", metavar="RUN", help='A run, its weights or a release; "none" for random weights.'
    )
    parser.add_argument("-o", "--out", metavar="RUN", help="The run folder; runs/NAME-finetune by default.")
    parser.add_argument("--resume", metavar="RUN", help="Continue the run in this folder with its own settings.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an earlier run in the run folder.")
    parser.add_argument("--fold", metavar="NAME", help="Only this split or fold; the others may follow by --resume.")
    parser.add_argument("--labels-per-class", metavar="N", type=int, help="As --labels.per_class.")
    parser.add_argument("--label-fraction", metavar="X", type=float, help="As --labels.fraction.")
    words, resumed = resumed_words(argv, FinetuneConfig)
    options, config = parse_command(parser, words, FinetuneConfig, None if resumed else _base(_checkpoint(words)))
    config = _with_options(config, options)
    if resumed:
        refuse_changes(RunDirectory(resumed).read_config(FinetuneConfig), config)
    _, summary = finetune(
        config, resumed or options.out, fold=options.fold, resume=bool(resumed), overwrite=options.overwrite
    )
    if distributed.is_main():
        print(summary_text(summary))
    return 0


def settings(source: Path | str, checkpoint: Path | str, tree: dict[str, Any] | None = None) -> FinetuneConfig:
    """The settings of a run from Python: those of ``tree``, over those of the checkpoint, over the defaults.

    Args:
        source: The manifest.
        checkpoint: A run, its weights folder or a release; ``"none"`` begins from random weights.
        tree: Nested settings, as in a YAML file.
    """
    config = config_from_dict(tree or {}, "", FinetuneConfig, _base(str(checkpoint)))
    data, train = replace(config.data, source=str(source)), replace(config.train, checkpoint=str(checkpoint))
    return replace(config, data=data, train=train)


def finetune(
    config: FinetuneConfig,
    out: Path | str | None = None,
    *,
    fold: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> tuple[Path, dict[str, Any]]:
    """Trains and tests a classifier on every fold of ``config.data.source``.

    Under ``torchrun`` every process calls it, and they train one model together.

    Args:
        config: Every setting, such as :func:`settings` makes.
        out: The run folder; ``runs/NAME-finetune`` by default.
        fold: Only this one.
        resume: Continue the run in ``out``: folds that are done stay, the one that was interrupted goes on
            from its newest checkpoint.
        overwrite: Replace an earlier run in ``out``.
        progress: Show bars.

    Returns:
        The run folder, and what its ``results.json`` holds: ``protocol``, ``mean`` and ``sd`` over the
        folds, and ``folds``, a dict each.

    Raises:
        ConfigError: If a setting does not fit the checkpoint or the rows.
        ManifestError: If a column, a split, a fold or the rows of a class are missing.
        ValueError: If a class has fewer labels than asked for, or the classifier gives NaN.
        RunDirectoryError: If ``out`` must not be written, or cannot be continued.
        Interrupted: If it was sent SIGTERM or SIGUSR1, once everything is saved.
        TooManyBadFiles: If more than ``data.max_bad_fraction`` of the training rows cannot be read.
    """
    pretrained = _pretrained(config)

    def run_one(
        run: ClassifierRun[FinetuneConfig], division: Division, device: torch.device
    ) -> ClassifierRun[FinetuneConfig]:
        rows = fold_rows(run, division)
        model, transform = create_classifier(run.config, len(run.labels.classes))
        _take_over(model, transform, pretrained, run.config, rows.train)
        task = create_task(run.config, model, transform, rows.train_targets)
        return run_fold(run, division, rows, task, device, progress=progress)

    folder = out or default_directory(config.data.source, "-finetune")
    return run_folds(config, folder, "fine-tuning", run_one, fold=fold, resume=resume, overwrite=overwrite)


# ---------------------------------------------------------------- a fold


def create_task(config: FinetuneConfig, model: Classifier, transform: ClipTransform, targets: Tensor) -> ClassifyTask:
    """The loss of a fold."""
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


def _take_over(
    model: Classifier,
    transform: ClipTransform,
    pretrained: Pretrained | None,
    config: FinetuneConfig,
    manifest: Manifest,
) -> None:
    """Weights of the checkpoint's encoders; statistics of its spectrogram where that is the same, else of the rows."""
    if pretrained is not None:
        for name, encoder in model.encoders.items():
            encoder.load_state_dict(getattr(pretrained.model, f"{name}_encoder").state_dict())
        theirs = pretrained.config
        heard = (config.transform.spectrogram, config.sampling.sample_rate_hz)
        if heard == (theirs.transform.spectrogram, theirs.sampling.sample_rate_hz):
            transform.load_state_dict(pretrained.transform.state_dict())
            return
    assert transform.standardize is not None, "build_transform always gives it"
    if config.classifier.inputs == "video":  # what it hears does not matter, and there may be no sound
        transform.standardize.set_statistics(*(torch.full_like(transform.standardize.mean, x) for x in (0.0, 1.0)))
    else:
        set_statistics(config.network(), manifest, transform)


# ---------------------------------------------------------------- settings and checkpoint


def _checkpoint(words: Sequence[str]) -> str | None:
    """What is fine-tuned, as the command line or else its file says."""
    path = word_after(words, "--config")
    in_file = read_yaml(path).get("train") if path else None
    return (
        word_after(words, "--checkpoint")
        or word_after(words, "--train.checkpoint")
        or (in_file.get("checkpoint") if isinstance(in_file, dict) else None)
    )


def _base(checkpoint: str | None) -> dict[str, Any] | None:
    """What a checkpoint says of settings."""
    return None if checkpoint in (None, "", "none") else base_of(from_pretrained(checkpoint).config)


def _with_options(config: FinetuneConfig, options: Namespace) -> FinetuneConfig:
    """The settings with the verb's own options in them."""
    labels = config.labels
    if options.labels_per_class is not None or options.label_fraction is not None:
        try:
            labels = replace(labels, per_class=options.labels_per_class, fraction=options.label_fraction)
        except ValueError as error:
            raise ConfigError(f"--labels-per-class, --label-fraction: labels.{error}") from error
    data = replace(config.data, source=options.source or config.data.source)
    train = replace(config.train, checkpoint=options.checkpoint or config.train.checkpoint)
    return replace(config, data=data, labels=labels, train=train)


def _pretrained(config: FinetuneConfig) -> Pretrained | None:
    """The checkpoint, which must have the encoders that the settings describe; None without one."""
    name = config.train.checkpoint
    if not name:
        raise ConfigError("--checkpoint is needed: a run, its weights folder or a release; none for random weights.")
    if name == "none":
        if config.classifier.frozen_batch_norm:
            raise ConfigError("classifier.frozen_batch_norm holds statistics, and random weights have none yet.")
        return None
    pretrained = from_pretrained(name)
    for modality in ("video", "audio"):
        ours, theirs = (getattr(of.model, modality) for of in (config, pretrained.config))
        if config.classifier.inputs in (modality, "both") and ours != theirs:
            raise ConfigError(
                f"model.{modality} is {_named(ours)}, but {name} holds weights of {_named(theirs)}. "
                "Leave out the model's settings, or begin from random weights with --checkpoint none."
            )
    return pretrained


def _named(choice: Any) -> str:
    return f"{choice.name} ({', '.join(f'{key} {value}' for key, value in choice.options().items())})"
