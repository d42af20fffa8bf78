"""Networks of torchvision: maps, stages, gradients, weights."""

import pytest
import torch
from safetensors.torch import save_file

from avssl.core.errors import InputError
from avssl.models import create_encoder
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.torchvision import VIDEO_NAMES, TorchvisionEncoder
from avssl.models.foreign.weights import WeightsError
from avssl.transforms import VideoEval

CASES = {
    "s3d": ((1024, 1, 2, 2), 8, 64),
    "mvit_v2_s": ((32, 2, 4, 4), 4, 32),
    "swin3d_t": ((768, 2, 2, 2), 4, 64),
    "regnet_y_400mf": ((440, 4, 2, 2), 4, 64),
}
"""The map (C, T', H', W'), the number of frames and their size."""


@pytest.fixture(autouse=True)
def small_mvit(monkeypatch):
    """MViT with two blocks on 4 frames of 32 pixels; torchvision's own functions make large ones only."""
    from torchvision.models import get_model
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    def create(name, **options):
        if not name.startswith("mvit"):
            return get_model(name, **options)
        blocks = [
            MSBlockConfig(1, 16, 32, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 1, 1]),
            MSBlockConfig(2, 32, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
        ]
        return MViT((32, 32), 4, blocks, False, True, True, True, 0.5, 0.0, 0.0, 10)

    monkeypatch.setattr("torchvision.models.get_model", create)


@pytest.mark.parametrize("name", CASES)
def test_maps_stages_and_gradients(name):
    shape, frames, size = CASES[name]
    with torch.device("meta"):
        create_encoder("torchvision", backbone=name)
    encoder = create_encoder("torchvision", backbone=name)
    x = torch.randn(2, 3, frames, size, size)
    stages = encoder.eval().forward_stages(x)
    features = encoder.forward_features(x)
    assert features.shape == (2, *shape)
    assert tuple(stages) == encoder.stage_names
    torch.testing.assert_close(list(stages.values())[-1], features)
    assert all(stage.ndim == 5 for stage in stages.values())
    encoder.train()(x).square().sum().backward()
    assert [key for key, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", [*VIDEO_NAMES, "regnet_y_400mf", "regnet_y_16gf", "regnet_y_128gf"])
def test_frames_equal_those_of_the_transform_of_the_weights(name):
    """Compared on float frames: 8-bit frames are rounded after their resize."""
    from torchvision.models import get_model_weights

    contract = TorchvisionEncoder.contract_of(Spec(name))
    transform = get_model_weights(name).DEFAULT.transforms()
    frames = torch.randint(0, 256, (2, 3, 300, 400), dtype=torch.uint8)
    wanted = transform(frames.float() / 255)
    if name.startswith("regnet"):
        wanted = wanted.transpose(0, 1)  # (3, T, H, W), as of video networks
    ours = VideoEval(
        contract.size,
        resize_short=contract.resize_short,
        interpolation=contract.interpolation,
        keep_aspect=contract.keep_aspect,
        antialias=contract.antialias,
        mean=contract.mean,
        std=contract.std,
    )(frames[None], torch.tensor([[300, 400]]))[0]
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)


def test_contracts_and_bad_names():
    contract = create_encoder("torchvision", backbone="mvit_v2_s").contract
    assert (contract.size, contract.resize_short, contract.num_frames, contract.mean[0]) == (224, 256, 16, 0.45)
    assert contract.is_fixed_length
    with pytest.raises(InputError, match="Did you mean swin3d_t"):
        create_encoder("torchvision", backbone="swin3d_x")


def test_weights_are_loaded_without_the_classifier(tmp_path):
    from torchvision.models import regnet_y_400mf

    network = regnet_y_400mf(num_classes=3)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    encoder = create_encoder("torchvision", backbone="regnet_y_400mf", pretrained=str(tmp_path))
    encoder.load_pretrained()
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in encoder.backbone.network.state_dict().items())
    other = create_encoder("torchvision", backbone="regnet_y_800mf", pretrained=str(tmp_path))
    with pytest.raises(WeightsError, match=r"not the weights of regnet_y_800mf: trunk_output"):
        other.load_pretrained()
