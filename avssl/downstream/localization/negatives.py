"""Confidence and marked area of maps under audio that no visible object makes.

Sources: AP, max-F1 and LocAcc, Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization"
(SLAVC), NeurIPS 2022, https://arxiv.org/abs/2209.09634; pIA, AUC_N, F_LOC and F_AUC, Juanola et al., ICASSP 2025.

Dimensions: N instants, P of them with a visible source, h and w cells, H and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.maps import OWN_PRIOR, RESNET_PRIOR, TRAINED, UNTRAINED
from avssl.downstream.localization.scores import Numbers, Samples
from avssl.evaluation.localization import extended_scores, negative_audio, slavc_confidence

_RESAMPLES = 500
CONFIDENT = (TRAINED, UNTRAINED, OWN_PRIOR, RESNET_PRIOR)
"""Rows whose map values can be compared between clips."""


def rejection(
    maps: Mapping[str, Tensor], positive: Tensor, samples: Mapping[str, Samples], hw: tuple[int, int], seed: int
) -> tuple[dict[str, Numbers], dict[str, dict[str, tuple[float, float]]]]:
    """Measure how well the confidence of a map separates instants with a visible source from those without.

    Args:
        maps: Name of the row -> (N, h, w).
        positive: (N,) bool.
        samples: Scores of the P positive instants, in order.
        hw: H and W.

    Returns:
        Numbers and 95 % bootstrap intervals by row of :data:`CONFIDENT`; empty if all instants are positive. Numbers
        are ``share_of_sources``, the precision of chance; average precision of the map's peak, ``ap_peak``, and of the
        mean of its top quarter, ``ap_top_quarter``; and SLAVC's ``slavc_ap_<rule>``, ``max_f1_<rule>`` and
        ``loc_acc_<rule>`` of the top quarter. The intervals are those of the first two average precisions.
    """
    found: dict[str, Numbers] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    if bool(positive.all()):
        return found, intervals
    for name in (name for name in CONFIDENT if name in maps):
        # Activations are not cosines: a tau that brings them into range keeps their order.
        tau = 1 / max(1.0, maps[name].abs().max().item())
        peak, top = maps[name].flatten(1).amax(dim=1), torch.as_tensor(slavc_confidence(maps[name], tau, hw))
        numbers = {
            "share_of_sources": positive.double().mean().item(),
            "ap_peak": float(average_precision_score(positive, peak)),
            "ap_top_quarter": float(average_precision_score(positive, top)),
        }
        for key, values in samples[name].items():
            if key.startswith("ciou_"):
                rule, ciou = key.removeprefix("ciou_"), torch.zeros(len(positive), dtype=torch.float64)
                ciou[positive] = values
                scores = extended_scores(top, ciou, positive)
                numbers |= {
                    f"slavc_ap_{rule}": scores.ap,
                    f"max_f1_{rule}": scores.max_f1,
                    f"loc_acc_{rule}": scores.loc_acc,
                }
        found[name] = numbers
        confidences = {"ap_peak": peak, "ap_top_quarter": top}
        intervals[name] = {key: precision_interval(value, positive, seed) for key, value in confidences.items()}
    return found, intervals


def precision_interval(confidence: Tensor, positive: Tensor, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of average precision; resamples without a positive are drawn again."""
    generator, count = np.random.default_rng(seed), len(positive)
    values, truth = confidence.numpy(), positive.numpy()
    found: list[float] = []
    while len(found) < _RESAMPLES:
        drawn = generator.integers(count, size=count)
        if truth[drawn].any():
            found.append(float(average_precision_score(truth[drawn], values[drawn])))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def under_negative_audio(
    maps: Mapping[str, Tensor], instants: Sequence[Instant], ours: str, negatives: Sequence[str]
) -> dict[str, Any]:
    """Measure what a model marks under audio that belongs to nothing in the frame, at one threshold for all.

    Args:
        maps: Name of the row -> (P, h, w) cosines.
        instants: P instants.
        ours: Row of the model under the true audio.
        negatives: Its rows under other audio.

    Returns:
        ``threshold``, the third quartile of the peaks under negative audio; ``mean_ciou`` and ``auc`` at it; and
        ``by_sound``: for each of ``negatives`` and "all", ``pia``, ``auc_n``, ``f_loc`` and ``f_auc``.
    """
    votes = torch.stack([(2 * instant.truth()).byte() for instant in instants])
    # Truth is 0, 1/2 or 1, and mostly whole: at a byte per pixel the 6 480 instants of IS3 take 325 MB.
    truth = votes / 2 if (votes == 1).any() else votes.bool()
    found = negative_audio(maps[ours], truth, {name: maps[name] for name in negatives})
    measures = {"pia": found.pia, "auc_n": found.auc_n, "f_loc": found.f_loc, "f_auc": found.f_auc}
    by_sound = {kind: {name: values[kind] for name, values in measures.items()} for kind in found.pia}
    return {"threshold": found.threshold, "mean_ciou": found.mean_ciou, "auc": found.auc, "by_sound": by_sound}
