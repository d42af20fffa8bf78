"""Draw a partner for each clip: to mix with, to swap audio or video with, or to cut an object out of."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from avssl.core.draws import bits, uniform
from avssl.core.errors import InputError


def next_in_hash_order(key: Tensor, purpose: str) -> Tensor:
    """Return (B,) int64: the position of the clip with the next larger hash of (B,) int64 keys, around a circle.

    Each clip is the partner of one other clip; which one depends on the clips of the batch, not on their order.
    """
    order = bits(key, purpose, 1)[:, 0].argsort()
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner


def draw_partners(
    key: Tensor,
    labels: Sequence[str] | np.ndarray,
    lent: Sequence[str] | np.ndarray,
    scenes: Sequence[Collection[str]],
) -> np.ndarray:
    """Draw a clip of another class whose object is not in the scene yet.

    A draw depends on the clip's key and on the ordered list of clips.

    Args:
        key: (N,) int64 from :func:`avssl.core.draws.clip_key`.
        labels: (N,) class of each clip.
        lent: (N,) object that a clip would lend, or just its class; "" for none.
        scenes: N collections of the objects in each clip.

    Returns:
        (N,) int64 positions, never a clip's own.

    Raises:
        ValueError: If the lengths differ, or some clip has no such partner.
    """
    names, objects = np.asarray(labels, dtype=str), np.asarray(lent, dtype=str)
    if not len(key) == len(names) == len(objects) == len(scenes):
        raise InputError(f"need one of each per clip, got {len(key)}, {len(names)}, {len(objects)}, {len(scenes)}.")
    position = uniform(key, "partner", 1)[:, 0].tolist()
    partners = np.empty(len(names), dtype=np.int64)
    for i in range(len(names)):
        fits = (names != names[i]) & (objects != "") & ~np.isin(objects, list(scenes[i]))
        candidates = np.flatnonzero(fits)
        if not len(candidates):
            raise InputError(
                f"clip {i} of class {str(names[i])!r} has no partner: every other clip is of its class or lends an "
                f"object that it shows already. {len(names)} clips are too few, or of too few classes."
            )
        partners[i] = candidates[int(position[i] * len(candidates))]
    return partners
