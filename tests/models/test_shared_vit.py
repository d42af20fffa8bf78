"""One vision transformer for frames and spectrograms: what is shared, what is not, and how it is counted and kept."""

import copy

import pytest
import torch

from avssl.core.errors import InputError
from avssl.engine import WeightAverage
from avssl.models import AVModel, Classifier, create_encoder, create_head
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.timm import TimmEncoder
from avssl.models.foreign.weights import weight_folder
from avssl.models.momentum import MomentumModel

TINY = ("depth=3", "embed_dim=48", "num_heads=2", "img_size=32", "patch_size=8")


pytest.importorskip("timm")


def create_trunk(**options):
    return create_encoder("timm", **{"backbone": "vit_tiny_patch16_224", "config": TINY} | options)


def create_pair(video=None, **options) -> AVModel:
    video = create_trunk() if video is None else video
    audio = create_encoder(
        "shared_vit", modality="audio", trunk=video, **{"patch": 8, "num_columns": 4, "num_rows": 4} | options
    )
    return AVModel(video, audio, create_head("mlp", 48), create_head("mlp", 48))


def blocks_of(encoder):
    return list(encoder.blocks().values())


@pytest.mark.parametrize("options", [{}, {"own_blocks": 1, "own_norms": True}, {"pool": "token"}])
def test_maps_of_any_time_length(options):
    encoder = create_pair(**options).audio_encoder.eval()
    for columns, cells in ((32, 4), (50, 7), (5, 1), (200, 25)):
        x = torch.randn(2, 1, columns, 32)
        pooled, features = encoder.forward_pooled(x)
        assert features.shape == (2, 48, cells, 4)
        assert pooled.shape == (2, 48)
        torch.testing.assert_close(encoder.forward_features(x), features)
    stages = encoder.forward_stages(x)
    assert tuple(stages) == encoder.stage_names == tuple(encoder.blocks())
    torch.testing.assert_close(stages["block.2"], features)
    assert tuple(encoder.forward_stages(x, "blocks")) == encoder.stage_names


def test_last_patches_are_filled_with_zeros():
    encoder = create_pair().audio_encoder.eval()
    x = torch.randn(1, 1, 29, 30)
    filled = torch.nn.functional.pad(x, (0, 2, 0, 3))
    torch.testing.assert_close(encoder(x), encoder(filled))


def test_cells_are_in_their_places():
    """Features of a spectrogram whose one patch changes differ most in the cell of that patch."""
    encoder = create_pair().audio_encoder.eval()
    x = torch.zeros(1, 1, 48, 32)
    changed = x.clone()
    changed[0, 0, 16:24, 24:32] = 3.0
    with torch.no_grad():
        difference = (encoder.forward_features(changed) - encoder.forward_features(x)).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), difference.shape[1]) == (2, 3)


def test_gray_frame_and_equal_spectrogram_have_equal_features_from_public_weights(timm_folder):
    """An independent reference: summed over the colors, the patch embedding of a gray frame is that of its one channel.

    So the video tower, which timm runs, says what the audio tower must be.
    """
    words = TimmEncoder.spec_of(Spec(""), weight_folder(str(timm_folder))).words()
    model = create_pair(create_encoder("timm", **words, pretrained=str(timm_folder)), own_blocks=1, own_norms=True)
    model.video_encoder.load_pretrained()
    model.audio_encoder.load_pretrained()
    model.eval()
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        video, audio = model.video_encoder.forward_features(x.expand(2, 3, 32, 32)[:, :, None]), model.audio_encoder
        torch.testing.assert_close(audio.forward_features(x), video[:, :, 0], rtol=1e-4, atol=1e-5)
    larger = create_encoder("shared_vit", modality="audio", trunk=model.video_encoder, num_columns=5, num_rows=2)
    larger.load_pretrained()
    assert larger.network.patch_embed.proj.weight.shape == (48, 1, 16, 16)
    assert larger.network.pos_embed.shape == (1, 1 + 10, 48)
    assert torch.equal(larger.network.cls_token, audio.network.cls_token)


def test_gradient_of_the_trunk_is_the_sum_of_both_modalities():
    model = create_pair()
    alone = copy.deepcopy(model)
    alone.audio_encoder.network.blocks = copy.deepcopy(alone.audio_encoder.network.blocks)
    alone.audio_encoder.network.norm = copy.deepcopy(alone.audio_encoder.network.norm)
    video, audio = torch.randn(2, 3, 2, 32, 32), torch.randn(2, 1, 32, 32)
    for each in (model, alone):
        output = each(video, audio)
        (output.video * output.audio).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    shared = dict(zip(blocks_of(model.video_encoder), blocks_of(alone.video_encoder), strict=True))
    for (block, one), other in zip(shared.items(), blocks_of(alone.audio_encoder), strict=True):
        for p, a, b in zip(block.parameters(), one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p.grad, a.grad + b.grad)


