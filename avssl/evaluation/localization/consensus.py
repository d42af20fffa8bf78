"""Consensus IoU (cIoU) of the pixels that a rule selects and the truth.

    cIoU = sum(B g) / (sum(g) + sum(B [g = 0]))

B are the selected pixels and g the truth, a fraction where annotators disagree: a selected pixel with one of two
votes adds 0.5 to the numerator, is part of sum(g) in the denominator, and is never a false positive.

Source: Senocak et al., CVPR 2018, https://arxiv.org/abs/1803.03849.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth, P = H * W, K selections.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.evaluation.localization.arrays import Array, as_given, as_pair
from avssl.evaluation.localization.chunks import Chunk, chunks
from avssl.evaluation.localization.curves import auc
from avssl.evaluation.localization.rules import Rule, find_rule


def ciou(
    heatmap: Array,
    truth: Array,
    rule: str,
    *,
    mode: str | None = None,
    relative: bool = False,
    tau: float = 1.0,
    raw: bool = False,
) -> float | Array:
    """Compute the consensus IoU of each sample; the "cIoU" of published tables is :func:`success` of it.

    The map is resized to the truth's size, min-max normalized unless the rule or ``raw`` says otherwise
    (a constant map is left unchanged), and binarized by the rule, all in float32.

    Args:
        heatmap: (h, w), or (N, h, w), at any resolution and scale.
        truth: (H, W), or (N, H, W), in [0, 1]: masks, or votes. For boxes see
            :func:`flickr_truth`, :func:`vggss_truth` and :func:`is3_truth`.
        rule: A name in :data:`RULES`. ``"acl"`` tunes on the test set: of the thresholds 0.05, 0.1 ... 0.95
            it takes the one with the highest :func:`auc` over all N samples, the lowest if several tie,
            so its numbers do not estimate the score of new samples.
        mode: Resize mode in place of the rule's own; see :func:`resize_heatmaps`.
        relative: For ``"slavc"``: select from the median on, as with ``--relative_prediction``.
        tau: For ``"slavc"``: the maps are cosines divided by tau. 1 for the cosines of this library;
            0.03 for the maps of SLAVC's release.
        raw: Compare the resized values without normalization, as ACL-SSL's release does with its
            probabilities; other maps, such as cosines, need the normalization for ``"acl"``.

    Returns:
        A float for one sample, else (N,) float64, in [0, 1]. An empty truth scores 0, even if no
        pixel is selected (0/0 in the references), and is never left out.

    Raises:
        ValueError: On an unknown rule or mode, an option of another rule, different numbers of maps and truths,
            NaN, truth outside [0, 1], or ``"slavc"`` maps outside [-1/tau, 1/tau].

    Example:
        >>> truth = np.zeros((2, 2)); truth[0] = [1, 0.5]
        >>> ciou(np.array([[1.0, 0.0], [1.0, 0.0]]), truth, "fixed0.5")
        0.4
    """
    maps, target = as_pair("heatmap", heatmap, truth)
    found = find_rule(rule, mode=mode, relative=relative, raw=raw)
    return as_given(best_selection(torch.cat([overlaps(chunk, found) for chunk in chunks(maps, target, tau)])), heatmap)


def overlaps(chunk: Chunk, rule: Rule) -> Tensor:
    """Return the (n, K) float64 cIoU under each selection of the rule."""
    values = chunk.values(rule.mode, rule.scale)
    return torch.stack([consensus(select(values, chunk.truth), chunk.truth) for select in rule.selects], dim=1)


def consensus(selected: Tensor, truth: Tensor) -> Tensor:
    """Return the (N,) float64 cIoU of (N, P) bool with (N, P) truth; 0 if both are empty."""
    hit = (selected * truth).sum(dim=1, dtype=torch.float64)
    union = truth.sum(dim=1, dtype=torch.float64) + (selected & (truth == 0)).sum(dim=1)
    return hit / torch.where(union > 0, union, 1.0)


def best_selection(columns: Tensor) -> Tensor:
    """Return the column of (N, K) with the highest area under the success curve, the first if several tie."""
    areas = [auc(columns[:, k]) for k in range(columns.shape[1])]
    return columns[:, areas.index(max(areas))]
