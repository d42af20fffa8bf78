"""Projection heads: features to the space in which clips are compared.

Source: the MLP head and its sizes follow AVID, https://arxiv.org/abs/2004.12943; the BatchNorm
variant follows SimCLR, https://arxiv.org/abs/2002.05709. Outputs are not normalized: the
objectives do that.
"""

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Sequential):
    """Layers that act on the last dimension of an input of any rank.

    The same head therefore projects a pooled vector and every cell of a channels-last map.
    BatchNorm inside a head takes its statistics over all leading dimensions: over the clips of a
    pooled batch, over clips and cells of a map; each call in training moves the running ones.

    Args:
        in_features: Size of the last dimension of the input.
        out_features: Size of the last dimension of the output.
        layers: Modules that map (N, in_features) to (N, out_features).
    """

    def __init__(self, in_features: int, out_features: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features).

        Raises:
            ValueError: If the last dimension is not ``in_features``.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"the head acts on the last dimension, which must have {self.in_features} features, "
                f"got {tuple(x.shape)}. Move the channels of a map last: x.movedim(1, -1)."
            )
        rows = super().forward(x.reshape(-1, self.in_features))
        return rows.reshape(*x.shape[:-1], self.out_features)


def mlp(in_features: int, out_features: int, hidden: int) -> ProjectionHead:
    """AVID's head: two hidden layers with ReLU, biases, no BatchNorm; 590,976 parameters at 512-512-512-128."""
    return ProjectionHead(
        in_features,
        out_features,
        nn.Linear(in_features, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out_features),
    )


def mlp_bn(in_features: int, out_features: int, hidden: int) -> ProjectionHead:
    """As :func:`mlp`, with BatchNorm (in place of a bias) before each ReLU."""
    return ProjectionHead(
        in_features,
        out_features,
        nn.Linear(in_features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out_features),
    )


def linear(in_features: int, out_features: int, hidden: int) -> ProjectionHead:
    """One linear layer with bias, AVID's ablation; ``hidden`` is not used."""
    del hidden
    return ProjectionHead(in_features, out_features, nn.Linear(in_features, out_features))
