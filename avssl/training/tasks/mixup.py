"""Mixup of a batch, with shares and partners that are functions of the clips' keys.

Source: Zhang et al., 2018, https://arxiv.org/abs/1710.09412, eq. 1: inputs and targets of a clip are
``lambda`` times its own and ``1 - lambda`` times those of a partner, ``lambda ~ Beta(alpha, alpha)``.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor, nn

from avssl.core.draws import uniform
from avssl.core.errors import InputError
from avssl.transforms.partners import next_in_hash_order

_TABLE_SIZE = 1025


class Mixup(nn.Module):
    """Draws for each clip its share and the clip of the batch to mix it with.

    The share is a pure function of the clip's key. The partner is the clip with the next larger hash in
    the batch, so it depends on the clips of this rank's batch, not on their order.

    Args:
        alpha: Parameter of the Beta distribution, > 0. Smaller values give shares nearer to 0 and 1.

    Raises:
        ValueError: If ``alpha`` is not above 0.
    """

    quantiles: Tensor

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not alpha > 0:
            raise InputError(f"mixup ({alpha}) must be greater than 0.")
        self.alpha = alpha
        # A table of the inverse distribution: a draw takes one uniform number and no device synchronization.
        table = torch.from_numpy(betaincinv(alpha, alpha, np.linspace(0, 1, _TABLE_SIZE)))
        self.register_buffer("quantiles", table, persistent=False)

    def forward(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B,) float32 shares of the clips and the (B,) int64 positions of their partners.

        Args:
            key: (B,) int64 root of each clip's draws.
        """
        place = uniform(key, "mixup/share", 1)[:, 0] * (_TABLE_SIZE - 1)
        below = place.long()
        share = torch.lerp(self.quantiles[below], self.quantiles[below + 1], place - below)
        return share.float(), next_in_hash_order(key, "mixup/partner")

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


def mix(values: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """Return (B, ...) mixtures: ``share`` of each row plus the rest of its partner."""
    return torch.lerp(values[partner], values, share.view(-1, *[1] * (values.ndim - 1)).to(values.dtype))
