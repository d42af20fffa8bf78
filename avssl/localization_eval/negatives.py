"""What a model makes of sounds that nothing in the picture makes: its confidence, and what it marks.

Sources: AP, max-F1 and LocAcc, Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source
Localization" (SLAVC), NeurIPS 2022, https://arxiv.org/abs/2209.09634; pIA, AUC_N, F_LOC and F_AUC, Juanola et
al., ICASSP 2025.

Dimensions: N instants, P of them with a visible source, h and w cells, H and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from avssl.evaluation.localization import negative_audio, slavc_confidence, with_negatives
from avssl.localization_eval.embed import OWN_PRIOR, RESNET_PRIOR, TRAINED, UNTRAINED
from avssl.localization_eval.instants import Instant
from avssl.localization_eval.scores import Numbers, Samples

CONFIDENT = (TRAINED, UNTRAINED, OWN_PRIOR, RESNET_PRIOR)
"""Rows whose maps have a scale of their own, so that a value of one clip can be compared with another's."""


def rejection(
    maps: Mapping[str, Tensor], positive: Tensor, samples: Mapping[str, Samples], hw: tuple[int, int]
) -> dict[str, Numbers]:
    """How well the confidence of a map tells instants with a visible source from those without.

    Args:
        maps: Name of the row → (N, h, w).
        positive: (N,) bool.
        samples: Scores of the P positive instants, in their order.
        hw: H and W.

    Returns:
        By row of :data:`CONFIDENT`: ``share_of_sources``, which is the precision of chance; average precision
        of the map's peak and of the mean of its top quarter; and by rule SLAVC's ``slavc_ap_<rule>``,
        ``max_f1_<rule>`` and ``loc_acc_<rule>``, of the top quarter. Nothing where all are positive.
    """
    if bool(positive.all()):
        return {}
    found = {}
    for name in (name for name in CONFIDENT if name in maps):
        # Activations are no cosines: a tau that brings them into range leaves their order as it is.
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
                scores = with_negatives(top, ciou, positive)
                numbers |= {
                    f"slavc_ap_{rule}": scores.ap,
                    f"max_f1_{rule}": scores.max_f1,
                    f"loc_acc_{rule}": scores.loc_acc,
                }
        found[name] = numbers
    return found


def under_negative_audio(
    maps: Mapping[str, Tensor], instants: Sequence[Instant], ours: str, negatives: Sequence[str]
) -> Numbers:
    """What a model marks under sounds that belong to nothing in the picture, at one threshold for all.

    Args:
        maps: Name of the row → (P, h, w) cosines.
        instants: P.
        ours: The row of the model under its own sound.
        negatives: Its rows under other ones.

    Returns:
        ``threshold``, the third quartile of the peaks under negative sounds; ``mean_ciou`` and ``auc`` at it;
        and by negative, and for all, ``pia_<name>``, ``auc_n_<name>``, ``f_loc_<name>`` and ``f_auc_<name>``.
    """
    votes = torch.stack([(2 * instant.truth()).byte() for instant in instants])
    # Truth is 0, 1/2 or 1, and mostly whole: a byte a pixel are 325 MB for the 6 480 instants of IS3.
    truth = votes / 2 if (votes == 1).any() else votes.bool()
    found = negative_audio(maps[ours], truth, {name: maps[name] for name in negatives})
    numbers = {"threshold": found.threshold, "mean_ciou": found.mean_ciou, "auc": found.auc}
    for name in ("pia", "auc_n", "f_loc", "f_auc"):
        numbers |= {f"{name}_{kind}": value for kind, value in getattr(found, name).items()}
    return numbers
