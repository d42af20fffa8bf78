"""Retrieval in a fixed gallery, and the geometry of the embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from avssl.core import distributed
from avssl.core.errors import InputError
from avssl.engine import Precision
from avssl.evaluation import alignment_uniformity, cross_modal_retrieval, effective_rank, modality_gap, spread
from avssl.training.monitors.clips import FP32, FixedClips, encode_clips
from avssl.training.monitors.diagnosis import Diagnosis
from avssl.training.monitors.maps import map_numbers
from avssl.training.tasks import PretrainTask

BEST_BY = "retrieval/R@10"
"""Number that chooses the best weights of a run: mean recall of both directions, without labels or boxes."""


class EmbeddingMonitor:
    """Measures the embeddings of a fixed gallery, and warns once of each problem.

    Args:
        clips: The gallery. Nothing is measured with fewer than two clips.
        every_steps: Steps between measurements, >= 1.
        precision: Precision in which the model is trained.
        held_out: True if the gallery is not trained on.
        maps: Look at heat maps too: three encodings of the gallery's frames in place of one.

    Numbers, for k in 1 and 10:

    - ``retrieval/v2a_R@k``, ``retrieval/a2v_R@k``, their mean ``retrieval/R@k`` and
      ``retrieval/chance_R@k``; ``retrieval/gallery_size`` and ``retrieval/held_out`` (1 or 0);
    - ``retrieval_shuffled/R@k``: the same when each clip is paired with the audio of another. It is between
      0 and chance for any model, so a higher number means that the measure or the gallery is wrong;
    - ``alignment``, ``uniformity/video``, ``uniformity/audio`` (:func:`~avssl.evaluation.alignment_uniformity`);
    - ``rank/video``, ``rank/audio`` (:func:`~avssl.evaluation.effective_rank`), ``spread/video``,
      ``spread/audio`` (:func:`~avssl.evaluation.spread`);
    - ``modality_gap`` (:func:`~avssl.evaluation.modality_gap`);
    - with ``maps``, those of :func:`~avssl.training.monitors.maps.map_numbers`.
    """

    def __init__(
        self,
        clips: FixedClips,
        every_steps: int,
        precision: Precision = FP32,
        *,
        held_out: bool = False,
        maps: bool = False,
    ) -> None:
        if every_steps < 1:
            raise InputError(f"every_steps ({every_steps}) must be at least 1.")
        self.every_steps = every_steps
        self._clips, self._precision, self._held_out, self._maps = clips, precision, held_out, maps
        self._diagnosis = Diagnosis()

    def run(self, task: PretrainTask) -> dict[str, float]:
        """Return the numbers; leaves the task in eval mode."""
        if len(self._clips.rows()) < 2:
            return {}
        video, audio = encode_clips(task, self._clips, "embeddings", self._precision)
        numbers = embedding_numbers(video, audio) | {"retrieval/held_out": float(self._held_out)}
        if self._maps:
            numbers |= map_numbers(task, self._clips, self._precision)
        for warning in self._diagnosis.findings(numbers, video.shape[1]):
            if distributed.is_main():
                warnings.warn(warning, stacklevel=2)
        return numbers

    def observe(self, record: Mapping[str, float]) -> None:
        """Read the loss of a log, which the diagnosis compares with retrieval."""
        self._diagnosis.observe(record)

    def state_dict(self) -> dict[str, Any]:
        return self._diagnosis.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._diagnosis.load_state_dict(state)


def embedding_numbers(video: Tensor, audio: Tensor) -> dict[str, float]:
    """Return the numbers of :class:`EmbeddingMonitor` for (N, D) embeddings of N >= 2 pairs."""
    found = _recalls(video, audio)
    # Pair each video with the audio half the gallery away, so that no clip keeps its own.
    shuffled = _recalls(video, audio.roll(len(audio) // 2, dims=0))
    measured = alignment_uniformity(video, audio)
    numbers = {f"retrieval/{name}": value for name, value in found.items()}
    numbers |= {f"retrieval_shuffled/{name}": shuffled[name] for name in ("R@1", "R@10")}
    numbers["alignment"] = measured["alignment"]
    numbers["modality_gap"] = modality_gap(video, audio)
    for name, embeddings in (("video", video), ("audio", audio)):
        numbers[f"uniformity/{name}"] = measured[f"{name}_uniformity"]
        numbers[f"rank/{name}"] = effective_rank(embeddings)
        numbers[f"spread/{name}"] = spread(embeddings)
    return numbers


def _recalls(video: Tensor, audio: Tensor) -> dict[str, float]:
    found = cross_modal_retrieval(video, audio, ks=(1, 10))
    means = {f"R@{k}": (found[f"v2a_R@{k}"] + found[f"a2v_R@{k}"]) / 2 for k in (1, 10)}
    names = ("v2a_R@1", "a2v_R@1", "v2a_R@10", "a2v_R@10", "chance_R@1", "chance_R@10", "gallery_size")
    return means | {name: found[name] for name in names}
