"""Mixup of a batch, whose strengths and partners are functions of the clips' keys.

Source: Zhang et al., 2018, https://arxiv.org/abs/1710.09412, eq. 1: inputs and targets of a clip are
``lambda`` times its own and ``1 - lambda`` times those of a partner, ``lambda ~ Beta(alpha, alpha)``.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor, nn

from avssl.core.draws import bits, uniform
from avssl.core.errors import InputError

_TABLE_SIZE = 1025


class Mixup(nn.Module):
    """Draws for each clip how much of it is kept, and with which clip of the batch it is mixed.

    The share is a pure function of the clip's key. The partner is the clip whose hash comes next among
    those of the batch, so it depends on which clips are in this rank's batch, not on their order.

    Args:
        alpha: Of the Beta distribution, > 0. The smaller, the nearer are the shares to 0 and 1.

    Raises:
        ValueError: If ``alpha`` is not above 0.
    """

    quantiles: Tensor

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not alpha > 0:
            raise InputError(f"mixup ({alpha}) must be greater than 0.")
        self.alpha = alpha
        # A table of the inverse distribution: a draw is one uniform number and no wait for the device.
        table = torch.from_numpy(betaincinv(alpha, alpha, np.linspace(0, 1, _TABLE_SIZE)))
        self.register_buffer("quantiles", table, persistent=False)

    def forward(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) float32 shares of the clips themselves, and (B,) int64 places of their partners.

        Args:
            key: (B,) int64 root of each clip's draws.
        """
        place = uniform(key, "mixup/share", 1)[:, 0] * (_TABLE_SIZE - 1)
        below = place.long()
        share = torch.lerp(self.quantiles[below], self.quantiles[below + 1], place - below)
        order = bits(key, "mixup/partner", 1)[:, 0].argsort()
        partner = torch.empty_like(order)
        partner[order] = order.roll(-1)
        return share.float(), partner

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


def mix(values: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """(B, ...): ``share`` of each row and the rest of its partner."""
    return torch.lerp(values[partner], values, share.view(-1, *[1] * (values.ndim - 1)).to(values.dtype))