@pytest.mark.parametrize(
    ("options", "shared", "own"),
    [
        ({}, {"blocks.0.attn", "blocks.0.norm1", "blocks.2.mlp", "norm"}, {"patch_embed", "pos_embed", "cls_token"}),
        ({"own_norms": True}, {"blocks.0.attn", "blocks.2.mlp"}, {"norm", "blocks.0.norm1", "blocks.2.norm2"}),
        ({"own_blocks": 2}, {"blocks.2.norm1", "blocks.2.attn", "norm"}, {"blocks.0", "blocks.1.mlp", "patch_embed"}),
    ],
)
def test_options_say_what_is_shared(options, shared, own):
    model = create_pair(**options)
    video = dict(model.video_encoder.backbone.network.named_parameters())
    audio = dict(model.audio_encoder.network.named_parameters())
    for parts, is_same in ((shared, True), (own, False)):
        for part in parts:
            names = [name for name in audio if name == part or name.startswith(f"{part}.")]
            assert names
            assert all((audio[name] is video[name]) == is_same for name in names)


def test_state_holds_the_trunk_once_and_is_read_back():
    model = create_pair(own_norms=True)
    state = model.state_dict()
    assert set(state) == {name for name, _ in model.named_parameters()}
    assert not any("audio" in name and ".attn." in name for name in state)
    assert "audio_encoder.network.blocks.0.norm1.weight" in state
    other = create_pair(own_norms=True)
    other.load_state_dict(state)
    audio = torch.randn(1, 1, 32, 32)
    assert torch.equal(other.encode_audio(audio), model.encode_audio(audio))
    with torch.device("meta"):
        assert set(create_pair(own_norms=True).state_dict()) == set(state)
    with pytest.raises(RuntimeError, match=r"Missing key.*video_encoder.*blocks\.0\.attn\.qkv\.weight"):
        other.load_state_dict({name: value for name, value in state.items() if ".blocks.0." not in name})


def test_copies_of_the_model_share_too():
    model = create_pair()
    slow = MomentumModel(model, 0.5)
    video, audio = (blocks_of(encoder) for encoder in (slow.model.video_encoder, slow.model.audio_encoder))
    assert all(one is other for one, other in zip(video, audio, strict=True))
    assert video[0] is not blocks_of(model.video_encoder)[0]
    assert set(slow.model.state_dict()) == set(model.state_dict())
    before = video[0].attn.qkv.weight.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    slow.follow(model)
    torch.testing.assert_close(video[0].attn.qkv.weight, before + 0.5)  # moved once


def test_averaged_weights_are_exchanged_and_put_back():
    model = create_pair()
    average = WeightAverage(model, 0.5)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    with average.applied():
        assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_model_moves_to_a_device_as_one():
    with torch.device("meta"):
        model = create_pair(own_norms=True)
    model.to_empty(device="cpu")
    for one, other in zip(blocks_of(model.video_encoder), blocks_of(model.audio_encoder), strict=True):
        assert one.attn is other.attn
        assert one.attn.qkv.weight is other.attn.qkv.weight


@pytest.mark.parametrize("inputs", ["both", "audio", "video"])
def test_classifier_counts_each_parameter_once(inputs):
    classifier = Classifier.of(create_pair(), 5, inputs=inputs)
    counted = [id(p) for _, group in classifier.backbone_parameters() for p in group]
    assert len(counted) == len(set(counted))
    assert set(counted) == {id(p) for p in classifier.encoders.parameters()}
    state = classifier.state_dict()
    assert set(state) == {name for name, _ in classifier.named_parameters()}
    assert any(".blocks.0.attn." in name for name in state)  # audio alone has the trunk too
    depths = {id(p): depth for depth, group in classifier.backbone_parameters() for p in group}
    encoder = next(iter(classifier.encoders.values()))
    stem, first, last = (encoder.get_parameter(name) for name in depth_names(inputs))
    assert (depths[id(stem)], depths[id(first)], depths[id(last)]) == (3, 2, 0)


def depth_names(inputs):
    network = "network" if inputs == "audio" else "backbone.network"
    return [f"{network}.{name}" for name in ("pos_embed", "blocks.0.attn.qkv.weight", "norm.weight")]


