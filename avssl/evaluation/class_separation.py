"""Class separation R² of features: how much smaller cosine distances are within classes than overall.

Source: Kornblith, Chen, Lee and Norouzi, 2021, "Why Do Better Loss Functions Lead to Less Transferable Features?",
https://arxiv.org/abs/2010.16402, section 3.2.

Dimensions: N clips, F features, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError


def class_separation(features: Tensor, labels: np.ndarray) -> float:
    """Return R² = 1 - (mean cosine distance within classes) / (mean cosine distance of all), each class alike.

    Distances are averaged over all pairs of clips of a class, or of two classes, a clip with itself included, and then
    over the classes or pairs of classes: large classes count no more than small ones.

    Args:
        features: (N, F) float of any scale, before the classifier's last layer.
        labels: (N,) class names or numbers; two classes or more.

    Returns:
        A number in [0, 1]: 1 if each class is one direction, 0 if all classes have the same mean direction; NaN if all
        features have one direction.

    Raises:
        ValueError: If shapes do not fit, there is one class, or a feature is not finite or a row is zero.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 5.0]])
        >>> class_separation(features, np.array(["dog", "dog", "cat", "cat"]))
        1.0
        >>> class_separation(features, np.array(["dog", "cat", "dog", "cat"]))
        0.0
    """
    if features.ndim != 2 or len(features) != len(labels) or not torch.isfinite(features).all():
        raise InputError(
            f"features must be (clips, features), finite, with a label each, got {tuple(features.shape)} and "
            f"{len(labels)} labels."
        )
    names, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"class separation needs at least two classes, got {names.tolist()}.")
    if not features.any(dim=1).all():
        raise InputError("a row of features is zero and has no direction.")
    unit = F.normalize(features.double(), dim=1)
    # The mean of 1 - x . y over all pairs of two classes is 1 less the product of their mean unit vectors.
    means = torch.stack([unit[torch.from_numpy(codes == code)].mean(dim=0) for code in range(len(names))])
    within = 1 - means.square().sum(dim=1).mean()
    overall = 1 - means.mean(dim=0).square().sum()
    if overall <= 1e-12:
        return float("nan")
    return float(1 - within / overall)
