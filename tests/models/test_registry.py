"""One contract for every encoder of the table, and the table's own errors."""

import inspect
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from avssl.models import AUDIO_ENCODERS, HEADS, VIDEO_ENCODERS, Encoder, create_encoder, create_head, encoder_builder
from avssl.models.dense_av import DenseAvAudio
from avssl.models.vit import VitSpectrogram

SMALL: dict[str, dict[str, Any]] = {
    "vit_frames": {"width": 24, "num_blocks": 3, "num_heads": 3, "grid": 2, "num_registers": 2, "register_blocks": 2},
    "vit_spectrogram": {"width": 24, "num_blocks": 2, "num_heads": 3, "num_columns": 4, "num_rows": 2},
    "dense_av_video": {"width": 12, "num_blocks": 2, "grid": 5, "out_features": 8},
    "dense_av_audio": {
        "width": 16,
        "num_blocks": 2,
        "num_heads": 2,
        "conv_width": 8,
        "position_kernel": 4,
        "position_groups": 2,
        "out_features": 12,
    },
}
"""Options of networks that are large by default."""
TRANSFORMERS = ("vit_frames", "vit_spectrogram", "dense_av_video")
OWN = [
    name for name, path in (VIDEO_ENCODERS | AUDIO_ENCODERS).items() if ".foreign." not in path and name != "shared_vit"
]
"""Networks of this project; those of other libraries, and those made of them, have tests of their own."""
CHAINS = [name for name in OWN if name not in TRANSFORMERS]


def create_small(name: str) -> Encoder:
    return create_encoder(name, **SMALL.get(name, {}))


def example_input(encoder: Encoder) -> torch.Tensor:
    shape = (2, 3, 4, 48, 48) if encoder.modality == "video" else (2, 1, 40, 33)
    if isinstance(encoder, VitSpectrogram):
        shape = (2, 1, 48, 32)
    elif isinstance(encoder, DenseAvAudio):
        shape = (2, 1, 9000, 1)
    return torch.randn(shape)


def test_names_are_those_of_the_documentation():
    assert tuple(VIDEO_ENCODERS) == (
        "avid_r2plus1d_10",
        "avid_r2plus1d_18",
        "avid_r2plus1d_34",
        "r2plus1d_18",
        "r3d_18",
        "mc3_18",
        "resnet18_image",
        "small_video",
        "dense_av_video",
        "vit_frames",
        "timm",
        "image_text",
        "pe_video",
        "hf",
        "torchvision",
    )
    assert tuple(AUDIO_ENCODERS) == (
        "avid_audio_cnn_10",
        "resnet18_audio",
        "small_audio",
        "dense_av_audio",
        "vit_spectrogram",
        "shared_vit",
        "pe_audio",
        "audio_text",
        "hf",
    )
    assert tuple(HEADS) == ("mlp", "mlp_bn", "linear", "norm_linear")


@pytest.mark.parametrize("name", OWN)
def test_encoder_keeps_the_contract(name: str):
    encoder = create_small(name)
    assert encoder.modality == ("video" if name in tuple(VIDEO_ENCODERS) else "audio")
    x = example_input(encoder)
    untouched = x.clone()

    # In training, so that the gradient is that of training; BatchNorm's batch statistics repeat exactly.
    features = encoder.forward_features(x)
    stages = encoder.forward_stages(x)
    assert tuple(stages) == encoder.stage_names
    assert torch.equal(stages[encoder.stage_names[-1]], features)
    assert features.ndim == x.ndim
    assert features.shape[:2] == (2, encoder.num_features)

    pooled = encoder(x)
    assert pooled.shape == (2, encoder.num_features)
    assert torch.equal(pooled, encoder.pool(features))
    reduce = torch.amax if encoder.pooling == "max" else torch.mean
    torch.testing.assert_close(pooled, reduce(features, dim=tuple(range(2, x.ndim))))
    assert torch.equal(x, untouched)

    (pooled * torch.randn_like(pooled)).sum().backward()
    without_gradient = [
        key
        for key, p in encoder.named_parameters()
        if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()
    ]
    assert without_gradient == []


