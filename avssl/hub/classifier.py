"""Releases of fine-tuned classifiers, with their class names (:mod:`avssl.hub.release`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from avssl.config import FinetuneConfig, config_from_dict, to_dict
from avssl.core.checkpoint_names import HubName, parse_checkpoint
from avssl.core.errors import InputError
from avssl.evaluation.calibration import Calibration
from avssl.hub.model_input import check_input, describe_input
from avssl.hub.release import (
    CLASSIFIER,
    CONFIG_NAME,
    HubError,
    check_tensors,
    find_release,
    load_tensors,
    read_content,
    write_release,
)
from avssl.hub.tensors import describe_bases, stored_tensors
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.models import Classifier, create_classifier_loss
from avssl.training.build import build_model, build_sampling, build_transform
from avssl.transforms import ClipTransform


def create_classifier(
    config: FinetuneConfig, num_classes: int, seed: int | None = None
) -> tuple[Classifier, ClipTransform]:
    """Create an untrained classifier and its transform on the CPU, without changing the state of any generator.

    ``seed`` sets the initial weights; None takes ``train.seed``.
    """
    seed = config.train.seed if seed is None else seed
    return _build(config, num_classes, seed), build_transform(config.network(), crop=config.test.crop)


def _build(config: FinetuneConfig, num_classes: int, seed: int = 0) -> Classifier:
    pair, chosen = build_model(config.network(), seed), config.classifier
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Classifier.of(
            pair,
            num_classes,
            inputs=chosen.inputs,
            fusion=chosen.fusion,
            dropout=chosen.dropout,
            loss=create_classifier_loss(config.loss.name, **config.loss.options()),
            from_head_layer=chosen.from_head_layer,
        )


def save_classifier(
    folder: Path | str,
    model: Classifier,
    transform: ClipTransform,
    classes: Sequence[str],
    config: FinetuneConfig,
    about: Mapping[str, Any] | None = None,
    *,
    calibration: Calibration | None = None,
) -> Path:
    """Write a release, replacing an earlier one in the same folder.

    Args:
        folder: Output folder, created if missing.
        model: Classifier on any device.
        transform: Transform with spectrogram statistics.
        classes: Name of each column of the logits.
        about: Facts for the card, such as ``{"top1": 0.9}``.
        calibration: Temperature and threshold of unknown videos, if they were chosen.

    Returns:
        The folder.
    """
    assert len(classes) == model.num_classes, "a name for every column"
    tree = to_dict(config)  # a distilled student has further settings, which do not describe the model
    settings = {group.name: tree[group.name] for group in fields(FinetuneConfig)}
    start = settings["train"]["checkpoint"]
    is_public = start and isinstance(parse_checkpoint(start), HubName)
    settings["train"]["checkpoint"] = str(parse_checkpoint(start)) if is_public else ""  # no path of the machine
    described = describe_input(config.network(), config.test.crop)
    content = {"classes": list(classes), "config": settings, "input": described}
    content["calibration"] = asdict(calibration or Calibration())
    tensors = stored_tensors(model=model, transform=transform)
    content |= describe_bases(model=model)
    return write_release(folder, tensors, CLASSIFIER, content, _card(model, classes, config, dict(about or {})))


def load_classifier(path: Path | str, device: torch.device | str = "cpu") -> TrainedClassifier:
    """Load a release of :func:`save_classifier`.

    Args:
        path: A release, a run directory (its ``weights/``), or ``hf-hub:owner/name``.
        device: Device to move the model to.

    Raises:
        HubError: If there is no release, or it cannot be used.

    Example:
        >>> classifier = load_classifier("runs/first-finetune")
        >>> prediction = classifier.predict("video.mp4")
        >>> prediction.label in ("robin", "wren"), round(float(prediction.probabilities.sum()), 4)
        (True, 1.0)
    """
    folder = find_release(path)
    content, source = read_content(folder, CLASSIFIER), f"{folder / CONFIG_NAME}: "
    classes, config = content.get("classes"), config_from_dict(content["config"], source, FinetuneConfig)
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise HubError(f"{source}classes must be a list of names.")
    calibration = _calibration(content.get("calibration", {}), source)
    check_input(content, describe_input(config.network(), config.test.crop), folder)
    with torch.device("meta"):
        skeleton = _build(config, len(classes))
    check_tensors(folder, model=skeleton, transform=build_transform(config.network(), crop=config.test.crop))
    model, transform = create_classifier(config, len(classes))
    load_tensors(folder, model=model, transform=transform)
    model.eval().to(device)
    sampling = build_sampling(config.network())
    return TrainedClassifier(model, transform.eval().to(device), sampling, classes, config, str(path), calibration)


def _calibration(values: Any, source: str) -> Calibration:
    """Return the calibration of a release; raise HubError if it has unknown keys or values out of range."""
    names = [each.name for each in fields(Calibration)]
    if not isinstance(values, Mapping) or not set(values) <= set(names):
        raise HubError(f"{source}calibration must have {', '.join(names)} and no other key, got {values!r}.")
    try:
        return Calibration(**values)
    except InputError as error:
        raise HubError(f"{source}calibration: {error}") from error


def _card(model: Classifier, classes: Sequence[str], config: FinetuneConfig, about: dict[str, Any]) -> str:
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    named = ", ".join(classes[:20]) + (" ..." if len(classes) > 20 else "")
    encoders = " + ".join(getattr(config.model, name).name for name in model.encoders)
    return f"""---
library_name: avssl
tags: [video-classification]
---

# {len(classes)} classes, {encoders}

{millions:.2f} M parameters. Classes: {named}.

{facts}

```python
import avssl

classifier = avssl.load_classifier("this folder")
print(classifier.predict("video.mp4"))
classifier.model, classifier.transform, classifier.sampling, classifier.classes, classifier.calibration
```
"""
