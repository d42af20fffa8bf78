import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from avssl.config import ConfigError, config_from_dict
from avssl.hub.converters import ConvertError, load_torchvision
from avssl.models import create_encoder


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """torchvision's, with statistics that are not those of a new network."""
    torch.manual_seed(5)
    network = resnet18(weights=None, num_classes=7)
    network(torch.randn(2, 3, 64, 64))
    return network.eval()


def saved(folder: Path, state: Any) -> Path:
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("stride", [32, 16])
def test_image_encoder_gives_torchvisions_features(network: Any, tmp_path: Path, stride: int) -> None:
    encoder = create_encoder("resnet18_image", stride=stride, dilated=stride != 32).eval()
    load_torchvision(encoder, saved(tmp_path, network.state_dict()))
    clip = torch.randn(2, 3, 1, 64, 96)
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(clip[:, :, 0]))))
        expected = network.layer4(network.layer3(network.layer2(network.layer1(x))))
        got = encoder.forward_features(clip)[:, :, 0]
    step = 32 // stride
    torch.testing.assert_close(got[..., ::step, ::step], expected, rtol=1e-4, atol=1e-5)


def test_files_of_old_torch_lack_counts_of_batches(network: nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    encoder = create_encoder("resnet18_image")
    load_torchvision(encoder, saved(tmp_path, state))
    assert torch.equal(encoder.stem.bn1.running_mean, network.bn1.running_mean)
    assert encoder.stem.bn1.num_batches_tracked == 0


def test_video_networks_load_theirs(tmp_path: Path) -> None:
    from torchvision.models.video import mc3_18

    network = mc3_18(weights=None)
    encoder = create_encoder("mc3_18", stride=8)
    load_torchvision(encoder, saved(tmp_path, network.state_dict()))
    assert torch.equal(encoder.layer4[1].conv2[0].weight, network.layer4[1].conv2[0].weight)
    assert torch.equal(encoder.stem[0].weight, network.stem[0].weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer3.1.conv2.weight"), r"layer3\.1\.conv2\.weight is missing \(1 of 120 are\)"),
        (lambda s: s.pop("conv1.weight"), r"conv1\.weight is missing"),
        (lambda s: s.update({"layer5.0.weight": torch.zeros(1)}), r"'layer5\.0\.weight' is not a key of this layout"),
        (lambda s: s.update({"bn1.bias": torch.zeros(3)}), r"bn1\.bias is \(3,\) .* but must be \(64,\)"),
        (lambda s: s["bn1.bias"].fill_(torch.nan), r"bn1\.bias holds NaN"),
    ],
)
def test_keys_that_do_not_fit_are_named(network: nn.Module, tmp_path: Path, change: Any, message: str) -> None:
    state = {name: x.clone() for name, x in network.state_dict().items()}
    change(state)
    encoder = create_encoder("resnet18_image")
    before = encoder.state_dict()["stem.conv1.weight"].clone()
    path = saved(tmp_path, state)
    with pytest.raises(ConvertError, match=rf"^{re.escape(str(path))}: the video encoder.*{message}") as error:
        load_torchvision(encoder, path)
    assert "resnet18 for resnet18_image" in str(error.value)
    assert torch.equal(encoder.state_dict()["stem.conv1.weight"], before)


def test_another_network_and_no_file_are_refused(network: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path, network.state_dict())
    with pytest.raises(ConvertError, match=r"is missing \(\d+ of \d+ are\).* torchvision's network of that name"):
        load_torchvision(create_encoder("small_video", width=4), path)
    with pytest.raises(ConvertError, match="no such file"):
        load_torchvision(create_encoder("resnet18_image"), tmp_path / "none.pth")
    torch.save(network, path)  # an object, whose loading would run code
    with pytest.raises(ConvertError, match="holds objects that could run code when loaded, which is never done"):
        load_torchvision(create_encoder("resnet18_image"), path)


def test_two_beginnings_are_refused() -> None:
    with pytest.raises(ConfigError, match="init_from provides all weights, including those of init_video_from"):
        config_from_dict({"train": {"init_from": "runs/a", "init_video_from": "b.pth"}})
