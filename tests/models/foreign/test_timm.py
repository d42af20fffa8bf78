"""Networks of timm: maps, stages, contracts, weights and the input that timm's own transform makes."""

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.core.errors import InputError
from avssl.models import create_encoder
from avssl.models.foreign.spec import Spec, parse_words
from avssl.models.foreign.timm import TimmEncoder
from avssl.models.foreign.weights import WeightFolder, WeightsError
from avssl.transforms import VideoEval

TINY = {
    "vit_tiny_patch16_224": (("depth=2", "embed_dim=48", "num_heads=2", "img_size=32", "patch_size=8"), (48, 4, 4), 1),
    "eva02_tiny_patch14_224": (("depth=2", "embed_dim=48", "num_heads=2", "img_size=28"), (48, 2, 2), 1),
    "vit_small_patch16_dinov3": (("depth=2", "embed_dim=48", "num_heads=2", "img_size=32"), (48, 2, 2), 5),
    "convnext_tiny": (("depths=[1, 1, 1, 1]", "dims=[8, 16, 24, 32]"), (32, 1, 1), 0),
    "regnety_002": ((), (368, 1, 1), 0),
    "swin_tiny_patch4_window7_224": (
        ("depths=[1, 1]", "embed_dim=12", "num_heads=[1, 2]", "img_size=56"),
        (24, 7, 7),
        0,
    ),
}
"""Settings of tiny networks, the size (C, H', W') of their maps and the number of extra tokens."""
SQUEEZED = "vit_medium_patch16_gap_384"
"""A network whose input is squeezed into a square, of which the center is cut out."""


@pytest.mark.parametrize("name", TINY)
def test_maps_stages_and_extra_tokens(name):
    config, (channels, height, width), num_extra = TINY[name]
    encoder = create_encoder("timm", backbone=name, config=config)
    size = encoder.contract.size if encoder.contract.size < 100 else 32
    x = torch.randn(2, 3, 3, size, size)
    features = encoder.forward_features(x)
    assert features.shape == (2, channels, 3, height, width)
    assert encoder(x).shape == (2, encoder.num_features)
    tokens = encoder.eval().tokens(x)
    assert (0 if tokens.extra is None else tokens.extra.shape[2]) == num_extra
    stages = encoder.forward_stages(x)
    assert tuple(stages) == encoder.stage_names == tuple(encoder.blocks())
    torch.testing.assert_close(list(stages.values())[-1], encoder.forward_features(x))
    assert all(stage.ndim == 5 and stage.shape[2] == 3 for stage in stages.values())


@pytest.mark.parametrize("name", TINY)
def test_every_trained_parameter_gets_a_gradient(name):
    config = TINY[name][0]
    encoder = create_encoder("timm", backbone=name, config=config)
    size = encoder.contract.size if encoder.contract.size < 100 else 32
    encoder(torch.randn(2, 3, 1, size, size)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


def test_cells_are_those_of_timm_in_their_places():
    """Features of an image whose one patch changes differ most in the cell of that patch."""
    encoder = create_encoder("timm", backbone="vit_tiny_patch16_224", config=TINY["vit_tiny_patch16_224"][0]).eval()
    x = torch.zeros(1, 3, 2, 32, 32)
    changed = x.clone()
    changed[0, :, 1, 8:16, 24:32] = 3.0  # frame 1, row 1, column 3 of the map
    with torch.no_grad():
        difference = (encoder.forward_features(changed) - encoder.forward_features(x)).norm(dim=1)[0]
        own = encoder.backbone.network.forward_features(changed[:, :, 1])
    assert np.unravel_index(int(difference.argmax()), difference.shape) == (1, 1, 3)
    cells = encoder.forward_features(changed)[0, :, 1].flatten(1).T
    torch.testing.assert_close(cells, own[0, 1:])


def test_other_sizes_are_multiples_of_the_patch():
    encoder = create_encoder("timm", backbone="vit_tiny_patch16_224", config=TINY["vit_tiny_patch16_224"][0])
    assert encoder.forward_features(torch.randn(1, 3, 1, 48, 48)).shape == (1, 48, 1, 6, 6)
    assert encoder.contract.size_multiple == 8
    assert encoder.contract.full_frame_size(32, 4 / 3) == 40


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "convnext_tiny", "eva02_tiny_patch14_224", "regnety_002", SQUEEZED]
)
def test_input_equals_timms_own_transform(name):
    """Compared on float frames: timm resizes 8-bit images, whose rounding is off by half a level."""
    import timm.data
    import timm.models
    from torchvision.transforms import v2

    contract = TimmEncoder.contract_of(Spec(name))
    own = timm.data.create_transform(
        **timm.data.resolve_data_config({}, pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
    )
    resize, crop, _, normalize = own.transforms
    frame = torch.randint(0, 256, (3, 300, 400), dtype=torch.uint8)
    modes = v2.InterpolationMode(resize.interpolation.value)
    size = [resize.size] if isinstance(resize.size, int) else list(resize.size)
    resized = v2.functional.resize(frame.float() / 255, size, interpolation=modes, antialias=True)
    wanted = normalize(crop(resized))
    ours = VideoEval(
        contract.size,
        resize_short=contract.resize_short,
        interpolation=contract.interpolation,
        keep_aspect=contract.keep_aspect,
        mean=contract.mean,
        std=contract.std,
    )(frame[None, None], torch.tensor([[300, 400]]))[0, :, 0]
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)
    image = own(Image.fromarray(frame.permute(1, 2, 0).numpy()))
    assert (ours - image).abs().mean() < 0.01  # half of one of 255 levels is 0.009 at a deviation of 0.225