@pytest.mark.parametrize("options", [{"frozen": True}, {"lora": 2}, {"frozen_stages": 1}])
def test_fixed_trunk_is_fixed_for_audio_too_whose_own_parts_learn(options):
    model = create_pair(create_trunk(config=(*TINY, "drop_path_rate=0.5"), **options), own_norms=True).train()
    audio, network = model.audio_encoder, model.audio_encoder.network
    assert not network.blocks[0].attn.qkv.weight.requires_grad if "lora" not in options else True
    assert not any(module.training for module in network.blocks[0].drop_path1.modules())
    audio(torch.randn(2, 1, 32, 32)).square().sum().backward()
    for parameter in (network.patch_embed.proj.weight, network.pos_embed, network.blocks[0].norm1.weight):
        assert parameter.grad.abs().sum() > 0
    fixed = [p for n, p in network.blocks[0].named_parameters() if "lora" not in n and ".norm" not in f".{n}"]
    assert fixed
    assert all(p.grad is None for p in fixed)
    if "lora" in options:
        adapter = network.blocks[0].attn.qkv.lora_B["default"].weight
        assert adapter.grad.abs().sum() > 0
        assert adapter is model.video_encoder.backbone.network.blocks[0].attn.qkv.lora_B["default"].weight


def test_recomputed_activations_have_the_same_gradients():
    plain = create_pair().train()
    recomputed = create_pair(create_trunk(recompute=True)).train()
    recomputed.load_state_dict(plain.state_dict())
    video, audio = torch.randn(2, 3, 1, 32, 32), torch.randn(2, 1, 32, 32)
    for model, options in ((plain, {}), (recomputed, {"chunk_size": 1})):
        output = model(video, audio, **options)
        (output.video * output.audio).sum().backward()
    for one, other in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_blocks_run_on_some_of_the_tokens(modality):
    model = create_pair().eval()
    encoder = model.video_encoder if modality == "video" else model.audio_encoder
    x = torch.randn(2, 3, 3, 32, 32) if modality == "video" else torch.randn(2, 1, 50, 32)
    patches = encoder.patch_tokens(x)
    images = 6 if modality == "video" else 2
    assert patches.tokens.shape == (images, 1 + patches.num_patches, 48)
    assert (patches.grid, patches.first) == ((4, 4) if modality == "video" else (7, 4), 1)
    with torch.no_grad():
        cells = patches.patches_of(encoder.trunk(patches.tokens)).transpose(1, 2).unflatten(2, patches.grid)
        features = encoder.forward_features(x)
        if modality == "video":
            features = features.transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(cells, features)
        indices = torch.stack([torch.randperm(patches.num_patches)[:5] for _ in range(images)])
        kept = patches.keep(indices)
        assert kept.shape == (images, 6, 48)
        assert torch.equal(kept[:, 0], patches.tokens[:, 0])
        assert torch.equal(kept[1, 3], patches.tokens[1, 1 + indices[1, 2]])
        assert encoder.trunk(kept).shape == kept.shape
        order = torch.randperm(patches.num_patches).expand(images, -1)
        torch.testing.assert_close(
            encoder.trunk(patches.keep(order))[:, 1:], patches.patches_of(encoder.trunk(patches.tokens))[:, order[0]]
        )


@pytest.mark.parametrize(
    ("trunk", "options", "message"),
    [
        ({"name": "small_video"}, {}, "video encoder is a SmallVideoEncoder: set model.video.name to timm"),
        ({"backbone": "regnety_002", "config": ()}, {}, "'regnety_002'. is a RegNet of timm; its blocks cannot"),
        ({}, {"own_blocks": 3}, r"own_blocks \(3\) must be below 3"),
        ({"lora": 2}, {"own_blocks": 1}, "own_blocks is for full training"),
        ({"config": (*TINY, "class_token=False", "global_pool=''")}, {"pool": "token"}, "needs a class token"),
    ],
)
def test_trunk_that_does_not_fit_is_an_error(trunk, options, message):
    video = create_encoder(trunk["name"]) if "name" in trunk else create_trunk(**trunk)
    with pytest.raises(InputError, match=message):
        create_pair(video, **options)


def test_tokens_of_other_networks_are_an_error():
    encoder = create_encoder("timm", backbone="regnety_002")
    with pytest.raises(InputError, match="plain vision transformer, such as vit_small_patch16_224"):
        encoder.patch_tokens(torch.randn(1, 3, 1, 32, 32))


def test_trunk_is_named_where_it_is_missing():
    with pytest.raises(InputError, match=r"shared_vit also needs trunk.*The video encoder whose blocks are shared"):
        create_encoder("shared_vit", modality="audio")
