"""The two towers of DenseAV: DINO's ViT-S/8 on frames and HuBERT on the waveform, each with its aligner.

Source: Hamilton et al., CVPR 2024, https://arxiv.org/abs/2406.05629; DINO, https://arxiv.org/abs/2104.14294; HuBERT
(large), https://arxiv.org/abs/2106.07447, whose convolutions and positions are those of wav2vec 2.0,
https://arxiv.org/abs/2006.11477. A low-rank update of DINO's attention is part of its weights here.

Dimensions: B clips, S samples, T steps of HuBERT (50 per second), D output width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.core.ranges import Blocks, Channels, Positive, checked
from avssl.models.encoder import Encoder, Pooling
from avssl.models.vit import VitFrames, transformer_blocks

HUBERT_KERNELS = (10, 3, 3, 3, 3, 2, 2)
HUBERT_STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""Samples per step: their product, 320, which is 20 ms at 16 kHz."""
POOL_WIDTH = 3
"""Steps that each of the aligner's two convolutions joins."""


@checked
class DenseAvVideo(VitFrames):
    """DINO's ViT-S/8 on every frame, and a linear aligner of each cell.

    Video (B, 3, T, H, W) to (B, out_features, T, H/8, W/8).

    Args:
        width: Width of the tokens.
        num_blocks: Number of transformer blocks.
        num_heads: Attention heads of a block; divides the width.
        grid: Patches along each side of a frame of the training size.
        out_features: D.
        norm_eps: Epsilon of the layer normalization.
        pool: Pooling of all cells of all frames into one vector; "attention" learns which cells count.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(
        self,
        width: Channels = 384,
        num_blocks: Blocks = 12,
        num_heads: Blocks = 6,
        grid: Blocks = 28,
        out_features: Channels = 384,
        norm_eps: Positive = 1e-4,
        pool: Pooling = "mean",
    ) -> None:
        super().__init__(width, num_blocks, num_heads, 8, grid, norm_eps=norm_eps, pool=pool)
        self.output = nn.Sequential(self.output, nn.LayerNorm(width, eps=norm_eps), nn.Linear(width, out_features))
        self.num_features = out_features


class TimeNorm(nn.LayerNorm):
    """Layer normalization of the channels of (B, C, T, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class TimePosition(nn.Module):
    """Positions of HuBERT: (B, C, T, 1) plus a grouped convolution over 128 steps of itself.

    Args:
        width: C.
        kernel: Steps of the convolution.
        num_groups: Groups of channels.
    """

    def __init__(self, width: int, kernel: int, num_groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, (kernel, 1), padding=(kernel // 2, 0), groups=num_groups)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.conv(x)[:, :, : x.shape[2]])  # an even kernel gives one step more


class TimeBlock(nn.Module):
    """A transformer block over the steps of (B, C, T, 1), with a class token in front that is left out of the output.

    Args:
        block: Maps (B, S, C) tokens to the same.
        class_width: C, for a learned class token; None for none.
    """

    def __init__(self, block: nn.Module, class_width: int | None = None) -> None:
        super().__init__()
        self.class_token = None if class_width is None else nn.Parameter(torch.zeros(1, 1, class_width))
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.squeeze(3).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        output: Tensor = self.block(tokens)
        return output[:, -x.shape[2] :].transpose(1, 2).unsqueeze(3)


@checked
class DenseAvAudio(Encoder):
    """HuBERT on the waveform, and an aligner that joins 9 steps and attends over the result.

    Waveform (B, 1, S, 1) at 16 kHz to (B, out_features, S/2880, 1), 5.6 steps per second.

    Args:
        width: Width of HuBERT's tokens.
        num_blocks: Number of HuBERT's transformer blocks.
        num_heads: Attention heads of a block; divides the width.
        conv_width: Channels of the convolutions on the waveform.
        position_kernel: Steps of the convolution that gives positions.
        position_groups: Groups of that convolution; divides the width.
        out_features: D.
        align_heads: Attention heads of the aligner; divides D.
        class_token: Add a learned token to the aligner's attention.
        norm_eps: Epsilon of the layer normalization behind the convolutions.
        pool: Pooling of all steps into one vector; "attention" learns which steps count.

    Raises:
        ValueError: If heads or groups do not divide their width.
    """

    def __init__(
        self,
        width: Channels = 1024,
        num_blocks: Blocks = 24,
        num_heads: Blocks = 16,
        conv_width: Channels = 512,
        position_kernel: Channels = 128,
        position_groups: Channels = 16,
        out_features: Channels = 384,
        align_heads: Blocks = 6,
        class_token: bool = True,
        norm_eps: Positive = 1e-4,
        pool: Pooling = "mean",
    ) -> None:
        names = tuple(f"block{number}" for number in range(1, num_blocks + 1))
        super().__init__("audio", out_features, ("convolutions", "tokens", *names, "output"), pool)
        if width % position_groups:
            raise InputError(f"position_groups ({position_groups}) must divide width ({width}) evenly.")
        layers: list[nn.Module] = []
        channels = 1
        for kernel, stride in zip(HUBERT_KERNELS, HUBERT_STRIDES, strict=True):
            layers += [nn.Conv2d(channels, conv_width, (kernel, 1), (stride, 1)), TimeNorm(conv_width), nn.GELU()]
            channels = conv_width
        self.convolutions = nn.Sequential(*layers)
        self.tokens = nn.Sequential(
            TimeNorm(conv_width, eps=norm_eps),
            nn.Conv2d(conv_width, width, 1),
            TimePosition(width, position_kernel, position_groups),
        )
        for name, block in zip(names, transformer_blocks(num_blocks, width, num_heads, norm_eps), strict=True):
            self.add_module(name, TimeBlock(block))
        (last,) = transformer_blocks(1, out_features, align_heads, norm_eps)
        joined = (POOL_WIDTH, 1)
        self.output = nn.Sequential(
            TimeNorm(width, eps=norm_eps),
            TimeNorm(width, eps=norm_eps),
            nn.Conv2d(width, out_features, joined, joined),
            nn.Conv2d(out_features, out_features, joined, joined),
            TimeBlock(last, out_features if class_token else None),
        )

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError unless ``x`` is a waveform long enough for one step of the output."""
        super().check_input(x)
        if x.shape[3] != 1 or self._num_steps(x.shape[2]) < POOL_WIDTH**2:
            raise InputError(
                f"the audio encoder {type(self).__name__} takes waveforms (B, 1, S, 1) of at least "
                f"{self._shortest()} samples, got {tuple(x.shape)}. Set transform.spectrogram.name waveform, and "
                "sampling.sample_rate_hz 16000."
            )

    def _num_steps(self, num_samples: int) -> int:
        for kernel, stride in zip(HUBERT_KERNELS, HUBERT_STRIDES, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def _shortest(self) -> int:
        length = POOL_WIDTH**2
        for kernel, stride in zip(reversed(HUBERT_KERNELS), reversed(HUBERT_STRIDES), strict=True):
            length = (length - 1) * stride + kernel
        return length
