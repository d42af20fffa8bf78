"""Consensus IoU between the pixels that a rule selects and the truth.

    cIoU = sum(B g) / (sum(g) + sum(B [g = 0]))

B are the selected pixels and g the truth. Where annotators disagree, g is a fraction: selecting a pixel
with one of two votes gains 0.5 above, is contained in sum(g) below, and is never a false positive.

Source: Senocak et al., CVPR 2018, https://arxiv.org/abs/1803.03849.

Dimensions: N samples, h and w cells of a map, H and W pixels of the truth, P = H * W, K selections.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.evaluation.localization.arrays import Array, answer, as_pair
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
    """Consensus IoU of each sample. What tables call "cIoU" is :func:`success` of it: a share of samples.

    The map is resized to the truth's size, min-max normalized unless the rule or ``raw`` says otherwise
    (a constant map is left untouched), and binarized by the rule. All passes are in float32.

    Args:
        heatmap: (h, w), or (N, h, w), at any resolution and scale.
        truth: (H, W), or (N, H, W), in [0, 1]: masks, or votes. For boxes see
            :func:`flickr_truth`, :func:`vggss_truth` and :func:`is3_truth`.
        rule: A name of :data:`RULES`. ``"acl"`` looks at the test set: of the thresholds 0.05, 0.1 ...
            0.95 it takes the one of highest :func:`auc` over all N samples, the lowest where several
            tie, and so its numbers are no estimates of what a new sample would have.
        mode: Of the resize, in place of the rule's own; see :func:`resize`.
        relative: ``"slavc"`` alone: select from the median, as with ``--relative_prediction``.
        tau: ``"slavc"`` alone: the maps are cosines divided by tau. 1 for the cosines of this
            library; 0.03 for the maps of SLAVC's release.
        raw: Compare the resized values as they are. ACL-SSL's release does so, whose maps are
            probabilities; its ``"acl"`` on other maps, cosines for instance, needs the min-max.

    Returns:
        A float for one sample, else (N,) float64, in [0, 1]. An empty truth scores 0, whether pixels
        are selected or none (0/0 in the references), and is never left out.

    Raises:
        ValueError: On an unknown rule or mode, an option of another rule, maps and truths of different
            number, NaN, truth outside [0, 1], or ``"slavc"`` maps outside [-1/tau, 1/tau].

    Example:
        >>> truth = np.zeros((2, 2)); truth[0] = [1, 0.5]
        >>> ciou(np.array([[1.0, 0.0], [1.0, 0.0]]), truth, "fixed0.5")
        0.4
    """
    maps, target = as_pair("heatmap", heatmap, truth)
    found = find_rule(rule, mode=mode, relative=relative, raw=raw)
    return answer(best_selection(torch.cat([overlaps(chunk, found) for chunk in chunks(maps, target, tau)])), heatmap)


def overlaps(chunk: Chunk, rule: Rule) -> Tensor:
    """(n, K) float64: cIoU under each selection of the rule."""
    values = chunk.values(rule.mode, rule.scale)
    return torch.stack([consensus(select(values, chunk.truth), chunk.truth) for select in rule.selects], dim=1)


def consensus(selected: Tensor, truth: Tensor) -> Tensor:
    """(N,) float64 cIoU of (N, P) bool with (N, P) truth; 0 where both are empty."""
    hit = (selected * truth).sum(dim=1, dtype=torch.float64)
    union = truth.sum(dim=1, dtype=torch.float64) + (selected & (truth == 0)).sum(dim=1)
    return hit / torch.where(union > 0, union, 1.0)


def best_selection(columns: Tensor) -> Tensor:
    """(N,) of (N, K): the selection of the highest area under the success curve, the first where several tie."""
    areas = [auc(columns[:, k]) for k in range(columns.shape[1])]
    return columns[:, areas.index(max(areas))]
