"""A trained classifier: predictions on files, and the parts that predictions on many rows are made of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
from einops import rearrange

from avssl.config import FinetuneConfig
from avssl.core.batch import Clip
from avssl.core.cpus import num_cores
from avssl.core.manifest import Manifest
from avssl.core.ranges import Count, Step, checked
from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.data.file_rows import rows_of_files
from avssl.data.sampling import ClipSampling
from avssl.engine import Precision, threads_within
from avssl.evaluation.calibration import Calibration
from avssl.hub.class_prediction import ClassPrediction, label_texts, top_classes
from avssl.hub.clip_logits import batch_logits, check_finite
from avssl.hub.tensors import named_tensors, tensors_hash
from avssl.media.backends import load_error
from avssl.media.limits import MediaLimits
from avssl.models import Classifier, ClipClassifier
from avssl.training.build import build_dataset
from avssl.transforms import ClipTransform

_LOGGER = logging.getLogger(__name__)


@dataclass
class TrainedClassifier:
    """A trained classifier with its preprocessing and the names of its classes."""

    model: Classifier
    """In evaluation mode."""
    transform: ClipTransform
    """Raw batch to model input, in evaluation mode, with the crops of its test."""
    sampling: ClipSampling
    """Shape of a clip."""
    classes: list[str]
    """Name of each column of the logits."""
    config: FinetuneConfig
    """Settings of the run that made it."""
    source: str
    """Its origin: a folder or a hub id."""
    calibration: Calibration = field(default_factory=Calibration)
    """Temperature of its probabilities and threshold of unknown videos; the defaults for releases without them."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return (N, K) calibrated probabilities of N videos from the (N, W, K) logits of their clips.

        They sum to 1 over the classes, unless ``config.labels.multi_label`` is set. The order of the classes is that
        of the uncalibrated ones.
        """
        return self.calibration.probabilities(logits, self.config.test.average, self.config.labels.multi_label)

    def is_unknown(self, logits: np.ndarray) -> np.ndarray:
        """Return the (N,) bool mask of videos that are like no training class; none if there is no threshold."""
        return self.calibration.is_unknown(logits, self.config.test.average, self.config.labels.multi_label)

    @overload
    def predict(self, files: Path | str, *, top_k: int = 5, every_seconds: float | None = None) -> ClassPrediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(
        self, files: Sequence[Path | str], *, top_k: int = 5, every_seconds: float | None = None
    ) -> list[ClassPrediction]: ...

    @checked
    def predict(
        self, files: Path | str | Sequence[Path | str], *, top_k: Count = 5, every_seconds: Step | None = None
    ) -> ClassPrediction | list[ClassPrediction]:
        """Predict the classes of one file, or of several.

        The clips, crops and numbers are those of the test of fine-tuning, to the last bit on the same device with the
        same number of threads. For many files, ``avssl classify`` decodes in several processes, continues after
        interruptions and lists files that cannot be read.

        Args:
            files: A file, or a sequence of files.
            top_k: Number of classes to return, >= 1.
            every_seconds: Also predict windows over time, one each so many seconds.

        Returns:
            The prediction of the file, with (top_k,) probabilities, or a list of those of the files, in their order.

        Raises:
            InputError: If a name is that of a folder.
            MissingFileError: If there is no such file.
            MediaError: If a file cannot be read, lacks the stream that the classifier needs, or is too short.

        Example:
            >>> classifier = avssl.load_classifier("runs/first-finetune")
            >>> print(classifier.predict("video.mp4", top_k=1))
            video.mp4: ... 0...
        """
        is_one = isinstance(files, str | Path)
        names: Sequence[Path | str] = [files] if isinstance(files, str | Path) else files
        datasets = [self.dataset(rows_of_files([name])) for name in names]  # a missing file is an error at once
        with threads_within(self.num_threads()):
            found = [self._predict_row(dataset, top_k, every_seconds) for dataset in datasets]
        return found[0] if is_one else found

    def _predict_row(self, dataset: ClipDataset, top_k: int, every_seconds: float | None) -> ClassPrediction:
        """Predict the only row of a dataset."""
        model, count = self.clip_classifier(), self.config.test.windows_per_clip
        clips = dataset.read_even(0, count)
        whole = self._pooled(dataset, clips, _logits(model, dataset, clips), top_k)
        if every_seconds is None:
            return whole
        windows: list[ClassPrediction] = []
        videos, audios = dataset.place_windows(0, every_seconds)
        for first in range(0, len(videos), count):
            part = slice(first, first + count)
            clips = dataset.read_windows(0, videos[part], audios[part], first)
            logits = _logits(model, dataset, clips)
            windows += [self._pooled(dataset, [clip], logits[:, [i]], top_k) for i, clip in enumerate(clips)]
        return replace(whole, windows=windows)

    def _pooled(self, dataset: ClipDataset, clips: Sequence[Clip], logits: np.ndarray, top_k: int) -> ClassPrediction:
        """Pool the (V, B, K) logits of clips of one file."""
        file, values = dataset.manifest.file(0), rearrange(logits, "views clips k -> 1 (views clips) k")
        check_finite([str(file)], values)
        probabilities, is_unknown = self.probabilities(values), self.is_unknown(values)
        (label,), (order,) = self.labels(probabilities, is_unknown), top_classes(probabilities, top_k)
        starts, stops = zip(*map(dataset.span, clips), strict=True)
        names = [self.classes[number] for number in order]
        return ClassPrediction(
            file, min(starts), max(stops), label, names, probabilities[0, order], bool(is_unknown[0])
        )

    def labels(self, probabilities: np.ndarray, is_unknown: np.ndarray, threshold: float = 0.5) -> list[str]:
        """Return the label of N videos from their (N, K) probabilities; see :func:`label_texts`."""
        return label_texts(
            probabilities, is_unknown, self.classes, threshold if self.config.labels.multi_label else None
        )

    def dataset(self, manifest: Manifest, limits: MediaLimits | None = None) -> ClipDataset:
        """Return the dataset that reads rows as the classifier's own test does: same clips, streams and decoder.

        A decoder that does not load here is replaced by one that does, with a warning.
        """
        network, data = self.config.network(), self.config.data
        if data.backend != "auto" and load_error(data.backend) is not None:
            _LOGGER.warning("%s; files are decoded by another backend than in its run", load_error(data.backend))
            data = replace(data, backend="auto")
        network = replace(
            network, data=replace(network.data, backend=data.backend), limits=limits or self.config.limits
        )
        return build_dataset(network, manifest, self.model.inputs)

    def clip_classifier(self) -> ClipClassifier:
        """Return the model with its preprocessing, in the number format of its run."""
        train, device = self.config.train, next(self.model.parameters()).device
        precision = Precision.resolved(train.precision, train.memory_format).native(device)
        return ClipClassifier(self.model, self.transform, precision)

    def num_threads(self) -> int | None:
        """Return the number of CPU threads of its run, as far as there are cores here; None for torch's choice."""
        threads = self.config.train.threads
        return None if threads is None else min(threads, num_cores())

    def weights_hash(self) -> str:
        """Return a hash of all weights and statistics, as 16 hex digits."""
        return tensors_hash(named_tensors(model=self.model, transform=self.transform))


def _logits(model: ClipClassifier, dataset: ClipDataset, clips: Sequence[Clip]) -> np.ndarray:
    """Return the (V, B, K) logits of clips of the only row of a dataset."""
    index = dataset.index([clip.row for clip in clips], 0, [clip.clip_number for clip in clips])
    return batch_logits(model, collate(clips, index))
