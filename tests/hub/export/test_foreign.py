"""Exported towers of other libraries, compared with the models that they were made of.

All are written by torch.export; those of ``ONNX`` by onnxruntime too, which takes longer.
"""

import logging

import pytest
import torch
from torch import nn

from avssl.config import Config, config_from_dict
from avssl.hub.export.programs import convert, write
from avssl.hub.export.towers import towers_of
from avssl.hub.pretrained import PretrainedModel
from avssl.models.foreign.tower import merge_adapters
from avssl.training.build import build_model, build_sampling, build_transform

logging.getLogger("torch.__trace").disabled = True  # thousands of records, which pytest would keep
pytest.importorskip("timm")
pytest.importorskip("transformers")

BLOCK = ("hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2")
WIDE = (*BLOCK, "intermediate_size=16")
IMAGE = (*WIDE, "image_size=32", "patch_size=8")
WAVES = (*WIDE, "conv_dim=[8, 8]", "conv_stride=[8, 8]", "conv_kernel=[10, 8]", "num_feat_extract_layers=2")
WAVES += ("num_conv_pos_embeddings=16", "num_conv_pos_embedding_groups=2")
CLAP = ("patch_embeds_hidden_size=8", "depths=[1, 1]", "num_attention_heads=[1, 2]", "hidden_size=16")
WHISPER = ("d_model=16", "encoder_layers=1", "encoder_attention_heads=2", "encoder_ffn_dim=16", "vocab_size=9")
WHISPER += ("max_source_positions=50", "decoder_layers=1", "decoder_attention_heads=2", "pad_token_id=0")
WHISPER += ("bos_token_id=1", "eos_token_id=2", "decoder_start_token_id=1")
VIT = ("depth=1", "embed_dim=16", "num_heads=2", "img_size=32", "patch_size=8")
ANY, SQUARE = ["frames", "height", "width"], ["frames", 32, 32]

VIDEO = {
    ("timm", "vit_tiny_patch16_224"): ({"config": VIT, "lora": 2, "pool": "attention", "temporal_layers": 1}, ANY),
    ("timm", "eva02_tiny_patch14_224"): (
        {"config": ("depth=1", "embed_dim=16", "num_heads=2", "img_size=28"), "frozen": True},
        ANY,
    ),
    ("timm", "convnext_tiny"): ({"config": ("depths=[1, 1, 1, 1]", "dims=[4, 4, 4, 4]")}, ANY),
    ("timm", "swin_tiny_patch4_window7_224"): (
        {"config": ("depths=[1, 1]", "embed_dim=8", "num_heads=[1, 2]", "img_size=56")},
        ["frames", 56, 56],
    ),
    ("torchvision", "s3d"): ({}, [16, "height", "width"]),
    ("hf", "clip"): ({"config": IMAGE}, SQUARE),
    ("hf", "dinov2"): ({"config": (*BLOCK, "image_size=32", "patch_size=8")}, SQUARE),
    ("hf", "videomae"): ({"config": (*IMAGE, "num_frames=4")}, [4, 32, 32]),
    ("hf", "vjepa2"): (
        {"config": (*BLOCK, "crop_size=32", "patch_size=8", "frames_per_clip=4", "pred_num_hidden_layers=1")},
        SQUARE,
    ),
    ("image_text", "siglip"): ({"config": IMAGE, "pool": "token"}, SQUARE),
}
"""Settings of tiny networks, and the shape of the frames that the program takes."""
AUDIO = {
    ("hf", "ast"): ({"config": (*WIDE, "num_mel_bins=32", "max_length=64")}, [1, 64, 32]),
    ("hf", "clap"): ({"config": CLAP}, [1, 1001, 64]),
    ("hf", "hubert"): ({"config": WAVES}, [1, "time", 1]),
    ("hf", "wavlm"): ({"config": WAVES}, [1, "time", 1]),
    ("hf", "wav2vec2-bert"): ({"config": WIDE}, [1, "time", 160]),
    ("hf", "whisper"): ({"config": WHISPER}, [1, 100, 80]),
}
"""Settings of tiny networks, and the shape of the spectrogram that the program takes outside."""
ONNX = {("timm", "vit_tiny_patch16_224"), ("hf", "clip"), ("hf", "videomae"), ("hf", "whisper")}


def model_of(modality: str, library: str, backbone: str, options: dict) -> PretrainedModel:
    """Build a model with a foreign tower on one side and a small one on the other."""
    tower = {"name": library, "backbone": backbone, **{k: list(v) if k == "config" else v for k, v in options.items()}}
    small = {"name": f"small_{'audio' if modality == 'video' else 'video'}", "width": 4}
    tree = {
        "data": {"source": "none"},
        "sampling": {"num_frames": 16 if backbone == "s3d" else 4, "frames_per_second": 4.0, "audio_seconds": 0.4},
        "transform": {"video": {"size": 64}} if modality == "audio" or backbone in LARGE else {},
        "model": {modality: tower, small["name"].removeprefix("small_"): small, "head": {"out_features": 8}},
    }
    if modality == "video":
        tree["transform"]["spectrogram"] = {"num_mels": 16, "window_length": 256}
    config = config_from_dict(tree, "", Config)
    transform = build_transform(config).eval()
    if transform.spectrogram.fixed_statistics is None:
        bins = transform.spectrogram.num_bins
        transform.standardize.set_statistics(torch.zeros(bins), torch.ones(bins))
    model = build_model(config, 0).eval()
    for parameter in model.parameters():  # adapters and layers over time begin at zero
        parameter.data += 0.02 * torch.randn_like(parameter)
    return PretrainedModel(model, transform, build_sampling(config), config, "test")


LARGE = ("s3d", "convnext_tiny")
"""Networks without a size of their own in the settings, which take smaller frames than those of their training."""
CASES = [pytest.param("video", name, *VIDEO[name], "inside", id="-".join(name)) for name in VIDEO]
CASES += [pytest.param("audio", name, AUDIO[name][0], ["samples"], "inside", id="-".join(name)) for name in AUDIO]
CASES += [
    pytest.param("audio", name, *AUDIO[name], "outside", id=f"{name[1]}-outside")
    for name in [("hf", "ast"), ("hf", "hubert")]
]


@pytest.mark.parametrize(("modality", "name", "options", "shape", "place"), CASES)
def test_exported(modality, name, options, shape, place, tmp_path):
    pretrained = model_of(modality, *name, options)
    (tower,) = (tower for tower in towers_of(pretrained, place) if tower.name == modality)
    for form in ("pt2", "onnx") if name in ONNX and place == "inside" else ("pt2",):
        written = write(convert(tower, form, {}), tmp_path / f"x.{form}")
        (found,) = written.inputs.values()
        assert found == ["batch", *([3] if modality == "video" else []), *shape]


def test_adapters_are_merged():
    pretrained = model_of("video", "timm", "vit_tiny_patch16_224", {"config": VIT, "lora": 2})
    merged = merge_adapters(pretrained.model)
    assert not any("lora" in name for name, _ in merged.named_modules())
    assert any("lora" in name for name, _ in pretrained.model.named_modules())
    assert merge_adapters(merged) is merged
    assert isinstance(merged.video_encoder.backbone.network.blocks[0].attn.qkv, nn.Linear)
    x = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(merged.embed_video(x), pretrained.model.embed_video(x), atol=1e-5, rtol=1e-5)
