"""Properties of embeddings without labels; a collapse is visible here before it affects accuracy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError


def effective_rank(features: Tensor) -> float:
    """Return exp(entropy of the normalized singular values), the effective number of dimensions.

    Source: Roy and Vetterli, EUSIPCO 2007; as in RankMe,
    https://arxiv.org/abs/2210.02885, the features are not centered.

    Args:
        features: (N, D) float.

    Returns:
        A number in [1, min(N, D)]: 1 if all features are multiples of one vector, D if they are
        orthonormal; 0 if all are zero.

    Raises:
        ValueError: If ``features`` are not (N, D), are empty, or hold NaN or infinity.

    Example:
        >>> round(effective_rank(torch.eye(4)), 4), round(effective_rank(torch.ones(4, 4)), 4)
        (4.0, 1.0)
    """
    _check_matrix("features", features)
    singular = torch.linalg.svdvals(features.double())
    if singular[0] == 0:
        return 0.0
    share = singular / singular.sum()
    return torch.exp(-torch.xlogy(share, share).sum()).item()


def alignment_uniformity(video: Tensor, audio: Tensor) -> dict[str, float]:
    """Measure how close pairs are, and how evenly each modality covers the sphere.

    Source: Wang and Isola, https://arxiv.org/abs/2005.10242, with alpha = 2 and t = 2.

    Args:
        video: (N, D) embeddings of any scale, N >= 2; normalized here.
        audio: (N, D) embeddings of the same clips in the same order.

    Returns:
        ``alignment``: mean squared distance of the pairs, in [0, 4], 0 is best;
        ``video_uniformity`` and ``audio_uniformity``: log of the mean of exp(-2 distance^2) over
        pairs of different clips, in [-8, 0], 0 for collapsed embeddings.

    Raises:
        ValueError: If the shapes differ, there are fewer than two clips, or a value is not finite.

    Example:
        >>> scores = alignment_uniformity(torch.eye(2), torch.eye(2))  # pairs coincide, clips are sqrt(2) apart
        >>> scores["alignment"], round(scores["video_uniformity"], 4)
        (0.0, -4.0)
    """
    _check_matrix("video", video)
    if video.shape != audio.shape or len(video) < 2:
        raise InputError(
            "video and audio must hold the same clips, at least two, in the same order, "
            f"got {tuple(video.shape)} and {tuple(audio.shape)}."
        )
    _check_matrix("audio", audio)
    video, audio = F.normalize(video.double(), dim=1), F.normalize(audio.double(), dim=1)
    return {
        "alignment": (video - audio).square().sum(dim=1).mean().item(),
        "video_uniformity": _uniformity(video),
        "audio_uniformity": _uniformity(audio),
    }


def modality_gap(video: Tensor, audio: Tensor) -> float:
    """Return the distance between the means of the unit embeddings of the two modalities.

    Source: Liang et al., NeurIPS 2022, https://arxiv.org/abs/2203.02053, section 4.2.

    Args:
        video: (N, D) embeddings of any scale, N >= 1; normalized here.
        audio: (M, D) embeddings.

    Returns:
        A number in [0, 2]; 2 if each modality is one point and the points are opposite.

    Raises:
        ValueError: If the sizes D differ, a modality is empty, or a value is not finite.

    Example:
        >>> modality_gap(torch.tensor([[1.0, 0.0]]), torch.tensor([[-3.0, 0.0], [-1.0, 0.0]]))
        2.0
    """
    _check_matrix("video", video)
    _check_matrix("audio", audio)
    if video.shape[1] != audio.shape[1]:
        raise InputError(f"video and audio differ in size: {video.shape[1]} and {audio.shape[1]}.")
    video, audio = F.normalize(video.double(), dim=1), F.normalize(audio.double(), dim=1)
    return (video.mean(dim=0) - audio.mean(dim=0)).norm().item()


def spread(embeddings: Tensor) -> float:
    """Return the RMS distance of (N, D) unit embeddings from their mean, in [0, 1]; 0 if collapsed to a point.

    Raises:
        ValueError: If ``embeddings`` are not (N, D), are empty, or hold NaN or infinity.

    Example:
        >>> spread(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])), spread(torch.ones(2, 4))
        (1.0, 0.0)
    """
    _check_matrix("embeddings", embeddings)
    unit = F.normalize(embeddings.double(), dim=1)
    return (unit - unit.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()


def _uniformity(unit: Tensor) -> float:
    return torch.pdist(unit).square().mul(-2).exp().mean().log().item()


def _check_matrix(name: str, x: Tensor) -> None:
    if x.ndim != 2 or len(x) == 0 or not torch.isfinite(x).all():
        raise InputError(f"{name} must be (N, D), finite and not empty, got shape {tuple(x.shape)}.")
