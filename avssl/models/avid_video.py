"""AVID's video encoder, a lean variant of R(2+1)D.

Source: Morgado, Vasconcelos and Misra, "Audio-Visual Instance Discrimination with Cross-Modal
Agreement", CVPR 2021, https://arxiv.org/abs/2004.12943, table of the video network. Written from
the operations; the block follows Tran et al., 2018, https://arxiv.org/abs/1711.11248, but

- the stem is one full 3-D convolution and a max-pool;
- the spatial and temporal convolutions keep the block's output width (no widened mid-planes);
- the shortcut convolution has no BatchNorm, and one BatchNorm normalizes the sum;
- the last pooling is a global maximum.

Depth 18 has 15.4 M parameters; torchvision's ``r2plus1d_18`` has 31.3 M.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from avssl.models.deterministic import FrameMaxPool
from avssl.models.encoder import Encoder
from avssl.models.map_stride import refine_map

_WIDTHS = {"conv2x": 64, "conv3x": 128, "conv4x": 256, "conv5x": 512}


class AvidBlock(nn.Module):
    """Two (2+1)D convolutions beside a shortcut; one BatchNorm and ReLU after the sum.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of every convolution.
        stride: Stride over time and space; the first spatial and the first temporal convolution
            carry their share of it, the shortcut all of it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        # Registered in the order of computation, which is the order of the weights in a state dict.
        self.spatial1 = _spatial_conv(in_channels, out_channels, stride)
        self.spatial1_bn = nn.BatchNorm3d(out_channels)
        self.temporal1 = _temporal_conv(out_channels, stride)
        self.temporal1_bn = nn.BatchNorm3d(out_channels)
        self.spatial2 = _spatial_conv(out_channels, out_channels)
        self.spatial2_bn = nn.BatchNorm3d(out_channels)
        self.temporal2 = _temporal_conv(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
        self.sum_bn = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T, H, W) to (B, C_out, T/stride, H/stride, W/stride), rounded up."""
        y = self.relu(self.spatial1_bn(self.spatial1(x)))
        y = self.relu(self.temporal1_bn(self.temporal1(y)))
        y = self.relu(self.spatial2_bn(self.spatial2(y)))
        y = self.temporal2(y)
        return self.relu(self.sum_bn(y + self.shortcut(x)))


class AvidVideoEncoder(Encoder):
    """AVID's R(2+1)D variant.

    Video (B, 3, T, H, W) to (B, 512, T/8, H/stride, W/stride), each rounded up.

    Args:
        num_blocks: Blocks in conv2x, conv3x, conv4x and conv5x.
        stem_pool: Keep the stem's max-pool. Without it maps are twice as fine, as in AVID's ablations (depth 10 on
            112x112).
        stride: Pixels per cell of the map: 32 (AVID's, the default), 16 or 8; without stem_pool 16, 8 or 4.
        dilated: Dilate the convolutions behind a removed stride, so that every second cell equals the original map's.

    Raises:
        ValueError: As :func:`avssl.models.map_stride.refine_map`.
    """

    def __init__(
        self,
        num_blocks: tuple[int, int, int, int],
        stem_pool: bool = True,
        stride: int | None = None,
        dilated: bool = False,
    ) -> None:
        super().__init__("video", 512, ("conv1", *_WIDTHS), pool="max")
        self.conv1 = _stem(stem_pool)
        in_channels = 64
        for (name, width), count in zip(_WIDTHS.items(), num_blocks, strict=True):
            blocks = [AvidBlock(in_channels, width, stride=1 if name == "conv2x" else 2)]
            blocks += [AvidBlock(width, width) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(*blocks))
            in_channels = width
        refine_map([getattr(self, name) for name in self.stage_names], 32 if stem_pool else 16, stride, dilated)


avid_r2plus1d_10 = partial(AvidVideoEncoder, (1, 1, 1, 1))
"""One block per stage, 7.0 M parameters; ``stem_pool=False`` gives the paper's ablation network."""
avid_r2plus1d_18 = partial(AvidVideoEncoder, (2, 2, 2, 2))
"""Two blocks per stage, 15.4 M parameters: the paper's main network."""
avid_r2plus1d_34 = partial(AvidVideoEncoder, (3, 4, 6, 3))
"""3, 4, 6 and 3 blocks, 28.9 M parameters."""


def _stem(stem_pool: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv3d(3, 64, kernel_size=(3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
        bn=nn.BatchNorm3d(64),
        relu=nn.ReLU(inplace=True),
    )
    if stem_pool:
        layers["pool"] = FrameMaxPool(kernel_size=3, stride=2, padding=1)
    return nn.Sequential(layers)


def _spatial_conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)


def _temporal_conv(channels: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False)
