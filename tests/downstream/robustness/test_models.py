import numpy as np
import pytest
import torch

from avssl.data import ClipDataset
from avssl.downstream.finetuning import predict
from avssl.downstream.robustness import encode_disturbed, find_cutouts, finetuned_model, linear_probe_model
from avssl.downstream.robustness.disturbances import CLEAN, DISTURBANCES, DisturbedFeatures
from avssl.evaluation.video_scores import video_probabilities
from avssl.models import ClipEncoder

NAMES = (CLEAN, *DISTURBANCES)
CPU = torch.device("cpu")
PARTNERS = np.roll(np.arange(12), 5)


class Frozen:
    """The part of a pretrained model that linear_probe_model uses, given its features."""

    def __init__(self, classifier):
        encoders = classifier.model.encoders
        self.model = torch.nn.Module().eval()
        self.model.video_encoder, self.model.audio_encoder = encoders["video"], encoders["audio"]
        self.model.video_head = self.model.audio_head = torch.nn.Identity()
        self.transform, self.sampling, self.device = classifier.transform, classifier.sampling, CPU
        self.weights_hash = classifier.weights_hash

    def encoder(self):
        return ClipEncoder(self.model, self.transform)


def predictions_of(model, shapes):
    cutouts = find_cutouts(shapes, shapes["label"].tolist(), 4.0)
    return model.predict(
        encode_disturbed(
            model.encode,
            ClipDataset(shapes, model.sampling),
            PARTNERS,
            cutouts,
            windows_per_clip=model.windows_per_clip,
        )
    )


@pytest.mark.parametrize(
    ("about", "modalities"),
    [
        ({"inputs": "video", "crop": "three"}, {"video"}),
        ({"inputs": "audio"}, {"audio"}),
        ({"inputs": "both", "fusion": "fused", "crop": "three"}, {"video + audio"}),
        ({"inputs": "both", "fusion": "late"}, {"video", "audio", "video + audio"}),
    ],
)
def test_a_classifier_predicts_as_in_its_test(shapes, untrained, about, modalities):
    classifier = untrained(shapes, **about)
    predictions = predictions_of(finetuned_model(classifier, 2), shapes)
    assert set(predictions) == modalities
    assert all(tuple(of_modality) == NAMES for of_modality in predictions.values())
    logits = predict(classifier.model, classifier.transform, shapes, classifier.config, device=CPU).logits
    whole = predictions["video + audio" if about["inputs"] == "both" else about["inputs"]]
    assert whole[CLEAN].tolist() == video_probabilities(logits).argmax(axis=1).tolist()
    if about["inputs"] == "audio":
        assert whole["video of another class"].tolist() == whole[CLEAN].tolist()
        assert whole["audio of another class"].tolist() == whole[CLEAN][PARTNERS].tolist()


def test_a_swapped_video_changes_the_video_head_alone(shapes, untrained):
    predictions = predictions_of(finetuned_model(untrained(shapes, inputs="both"), 1), shapes)
    assert len(set(predictions["video"][CLEAN].tolist())) > 1
    assert predictions["video"]["video of another class"].tolist() == predictions["video"][CLEAN][PARTNERS].tolist()
    assert predictions["audio"]["video of another class"].tolist() == predictions["audio"][CLEAN].tolist()


def test_a_multi_label_classifier_raises(shapes, untrained):
    with pytest.raises(ValueError, match="untrained: a multi-label classifier does not predict one class"):
        finetuned_model(untrained(shapes, multi_label=True), 1)


def test_probes_trained_on_clean_clips_predict_every_disturbance(shapes, untrained):
    generator = np.random.default_rng(0)
    labels = np.repeat(["cat", "dog", "owl"], 20)
    centers = {name: 6 * np.eye(4)[i] for i, name in enumerate(("cat", "dog", "owl"))}

    def features(names):
        return np.stack([centers[name] for name in names]) + generator.normal(size=(len(names), 4))

    truth = np.array(["owl", "cat", "dog", "cat"])
    partner = truth[[1, 2, 3, 0]]
    clean = {"video": features(truth)[:, None], "audio": features(truth)[:, None]}
    given = {name: dict(clean) for name in NAMES}
    given["audio of another class"]["audio"] = features(partner)[:, None]
    # Windows are averaged: two that lie equally far to either side of the clip change nothing.
    given["frames reversed in time"]["video"] = clean["video"] + np.array([-3.0, 3.0])[None, :, None]
    frozen = Frozen(untrained(shapes, inputs="both"))
    model = linear_probe_model(frozen, (features(labels), features(labels)), labels, 1, seed=0)
    classes, predictions = np.array(model.classes), model.predict(DisturbedFeatures(given, {}, 0))
    assert classes.tolist() == ["cat", "dog", "owl"]
    assert set(predictions) == {"video", "audio", "video + audio"}
    for modality in predictions:
        assert classes[predictions[modality][CLEAN]].tolist() == truth.tolist()
    assert classes[predictions["audio"]["audio of another class"]].tolist() == partner.tolist()
    assert classes[predictions["video"]["audio of another class"]].tolist() == truth.tolist()
    assert classes[predictions["video"]["frames reversed in time"]].tolist() == truth.tolist()