@pytest.mark.parametrize(("name", "millions", "channels"), [("regnety_1280", 637, 7392), ("regnety_2560", 1272, 10444)])
def test_regnets_of_seers_size_are_built(name, millions, channels):
    """SEER's RegNetY-128GF and 256GF (https://arxiv.org/abs/2103.01988), without memory for their weights."""
    with torch.device("meta"):
        encoder = create_encoder("timm", backbone=name)
        stages = encoder.forward_stages(torch.empty(1, 3, 2, 224, 224))
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6) == millions
    assert [tuple(stage.shape[2:]) for stage in stages.values()] == [(2, side, side) for side in (56, 28, 14, 7)]
    assert list(stages.values())[-1].shape[:2] == (1, encoder.num_features) == (1, channels)


def test_pretrained_weights_complete_the_description_and_are_loaded(timm_folder):
    from avssl.models.foreign.weights import weight_folder

    spec = TimmEncoder.spec_of(Spec(""), weight_folder(str(timm_folder)))
    contract = TimmEncoder.contract_of(spec)
    assert (contract.size, contract.mean, contract.resize_short) == (32, (0.4, 0.5, 0.6), 35)
    encoder = create_encoder("timm", **spec.words(), pretrained=str(timm_folder))
    before = encoder.backbone.network.patch_embed.proj.weight.clone()
    encoder.load_pretrained()
    from safetensors.torch import load_file

    theirs = load_file(timm_folder / "model.safetensors")
    assert not torch.equal(before, theirs["patch_embed.proj.weight"])
    for name, value in encoder.backbone.network.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)
    assert encoder.license_id == "apache-2.0"


def test_weights_of_another_network_name_the_first_tensors_that_differ(timm_folder):
    other = create_encoder(
        "timm", backbone="vit_tiny_patch16_224", config=("depth=2", "img_size=32"), pretrained=str(timm_folder)
    )
    with pytest.raises(WeightsError, match=r"cls_token is \(1, 1, 48\) there and \(1, 1, 192\) here; .* more"):
        other.load_pretrained()


@pytest.mark.parametrize(
    ("name", "config", "first"),
    [
        ("vit_tiny_patch16_224", ("depth=3",), r"blocks.2.norm1.weight is missing there and \(48,\) here"),
        ("vit_tiny_patch16_224", ("depth=1",), r"blocks.1.attn.proj.bias is \(48,\) there and unknown here"),
        ("resnet18", (), "conv1.weight is missing there"),
        ("beit_base_patch16_224", (), r"cls_token is \(1, 1, 48\) there"),
    ],
)
def test_no_tensor_stays_random_and_none_is_left_over(timm_folder, name, config, first):
    """Timm itself accepts missing tensors where the number of classes differs."""
    own = TINY[name][0][1:] if name in TINY else ()
    encoder = create_encoder("timm", backbone=name, config=own + config, pretrained=str(timm_folder))
    with pytest.raises(WeightsError, match=f"not the weights of {name}: .*{first}"):
        encoder.load_pretrained()


def test_folder_of_another_library_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="names no architecture; is it of another library"):
        TimmEncoder.spec_of(Spec(""), WeightFolder(tmp_path, "clip"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vit_smal_patch16_224"}, "Did you mean vit_small_patch16_224"),
        ({"backbone": "hiera_tiny_224"}, "are no map of cells"),
        ({"backbone": "naflexvit_base_patch16_gap"}, "are no map of cells"),
        ({"backbone": "vit_tiny_patch16_224.foo"}, "Its tags are vit_tiny_patch16_224.augreg_in21k"),
        ({"backbone": "vit_tiny_patch16_224", "pool": "token"}, '"mean", "max" or "attention"'),
        ({"backbone": "vit_tiny_patch16_224", "config": ("depht=2",)}, "depht"),
        ({"backbone": "vit_tiny_patch16_224", "config": ("depth",)}, 'must be words like "depth=2"'),
    ],
)
def test_bad_names_and_settings_are_errors(options, message):
    with pytest.raises(InputError, match=message):
        create_encoder("timm", **options).forward_features(torch.zeros(1, 3, 1, 224, 224))


def test_words_are_read_back():
    spec = Spec("x", {"depth": 2, "inner": {"sizes": [1, 2], "name": "a b"}, "rate": 0.5, "flag": False, "none": None})
    assert parse_words("config", spec.words()["config"]) == spec.config