@pytest.mark.parametrize("name", CHAINS)
def test_stage_and_block_outputs_are_not_changed_by_later_ones(name: str):
    encoder = create_small(name).eval()
    x = example_input(encoder)
    with torch.no_grad():
        stages, blocks = encoder.forward_stages(x), encoder.forward_stages(x, "blocks")
        for stage in encoder.stage_names:
            x = getattr(encoder, stage)(x)
            assert torch.equal(x, stages[stage])
            last = [block for block in blocks if block.split(".")[0] == stage][-1]
            assert torch.equal(x, blocks[last])
    assert tuple(blocks) == tuple(encoder.blocks())


@pytest.mark.parametrize("name", OWN)
def test_every_parameter_is_in_one_block_in_order(name: str):
    encoder = create_small(name)
    parameters = [p for block in encoder.blocks().values() for p in block.parameters()]
    assert [id(p) for p in parameters] == [id(p) for p in encoder.parameters()]  # each in one block, in order


@pytest.mark.parametrize("name", OWN)
def test_every_parameter_belongs_to_a_stage(name: str):
    with torch.device("meta"):
        encoder = create_small(name)
    assert {key.split(".")[0] for key in encoder.state_dict()} == set(encoder.stage_names)


@pytest.mark.parametrize("name", OWN)
def test_encoder_in_eval_mode_treats_clips_alone(name: str):
    encoder = create_small(name).eval()
    x = example_input(encoder)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)[1:], encoder(x[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["small_video", "small_audio", "avid_r2plus1d_10", "avid_audio_cnn_10"])
def test_state_dict_survives_safetensors(name: str, tmp_path):
    encoder = create_encoder(name)
    encoder(example_input(encoder))  # moves the BatchNorm statistics
    encoder.eval()
    save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    loaded = create_encoder(name).eval()
    x = example_input(encoder)
    with torch.no_grad():
        assert not torch.equal(loaded(x), encoder(x))
        loaded.load_state_dict(load_file(tmp_path / "model.safetensors"))
        assert torch.equal(loaded(x), encoder(x))


def test_same_seed_gives_the_same_weights():
    torch.manual_seed(3)
    first = create_encoder("small_video").state_dict()
    torch.manual_seed(3)
    second = create_encoder("small_video").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_unknown_encoder_lists_names_and_suggests():
    with pytest.raises(
        ValueError, match=r"'avid_r2plus1d18' is not a known encoder\. Did you mean 'avid_r2plus1d_18'\?"
    ):
        create_encoder("avid_r2plus1d18")
    with pytest.raises(ValueError, match=r"Known: avid_r2plus1d_10, .*small_audio") as error:
        create_encoder("zzz")
    assert "Did you mean" not in str(error.value)


def test_unknown_option_names_the_encoder_and_its_options():
    with pytest.raises(
        ValueError, match=r"'stempool' is not a known option of encoder avid_r2plus1d_18\. Did you mean 'stem_pool'"
    ):
        create_encoder("avid_r2plus1d_18", stempool=False)


def test_bad_pool_says_what_is_right():
    with pytest.raises(ValueError, match=r"pool \('avg'\) must be \"max\", \"mean\" or \"attention\""):
        create_encoder("small_audio", pool="avg")


def test_builder_shows_the_options():
    assert set(inspect.signature(encoder_builder("small_video")).parameters) == {
        "width",
        "num_blocks",
        "temporal_stride",
        "pool",
        "stride",
    }


def test_unknown_head_lists_names_and_suggests():
    with pytest.raises(
        ValueError, match=r"'mlpbn' is not a known head\. Did you mean 'mlp_bn'\? Known: mlp, mlp_bn, linear"
    ):
        create_head("mlpbn", 512)
