"""The audio tower that shares the blocks of a video tower, in a file of its own."""

import pytest
import torch

from avssl.config import parse_settings
from avssl.hub.export.programs import convert, write
from avssl.hub.export.towers import towers_of
from avssl.hub.pretrained import PretrainedModel
from avssl.training.build import build_model, build_sampling, build_transform

pytest.importorskip("timm")


def test_audio_tower_has_the_trunk_and_takes_batches_of_any_size(tmp_path):
    config = parse_settings(
        {
            "model.video.name": "timm",
            "model.video.backbone": "vit_tiny_patch16_224",
            "model.video.config": ["depth=1", "embed_dim=12", "num_heads=2", "img_size=32", "patch_size=8"],
            "model.audio.name": "shared_vit",
            "model.audio.num_columns": "3",  # positions are interpolated
            "sampling.sample_rate_hz": "8000",
        }
    )
    transform = build_transform(config).eval()
    transform.standardize.set_statistics(torch.zeros(64), torch.ones(64))
    pair = PretrainedModel(build_model(config, 0).eval(), transform, build_sampling(config), config, "test")
    audio = next(tower for tower in towers_of(pair, "inside") if tower.name == "audio")
    described = write(convert(audio, "pt2", {}), tmp_path / "audio.pt2")  # raises unless the numbers are equal
    assert described.inputs["waveform"][0] == "batch"
