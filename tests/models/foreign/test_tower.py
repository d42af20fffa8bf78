"""Frozen parts, adapters, rates by layer, recomputed activations and time, in backbones of all libraries."""

import pytest
import torch

from avssl.config import ConfigError, parse_settings
from avssl.core.errors import InputError
from avssl.models import create_encoder
from avssl.models.foreign.image_text import ImageTextEncoder
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.weights import weight_folder
from avssl.models.undecayed import undecayed

CONFIG = ("depth=2", "embed_dim=48", "num_heads=2", "img_size=32", "patch_size=8")


def tower(**options):
    return create_encoder("timm", backbone="vit_tiny_patch16_224", config=CONFIG, **options)


def trained(encoder):
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def test_frozen_backbone_trains_nothing_and_keeps_its_statistics():
    encoder = tower(frozen=True).train()
    assert trained(encoder) == set()
    assert not any(module.training for module in encoder.backbone.modules())
    assert not encoder(torch.randn(1, 3, 1, 32, 32)).requires_grad


def test_frozen_stages_count_blocks_from_the_stem():
    encoder = tower(frozen_stages=1).train()
    left = {name.removeprefix("backbone.network.").split(".")[0] for name in trained(encoder)}
    assert left == {"blocks", "norm"}
    assert all("blocks.1" in name or "norm" in name for name in trained(encoder))
    assert not encoder.backbone.network.blocks[0].training
    assert encoder.backbone.network.blocks[1].training
    with pytest.raises(InputError, match="at most 2"):
        tower(frozen_stages=3)


def test_adapters_start_as_the_backbone_and_are_all_that_is_trained():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = tower().eval()
    adapted = tower(lora=4, frozen=False)
    names = trained(adapted)
    assert names
    assert all("lora_" in name for name in names)
    weights = {
        name.replace(".base_layer.", "."): value for name, value in adapted.backbone.network.state_dict().items()
    }
    plain.backbone.network.load_state_dict({k: v for k, v in weights.items() if "lora_" not in k})
    x = torch.randn(1, 3, 1, 32, 32)
    torch.testing.assert_close(adapted.eval()(x), plain(x))
    assert len(names) == 2 * 2 * 2  # two matrices for qkv and proj of each of two blocks
    only_qkv = trained(tower(lora=4, lora_targets=("qkv",)))
    assert len(only_qkv) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora": 4, "lora_targets": ("query",)}, "lora_targets .'query'. is not a linear layer; there are fc1"),
        ({"lora_alpha": 4.0}, "need lora"),
        ({"lora": 4, "frozen_stages": 1}, "frozen_stages is for full training"),
    ],
)
def test_contradicting_options_are_errors(options, message):
    with pytest.raises(InputError, match=message):
        tower(**options)


def test_depth_orders_the_stem_below_all_blocks():
    encoder = tower(temporal_layers=1)
    depths = {id(p): depth for depth, parameters in encoder.parameters_by_depth() for p in parameters}
    network = encoder.backbone.network
    assert depths[id(network.cls_token)] == depths[id(network.patch_embed.proj.weight)] == 2
    assert depths[id(network.blocks[0].attn.qkv.weight)] == 1
    assert depths[id(network.norm.weight)] == depths[id(encoder.temporal.layers[0].linear1.weight)] == 0
    assert set(depths) == {id(p) for p in encoder.parameters()}


def test_recomputed_activations_have_the_same_gradients():
    plain, recomputed = tower().train(), tower(recompute=True).train()
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 1, 32, 32)
    for encoder in (plain, recomputed):
        encoder(x).square().sum().backward()
    for one, other in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_attention_over_time_starts_as_the_identity_and_mixes_frames_of_a_cell():
    encoder = tower(temporal_layers=1).eval()
    x = torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        before = encoder.tokens(x).cells
        torch.testing.assert_close(encoder.forward_features(x), before)
        for parameter in encoder.temporal.parameters():
            parameter.normal_(std=0.1)
        changed = before.clone()
        changed[:, :, 0, 2, 1] += torch.randn(48)
        moved = (encoder.temporal(changed) - encoder.temporal(before)).abs().sum(dim=1)[0] > 1e-6  # (T, H, W)
    assert moved[:, 2, 1].all()
    moved[:, 2, 1] = False
    assert not moved.any()
    assert encoder.forward_stages(x)["block.1"].shape == before.shape


@pytest.mark.parametrize("word", ["true", "True", "yes", "on"])
@pytest.mark.parametrize("name", ["timm", "hf", "torchvision", "image_text"])
def test_a_switch_is_no_name_of_weights(name, word):
    """In the class, and on the command line before anything is built."""
    message = rf"pretrained \({word}\) must name the weights: a folder with .*, or a repository, hf-hub:OWNER/NAME"
    with pytest.raises(InputError, match=message):
        create_encoder(name, modality="video", pretrained=word)
    with pytest.raises(ConfigError, match=message):
        parse_settings({"model.video.name": name, "model.video.pretrained": word})


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, ""), ({"frozen": True}, "2 of its blocks"), ({"frozen_stages": 1}, "1 of its blocks"), ({"lora": 2}, "2 of")],
)
def test_random_weights_that_stay_random_get_a_warning(options, reason, caplog):
    tower(**options).load_pretrained()
    assert [
        f"model.video timm starts from random weights: {reason}" in record.message for record in caplog.records
    ] == ([True] if reason else [])


def test_a_tower_beside_text_needs_its_public_weights(caplog, tiny_image_text):
    spec = ImageTextEncoder.spec_of(Spec(""), weight_folder(str(tiny_image_text("clip"))))
    create_encoder("image_text", modality="video", **spec.words()).load_pretrained()
    (record,) = caplog.records
    assert record.message.startswith("model.video image_text starts from random weights: its vectors are in no space")
    assert record.message.endswith("Name public weights: --model.video.pretrained FOLDER")


def test_positions_and_tokens_of_timm_are_not_decayed():
    """The reference is timm's own ``no_weight_decay``."""
    encoder = tower()
    network, found = encoder.backbone.network, {id(parameter) for parameter in undecayed(encoder)}
    named = {name for name, parameter in network.named_parameters() if id(parameter) in found}
    assert named == {"pos_embed", "cls_token"} == network.no_weight_decay() & dict(network.named_parameters()).keys()
