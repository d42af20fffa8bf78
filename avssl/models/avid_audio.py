"""AVID's audio encoder: nine 2-D convolutions on a log spectrogram, no residual connections.

Source: Morgado, Vasconcelos and Misra, CVPR 2021, https://arxiv.org/abs/2004.12943, table of the
audio network ("depth 10" counts a classifier that is not here). Written from the operations.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from avssl.models.encoder import Encoder

_WIDTHS = {"conv2x": 64, "conv3x": 128, "conv4x": 256, "conv5x": 512}


class AvidAudioEncoder(Encoder):
    """AVID's nine convolutions, 4.7 M parameters.

    Log spectrogram (B, 1, time, freq) to (B, 512, time/16, freq/16), each rounded up.

    Two seconds at 100 frames a second and 257 bins give 512 x 13 x 17.

    Args:
        first_block_stride: Stride of conv2x: 2, or 1 as in AVID's ablations, whose spectrograms have half as many
            frames and bins (100 x 129 for two seconds).
    """

    def __init__(self, first_block_stride: int = 2) -> None:
        super().__init__("audio", 512, ("conv1", *_WIDTHS), pool="max")
        self.conv1 = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False),
                bn=nn.BatchNorm2d(64),
                relu=nn.ReLU(inplace=True),
            )
        )
        strides = {"conv2x": first_block_stride, "conv3x": 2, "conv4x": 2, "conv5x": 1}
        in_channels = 64
        for name, width in _WIDTHS.items():
            self.add_module(name, _block(in_channels, width, strides[name]))
            in_channels = width


def _block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions with BatchNorm and ReLU; the first carries the stride."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            bn1=nn.BatchNorm2d(out_channels),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(out_channels),
            relu2=nn.ReLU(inplace=True),
        )
    )
