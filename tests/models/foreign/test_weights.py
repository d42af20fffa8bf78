"""Folders of public weights: safetensors, licenses, and errors for everything else."""

import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from avssl.core.checkpoint_names import HubError
from avssl.core.errors import InputError
from avssl.models import create_encoder, encoder_builder
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.weights import WeightsError, read_tensors, weight_folder


def test_shards_are_joined_by_their_index(tmp_path):
    for number in range(2):
        save_file({f"x{number}": torch.full((2,), number + 0.0)}, tmp_path / f"model-{number}.safetensors")
    index = {"weight_map": {f"x{number}": f"model-{number}.safetensors" for number in range(2)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert {name: value[0].item() for name, value in read_tensors(weight_folder(str(tmp_path))).items()} == {
        "x0": 0,
        "x1": 1,
    }
    index["weight_map"]["x1"] = "../model-1.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="outside of the folder"):
        read_tensors(weight_folder(str(tmp_path)))


CONFIGS = {
    ("timm", "video"): {"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 1, "embed_dim": 12}},
    ("torchvision", "video"): {"architecture": "regnet_y_400mf"},
    ("hf", "video"): {"model_type": "dinov2", "hidden_size": 12, "num_hidden_layers": 1},
    ("hf", "audio"): {"model_type": "hubert", "hidden_size": 48, "num_hidden_layers": 1},
    ("image_text", "video"): {"model_type": "clip", "vision_config": {"hidden_size": 12, "num_hidden_layers": 1}},
    ("audio_text", "audio"): {"model_type": "clap"},
    ("pe_video", "video"): {"model_type": "pe_video", "video_config": {}},
    ("pe_audio", "audio"): {"model_type": "pe_audio", "audio_config": {}},
}
"""The config.json of a folder of weights for each library and modality."""


@pytest.mark.parametrize(("name", "modality"), CONFIGS)
def test_a_pickle_is_never_read(name, modality, tmp_path):
    torch.save({"x": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name, modality]))
    folder, builder = weight_folder(str(tmp_path)), encoder_builder(name, modality)
    with pytest.raises(WeightsError, match=r"pytorch_model.bin, a pickle, which could run code.*safetensors"):
        read_tensors(folder)
    with pytest.raises(WeightsError, match=r"pytorch_model.bin, a pickle, which could run code"):
        _untrained(builder, folder).load(folder)


def _untrained(builder, folder):
    with torch.device("meta"):
        return builder.build(builder.spec_of(Spec(""), folder))


@pytest.mark.parametrize(
    ("name", "modality", "backbone", "message"),
    [
        ("timm", "video", "vit_smal_patch16_224", "Did you mean vit_small_patch16_224"),
        ("torchvision", "video", "swin3d_x", "Did you mean swin3d_t"),
        ("hf", "video", "dinov4", "Did you mean 'dinov2'"),
        ("hf", "audio", "hubertt", "Did you mean 'hubert'"),
        ("image_text", "video", "clop", "must be clip or siglip"),
        ("audio_text", "audio", "clop", "must be one of clap. Did you mean 'clap'"),
        ("pe_video", "video", "pe-av-small", "must be pe_audio_video, the only network of pe_video"),
        ("pe_audio", "audio", "pe-av-small", "must be pe_audio_video, the only network of pe_audio"),
    ],
)
def test_an_unknown_backbone_has_near_names(name, modality, backbone, message):
    with pytest.raises(InputError, match=rf"backbone \('{backbone}'\) .*{message}"):
        create_encoder(name, modality=modality, backbone=backbone)


@pytest.mark.parametrize(("name", "modality"), [("hf", "video"), ("image_text", "video"), ("pe_video", "video")])
def test_weights_of_another_library_are_told_by_their_config(name, modality, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architecture": "resnet18"}))
    save_file({"x": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="bert"):
        encoder_builder(name, modality).spec_of(Spec(""), weight_folder(str(tmp_path)))


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match=r"model.safetensors: not a readable safetensors file"):
        read_tensors(weight_folder(str(tmp_path)))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(WeightsError, match="must hold a JSON object"):
        weight_folder(str(tmp_path)).read("config.json")


@pytest.mark.parametrize(
    ("card", "license_id"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("# none", "unknown"),
        ("---\nlicense: [a\n---\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_license_is_read_from_the_card(tmp_path, card, license_id):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert weight_folder(str(tmp_path)).license_id == license_id


def test_missing_names_are_errors_without_the_network(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="no such folder"):
        weight_folder(str(tmp_path / "gone"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(WeightsError, match="is a file"):
        weight_folder(str(tmp_path / "file"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        weight_folder("hf-hub:someone/something-that-is-not-cached")


WITHOUT = """
import sys
from avssl.cli import main
for line in sys.argv[1:]:
    name, _, words = line.partition(": ")
    sys.modules[name] = None  # as if it were not installed
    print("exit", main(words.split()), flush=True)
"""
EXTRAS = {
    "timm: pretrain x --print-config --model.video.name timm": "needs timm, which does not load .*'avssl[timm]'",
    "transformers: pretrain x --print-config --model.audio.name hf": "needs transformers, .*'avssl[hf]'",
}
"""Commands without a library, and their errors."""


def test_a_missing_extra_has_the_line_of_pip_that_installs_it(tmp_path, monkeypatch):
    words = [sys.executable, "-c", WITHOUT, *EXTRAS]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, cwd=tmp_path, check=True
    )
    *errors, rest = re.split(r"exit [12]\n", done.stdout)
    assert rest == ""
    for error, expected in zip(errors, EXTRAS.values(), strict=True):
        assert re.search(expected.replace("[", r"\["), error), error
    monkeypatch.setitem(sys.modules, "peft", None)
    config = ("depth=1", "embed_dim=12", "num_heads=3")
    with pytest.raises(InputError, match=r"needs peft, which does not load .*'avssl\[hf\]'"):
        create_encoder("timm", backbone="vit_tiny_patch16_224", config=config, lora=2)
