"""Converted DenseAV models against the network of the paper, as formulas over the keys of such a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from avssl.cli import main
from avssl.hub.converters import ConvertError, read_checkpoint
from avssl.training.build import build_transform

VIT, HUBERT, CONV, CODE, BLOCKS, GRID, KERNEL = 12, 32, 8, 12, 2, 3, 8
ALIGN = "audio_aligner.mod_list."
STRIDES = (5, 2, 2, 2, 2, 2, 2)
Weights = dict[str, Tensor]


def random_state(*, lora: str = "image", peft: str = "old", has_class: bool = True) -> Weights:
    """Every tensor of a file, with values that an exchange of two would show; ``lora`` names the adapted towers."""
    generator = torch.Generator().manual_seed(3)
    state: Weights = {}

    def add(name: str, *shape: int) -> None:
        state[name] = torch.randn(shape, generator=generator) / 4

    def layer(name: str, *shape: int, adapted: bool = False) -> None:
        base = f"{name}.base_layer" if adapted and peft == "new" else name
        add(f"{base}.weight", *shape)
        add(f"{base}.bias", shape[0])
        if adapted:
            add(f"{name}.lora_A.default.weight", 4, shape[1])
            add(f"{name}.lora_B.default.weight", shape[0], 4)

    def vit_block(name: str, width: int, adapted: bool = False) -> None:
        for norm in ("norm1", "norm2"):
            layer(f"{name}.{norm}", width)
        layer(f"{name}.attn.qkv", 3 * width, width, adapted=adapted)
        layer(f"{name}.attn.proj", width, width)
        layer(f"{name}.mlp.fc1", 4 * width, width)
        layer(f"{name}.mlp.fc2", width, 4 * width)

    image, audio = prefixes(lora)
    add(f"{image}cls_token", 1, 1, VIT)
    add(f"{image}pos_embed", 1, GRID**2 + 1, VIT)
    layer(f"{image}patch_embed.proj", VIT, 3, 8, 8)
    for number in range(BLOCKS):
        vit_block(f"{image}blocks.{number}", VIT, "image" in lora)
    layer(f"{image}norm", VIT)
    layer("image_aligner.norm.norm", VIT)
    layer("image_aligner.layer", CODE, VIT, 1, 1)
    layer("image_aligner.cls_layer", CODE, VIT)

    add(f"{audio}masked_spec_embed", HUBERT)
    for number, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        layer(f"{audio}feature_extractor.conv_layers.{number}.conv", CONV, CONV if number else 1, kernel)
        layer(f"{audio}feature_extractor.conv_layers.{number}.layer_norm", CONV)
    layer(f"{audio}feature_projection.layer_norm", CONV)
    layer(f"{audio}feature_projection.projection", HUBERT, CONV)
    add(f"{audio}encoder.pos_conv_embed.conv.bias", HUBERT)
    names = {
        "old": ("weight_g", "weight_v"),
        "new": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    }
    add(f"{audio}encoder.pos_conv_embed.conv.{names[peft][0]}", 1, 1, KERNEL)
    add(f"{audio}encoder.pos_conv_embed.conv.{names[peft][1]}", HUBERT, HUBERT // 16, KERNEL)
    for number in range(BLOCKS):
        block = f"{audio}encoder.layers.{number}"
        for letter in "qkv":
            layer(f"{block}.attention.{letter}_proj", HUBERT, HUBERT, adapted="audio" in lora)
        layer(f"{block}.attention.out_proj", HUBERT, HUBERT)
        layer(f"{block}.layer_norm", HUBERT)
        layer(f"{block}.feed_forward.intermediate_dense", 4 * HUBERT, HUBERT)
        layer(f"{block}.feed_forward.output_dense", HUBERT, 4 * HUBERT)
        layer(f"{block}.final_layer_norm", HUBERT)
    layer(f"{audio}encoder.layer_norm", HUBERT)
    layer(f"{ALIGN}1.norm", HUBERT)
    layer(f"{ALIGN}2.layer", CODE, HUBERT, 1, 3)
    layer(f"{ALIGN}2.cls_layer", CODE, HUBERT)
    layer(f"{ALIGN}3.layer", CODE, CODE, 1, 3)
    vit_block(f"{ALIGN}4.block", CODE)
    if has_class:
        add("audio_cls", HUBERT)
    add("sim_cal.w", 1)
    return state


def prefixes(lora: str) -> tuple[str, str]:
    image, audio = (
        f"{part}.base_model.model.model." if part.split("_")[0] in lora else f"{part}.model."
        for part in ("image_model", "audio_model")
    )
    return image, audio


def write(path: Path, state: Weights, **settings: Any) -> Path:
    hyper = {"sim_agg_heads": 2, "image_model_type": "dino8", "audio_aligner_type": "audio_sa_3_3_pool_2", **settings}
    content = {"state_dict": state, "hyper_parameters": hyper, "epoch": 3, "optimizer_states": [{"state": {}}]}
    torch.save(content, path)
    return path


class Theirs:
    """The network, in functions."""

    def __init__(self, state: Weights, lora: str) -> None:
        self.state = state
        self.image, self.audio = prefixes(lora)

    def weight(self, name: str) -> tuple[Tensor, Tensor]:
        base = f"{name}.base_layer" if f"{name}.base_layer.weight" in self.state else name
        weight, bias = self.state[f"{base}.weight"], self.state[f"{base}.bias"]
        if f"{name}.lora_A.default.weight" in self.state:
            update = self.state[f"{name}.lora_B.default.weight"] @ self.state[f"{name}.lora_A.default.weight"]
            weight = weight + update * 32 / 4
        return weight, bias

    def layer(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weight(name)
        return x @ weight.T + bias

    def norm(self, name: str, x: Tensor, eps: float = 1e-4) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *self.weight(name), eps)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (q, k, v))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def vit_block(self, name: str, x: Tensor) -> Tensor:
        q, k, v = self.layer(f"{name}.attn.qkv", self.norm(f"{name}.norm1", x)).chunk(3, dim=-1)
        x = x + self.layer(f"{name}.attn.proj", self.attend(q, k, v, 6))
        inner = F.gelu(self.layer(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x)))
        return x + self.layer(f"{name}.mlp.fc2", inner)

    def frame_features(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, D, h, w)."""
        p = self.image
        x = F.conv2d(frames, *self.weight(f"{p}patch_embed.proj"), stride=8)
        grid = x.shape[2:]
        x = torch.cat([self.state[f"{p}cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = x + self.state[f"{p}pos_embed"]
        for number in range(BLOCKS):
            x = self.vit_block(f"{p}blocks.{number}", x)
        x = self.norm(f"{p}norm", x)[:, 1:].transpose(1, 2).unflatten(2, grid)
        x = self.norm("image_aligner.norm.norm", x.movedim(1, -1)).movedim(-1, 1)
        return F.conv2d(x, *self.weight("image_aligner.layer"))

    def hubert(self, samples: Tensor) -> Tensor:
        """(B, S) to (B, T, C)."""
        p, x = self.audio, samples[:, None]
        for number, stride in enumerate(STRIDES):
            name = f"{p}feature_extractor.conv_layers.{number}"
            x = F.conv1d(x, *self.weight(f"{name}.conv"), stride=stride)
            x = F.gelu(self.norm(f"{name}.layer_norm", x.transpose(1, 2), 1e-5)).transpose(1, 2)
        x = self.norm(f"{p}feature_projection.layer_norm", x.transpose(1, 2))
        x = self.layer(f"{p}feature_projection.projection", x)
        conv = f"{p}encoder.pos_conv_embed.conv."
        suffix = ("weight_g", "weight_v")
        if f"{conv}weight_v" not in self.state:
            suffix = ("parametrizations.weight.original0", "parametrizations.weight.original1")
        length, direction = (self.state[conv + name] for name in suffix)
        weight = torch.stack(
            [direction[..., k] * length[0, 0, k] / direction[..., k].square().sum().sqrt() for k in range(KERNEL)],
            dim=2,
        )
        place = F.conv1d(x.transpose(1, 2), weight, self.state[f"{conv}bias"], padding=KERNEL // 2, groups=16)
        x = x + F.gelu(place[..., :-1]).transpose(1, 2)
        for number in range(BLOCKS):
            name = f"{p}encoder.layers.{number}"
            y = self.norm(f"{name}.layer_norm", x)
            q, k, v = (self.layer(f"{name}.attention.{letter}_proj", y) for letter in "qkv")
            x = x + self.layer(f"{name}.attention.out_proj", self.attend(q, k, v, 16))
            inner = F.gelu(
                self.layer(f"{name}.feed_forward.intermediate_dense", self.norm(f"{name}.final_layer_norm", x))
            )
            x = x + self.layer(f"{name}.feed_forward.output_dense", inner)
        return self.norm(f"{p}encoder.layer_norm", x)

    def sound_features(self, samples: Tensor) -> Tensor:
        """(B, S) to (B, D, T')."""
        x = self.norm(f"{ALIGN}1.norm", self.hubert(samples)).transpose(1, 2)[:, :, None]  # (B, C, 1, T)
        for number in (2, 3):
            x = F.conv2d(x, *self.weight(f"{ALIGN}{number}.layer"), stride=(1, 3))
        tokens = x[:, :, 0].transpose(1, 2)
        if "audio_cls" in self.state:
            cls = self.layer(f"{ALIGN}2.cls_layer", self.norm(f"{ALIGN}1.norm", self.state["audio_cls"]))
            tokens = torch.cat([cls.expand(len(tokens), 1, -1), tokens], dim=1)
        tokens = self.vit_block(f"{ALIGN}4.block", tokens)
        return (tokens[:, 1:] if "audio_cls" in self.state else tokens).transpose(1, 2)


@pytest.mark.parametrize(
    ("lora", "peft", "has_class"),
    [("image", "old", True), ("image audio", "new", True), ("", "old", False), ("", "new", True)],
)
@torch.no_grad()
def test_converted_model_computes_what_the_checkpoint_stands_for(tmp_path, lora, peft, has_class):
    torch.manual_seed(0)
    state = random_state(lora=lora, peft=peft, has_class=has_class)
    found = read_checkpoint("dense-av", write(tmp_path / "c.ckpt", state))
    model, theirs = found.model, Theirs(state, lora)
    assert (model.num_heads, model.audio_over_time) == (2, True)
    video = torch.randn(2, 3, 2, 8 * GRID, 8 * GRID)
    samples = torch.randn(2, 12_000)
    close = {"rtol": 1e-5, "atol": 1e-5}
    frames = theirs.frame_features(video.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 2)).transpose(1, 2)
    torch.testing.assert_close(model.visual_cells(video), frames, **close)
    torch.testing.assert_close(model.sound_queries(samples[:, None, :, None]), theirs.sound_features(samples), **close)


@torch.no_grad()
def test_audio_tower_equals_transformers_hubert(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.HubertConfig(
        hidden_size=HUBERT,
        num_hidden_layers=BLOCKS,
        num_attention_heads=16,
        intermediate_size=4 * HUBERT,
        conv_dim=(CONV,) * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        layer_norm_eps=1e-4,
        num_conv_pos_embeddings=KERNEL,
    )
    torch.manual_seed(0)
    hubert = transformers.HubertModel(config).eval()
    state = random_state(lora="")
    own = {f"audio_model.model.{name}": value for name, value in hubert.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.startswith("audio_model.")} | own
    encoder = read_checkpoint("dense-av", write(tmp_path / "c.ckpt", state)).model.audio_encoder
    samples = torch.randn(2, 12_000)
    last_block = list(encoder.forward_stages(samples[:, None, :, None]).values())[-2]
    ours = encoder.output[0](last_block)[..., 0].transpose(1, 2)
    torch.testing.assert_close(ours, hubert(samples).last_hidden_state, rtol=1e-5, atol=1e-5)


def test_input_is_the_authors(tmp_path):
    found = read_checkpoint("dense-av", write(tmp_path / "c.ckpt", random_state()))
    transform = build_transform(found.config).eval()
    transform.standardize.set_statistics(*found.statistics)
    samples = torch.randn(2, 4000) * 0.1 + 0.05
    expected = (samples - samples.mean(dim=1, keepdim=True)) / (
        samples.var(dim=1, keepdim=True, correction=0) + 1e-7
    ).sqrt()
    torch.testing.assert_close(transform.audio_input(samples)[:, 0, :, 0], expected)
    sampling = found.config.sampling
    assert (sampling.audio_seconds, sampling.sample_rate_hz) == (10.0, 16_000)
    assert sampling.num_frames / sampling.frames_per_second == sampling.audio_seconds


def test_every_tensor_is_accounted_for(tmp_path):
    path, state = tmp_path / "c.ckpt", random_state()
    found = read_checkpoint("dense-av", write(path, state))
    assert found.about["left out, masking in the training of HuBERT"] == "audio_model.model.masked_spec_embed"
    assert found.about["left out, scale of the authors' dot products"] == "sim_cal.w"
    assert found.about["left behind"] == "epoch, optimizer_states"

    def error(change: dict[str, Tensor | None], **settings: Any) -> str:
        changed = {name: value for name, value in {**state, **change}.items() if value is not None}
        with pytest.raises(ConvertError) as caught:
            read_checkpoint("dense-av", write(path, changed, **settings))
        return str(caught.value)

    qkv = "image_model.base_model.model.model.blocks.1.attn.qkv"
    assert f"{qkv}.lora_B.default.weight is missing (1 of " in error({f"{qkv}.lora_B.default.weight": None})
    assert "cannot be combined: their shapes are" in error({f"{qkv}.lora_B.default.weight": torch.zeros(5, 4)})
    assert "'sim_agg.x' is not a key" in error({"sim_agg.x": torch.zeros(1)})
    assert "image_aligner.layer.bias is (7,) torch.float32" in error({"image_aligner.layer.bias": torch.zeros(7)})
    assert "image_aligner.cls_layer.bias is missing" in error({"image_aligner.cls_layer.bias": None})
    assert "audio_cls holds NaN" in error({"audio_cls": torch.full((HUBERT,), torch.nan)})
    assert "image_model_type is 'dinov2'" in error({}, image_model_type="dinov2")
    assert "sim_agg_heads (None) must be the number of heads" in error({}, sim_agg_heads=None)
    assert "heads share the features" in error({}, sim_agg_heads=5)
    torch.save({"model": state}, path)
    with pytest.raises(
        ConvertError, match="the key state_dict is missing or no state dict; a DenseAV file has it, not"
    ):
        read_checkpoint("dense-av", path)
    torch.save({"state_dict": state}, path)
    with pytest.raises(
        ConvertError, match=r"settings \(hyper_parameters\) are missing, which tell the number of heads"
    ):
        read_checkpoint("dense-av", path)


def test_release_states_its_terms_and_serves_the_verbs(tmp_path, check_release):
    checkpoint = write(tmp_path / "c.ckpt", random_state())
    loaded = check_release("dense-av", checkpoint, "\nlicense: mit\n---\n", "https://arxiv.org/abs/2406.05629")
    assert loaded.model.num_heads == 2
    assert loaded.transform.video_eval.size % 8 == 0


def test_folders_of_the_hub_are_read(tmp_path, monkeypatch):
    state, folder = random_state(lora=""), tmp_path / "DenseAV-sound"
    settings = {"sim_agg_heads": 1, "sim_use_cls": True, "image_model_type": "dino8", "image_lora": False}
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    expected = read_checkpoint("dense-av", write(tmp_path / "c.ckpt", state, sim_agg_heads=1)).model.state_dict()
    asked = []
    monkeypatch.setattr("avssl.hub.converters.download", lambda *given: asked.append(given) or folder)
    for name in (folder, f"local-dir:{folder}", "hf-hub:mhamilton723/DenseAV-sound"):
        found = read_checkpoint("dense-av", name)
        assert all(torch.equal(found.model.state_dict()[key], value) for key, value in expected.items())
        assert "left behind" not in found.about
    (repository, files) = asked[0]
    assert (str(repository), files) == ("hf-hub:mhamilton723/DenseAV-sound", ("model.safetensors", "config.json"))

    assert main(["convert", "dense-av", "hf-hub:mhamilton723/DenseAV-sound", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.safetensors").exists()

    (folder / "config.json").write_text("{")
    with pytest.raises(ConvertError, match=r"config\.json: not JSON"):
        read_checkpoint("dense-av", folder)
    (folder / "model.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(ConvertError, match="not a readable safetensors file"):
        read_checkpoint("dense-av", folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConvertError, match=r"model\.safetensors: no such file"):
        read_checkpoint("dense-av", folder)


def test_files_with_code_are_refused(check_code_is_refused):
    check_code_is_refused("dense-av")
