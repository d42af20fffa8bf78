"""Late fusion of linear probes: a weighted mean of the log-probabilities of one probe for each modality.

In one probe on the joined features the weaker modality adds noise; a weight chosen on held-out training clips can
leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from avssl.evaluation.linear_probe import DEFAULT_L2_GRID, LinearClassifier, ProbeResult, linear_probe, probe_result

WEIGHTS = tuple(np.linspace(0.0, 1.0, 21).tolist())
"""Candidate weights of the first modality."""


def late_fusion_probe(
    train_features: tuple[np.ndarray, np.ndarray],
    train_labels: Sequence[str | int] | np.ndarray,
    test_features: tuple[np.ndarray, np.ndarray],
    test_labels: Sequence[str | int] | np.ndarray,
    *,
    l2_grid: Sequence[float] = DEFAULT_L2_GRID,
    seed: int = 0,
    validation_fraction: float = 0.2,
    max_iterations: int = 1000,
) -> ProbeResult:
    """Fit two linear probes and average their log-probabilities.

    The weight is the one of :data:`WEIGHTS` with the lowest cross-entropy on the held-out part of the training clips.

    Args:
        train_features: (N, D1) and (N, D2), two modalities of the same clips.
        train_labels: N strings or ints.
        test_features: (M, D1) and (M, D2).
        test_labels: M strings or ints, that occur in training.
        l2_grid: As for :func:`linear_probe`, chosen for each modality.
        seed: Random seed of the held-out part, the same for both modalities.
        validation_fraction: As for :func:`linear_probe`.
        max_iterations: As for :func:`linear_probe`.

    Returns:
        Numbers as from :func:`linear_probe`; ``l2`` and ``validation_accuracy`` are those of the first modality.

    Raises:
        ValueError: As :func:`linear_probe`.

    Example:
        >>> video, audio, labels = np.array([[-1.0], [1.0]] * 4), np.zeros((8, 1)), ["robin", "wren"] * 4
        >>> train, test = (video[:6], audio[:6]), (video[6:], audio[6:])
        >>> result = late_fusion_probe(train, labels[:6], test, labels[6:], l2_grid=(0.01,))
        >>> result.accuracy
        1.0
    """
    parts = [
        LinearClassifier(fit, train_labels, test, test_labels, l2_grid, seed, validation_fraction, max_iterations)
        for fit, test in zip(train_features, test_features, strict=True)
    ]
    held_out = [part.held_out_log_probability for part in parts]
    truth = parts[0].held_out_labels

    def cross_entropy(weight: float) -> float:
        mixed = _mixed(held_out, weight)
        return float(-np.take_along_axis(mixed, truth[:, None], axis=1).mean())

    weight = min(WEIGHTS, key=cross_entropy)
    return probe_result(parts[0], _mixed([part.test_log_probability for part in parts], weight))


def _mixed(log_probabilities: Sequence[np.ndarray], weight: float) -> np.ndarray:
    """Return (n, K) normalized log-probabilities."""
    return np.asarray(log_softmax(weight * log_probabilities[0] + (1 - weight) * log_probabilities[1], axis=1))


def modality_probes(
    video: np.ndarray, audio: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, *, seed: int = 0
) -> dict[str, ProbeResult]:
    """Fit three probes: on video, on audio, and on both by late fusion.

    Args:
        video: (N, C1) features.
        audio: (N, C2) features of the same clips.
        labels: (N,) strings or ints.
        train: Mask or rows of the training clips.
        test: Mask or rows of the test clips.
        seed: Random seed of the held-out parts.

    Returns:
        Results by ``"video"``, ``"audio"`` and ``"video + audio"``.

    Raises:
        ValueError: As :func:`linear_probe`.

    Example:
        >>> video, audio, labels = np.array([[-1.0], [1.0]] * 6), np.zeros((12, 1)), np.array(["robin", "wren"] * 6)
        >>> probes = modality_probes(video, audio, labels, train=np.arange(8), test=np.arange(8, 12))
        >>> {name: probe.accuracy for name, probe in probes.items()}  # the audio is always silent
        {'video': 1.0, 'audio': 0.5, 'video + audio': 1.0}
    """
    known = labels[train], labels[test]
    single = {
        name: linear_probe(x[train], known[0], x[test], known[1], seed=seed)
        for name, x in (("video", video), ("audio", audio))
    }
    both = late_fusion_probe((video[train], audio[train]), known[0], (video[test], audio[test]), known[1], seed=seed)
    return {**single, "video + audio": both}
