"""A small pair of encoders that trains on a CPU, for demos and first experiments.

``small_video`` keeps a map of one cell for 8x8 pixels, fine enough to point at a small object (16x16
or 4x4 on request); it needs about 0.3 GMAC for 8 frames of 112x112. ``small_audio`` needs about 12 MMAC for a
200 x 64 log-mel spectrogram.
"""

from __future__ import annotations

from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.core.ranges import Blocks, Channels, checked
from avssl.models.encoder import Encoder, Pooling

_STAGE_STRIDES = {16: (2, 2), 8: (2, 1), 4: (1, 1)}
"""Spatial strides of the two stages behind the stem's 4, by the resulting pixels per cell."""


class SmallBlock(nn.Module):
    """A 3x3 convolution in space and one of 3 frames in time, beside a shortcut.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Strides (time, space).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        time, space = stride
        self.spatial = nn.Conv3d(in_channels, out_channels, (1, 3, 3), (1, space, space), (0, 1, 1), bias=False)
        self.spatial_bn = nn.BatchNorm3d(out_channels)
        self.temporal = nn.Conv3d(out_channels, out_channels, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False)
        self.temporal_bn = nn.BatchNorm3d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1) or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=(time, space, space), bias=False),
                nn.BatchNorm3d(out_channels),
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T, H, W) to (B, C_out, T/time, H/space, W/space), rounded up."""
        y = self.relu(self.spatial_bn(self.spatial(x)))
        y = self.temporal_bn(self.temporal(y))
        return self.relu(y + self.shortcut(x))


@checked
class SmallVideoEncoder(Encoder):
    """A (2+1)D network for CPUs.

    Video (B, 3, T, H, W) to (B, 4 * width, T/temporal_stride, H/stride, W/stride), rounded up.

    The stem has stride 4: on a CPU, maps of 56x56 cost more in memory traffic than the rest of the
    network in arithmetic.

    Args:
        width: Channels of the stem; stage1 and stage2 have 2 and 4 times as many.
        num_blocks: Blocks in each of the two stages.
        temporal_stride: Stride s of the stem over time; it spans 2s - 1 frames.
        pool: Pooling of all cells of the map into one vector; "attention" learns which cells count.
        stride: Pixels per cell of the map: 16, 8 or 4. Weights have the same shapes for all.

    Raises:
        ValueError: If there are not two stages' worth of blocks, or ``stride`` is another number.
    """

    def __init__(
        self,
        width: Channels = 32,
        num_blocks: tuple[Blocks, Blocks] = (1, 1),
        temporal_stride: Blocks = 1,
        pool: Pooling = "max",
        stride: int = 8,
    ) -> None:
        super().__init__("video", 4 * width, ("stem", "stage1", "stage2"), pool)
        _check_stages("num_blocks", num_blocks, 2)
        if stride not in _STAGE_STRIDES:
            raise InputError(f"stride ({stride}) must be 16, 8 or 4 pixels a cell.")
        frames = 2 * temporal_stride - 1
        self.stem = nn.Sequential(
            nn.Conv3d(
                3, width, (frames, 7, 7), stride=(temporal_stride, 4, 4), padding=(frames // 2, 3, 3), bias=False
            ),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        in_channels = width
        for i, name in enumerate(("stage1", "stage2")):
            out_channels = 2 * in_channels
            blocks = [SmallBlock(in_channels, out_channels, (1, _STAGE_STRIDES[stride][i]))]
            blocks += [SmallBlock(out_channels, out_channels) for _ in range(num_blocks[i] - 1)]
            self.add_module(name, nn.Sequential(*blocks))
            in_channels = out_channels


@checked
class SmallAudioEncoder(Encoder):
    """Four strided 3x3 convolutions for CPUs.

    Log-mel (B, 1, time, freq) to (B, 8 * width, T', F').

    Args:
        width: Channels of the first stage; each later one doubles them.
        strides: Stride of each stage over time and frequency.
        pool: Pooling of all cells of the map into one vector; "attention" learns which cells count.

    Raises:
        ValueError: If there are not four strides.
    """

    def __init__(
        self, width: Channels = 16, strides: tuple[Blocks, Blocks, Blocks, Blocks] = (2, 2, 2, 1), pool: Pooling = "max"
    ) -> None:
        super().__init__("audio", 8 * width, ("stage1", "stage2", "stage3", "stage4"), pool)
        _check_stages("strides", strides, 4)
        in_channels = 1
        for i, name in enumerate(self.stage_names):
            out_channels = width * 2**i
            stage = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=strides[i], padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            )
            self.add_module(name, stage)
            in_channels = out_channels


def _check_stages(name: str, values: tuple[int, ...], count: int) -> None:
    if len(values) != count or min(values) < 1:
        raise InputError(f"{name} ({values}) must be {count} numbers >= 1, one for each stage.")
