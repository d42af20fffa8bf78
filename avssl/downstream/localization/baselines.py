"""Baseline maps that ignore the audio, made for a few instants at a time.

Dimensions: N instants at which something visible sounds, n of them in a part, O objects, h and w cells, H
and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.draws import epoch_order, text_keys
from avssl.downstream.localization.instants import Instant
from avssl.evaluation import center_blob, random_maps, random_object, whole_frame

CENTER, MEAN_BOX, RANDOM_OBJECT = "center blob", "mean truth of other clips", "random object"
RANDOM, WHOLE = "random map", "whole frame"


class Baselines:
    """Baseline maps.

    The mean truth is a two-fold prior: the clips are divided at random into two halves, and each is scored with the
    mean truth of the other, so that no instant is scored with the truth of its own file or pair.

    Args:
        instants: All N.
        sources: (N,) equal for instants of one file, or one pair.
        cells: h and w of the model's maps and so of the random map.
        seed: Random seed.
    """

    def __init__(self, instants: Sequence[Instant], sources: Sequence[str], cells: tuple[int, int], seed: int) -> None:
        self._instants, self._seed = instants, seed
        self._noise = random_maps(len(instants), cells, seed=seed)
        names = list(dict.fromkeys(sources))
        order = epoch_order(seed, 0, text_keys(f"fold/{name}" for name in names)).tolist()
        fold_of = {names[place]: number % 2 for number, place in enumerate(order)}
        self._fold = torch.tensor([fold_of[source] for source in sources])
        self._means = _mean_truths(instants, self._fold)
        counts = [0 if each.objects is None else len(each.objects()) for each in instants]
        self._most_objects = max(counts) if min(counts) > 0 else 0

    @property
    def hw(self) -> tuple[int, int]:
        """H and W of the truth."""
        return self._instants[0].hw

    @property
    def names(self) -> list[str]:
        """Baselines that these clips allow: a random object needs scenes with several, a mean truth two clips."""
        possible = {MEAN_BOX: self._means is not None, RANDOM_OBJECT: self._most_objects > 1}
        return [name for name in (CENTER, MEAN_BOX, RANDOM_OBJECT, RANDOM, WHOLE) if possible.get(name, True)]

    def maps(self, name: str, part: slice) -> Tensor:
        """Return (n, h, w) or (n, H, W) float32 maps of a part of the instants."""
        instants = self._instants[part]
        count, hw = len(instants), self.hw
        if name == CENTER:
            return center_blob(count, hw)
        if name == WHOLE:
            return whole_frame(count, hw)
        if name == RANDOM:
            return self._noise[part]
        if name == MEAN_BOX:
            assert self._means is not None, "used only if it is possible"
            return self._means[1 - self._fold[part]]
        return random_object(self._objects(instants), seed=self._seed, first=part.start)[0]

    def _objects(self, instants: Sequence[Instant]) -> Tensor:
        """Return (n, O, H, W) bool masks; scenes with fewer objects have empty slots."""
        masks = [each.objects() for each in instants if each.objects is not None]
        return torch.stack([F.pad(mask, (0, 0, 0, 0, 0, self._most_objects - len(mask))) for mask in masks])


def _mean_truths(instants: Sequence[Instant], fold: Tensor) -> Tensor | None:
    """Return (2, H, W) float32: the mean truth of each half; None if one is empty."""
    sums, counts = torch.zeros(2, *instants[0].hw), torch.bincount(fold, minlength=2)
    if not counts.all():
        return None
    for instant, number in zip(instants, fold.tolist(), strict=True):
        sums[number] += instant.truth()
    return sums / counts[:, None, None]
