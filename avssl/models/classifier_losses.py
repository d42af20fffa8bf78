"""Losses of a classifier with one label per clip, each with the last layer that it needs.

Source: Kornblith, Chen, Lee and Norouzi, 2021, https://arxiv.org/abs/2010.16402, section 2.

Predictions take the softmax of the logits for every loss. For the softmax losses these are the probabilities that are
trained; for ``sigmoid`` those of its classes given that exactly one of them applies; for ``squared_error`` they have
the order of the outputs, but are flat: fit a temperature if their size counts.

Dimensions: B clips, C features, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.ranges import Positive, Temperature, checked


class ClassifierLoss:
    """A last layer, and the loss of each clip from its logits and its class.

    Example:
        >>> ClassifierLoss().per_clip(torch.zeros(2, 4), torch.tensor([0, 3]))  # four equal logits: log 4
        tensor([1.3863, 1.3863])
    """

    def create_layer(self, in_features: int, num_classes: int) -> nn.Linear:
        """Create the last layer, (..., C) to (..., K)."""
        return nn.Linear(in_features, num_classes)

    def per_clip(
        self, logits: Tensor, target: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the (B,) losses of clips.

        Args:
            logits: (B, K) float.
            target: (B,) int64 classes.
            class_weights: (K,); the loss of a clip is multiplied by that of its class, and in softmax losses each
                class's part of a smoothed target by its own, as in ``torch.nn.CrossEntropyLoss``.
            label_smoothing: Share of the target spread over all classes, in [0, 1).
        """
        return F.cross_entropy(logits, target, class_weights, reduction="none", label_smoothing=label_smoothing)


class Softmax(ClassifierLoss):
    """Cross-entropy of the softmax."""


@checked
class LogitNorm(ClassifierLoss):
    """Cross-entropy of logits that are scaled to one length.

    Args:
        temperature: Length of the logits is its inverse.
    """

    def __init__(self, temperature: Temperature = 0.04) -> None:
        self.temperature = temperature

    def create_layer(self, in_features: int, num_classes: int) -> nn.Linear:
        """Create a linear layer whose output has the length ``1 / temperature``."""
        return NormalizedLogits(in_features, num_classes, self.temperature)


@checked
class CosineSoftmax(ClassifierLoss):
    """Cross-entropy of the cosines between features and a vector of each class.

    Args:
        temperature: Temperature of the softmax.
    """

    def __init__(self, temperature: Temperature = 0.05) -> None:
        self.temperature = temperature

    def create_layer(self, in_features: int, num_classes: int) -> nn.Linear:
        """Create a layer without bias that returns cosines divided by ``temperature``."""
        return CosineLinear(in_features, num_classes, self.temperature)


class Sigmoid(ClassifierLoss):
    """Sum over the classes of the binary cross-entropy: each class against all others."""

    def per_clip(
        self, logits: Tensor, target: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the (B,) losses of clips, arguments as in :meth:`ClassifierLoss.per_clip`."""
        wanted = _smoothed(target, logits, label_smoothing)
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1)
        return each if class_weights is None else each * class_weights[target]


@checked
class SquaredError(ClassifierLoss):
    """Mean over the classes of the squared distance to the target: ``target_size`` for the clip's class, 0 for others.

    Args:
        target_size: Wanted output of the clip's class; 60 on ImageNet, 1 with few classes (Hui and Belkin, 2021,
            https://arxiv.org/abs/2006.07322).
        target_weight: Weight of the clip's class against each other class; 9 on ImageNet.
    """

    def __init__(self, target_size: Positive = 1.0, target_weight: Positive = 1.0) -> None:
        self.target_size, self.target_weight = target_size, target_weight

    def per_clip(
        self, logits: Tensor, target: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the (B,) losses of clips, arguments as in :meth:`ClassifierLoss.per_clip`."""
        wanted = self.target_size * _smoothed(target, logits, label_smoothing)
        weights = 1 + (self.target_weight - 1) * F.one_hot(target, logits.shape[1]).to(logits)
        each = (weights * (logits - wanted).square()).mean(dim=1)
        return each if class_weights is None else each * class_weights[target]


class NormalizedLogits(nn.Linear):
    """A linear layer whose output is scaled to the length ``1 / temperature``."""

    def __init__(self, in_features: int, num_classes: int, temperature: float) -> None:
        super().__init__(in_features, num_classes)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., K)."""
        return F.normalize(super().forward(x).float(), dim=-1) / self.temperature


class CosineLinear(nn.Linear):
    """Cosines of features and class vectors, divided by a temperature."""

    def __init__(self, in_features: int, num_classes: int, temperature: float) -> None:
        super().__init__(in_features, num_classes, bias=False)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., K)."""
        cosines = F.linear(F.normalize(x.float(), dim=-1), F.normalize(self.weight.float(), dim=1))
        return cosines / self.temperature


def _smoothed(target: Tensor, logits: Tensor, label_smoothing: float) -> Tensor:
    """Return (B, K) targets: 1 for the clip's class, with a share spread evenly over all."""
    hot = F.one_hot(target, logits.shape[1]).to(logits)
    return torch.lerp(hot, torch.full_like(hot, 1 / logits.shape[1]), label_smoothing)
