"""Object priors: maps of where an image shows objects, whatever the audio.

Source: object-guided localization (OGL), Mo and Morgado, "Localizing Visual Sounds the Easy Way", ECCV 2022,
https://arxiv.org/abs/2203.09324: the mean absolute activation of the last map of a ResNet-18 that was trained
on ImageNet. The prior ignores the audio, so its own score must be reported beside every map that it is fused with.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet18

from avssl.core.data_files import torch_file
from avssl.core.errors import InputError
from avssl.transforms import VideoEval

_MAX_BYTES = 1 << 30
_SIZE = 224


def activation_map(features: Tensor) -> Tensor:
    """Return (B, T', h, w) float32: the mean absolute activation of an encoder's last map, (B, C, T', h, w)."""
    return features.float().abs().mean(dim=1)


class ResNetPrior(nn.Module):
    """Object prior of EZ-VSL: a ResNet-18 without its classifier, on single images.

    Args:
        weights: torchvision's file of ImageNet weights (``resnet18-f37072fd.pth``), or the same as safetensors. Nothing
            is downloaded.

    Raises:
        ValueError: If the file is missing, too large, or holds other weights.
    """

    def __init__(self, weights: Path | str) -> None:
        super().__init__()
        self.network = resnet18(weights=None)
        self.network.fc = nn.Identity()
        state = {name: value for name, value in _read(Path(weights)).items() if not name.startswith("fc.")}
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise InputError(f"{weights}: not the weights of torchvision's resnet18 ({first}).") from error
        self.squeeze = VideoEval(_SIZE, crop="full")
        self.eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Return the (7, 7) float32 prior of a (3, H, W) uint8 RGB image of any size, resized to a square."""
        net, device = self.network, self.network.conv1.weight.device
        x = self.squeeze(image[None, None].to(device), torch.tensor([image.shape[1:]], device=device))[:, :, 0]
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))[0].abs().mean(dim=0)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        file = torch_file(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file. Name the weights of torchvision's resnet18, or the word own."
        ) from error
    try:
        if path.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds
        raise InputError(f"{path}: cannot be read as weights ({error}).") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}: not a state_dict, which maps names to tensors.")
    return found
