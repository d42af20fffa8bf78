"""A small SoundingShapes corpus, whose objects are known."""

import pytest
import torch

from avssl.config import FinetuneConfig, config_from_dict
from avssl.core.manifest import Manifest
from avssl.hub.classifier import create_classifier
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.synthetic import SceneSettings, Split, synthesize_corpus
from avssl.training.build import build_sampling

SCENES = SceneSettings(
    width=48, height=32, duration_seconds=1.5, sample_rate_hz=8000, object_weights=(1, 1), video_fps=8.0
)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Manifest:
    """12 clips of one or two objects."""
    return synthesize_corpus(
        tmp_path_factory.mktemp("shapes"), {"test": Split(12, SCENES)}, num_workers=0, progress=False
    )


@pytest.fixture
def untrained():
    """Make a classifier of the kinds of objects with random weights: ``untrained(shapes, fusion="fused")``."""

    def make(shapes: Manifest, *, clips=2, crop="center", multi_label=False, **classifier) -> TrainedClassifier:
        tree = {
            "data": {"num_workers": 0},
            "sampling": {"num_frames": 4, "frames_per_second": 4.0, "audio_seconds": 1.0, "sample_rate_hz": 8000},
            "transform": {
                "video": {"size": 32},
                "spectrogram": {"num_mels": 16, "window_length": 256, "hop_seconds": 0.02},
            },
            "model": {"video": {"width": 4}, "audio": {"width": 4}},
            "labels": {"multi_label": multi_label},
            "classifier": classifier,
            "test": {"windows_per_clip": clips, "crop": crop, "report": False},
            "train": {"device": "cpu", "precision": "fp32", "memory_format": "contiguous"},
        }
        config = config_from_dict(tree, "", FinetuneConfig)
        classes = sorted(set(shapes["label"]))
        model, transform = create_classifier(config, len(classes), seed=3)
        assert transform.standardize is not None
        transform.standardize.set_statistics(torch.full((16,), -40.0), torch.full((16,), 20.0))
        return TrainedClassifier(
            model.eval(), transform.eval(), build_sampling(config.network()), classes, config, "untrained"
        )

    return make
