"""Logits of rows and of their windows over time, in parts that are kept while the work goes on.

Dimensions: N readable rows, W clips of each, V crops of a clip, M windows over time, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from einops import rearrange

from avssl.core.data_files import read_arrays
from avssl.core.whole_file import whole_file
from avssl.data import ClipDataset, EvalLoader, Failure
from avssl.data.eval_loader import Window
from avssl.data.row_parts import Span
from avssl.hub.clip_logits import check_finite, clip_logits
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.media import MediaError

_CLIPS_PER_BATCH = 32
"""Clips that are read at once; results do not depend on it."""


@dataclass(frozen=True, eq=False)
class RowLogits:
    """Logits of some rows, in their order."""

    rows: np.ndarray
    """(N,) int64 positions in the manifest."""
    clip_spans: np.ndarray
    """(N, W, 2) float64: start and stop of each clip in seconds."""
    logits: np.ndarray
    """(N, V * W, K) float32, crop by crop, as the test of fine-tuning keeps them."""
    window_rows: np.ndarray
    """(M,) int64 position of the row of each window over time."""
    window_spans: np.ndarray
    """(M, 2) float64: start and stop of each window in seconds."""
    window_logits: np.ndarray
    """(M, V, K) float32."""

    def write(self, path: Path) -> None:
        """Write an NPZ file, whole or not at all."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> RowLogits:
        """Read what :meth:`write` wrote."""
        return cls(**read_arrays(path))

    def clips_over_time(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, spans and logits of the W clips of each row, in the shapes of those of windows."""
        count = self.clip_spans.shape[1]
        logits = rearrange(self.logits, "rows (views clips) k -> (rows clips) views k", clips=count)
        return np.repeat(self.rows, count), self.clip_spans.reshape(-1, 2), logits


def windows_over_time(
    dataset: ClipDataset, span: Span, every_seconds: float | None
) -> tuple[list[Window], list[Failure]]:
    """Return the windows over time of the rows of a part, if requested, and the rows whose header cannot be read."""
    windows: list[Window] = []
    failures: list[Failure] = []
    if every_seconds is None:
        return windows, failures
    for row in range(*span):
        try:
            starts = dataset.place_windows(row, every_seconds)
            windows += [(row, video, audio) for video, audio in zip(*starts, strict=True)]
        except MediaError as error:
            failures.append(Failure.of(dataset.manifest, row, error))
    return windows, failures


def compute_logits(
    trained: TrainedClassifier,
    dataset: ClipDataset,
    rows: range,
    windows: list[Window],
    num_workers: int,
    on_row: Callable[[int], object],
) -> tuple[RowLogits, list[Failure]]:
    """Compute the logits of evenly spaced clips of each row, and of windows over time.

    Raises:
        InputError: If the classifier returns NaN or infinity.
    """
    classifier, clips_per_row = trained.clip_classifier(), trained.config.test.windows_per_clip
    loader = EvalLoader(dataset, _CLIPS_PER_BATCH, rows=rows, clips_per_row=clips_per_row, num_workers=num_workers)
    done, spans, logits = [], [], []
    for clips, values in clip_logits(classifier, loader, clips_per_row):
        done.append(clips[0].row)
        spans.append([dataset.span(clip) for clip in clips])
        logits.append(rearrange(values, "views clips k -> (views clips) k"))
        if not windows:
            on_row(clips[0].row)
    over_time = EvalLoader(
        dataset, _CLIPS_PER_BATCH, windows=windows, together=clips_per_row, num_workers=num_workers if windows else 0
    )
    window_rows, window_spans, window_logits = [], [], []
    for clips, values in clip_logits(classifier, over_time, clips_per_row):
        window_rows += [clip.row for clip in clips]
        window_spans += [dataset.span(clip) for clip in clips]
        window_logits.append(rearrange(values, "views clips k -> clips views k"))
        on_row(clips[0].row)
    views, num_classes = trained.transform.video_eval.num_crops, trained.model.num_classes
    found = RowLogits(
        np.array(done, dtype=np.int64),
        np.array(spans, dtype=np.float64).reshape(-1, clips_per_row, 2),
        np.stack(logits) if logits else np.empty((0, views * clips_per_row, num_classes), np.float32),
        np.array(window_rows, dtype=np.int64),
        np.array(window_spans, dtype=np.float64).reshape(-1, 2),
        np.concatenate(window_logits) if window_logits else np.empty((0, views, num_classes), np.float32),
    )
    for of_rows, values in ((found.rows, found.logits), (found.window_rows, found.window_logits)):
        check_finite([str(dataset.manifest.value(int(row), "id")) for row in of_rows], values)
    return found, list({failure.row: failure for failure in [*over_time.ledger, *loader.ledger]}.values())
