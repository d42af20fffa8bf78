"""Predictions of a classifier on the rows of a manifest, and their scores.

Dimensions: N rows, W clips of each (crops included), K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from avssl.config import FinetuneConfig
from avssl.core import distributed
from avssl.core.cpus import decoding_workers
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.progress import Bar
from avssl.data.eval_loader import EvalLoader
from avssl.data.ledger import Failure
from avssl.downstream.finetuning.fold_rows import FoldRows
from avssl.engine import Precision
from avssl.engine.replicas import collect_ranks
from avssl.evaluation.video_scores import baseline_numbers, video_numbers
from avssl.hub.clip_logits import check_finite, clip_logits
from avssl.models import Classifier, ClipClassifier
from avssl.training.build import build_dataset
from avssl.transforms import ClipTransform


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits of the readable rows of a manifest, in their order."""

    ids: np.ndarray
    """(N,) strings."""
    rows: np.ndarray
    """(N,) int64 positions in the manifest."""
    logits: np.ndarray
    """(N, W, K) float32."""
    failures: list[Failure]
    """Rows that could not be read."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions and scores of a classifier on the test rows of a fold."""

    predictions: Predictions
    targets: Tensor
    """Targets of the rows that could be read."""
    numbers: dict[str, float]
    """Accuracies or average precisions, and their baselines."""


def evaluate(
    model: Classifier,
    transform: ClipTransform,
    rows: FoldRows,
    config: FinetuneConfig,
    device: torch.device,
    progress: bool = False,
) -> Evaluation:
    """Score a classifier on the test rows of a fold. Raises as :func:`predict`."""
    predictions = predict(model, transform, rows.test, config, device=device, progress=progress)
    targets = rows.test_targets[torch.from_numpy(predictions.rows)]
    numbers = video_numbers(predictions.logits, targets.numpy(), config.test.average)
    return Evaluation(predictions, targets, numbers | baseline_numbers(targets.numpy(), model.num_classes))


def predict(
    model: Classifier,
    transform: ClipTransform,
    manifest: Manifest,
    config: FinetuneConfig,
    *,
    device: torch.device,
    progress: bool = False,
) -> Predictions:
    """Compute the logits of evenly spaced clips of every row, in evaluation mode.

    Model and transform are moved to ``device``. Each crop of ``transform.video_eval`` counts as a clip. Under
    ``torchrun`` each process reads its share of the rows, and all return the whole result. The logits of a row do not
    depend on the others (:mod:`avssl.hub.clip_logits`).

    Raises:
        ValueError: If no row can be read, or the classifier returns NaN or infinity.
    """
    model.to(device).eval()
    transform.to(device).eval()
    network, rank, world = config.network(), distributed.rank(), distributed.world_size()
    workers = decoding_workers(config.data.num_workers)
    loader = EvalLoader(
        build_dataset(network, manifest, model.inputs),
        config.test.batch_size,
        rows=range(rank, len(manifest), world),
        clips_per_row=config.test.windows_per_clip,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    precision = Precision.resolved(config.train.precision, config.train.memory_format).native(device)
    classifier, clips = ClipClassifier(model, transform, precision), config.test.windows_per_clip
    logits_of_row: dict[int, np.ndarray] = {}
    with Bar(total=len(range(rank, len(manifest), world)), desc="test", unit="row", delay=1.0, show=progress) as bar:
        for together, logits in clip_logits(classifier, loader, clips):
            logits_of_row[together[0].row] = rearrange(logits, "views clips k -> (views clips) k")
            bar.update()
    return _gather(manifest, logits_of_row, list(loader.ledger))


def _gather(manifest: Manifest, logits_of_row: dict[int, np.ndarray], failures: list[Failure]) -> Predictions:
    """Collect the logits of all ranks, sorted by row."""
    parts = collect_ranks((logits_of_row, failures))
    logits = {row: values for part, _ in parts for row, values in part.items()}
    failed = sorted((failure for _, part in parts for failure in part), key=lambda failure: failure.row)
    if not logits:
        reason = failed[0].message if failed else "the manifest is empty."
        raise InputError(f"none of {len(manifest)} rows can be read: {reason}")
    rows = np.array(sorted(logits), dtype=np.int64)
    stacked = np.stack([logits[row] for row in rows.tolist()])
    ids = np.asarray([str(manifest.value(row, "id")) for row in rows.tolist()])
    check_finite(ids, stacked)
    return Predictions(ids, rows, stacked, failed)
