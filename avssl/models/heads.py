"""Projection heads: features to embeddings.

Source: the MLP head and its sizes follow AVID, https://arxiv.org/abs/2004.12943; the BatchNorm
variant follows SimCLR, https://arxiv.org/abs/2002.05709. Deeper heads, and fine-tuning from one of their layers, are
those of SimCLRv2, https://arxiv.org/abs/2006.10029, section 3.2. Outputs are not normalized: the
objectives do that. The learned scale of logits is CLIP's, https://arxiv.org/abs/2103.00020,
section 2.5, the learned bias SigLIP's, https://arxiv.org/abs/2303.15343, algorithm 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avssl.core.errors import InputError
from avssl.core.ranges import Channels, HeadDepth, checked
from avssl.models.encoder import Encoder

MAX_LOGIT_SCALE = 100.0
HEAD = "head"
"""Name of the last layer of a head, whose output is the embedding."""


class PooledBatchNorm(nn.BatchNorm1d):
    """BatchNorm with the statistics of pooled vectors, which also normalizes the cells of a map.

    With statistics of their own, a cell and a pooled vector with equal features would have different embeddings
    in training, and the running statistics would fit neither.
    """

    def with_cells(self, rows: Tensor, num_pooled: int) -> Tensor:
        """Normalize rows by the statistics of the first ``num_pooled`` of them.

        Args:
            rows: (N, C): ``num_pooled`` pooled vectors, then any number of cells.
            num_pooled: > 1 in training.

        Returns:
            (N, C). In training the running statistics move once, as in :meth:`forward`.
        """
        if not self.training:
            return self(rows)
        assert self.running_mean is not None, "tracks statistics"
        assert self.running_var is not None, "tracks statistics"
        assert self.num_batches_tracked is not None, "tracks statistics"
        var, mean, count = self.batch_statistics(rows[:num_pooled])
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean), momentum)
            self.running_var.lerp_((var * count / max(count - 1, 1)).to(self.running_var), momentum)
            self.num_batches_tracked.add_(1)
        gain = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul((self.bias - mean * gain).to(rows.dtype), rows, gain.to(rows.dtype))

    def batch_statistics(self, rows: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return the (C,) biased variance and mean of (N, C) rows, and N."""
        return *torch.var_mean(_at_least_float32(rows), dim=0, correction=0), len(rows)


