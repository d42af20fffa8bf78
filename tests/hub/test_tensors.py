"""Releases of frozen backbones and of adapters: small, with the name and the hash of their base."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from avssl.config import parse_settings
from avssl.core.checkpoint_names import HubError
from avssl.hub.pretrained import from_pretrained, random_init, save_pretrained
from avssl.training.build import build_model, build_transform, load_public_weights

SMALL = {
    "model.video.name": "timm",
    "model.head.hidden": "16",
    "model.head.out_features": "8",
    "sampling.num_frames": "2",
}


def release(folder, given):
    small = {"model.audio.width": "4"} if "model.audio.name" not in given else {}
    config = parse_settings(SMALL | small | given)
    model, transform = build_model(config, seed=3).eval(), build_transform(config)
    load_public_weights(model.video_encoder, model.audio_encoder)
    transform.standardize.set_fixed(0.0, 1.0)
    return model, save_pretrained(folder, model, transform, config)


@pytest.mark.parametrize("option", ["frozen", "lora", "none"])
def test_release_is_small_and_comes_back_whole(tmp_path, timm_folder, option):
    given = {"model.video.pretrained": str(timm_folder)}
    given |= {"frozen": {"model.video.frozen": "true"}, "lora": {"model.video.lora": "2"}, "none": {}}[option]
    model, folder = release(tmp_path / "release", given)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = list(file.keys())
    base = [name for name in names if "backbone.network" in name and "lora_" not in name]
    assert bool(base) == (option == "none")
    assert any("lora_" in name for name in names) == (option == "lora")
    again = from_pretrained(folder).model
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0\n" in card
    assert f"- video starts from: {timm_folder}, license: apache-2.0" in card
    assert "# timm vit_tiny_patch16_224 + small_audio" in card


@pytest.mark.parametrize("option", ["frozen", "lora"])
def test_one_vit_for_both_names_its_base_once(tmp_path, timm_folder, option):
    given = {"model.video.pretrained": str(timm_folder), f"model.video.{option}": "2" if option == "lora" else "true"}
    given |= {"model.audio.name": "shared_vit", "model.audio.own_norms": "true", "model.audio.patch": "8"}
    model, folder = release(tmp_path / "release", given)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = list(file.keys())
    assert list(json.loads((folder / "config.json").read_text())["bases"]) == ["model.video_encoder"]
    assert not any(".attn.qkv.weight" in name or "base_layer" in name for name in names)
    assert {"pos_embed", "cls_token", "blocks.0.norm1.weight", "norm.bias"} <= {
        name.removeprefix("model.audio_encoder.network.") for name in names
    }
    again = from_pretrained(folder).model
    audio = torch.randn(1, 1, 50, 64)
    assert torch.equal(again.eval().embed_audio(audio), model.embed_audio(audio))


def test_another_base_than_that_of_the_release_is_an_error(tmp_path, timm_folder):
    base = tmp_path / "base"
    base.mkdir()
    tensors = load_file(timm_folder / "model.safetensors")
    save_file(tensors, base / "model.safetensors")
    (base / "config.json").write_text((timm_folder / "config.json").read_text())
    _, folder = release(tmp_path / "release", {"model.video.pretrained": str(base), "model.video.lora": "2"})
    assert json.loads((folder / "config.json").read_text())["bases"]["model.video_encoder"]["pretrained"] == str(base)
    tensors["cls_token"] += 1
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(HubError, match="was trained on other weights"):
        from_pretrained(folder)
    (base / "model.safetensors").unlink()
    with pytest.raises(HubError, match=r"trained on top of .* cannot be loaded: .*model.safetensors is missing"):
        from_pretrained(folder)


def test_random_weights_and_sizes_of_whole_frames(tmp_path, timm_folder):
    _, folder = release(tmp_path / "release", {"model.video.pretrained": str(timm_folder)})
    pretrained = from_pretrained(folder, crop="full")
    assert pretrained.transform.video_eval.size == 40  # 4/3 of 32, in patches of 8
    twin = random_init(pretrained)
    name = "video_encoder.backbone.network.cls_token"
    assert not torch.equal(twin.model.state_dict()[name], pretrained.model.state_dict()[name])
