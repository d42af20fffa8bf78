"""Any two towers: trained, released, read back and used to localize; one for both also resumed and fine-tuned."""

import json

import pytest
import torch
from safetensors.torch import load_file

import avssl
from avssl.cli import main
from avssl.config import config_from_dict, to_dict
from avssl.engine import load_checkpoint
from avssl.recipes.pretrain import pretrain

VIT = {
    "name": "timm",
    "backbone": "vit_tiny_patch16_224",
    "config": ["depth=2", "embed_dim=48", "num_heads=2", "img_size=32", "patch_size=8"],
}
CONVOLUTIONS = {"name": "small_video", "width": 4}
OWN_VIT = {"name": "vit_frames", "width": 24, "num_blocks": 2, "num_heads": 3, "patch": 8, "grid": 4}
OWN_AST = {"name": "vit_spectrogram", "width": 24, "num_blocks": 2, "num_heads": 3, "patch": 8, "num_rows": 2}
SIZES = ["hidden_size=48", "num_hidden_layers=2", "num_attention_heads=2", "intermediate_size=64"]
AST = {"name": "hf", "backbone": "ast", "config": [*SIZES, "num_mel_bins=32", "max_length=100"]}
SHARED = {"name": "shared_vit", "patch": 8, "num_columns": 7, "num_rows": 2, "own_norms": True}
PAIRS = {
    "ViT + convolutions": (VIT, {"name": "small_audio", "width": 4, "pool": "attention"}),
    "convolutions + AST": (CONVOLUTIONS | {"pool": "attention"}, AST),
    "ViT + AST": (VIT, AST | {"pool": "attention"}),
    "own ViT + own ViT": (OWN_VIT | {"pool": "class"}, OWN_AST | {"pool": "attention"}),
    "one ViT for both": (VIT | {"layer_decay": 0.7}, SHARED),
}
FOLLOWS = ("mean", "std", "eval_crop", "eval_resize_short", "eval_interpolation", "eval_keep_aspect", "eval_antialias")
"""Settings of the frames that follow from a backbone."""


@pytest.fixture
def pair_config(videos, tiny_config):
    """Makes the settings of a pair, whose input follows from the towers."""

    def make(video, audio, **changes):
        tree = to_dict(tiny_config(videos, monitor={"every_steps": 0}, sampling={"audio_seconds": 0.96}, **changes))
        if video["name"] == "timm":
            tree["transform"]["video"] = {k: v for k, v in tree["transform"]["video"].items() if k not in FOLLOWS}
        if audio["name"] == "hf":
            del tree["transform"]["spectrogram"], tree["sampling"]["sample_rate_hz"]
        tree["model"] |= {"video": video, "audio": audio}
        return config_from_dict(tree)

    return make


def assert_released_and_read_back(run):
    """The release, read from the run or from its folder, has the weights of the last checkpoint, each of them once."""
    last = load_checkpoint(max((run / "checkpoints").glob("step-*.pt")))
    trained = {name: value for name, value in last["task"].items() if name.startswith("model.")}
    if last["average"] is not None:
        trained |= {f"model.{name}": value for name, value in last["average"]["average"].items()}
    released = load_file(run / "weights/model.safetensors")
    assert {name for name in released if name.startswith("model.")} == set(trained)
    for name in (run, run / "weights"):
        for key, value in avssl.from_pretrained(name).model.state_dict().items():
            assert torch.equal(value, trained[f"model.{key}"]), key


@pytest.mark.parametrize("pair", PAIRS)
def test_pair_is_trained_released_read_back_and_localizes(pair, pair_config, videos, tmp_path):
    config = pair_config(*PAIRS[pair], optim={"epochs": 1})
    run, _ = pretrain(config, out=tmp_path / "run", progress=False)
    assert_released_and_read_back(run)
    readout = tmp_path / "peaks.json"
    words = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(run), "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "map.mp4"), "--readout", str(readout)]) == 0
    assert len(json.loads(readout.read_text())["maps"][0]["peaks"]) == 8


def test_one_vit_for_both_resumes_bit_for_bit_and_is_fine_tuned(
    pair_config, assert_resumes_bit_for_bit, labeled_clips, tmp_path
):
    """With averaged weights, chunks, a momentum model and rates by layer, all of which count the trunk once."""
    config = pair_config(
        *PAIRS["one ViT for both"], objective={"name": "moco", "queue_size": 16}, train={"ema_decay": 0.9}
    )
    state = assert_resumes_bit_for_bit(config)
    trunk = "video_encoder.backbone.network.blocks.0.attn.qkv.weight"
    assert [name for name in state if "blocks.0.attn.qkv.weight" in name] == [f"model.{trunk}", f"target.model.{trunk}"]
    assert_released_and_read_back(tmp_path / "whole")
    words = [
        "finetune",
        str(labeled_clips),
        "--checkpoint",
        str(tmp_path / "whole"),
        "--out",
        str(tmp_path / "classes"),
    ]
    words += ["--optim.epochs", "1", "--optim.batch-size", "6", "--train.device", "cpu", "--test.windows-per-clip", "1"]
    words += ["--data.num-workers", "0", "--test.report", "false", "--fold", "split", "--classifier.inputs", "audio"]
    assert main(words) == 0
    classifier = avssl.load_classifier(tmp_path / "classes")
    assert classifier.model.inputs == "audio"
    assert "encoders.audio.network.blocks.0.attn.qkv.weight" in classifier.model.state_dict()
