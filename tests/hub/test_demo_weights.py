"""The weights that come with avssl: small, whole, described, and better than a model that does not listen."""

import numpy as np
import pytest
import torch

from avssl.core.batch import Batch, BatchIndex
from avssl.downstream.localization.instants import shapes_instant
from avssl.evaluation.localization import pointing
from avssl.hub.pretrained import demo_weights, from_pretrained
from avssl.localization.similarity import at_instant, smooth, sound_map
from avssl.models import unit_cells
from avssl.synthetic import SceneSettings, draw_scene, render_audio, render_frames
from avssl.synthetic.truth import scene_truth

SEVERAL = SceneSettings(width=96, height=96, video_fps=8.0, object_weights=(0.0, 1.0, 1.0))


def test_they_are_small_and_have_a_card():
    sizes = {path.name: path.stat().st_size for path in demo_weights().iterdir()}
    assert set(sizes) == {"model.safetensors", "config.json", "README.md", "training_world.safetensors"}
    assert sum(sizes.values()) <= 2 * 2**20
    card = (demo_weights() / "README.md").read_text()
    assert "benchmarks/demo_weights.py" in card
    assert "license: apache-2.0" in card


@pytest.fixture(scope="module")
def clips():
    """Windows around sound events of scenes that the weights have not seen, and what sounds in their middle."""
    videos, sounds, truths = [], [], []
    for number in range(24):
        scene = draw_scene(SEVERAL, 11, "unseen", number)
        frames, masks = render_frames(scene)
        instant = shapes_instant(scene_truth(scene, masks), number, window_seconds=1.5)
        if instant is None:
            continue
        start = instant.seconds - 0.75
        at = ((start + np.arange(6) / 4) * SEVERAL.video_fps + 1e-6).astype(int)
        first = round(start * SEVERAL.sample_rate_hz)
        videos.append(torch.from_numpy(frames[at]).movedim(-1, 1))
        sounds.append(torch.from_numpy(render_audio(scene)[first : first + 36_000]).float())
        truths.append(instant.truth())
    rows = torch.arange(len(videos))
    size = torch.full((len(videos), 2), 96)
    return Batch(torch.stack(videos), torch.stack(sounds), BatchIndex(rows, rows, rows), size), torch.stack(truths)


@torch.inference_mode()
def test_they_point_at_what_sounds_and_not_at_what_does_not(clips):
    raw, truth = clips
    pretrained = from_pretrained(demo_weights(), crop="full")
    batch = pretrained.transform(raw)
    cells = unit_cells(pretrained.model, batch.video)
    middle = torch.full((len(raw),), 3.0)
    cells, heard = at_instant(cells, pretrained.model.sound_queries(batch.audio), middle, 6)
    own, other = (
        pointing(smooth(sound_map(cells, sound)[:, 0]), truth).mean().item() for sound in (heard, heard.roll(7, dims=0))
    )
    assert own > 0.6
    assert other < 0.5
