"""Runs with backbones of other libraries: adapters on public weights, resumed, on two ranks, released and used."""

import json
import subprocess

import pytest
import torch

from avssl.cli import main
from avssl.config import Config, config_from_dict, to_dict
from avssl.engine import load_checkpoint
from avssl.recipes.pretrain import pretrain

TOWERED = ("mean", "std", "size", "eval_crop", "eval_resize_short", "eval_interpolation")
TOWERED += ("eval_keep_aspect", "eval_antialias")


@pytest.fixture
def lora_config(videos, tiny_config, timm_folder) -> Config:
    """Adapters on a tiny ViT, with rates by layer."""
    tree = to_dict(tiny_config(videos, monitor={"every_steps": 0}))
    tree["transform"]["video"] = {k: v for k, v in tree["transform"]["video"].items() if k not in TOWERED}
    tree["model"]["video"] = {"name": "timm", "pretrained": str(timm_folder), "lora": 4, "layer_decay": 0.7}
    return config_from_dict(tree)


def test_adapters_resume_bit_for_bit_beside_one_copy_of_the_base(lora_config, assert_resumes_bit_for_bit, tmp_path):
    state = assert_resumes_bit_for_bit(lora_config)
    folder = tmp_path / "whole/checkpoints"
    assert {file.name for file in folder.iterdir()} >= {"frozen.safetensors", "step-000000008.pt"}
    raw = torch.load(folder / "step-000000008.pt", weights_only=True)["task"]
    name = "model.video_encoder.backbone.network.patch_embed.proj.weight"
    assert isinstance(raw[name], dict)  # a note of the frozen tensor
    assert isinstance(state[name], torch.Tensor)
    moved = [key for key in state if "lora_B" in key]
    assert moved
    assert all(state[key].abs().sum() > 0 for key in moved)


def test_run_is_released_localized_and_fine_tuned(lora_config, videos, labeled_clips, tmp_path):
    run, _ = pretrain(lora_config, out=tmp_path / "run", progress=False)
    readout = tmp_path / "peaks.json"
    words = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(run), "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "map.mp4"), "--readout", str(readout)]) == 0
    assert len(json.loads(readout.read_text())["maps"][0]["peaks"]) == 8
    words = ["finetune", str(labeled_clips), "--checkpoint", str(run), "--out", str(tmp_path / "classes")]
    words += ["--optim.epochs", "1", "--optim.batch-size", "6", "--train.device", "cpu", "--test.windows-per-clip", "1"]
    assert main([*words, "--data.num-workers", "0", "--test.report", "false", "--fold", "split"]) == 0


def test_two_ranks_train_the_same_adapters(lora_config, tmp_path, torchrun):
    from avssl.config import to_yaml

    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(lora_config))
    out = tmp_path / "run"
    words = ("-m", "avssl", "pretrain", "--config", str(file), "--out", str(out), "--optim.epochs", "1")
    done: subprocess.CompletedProcess[str] = torchrun(*words, ranks=2)
    assert done.returncode == 0, done.stderr
    state = load_checkpoint(max((out / "checkpoints").glob("step-*.pt")))["task"]
    assert any(value.abs().sum() > 0 for name, value in state.items() if "lora_B" in name)
