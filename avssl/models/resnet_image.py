"""torchvision's ResNet-18 on every frame separately, without classifier, untrained.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385; the
image encoder of LVS, EZ-VSL, SLAVC and FNAC, which use one frame and three seconds of audio.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import resnet18

from avssl.models.encoder import Encoder, Pooling
from avssl.models.map_stride import refine_map


class PerFrame(nn.Sequential):
    """Image layers applied to every frame of a clip: (B, C, T, H, W) to (B, C', T, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)  # (B, T, C, H, W)
        output = super().forward(frames.flatten(0, 1))
        return output.unflatten(0, frames.shape[:2]).transpose(1, 2)


class ResNetImageEncoder(Encoder):
    """ResNet-18 (11.2 M parameters) on every frame separately; one frame is enough.

    Video (B, 3, T, H, W) to (B, 512, T, H/stride, W/stride), each rounded up; T may be 1.

    Names of parameters are torchvision's but for ``stem.`` before those of the first convolution.

    Args:
        pool: Pooling of all cells of all frames into one vector, torchvision's by "mean"; "attention" learns which
            cells count.
        stride: Pixels per cell of the map: 32 (torchvision's, the default), 16 or 8.
        dilated: Dilate the convolutions behind a removed stride, so that every second cell equals the original map's.

    Raises:
        ValueError: As :func:`avssl.models.map_stride.refine_map`.
    """

    frames_alone = True

    def __init__(self, pool: Pooling = "mean", stride: int | None = None, dilated: bool = False) -> None:
        super().__init__("video", 512, ("stem", "layer1", "layer2", "layer3", "layer4"), pool)
        network = resnet18(weights=None)
        self.stem = PerFrame(
            OrderedDict(conv1=network.conv1, bn1=network.bn1, relu=network.relu, maxpool=network.maxpool)
        )
        for name in self.stage_names[1:]:
            self.add_module(name, PerFrame(*network.get_submodule(name).children()))
        refine_map([getattr(self, name) for name in self.stage_names], 32, stride, dilated)
