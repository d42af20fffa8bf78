"""What an encoder shows of a picture, with nothing heard."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18
from torchvision.transforms.v2.functional import normalize, resize

from avssl.localization.object_prior import ResNetPrior, activation_map


def test_the_map_is_the_mean_absolute_activation():
    features = torch.tensor([1.0, -2.0, -3.0, 6.0]).view(1, 2, 1, 1, 2)
    assert torch.equal(activation_map(features), torch.tensor([[[[2.0, 4.0]]]]))  # (1 + 3) / 2, (2 + 6) / 2


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return path


def test_resnet_maps_are_those_of_torchvision(network, weights):
    picture = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = ResNetPrior(weights)(picture)
    x = resize(picture.float() / 255, [224, 224], antialias=True)
    x = normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])[None]
    with torch.no_grad():
        features = torch.nn.Sequential(*list(network.children())[:-2])(x)
    assert found.shape == (7, 7)
    assert torch.allclose(found, features[0].abs().mean(dim=0), rtol=1e-3, atol=1e-5)


def test_weights_without_classifier_and_as_safetensors_are_the_same(network, weights, tmp_path):
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    save_file(state, tmp_path / "resnet18.safetensors")
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert torch.equal(ResNetPrior(tmp_path / "resnet18.safetensors")(picture), ResNetPrior(weights)(picture))


def test_what_is_no_such_file_is_named(network, weights, tmp_path):
    with pytest.raises(ValueError, match=r"none\.pth: no such file\. Name the weights of torchvision's resnet18"):
        ResNetPrior(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"text\.pth: cannot be read as weights"):
        ResNetPrior(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="not a state_dict, which maps names to tensors"):
        ResNetPrior(tmp_path / "list.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: not the weights of torchvision's resnet18"):
        ResNetPrior(tmp_path / "other.pth")


class Trap:
    def __reduce__(self):
        return (print, ("this ran",))


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        ResNetPrior(tmp_path / "trap.pth")
    assert "this ran" not in capsys.readouterr().out


def test_a_huge_file_is_not_opened(tmp_path):
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(ValueError, match="at most 1073741824 are read"):
        ResNetPrior(tmp_path / "huge.pth")
