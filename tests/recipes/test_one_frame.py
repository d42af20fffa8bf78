"""A picture as the visual input: one frame beside its sound, from training to a heat map over a video."""

import json
from dataclasses import replace

import pytest
import torch
from torchvision.models import resnet18

from avssl.cli import main
from avssl.config import config_from_dict
from avssl.engine import load_checkpoint, read_metrics
from avssl.hub.converters import ConvertError
from avssl.hub.pretrained import from_pretrained
from avssl.recipes.pretrain import pretrain


@pytest.fixture(scope="module")
def one_frame(tiny_config, videos):
    """Makes a config of three steps: ``one_frame({"name": "small_video"})``."""

    def make(video, **changes):
        steps = {"optim": {"batch_size": 6, "epochs": 1}, "monitor": {"every_steps": 0}}
        config = tiny_config(videos, sampling={"num_frames": 1}, **steps, **changes)
        return replace(
            config, model=replace(config.model, video=config_from_dict({"model": {"video": video}}).model.video)
        )

    return make


@pytest.mark.parametrize(
    ("video", "cells"),
    [({"width": 4}, 4), ({"width": 4, "stride": 16}, 2), ({"name": "resnet18_image", "stride": 16}, 2)],
)
def test_one_frame_trains_and_localizes(video, cells, one_frame, videos, tmp_path):
    objective = {"pooling": "max", "max_over": "cells", "negative_sounds": 2}
    run, _ = pretrain(one_frame(video, objective=objective), out=tmp_path / "run", progress=False)
    rows = read_metrics(run)
    assert len(rows) == 3
    assert {"loss", "cosine_silence"} <= set(rows[-1])
    pretrained = from_pretrained(run)
    assert pretrained.sampling.num_frames == 1
    with torch.inference_mode():
        assert pretrained.model.video_map(torch.zeros(1, 3, 1, 32, 32)).shape == (1, 8, 1, cells, cells)
    readout = tmp_path / "peaks.json"
    words = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(run), "-o", str(tmp_path / "map.mp4")]
    assert main([*words, "--readout", str(readout), "--device", "cpu"]) == 0
    assert len(json.loads(readout.read_text())["maps"][0]["peaks"]) == 8


def test_training_starts_from_imagenet_weights(one_frame, tmp_path):
    network = resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    train = {"init_video_from": str(tmp_path / "resnet18.pth")}
    config = one_frame({"name": "resnet18_image"}, objective={"name": "moco", "queue_size": 40, "momentum": 1.0})
    config = replace(config, train=replace(config.train, **train), optim=replace(config.optim, lr=1e-12))
    run, _ = pretrain(config, out=tmp_path / "run", progress=False)
    state = load_checkpoint(run / "checkpoints/step-000000003.pt")["task"]
    for model in ("model", "target.model"):
        torch.testing.assert_close(state[f"{model}.video_encoder.stem.conv1.weight"], network.conv1.weight.detach())
        name = "layer4.1.conv2.weight"
        torch.testing.assert_close(state[f"{model}.video_encoder.{name}"], network.state_dict()[name])
    (tmp_path / "resnet18.pth").unlink()
    assert from_pretrained(run).model.video_encoder.num_features == 512  # without the file
    pretrain(config, resume=run, progress=False)
    with pytest.raises(ConvertError, match=r"resnet18\.pth: no such file"):
        pretrain(config, out=tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()
