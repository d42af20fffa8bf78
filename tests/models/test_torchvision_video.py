import pytest
import torch
from torch import nn
from torchvision.models import video as torchvision_video

from avssl.models import create_encoder

NAMES = ["r2plus1d_18", "r3d_18", "mc3_18"]


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_torchvision(name: str):
    network = getattr(torchvision_video, name)(weights=None)
    weights = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    encoder = create_encoder(name).eval()
    encoder.load_state_dict(weights)  # strict: the same keys
    network.fc = nn.Identity()
    x = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), network.eval()(x))


@pytest.mark.parametrize(
    ("name", "frames"), [("r2plus1d_18", (16, 16, 8, 4, 2)), ("r3d_18", (16, 16, 8, 4, 2)), ("mc3_18", (16,) * 5)]
)
def test_shapes_of_16_frames(name: str, frames: tuple[int, ...]):
    with torch.device("meta"):
        encoder = create_encoder(name)
        stages = encoder.forward_stages(torch.empty(1, 3, 16, 112, 112))
    widths, sizes = (64, 64, 128, 256, 512), (56, 56, 28, 14, 7)
    assert [tuple(output.shape[1:]) for output in stages.values()] == [
        (width, t, size, size) for width, t, size in zip(widths, frames, sizes, strict=True)
    ]


def test_pool_option_takes_the_maximum():
    encoder = create_encoder("r3d_18", pool="max").eval()
    x = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(encoder(x), encoder.forward_features(x).amax(dim=(2, 3, 4)))
