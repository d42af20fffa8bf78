"""Logits of clips: the one computation behind the test of fine-tuning, ``avssl classify`` and ``predict`` in Python.

The clips that are read together, all evenly spaced windows of a row or a few neighboring windows over time, are a
batch of their own. Convolutions and matrix products round differently in batches of other sizes, and frames are padded
to the largest of their batch, so larger batches would make the last digits of a row depend on its neighbors. As it is,
the logits of a row do not depend on the batch size of reading, other rows, unreadable rows, workers, ranks, or an
interruption, to the last bit on one device with one number of threads.

Dimensions: B clips, V crops of each, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from einops import rearrange

from avssl.core.batch import Batch, Clip
from avssl.core.errors import InputError
from avssl.data.eval_loader import EvalLoader
from avssl.models import ClipClassifier


def clip_logits(
    classifier: ClipClassifier, loader: EvalLoader, together: int
) -> Iterator[tuple[list[Clip], np.ndarray]]:
    """Yield the clips of a row that are computed together, and their (V, B, K) float32 logits.

    Args:
        classifier: In evaluation mode.
        loader: Reads ``together`` clips per row, or given windows, ``together`` of a row at once; what cannot be read
            is in its ledger afterwards.
        together: Largest B.
    """
    for clips, _ in loader.clips():
        for _, part in groupby(clips, key=lambda clip: (clip.row, clip.clip_number // together)):
            chosen = list(part)
            yield chosen, batch_logits(classifier, loader.batch(chosen))


def batch_logits(classifier: ClipClassifier, raw: Batch) -> np.ndarray:
    """Return the (V, B, K) float32 logits of a raw batch."""
    logits = rearrange(classifier.logits(raw), "(views clips) k -> views clips k", clips=len(raw))
    values: np.ndarray = logits.cpu().numpy()
    return values


def check_finite(ids: Sequence[str] | np.ndarray, logits: np.ndarray) -> None:
    """Raise an error if one of the (N, ..., K) logits of N rows is NaN or infinite; names the first row."""
    bad = ~np.isfinite(logits).all(axis=tuple(range(1, logits.ndim)))
    if bad.any():
        raise InputError(
            f"the classifier returns NaN or infinity for {bad.sum()} of {len(bad)} rows, the first is "
            f"{str(ids[int(bad.argmax())])!r}: its weights or its spectrogram statistics are damaged."
        )