class ProjectionHead(nn.Sequential):
    """Layers that act on the last dimension of an input of any rank.

    So the same head projects a pooled vector and every cell of a channels-last map. BatchNorm in a head uses
    statistics over all leading dimensions of the input, or only over the pooled vectors in :meth:`with_cells`.

    Args:
        in_features: Size of the last dimension of the input.
        out_features: Size of the last dimension of the output.
        layers: Modules that map (N, in_features) to (N, out_features).

    Example:
        >>> head = ProjectionHead(16, 8, torch.nn.Linear(16, 8))
        >>> head(torch.randn(2, 16)).shape, head(torch.randn(2, 4, 7, 7, 16)).shape  # pooled vectors, cells of a map
        (torch.Size([2, 8]), torch.Size([2, 4, 7, 7, 8]))
    """

    def __init__(self, in_features: int, out_features: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features).

        Raises:
            ValueError: If the last dimension is not ``in_features``.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise InputError(
                f"the head acts on the last dimension, which must have {self.in_features} features, "
                f"got {tuple(x.shape)}. Move the channels of a map last: x.movedim(1, -1)."
            )
        rows = super().forward(x.reshape(-1, self.in_features))
        return rows.reshape(*x.shape[:-1], self.out_features)

    @property
    def depth(self) -> int:
        """Number of linear layers."""
        return len(self._ends())

    def first_layers(self, depth: int) -> ProjectionHead:
        """Return the first layers with their activations as a head that shares them; 0 gives an identity.

        Raises:
            ValueError: If the head has fewer layers.
        """
        if not 0 <= depth <= self.depth:
            raise InputError(f"the head has {self.depth} layers, so a layer from 0 to {self.depth}, got {depth}.")
        stop = ([0, *self._ends()])[depth]
        widths = [layer.out_features for layer in list(self)[:stop] if isinstance(layer, nn.Linear)]
        return ProjectionHead(self.in_features, widths[-1] if widths else self.in_features, *list(self)[:stop])

    def forward_layers(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output of every layer behind its activation, by name: ``"head.1"``, ``"head.2"``, ``"head"``.

        Args:
            x: (N, in_features).

        Returns:
            (N, width) of each layer in order; the last one, ``"head"``, is :meth:`forward`. A head without layers
            has that one only.
        """
        outputs: dict[str, Tensor] = {}
        start = 0
        for number, stop in enumerate(self._ends(), start=1):
            for layer in list(self)[start:stop]:
                x = layer(x)
            outputs[f"{HEAD}.{number}" if number < self.depth else HEAD] = x
            start = stop
        return outputs or {HEAD: x}

    def _ends(self) -> list[int]:
        """Return the position behind each linear layer with its normalization and activation."""
        starts = [place for place, layer in enumerate(self) if isinstance(layer, nn.Linear)]
        return [*starts[1:], len(self)] if starts else []

    def with_cells(self, pooled: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Project pooled vectors and cells by the same function, in one pass.

        Args:
            pooled: (B, in_features).
            cells: (..., in_features).

        Returns:
            (B, out_features) and (..., out_features).
        """
        rows = torch.cat([pooled, cells.reshape(-1, self.in_features)])
        for layer in self:
            rows = layer.with_cells(rows, len(pooled)) if isinstance(layer, PooledBatchNorm) else layer(rows)
        return rows[: len(pooled)], rows[len(pooled) :].reshape(*cells.shape[:-1], self.out_features)


class HeadPair(nn.Module):
    """A projection head for each modality, into one space.

    Args:
        video: From the video encoder's ``num_features`` to D.
        audio: From the audio encoder's ``num_features`` to D.

    Example:
        >>> video, audio = (avssl.create_head("linear", size, out_features=8) for size in (192, 128))
        >>> HeadPair(video, audio).audio(torch.randn(2, 128)).shape
        torch.Size([2, 8])
    """

    def __init__(self, video: ProjectionHead, audio: ProjectionHead) -> None:
        super().__init__()
        self.video = video
        self.audio = audio


def check_heads(video_encoder: Encoder, audio_encoder: Encoder, heads: HeadPair, embedding_size: int) -> None:
    """Raise ValueError unless two encoders fit their heads, and those end in one embedding size."""
    _check_pair("video", video_encoder, heads.video)
    _check_pair("audio", audio_encoder, heads.audio)
    if not heads.video.out_features == heads.audio.out_features == embedding_size:
        raise InputError(
            "both heads must end in the same embedding size, "
            f"got video {heads.video.out_features} and audio {heads.audio.out_features}."
        )


def _check_pair(modality: str, encoder: Encoder, head: ProjectionHead) -> None:
    if encoder.modality != modality:
        raise InputError(
            f"the {modality} encoder reads {encoder.modality} ({type(encoder).__name__}). "
            "The arguments are video_encoder, audio_encoder, video_head, audio_head, in this order."
        )
    if head.in_features != encoder.num_features:
        raise InputError(
            f"the {modality} head takes {head.in_features} features but its encoder "
            f"({type(encoder).__name__}) has {encoder.num_features}."
        )


@checked
def mlp(in_features: int, out_features: Channels = 128, hidden: Channels = 512, depth: HeadDepth = 3) -> ProjectionHead:
    """Build AVID's head: two hidden layers with ReLU and biases; 590,976 parameters at 512-512-512-128.

    Args:
        in_features: The encoder's ``num_features``.
        out_features: Size of the embeddings that are compared.
        hidden: Width of the hidden layers.
        depth: Number of linear layers, the last of which has no ReLU. 0 compares the encoders' features: out_features
            must be their number.
    """
    layers: list[nn.Module] = []
    width = in_features
    for _ in range(depth - 1):
        layers += [nn.Linear(width, hidden), nn.ReLU(inplace=True)]
        width = hidden
    return _with_last_layer(in_features, out_features, width, layers, depth)


@checked
def mlp_bn(
    in_features: int, out_features: Channels = 128, hidden: Channels = 512, depth: HeadDepth = 3
) -> ProjectionHead:
    """Build a head with two hidden layers, BatchNorm and ReLU, for small batches and high learning rates.

    Args:
        in_features: The encoder's ``num_features``.
        out_features: Size of the embeddings that are compared.
        hidden: Width of the hidden layers.
        depth: Number of linear layers, the last of which has neither BatchNorm nor ReLU. 0 compares the encoders'
            features: out_features must be their number.
    """
    layers: list[nn.Module] = []
    width = in_features
    for _ in range(depth - 1):
        layers += [nn.Linear(width, hidden, bias=False), PooledBatchNorm(hidden), nn.ReLU(inplace=True)]
        width = hidden
    return _with_last_layer(in_features, out_features, width, layers, depth)


@checked
def linear(in_features: int, out_features: Channels = 128) -> ProjectionHead:
    """Build one linear layer with bias, AVID's ablation.

    Args:
        in_features: The encoder's ``num_features``.
        out_features: Size of the embeddings that are compared.
    """
    return ProjectionHead(in_features, out_features, nn.Linear(in_features, out_features))


@checked
def norm_linear(in_features: int, out_features: Channels = 128) -> ProjectionHead:
    """Build LayerNorm and a linear layer without bias, the head of PE-AV (https://arxiv.org/abs/2512.19687).

    Args:
        in_features: The encoder's ``num_features``.
        out_features: Size of the embeddings that are compared.
    """
    layers = nn.LayerNorm(in_features, eps=1e-6), nn.Linear(in_features, out_features, bias=False)
    return ProjectionHead(in_features, out_features, *layers)


class LogitScale(nn.Module):
    """Learned logarithm of the inverse temperature, and optional learned offset of the logits.

    The scale never exceeds 100, as in CLIP: if an optimizer step goes beyond, the parameter is clamped
    before the next step uses it, so its gradient never vanishes there.

    Args:
        logit_scale: Initial value, in (0, 100].
        logit_bias: Initial value of the offset; None for no offset.

    Raises:
        ValueError: If the scale is out of range.

    Example:
        >>> scale, bias = LogitScale(10.0, -10.0)()
        >>> round(scale.item(), 3), bias.item()
        (10.0, -10.0)
    """

    def __init__(self, logit_scale: float, logit_bias: float | None = None) -> None:
        super().__init__()
        if not 0 < logit_scale <= MAX_LOGIT_SCALE:
            raise InputError(
                f"logit_scale ({logit_scale}) must be in (0, {MAX_LOGIT_SCALE:g}]: a temperature of 0.01 or more."
            )
        # (1,), because sharding splits the first dimension of every parameter.
        self.log_scale = nn.Parameter(torch.tensor([math.log(logit_scale)]))
        self.bias = None if logit_bias is None else nn.Parameter(torch.tensor([float(logit_bias)]))

    def forward(self) -> tuple[Tensor, Tensor | None]:
        """Return the scale and the offset, () float32 each; the offset is None if it is not learned."""
        highest = math.log(MAX_LOGIT_SCALE)
        if self.training:
            with torch.no_grad():
                self.log_scale.clamp_(max=highest)
            scale = self.log_scale.exp()
        else:
            scale = self.log_scale.clamp(max=highest).exp()
        return scale.squeeze(0), None if self.bias is None else self.bias.squeeze(0)


def _with_last_layer(
    in_features: int, out_features: int, width: int, hidden_layers: list[nn.Module], depth: int
) -> ProjectionHead:
    """Return a head of the hidden layers and a last one, from ``width``; without layers, an identity."""
    if depth:
        return ProjectionHead(in_features, out_features, *hidden_layers, nn.Linear(width, out_features))
    if in_features != out_features:
        raise InputError(
            f"depth (0) leaves the encoder's {in_features} features as they are, so out_features ({out_features}) must "
            f"be {in_features}, and both encoders must have as many."
        )
    return ProjectionHead(in_features, out_features)


def _at_least_float32(x: Tensor) -> Tensor:
    """Return float32 or wider: statistics in bfloat16 would be off by a percent."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
