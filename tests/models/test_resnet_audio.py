import torch
from torch import nn
from torchvision.models import resnet18

from avssl.models import create_encoder


def test_features_are_those_of_torchvision_with_one_channel():
    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    encoder = create_encoder("resnet18_audio").eval()
    network.load_state_dict({key.removeprefix("stem."): value for key, value in encoder.state_dict().items()})
    x = torch.randn(2, 1, 100, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), network.eval()(x))


def test_shapes_of_two_seconds():
    with torch.device("meta"):
        stages = create_encoder("resnet18_audio").forward_stages(torch.empty(1, 1, 200, 64))
    assert {name: tuple(output.shape[1:]) for name, output in stages.items()} == {
        "stem": (64, 50, 16),
        "layer1": (64, 50, 16),
        "layer2": (128, 25, 8),
        "layer3": (256, 13, 4),
        "layer4": (512, 7, 2),
    }


def test_first_convolution_is_initialized_like_the_others():
    weight = create_encoder("resnet18_audio").get_parameter("stem.conv1.weight")
    assert abs(weight.std().item() / (2 / (64 * 49)) ** 0.5 - 1) < 0.1
