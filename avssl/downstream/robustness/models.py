"""Models under test: linear probes on frozen features, or a fine-tuned classifier.

Dimensions: B clips, V views of each, N test clips, X windows times views, C features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from avssl.core.batch import Batch, Modality
from avssl.core.errors import InputError
from avssl.data.sampling import ClipSampling
from avssl.downstream.robustness.disturbances import DisturbedFeatures, Encode
from avssl.downstream.robustness.scores import ClassPredictions
from avssl.engine import Precision
from avssl.evaluation import modality_probes
from avssl.evaluation.video_scores import video_probabilities
from avssl.hub.pretrained import PretrainedModel
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.models import ClipClassifier
from avssl.transforms import ClipTransform

BOTH = "video + audio"


@dataclass(frozen=True, eq=False)
class RobustnessModel:
    """A classifier, split into encoders and prediction."""

    name: str
    """Description for the report."""
    encode: Mapping[str, Encode]
    """Raw batch -> (B, V, C), by modality."""
    predict: Callable[[DisturbedFeatures], ClassPredictions]
    """Returns the predicted classes by modality and disturbance."""
    classes: Sequence[str]
    """(K,) names."""
    sampling: ClipSampling
    """Sampling of its clips."""
    transform: ClipTransform
    """Preprocessing of its clips."""
    device: torch.device
    windows_per_clip: int
    """Windows of each clip that it averages over."""
    weights: str
    """16 hex digits of the hash of its weights."""


def linear_probe_model(
    pretrained: PretrainedModel,
    train_features: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    windows_per_clip: int,
    seed: int,
) -> RobustnessModel:
    """Return three linear probes (video, audio, both by late fusion), trained on clean clips.

    ``train_features`` are the (n, C) video and audio features of the training clips, and ``labels`` their classes.
    """

    def predict(disturbed: DisturbedFeatures) -> ClassPredictions:
        # The test clips are those of all disturbances, one after the other. Their labels are placeholders, which
        # do not change the predictions.
        joined = [
            np.concatenate([clean, *(features[modality].mean(axis=1) for features in disturbed.features.values())])
            for clean, modality in zip(train_features, ("video", "audio"), strict=True)
        ]
        all_labels = np.concatenate([labels, np.full(len(joined[0]) - len(labels), labels[0])])
        is_train = np.arange(len(all_labels)) < len(labels)
        probes = modality_probes(joined[0], joined[1], all_labels, is_train, ~is_train, seed=seed)
        return {
            modality: dict(zip(disturbed.features, result.predicted.reshape(len(disturbed.features), -1), strict=True))
            for modality, result in probes.items()
        }

    encoder = pretrained.encoder()

    def features(raw: Batch, modality: Modality) -> Tensor:
        return encoder.encode_batch(raw, modality).vectors("features")

    return RobustnessModel(
        f"linear probe on frozen features of {len(labels)} clean clips; late fusion of both modalities",
        _encoders(features, ("video", "audio"), pretrained.transform.video_eval.num_crops),
        predict,
        np.unique(labels).tolist(),
        pretrained.sampling,
        pretrained.transform,
        pretrained.device,
        windows_per_clip,
        pretrained.weights_hash(),
    )


def finetuned_model(classifier: TrainedClassifier, windows_per_clip: int) -> RobustnessModel:
    """Return a fine-tuned classifier; with late fusion, the head of each modality is tested as well.

    Raises:
        ValueError: If it is a multi-label classifier.
    """
    model, config = classifier.model, classifier.config
    if config.labels.multi_label:
        raise InputError(
            f"{classifier.source}: a multi-label classifier does not predict one class that could change; "
            "robustness can be measured for classifiers with one class per clip."
        )

    @torch.inference_mode()
    def predict(disturbed: DisturbedFeatures) -> ClassPredictions:
        predictions: ClassPredictions = {}
        for name, features in disturbed.features.items():
            heads = model.head_logits({m: torch.from_numpy(features[m]).to(encoder.device) for m in model.encoders})
            logits = {BOTH if head == "both" else head: values for head, values in heads.items()}
            if len(heads) > 1:
                logits[BOTH] = torch.stack(list(heads.values())).mean(dim=0)
            for modality, values in logits.items():
                scores = video_probabilities(values.float().cpu().numpy(), config.test.average)
                predictions.setdefault(modality, {})[name] = scores.argmax(axis=1)
        return predictions

    device = next(model.parameters()).device
    precision = Precision.resolved(config.train.precision, config.train.memory_format).native(device)
    encoder = ClipClassifier(model, classifier.transform, precision)
    return RobustnessModel(
        f"classifier of {model.inputs}, fine-tuned",
        _encoders(encoder.features, model.encoders, classifier.transform.video_eval.num_crops),
        predict,
        classifier.classes,
        classifier.sampling,
        classifier.transform,
        encoder.device,
        windows_per_clip,
        classifier.weights_hash(),
    )


def _encoders(
    features: Callable[[Batch, Modality], Tensor], modalities: Iterable[str], views: int
) -> dict[str, Encode]:
    """Return encoders of raw clips; the crops of a clip are views that share one audio feature."""

    def video(raw: Batch) -> Tensor:
        return rearrange(features(raw, "video"), "(views clips) c -> clips views c", views=views)

    def audio(raw: Batch) -> Tensor:
        return repeat(features(raw, "audio"), "clips c -> clips views c", views=views)

    return {name: function for name, function in (("video", video), ("audio", audio)) if name in modalities}
