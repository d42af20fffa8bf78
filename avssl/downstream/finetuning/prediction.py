"""What a classifier says of the rows of a manifest.

Dimensions: N rows, W clips of each (crops included), K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from avssl.config import FinetuneConfig
from avssl.core import distributed
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data.eval_loader import EvalLoader
from avssl.data.ledger import Failure
from avssl.engine import Precision
from avssl.engine.replicas import collect_ranks
from avssl.models import Classifier
from avssl.training.build import build_dataset, default_workers
from avssl.transforms import ClipTransform


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier says of the readable rows of a manifest, in their order."""

    ids: np.ndarray
    """(N,) strings."""
    rows: np.ndarray
    """(N,) int64 positions in the manifest."""
    logits: np.ndarray
    """(N, W, K) float32."""
    failures: list[Failure]
    """The rows that could not be read."""


@torch.no_grad()
def predict(
    model: Classifier,
    transform: ClipTransform,
    manifest: Manifest,
    config: FinetuneConfig,
    *,
    device: torch.device,
    progress: bool = False,
) -> Predictions:
    """Logits of evenly spaced clips of every row, in evaluation mode.

    Under ``torchrun`` each process reads its share of the rows, and all have the whole result.

    Args:
        model: The classifier, moved to ``device`` and put in evaluation mode.
        transform: Its ``video_eval`` decides the crops, each of which counts as a clip; likewise.
        manifest: The rows.
        config: ``data``, ``sampling``, ``train`` and ``test`` are read.
        device: Where it runs.
        progress: Show a bar.

    Raises:
        ValueError: If no row can be read, or the classifier gives NaN or infinity; the text names a row.
    """
    model.to(device).eval()
    transform.to(device).eval()
    network, rank, world = config.network(), distributed.rank(), distributed.world_size()
    workers = default_workers() if config.data.num_workers is None else config.data.num_workers
    loader = EvalLoader(
        build_dataset(network, manifest, model.inputs),
        config.test.batch_size,
        rows=range(rank, len(manifest), world),
        clips_per_row=config.test.clips,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    assert config.train.precision != "auto", "resolved before"
    assert config.train.memory_format != "auto", "resolved before"
    precision = Precision(config.train.precision, config.train.memory_format)
    handle = precision.apply(model, device)
    found: dict[int, np.ndarray] = {}
    try:
        for raw, rows, _ in tqdm(loader, "test", unit="batch", delay=1.0, disable=not progress):
            batch = transform(raw.to(device))
            logits = model(batch.video, batch.audio).float()
            # (crops * rows * clips, K), crop-major, to (rows, crops * clips, K).
            logits = logits.unflatten(0, (batch.num_views, -1, config.test.clips)).transpose(0, 1).flatten(1, 2)
            found |= dict(zip(rows[:: config.test.clips].tolist(), logits.cpu().numpy(), strict=True))
    finally:
        handle.remove()
    return _gathered(manifest, found, list(loader.ledger))


def _gathered(manifest: Manifest, found: dict[int, np.ndarray], failures: list[Failure]) -> Predictions:
    """Of all ranks, in the order of rows."""
    parts = collect_ranks((found, failures))
    logits = {row: values for rows, _ in parts for row, values in rows.items()}
    failed = sorted((failure for _, of_rank in parts for failure in of_rank), key=lambda failure: failure.row)
    if not logits:
        reason = failed[0].message if failed else "the manifest is empty."
        raise InputError(f"none of {len(manifest)} rows can be read: {reason}")
    rows = np.array(sorted(logits), dtype=np.int64)
    stacked = np.stack([logits[row] for row in rows.tolist()])
    ids = np.asarray([str(manifest.value(row, "id")) for row in rows.tolist()])
    bad = ~np.isfinite(stacked).all(axis=(1, 2))
    if bad.any():
        raise InputError(
            f"the classifier gives NaN or infinity for {bad.sum()} of {len(bad)} rows, the first is {ids[bad][0]!r}: "
            "its weights, or the statistics of its spectrogram, are damaged."
        )
    return Predictions(ids, rows, stacked, failed)
