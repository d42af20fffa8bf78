"""For each clip another one, to swap its sound or picture with or to cut something out of."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

from avssl.core.draws import uniform
from avssl.core.errors import InputError


def draw_partners(
    key: Tensor,
    labels: Sequence[str] | np.ndarray,
    lent: Sequence[str] | np.ndarray,
    scenes: Sequence[Collection[str]],
) -> np.ndarray:
    """A clip of another class, which has something to lend that is not in the scene yet.

    A draw depends on the clip's key and on the list of clips, in whose order the candidates stand.

    Args:
        key: (N,) int64 from :func:`avssl.core.draws.clip_key`.
        labels: (N,) the class of each clip.
        lent: (N,) what a clip would lend: its object, or just its class; "" for nothing.
        scenes: N collections of what is in each clip already.

    Returns:
        (N,) int64 positions, never a clip's own.

    Raises:
        ValueError: If the lengths differ, or some clip has no such partner.
    """
    names, things = np.asarray(labels, dtype=str), np.asarray(lent, dtype=str)
    if not len(key) == len(names) == len(things) == len(scenes):
        raise InputError(f"one of each a clip: {len(key)} keys, {len(names)} labels, {len(things)}, {len(scenes)}.")
    place = uniform(key, "partner", 1)[:, 0].tolist()
    partners = np.empty(len(names), dtype=np.int64)
    for i in range(len(names)):
        fits = (names != names[i]) & (things != "") & ~np.isin(things, list(scenes[i]))
        candidates = np.flatnonzero(fits)
        if not len(candidates):
            raise InputError(
                f"clip {i} of class {str(names[i])!r} has no partner: every other clip is of its class or lends what "
                f"it shows already. {len(names)} clips are too few, or of too few classes."
            )
        partners[i] = candidates[int(place[i] * len(candidates))]
    return partners
