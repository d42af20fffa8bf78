"""Whom the questions about disturbed clips are put to: linear probes on frozen features, or a fine-tuned classifier.

Dimensions: B clips, V views of each, N tested clips, X windows times views, C features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avssl.core.batch import Batch
from avssl.core.errors import InputError
from avssl.data.sampling import ClipSampling
from avssl.downstream.robustness.answers import Answers
from avssl.downstream.robustness.disturbed import Disturbed, Encode
from avssl.engine import Precision
from avssl.evaluation import modality_probes
from avssl.evaluation.video_scores import video_probabilities
from avssl.features.extract import run_precision
from avssl.hub.classifier import TrainedClassifier
from avssl.hub.pretrained import Pretrained
from avssl.transforms import ClipTransform

BOTH = "video + audio"


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier, taken apart into what sees the clips and what answers."""

    name: str
    """What it is, in words."""
    encode: Mapping[str, Encode]
    """Raw batch -> (B, V, C), by modality."""
    answer: Callable[[Disturbed], Answers]
    """Predicted classes by modality and disturbance."""
    classes: Sequence[str]
    """(K,) names."""
    sampling: ClipSampling
    """Of the clips it takes."""
    transform: ClipTransform
    """What the clips pass through."""
    device: torch.device
    """Where it is."""
    windows_per_clip: int
    """Windows of a clip that it looks at."""
    weights: str
    """16 hex digits that name the weights of its encoders."""


def probe_subject(
    pretrained: Pretrained,
    features: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    windows_per_clip: int,
    seed: int,
) -> Subject:
    """Three linear probes (video, audio, both by late fusion), fitted on clean training clips.

    Args:
        pretrained: The frozen encoders.
        features: Video and audio features of the training clips.
        labels: Their classes.
        windows_per_clip: Windows whose features are averaged.
        seed: Of the held-out part of the training clips.
    """

    def answer(disturbed: Disturbed) -> Answers:
        # The clips to answer for are those of all disturbances, one after the other; what class a probe is told
        # they have does not enter its prediction.
        joined = [
            np.concatenate([clean, *(sides[modality].mean(axis=1) for sides in disturbed.features.values())])
            for clean, modality in zip(features, ("video", "audio"), strict=True)
        ]
        known = np.concatenate([labels, np.full(len(joined[0]) - len(labels), labels[0])])
        fit = np.arange(len(known)) < len(labels)
        probes = modality_probes(joined[0], joined[1], known, fit, ~fit, seed=seed)
        return {
            modality: dict(zip(disturbed.features, result.predicted.reshape(len(disturbed.features), -1), strict=True))
            for modality, result in probes.items()
        }

    model = pretrained.model
    encoders = {"video": model.encode_video, "audio": model.encode_audio}
    return Subject(
        f"linear probe on frozen features of {len(labels)} clean clips; both by late fusion",
        _encoders(
            encoders,
            pretrained.transform,
            _laid_out(run_precision(pretrained), model, pretrained.device),
            pretrained.device,
        ),
        answer,
        np.unique(labels).tolist(),
        pretrained.sampling,
        pretrained.transform,
        pretrained.device,
        windows_per_clip,
        pretrained.weights_hash(),
    )


def classifier_subject(classifier: TrainedClassifier, windows_per_clip: int) -> Subject:
    """A fine-tuned classifier; of late fusion, each modality's own head is asked as well.

    Raises:
        ValueError: If its clips may have several classes, which have no one answer.
    """
    model, config = classifier.model, classifier.config
    if config.labels.multi_label:
        raise InputError(
            f"{classifier.source}: a multi-label classifier gives no one answer that could change; "
            "robustness is measured of classifiers with one class a clip."
        )
    device = next(model.parameters()).device

    @torch.inference_mode()
    def answer(disturbed: Disturbed) -> Answers:
        answers: Answers = {}
        for name, sides in disturbed.features.items():
            heads = model.head_logits({m: torch.from_numpy(sides[m]).to(device) for m in model.encoders})
            logits = {BOTH if head == "both" else head: values for head, values in heads.items()}
            if len(heads) > 1:
                logits[BOTH] = torch.stack(list(heads.values())).mean(dim=0)
            for modality, values in logits.items():
                scores = video_probabilities(values.float().cpu().numpy(), config.test.average)
                answers.setdefault(modality, {})[name] = scores.argmax(axis=1)
        return answers

    assert config.train.precision != "auto", "resolved before it was trained"
    assert config.train.memory_format != "auto", "resolved before it was trained"
    precision = _laid_out(Precision(config.train.precision, config.train.memory_format), model, device)
    return Subject(
        f"classifier of {model.inputs}, fine-tuned",
        _encoders(dict(model.encoders.items()), classifier.transform, precision, device),
        answer,
        classifier.classes,
        classifier.sampling,
        classifier.transform,
        device,
        windows_per_clip,
        classifier.weights_hash(),
    )


def _laid_out(precision: Precision, model: torch.nn.Module, device: torch.device) -> Precision:
    """The precision, once the model's kernels have its layout."""
    precision.apply(model, device).remove()
    return precision


def _encoders(
    encoders: Mapping[str, Callable[[Tensor], Tensor]],
    transform: ClipTransform,
    precision: Precision,
    device: torch.device,
) -> dict[str, Encode]:
    """Encoders of raw clips; the crops of a picture are views that share one sound."""
    views = transform.video_eval.num_crops

    def run(modality: str, x: Tensor) -> Tensor:
        with precision.autocast(device):
            return encoders[modality](precision.arrange(x)).float()

    def video(raw: Batch) -> Tensor:
        assert raw.valid_hw is not None, "a raw batch"
        crops = run("video", transform.video_eval(raw.video, raw.valid_hw))
        return crops.unflatten(0, (views, -1)).transpose(0, 1)

    def audio(raw: Batch) -> Tensor:
        return run("audio", transform.audio_input(raw.audio))[:, None].expand(-1, views, -1)

    return {name: function for name, function in (("video", video), ("audio", audio)) if name in encoders}
