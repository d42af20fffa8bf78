"""torchvision's 18-layer video ResNets as encoders, untrained.

Source: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition",
CVPR 2018, https://arxiv.org/abs/1711.11248. The networks are torchvision's own, without the
classifier; parameter names are kept, so its weights load once the ``fc.`` entries are removed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models import video as torchvision_video

from avssl.models.encoder import Encoder, Pooling
from avssl.models.map_stride import refine_map


class TorchvisionVideoEncoder(Encoder):
    """Video (B, 3, T, H, W) to (B, 512, T', H/stride, W/stride), rounded up.

    T' is T/8, rounded up, for ``r2plus1d_18`` and ``r3d_18``; ``mc3_18`` keeps all T frames.

    Args:
        build: torchvision's constructor of a ``VideoResNet``.
        pool: Pooling of all cells of the map into one vector, torchvision's by "mean"; "attention" learns which
            cells count.
        stride: Pixels per cell of the map: 16 (torchvision's, the default), 8 or 4.
        dilated: Dilate the convolutions behind a removed stride, so that every second cell equals the original map's.

    Raises:
        ValueError: As :func:`avssl.models.map_stride.refine_map`.
    """

    def __init__(
        self,
        build: Callable[..., nn.Module],
        pool: Pooling = "mean",
        stride: int | None = None,
        dilated: bool = False,
    ) -> None:
        super().__init__("video", 512, ("stem", "layer1", "layer2", "layer3", "layer4"), pool)
        network = build(weights=None)
        for name in self.stage_names:
            # torchvision's stems are subclasses of Sequential that cannot be sliced into blocks.
            self.add_module(name, nn.Sequential(*network.get_submodule(name).children()))
        refine_map([getattr(self, name) for name in self.stage_names], 16, stride, dilated)


r2plus1d_18 = partial(TorchvisionVideoEncoder, torchvision_video.r2plus1d_18)
"""The common R(2+1)D-18 backbone, 31.3 M parameters: every convolution in space, then in time."""
r3d_18 = partial(TorchvisionVideoEncoder, torchvision_video.r3d_18)
"""ResNet-18 with 3x3x3 convolutions, 33.2 M parameters."""
mc3_18 = partial(TorchvisionVideoEncoder, torchvision_video.mc3_18)
"""ResNet with 3-D convolutions in the stem and first layer and 2-D ones after them, 11.5 M parameters."""
