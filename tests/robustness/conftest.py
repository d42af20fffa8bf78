"""A small SoundingShapes corpus, whose objects are known."""

import pytest

from avssl.manifest import Manifest
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

SCENES = SceneSettings(
    width=48, height=32, duration_seconds=1.5, sample_rate_hz=8000, object_weights=(1, 1), video_fps=8.0
)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Manifest:
    """12 clips of one or two objects."""
    return synthesize_corpus(
        tmp_path_factory.mktemp("shapes"), {"test": Split(12, SCENES)}, num_workers=0, progress=False
    )
