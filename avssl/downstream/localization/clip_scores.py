"""Scores of the trained map at each instant with a visible source, on clean or corrupted clips.

Dimensions: N instants.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from avssl.core.batch import Modality
from avssl.core.errors import InputError, RunError
from avssl.core.manifest import Manifest
from avssl.downstream.localization.baselines import CENTER, RANDOM, Baselines
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.maps import TRAINED, own_maps
from avssl.downstream.localization.rows import find_instants, sources_of
from avssl.downstream.localization.scores import Samples, score_rows
from avssl.hub.pretrained import PretrainedModel
from avssl.transforms.corruptions import Corruption

RULE = "adaptive"
"""Rule that turns a map into a region."""
_NUMBERS = {"pointing": "pointing", f"ciou_{RULE}": f"mean cIoU ({RULE})"}
_BASELINES = {RANDOM: "chance", CENTER: CENTER}


@dataclass(frozen=True, eq=False)
class HeatmapClips:
    """Pointing and cIoU of a model; built by :func:`heatmap_clips`."""

    pretrained: PretrainedModel
    clips: InstantClips
    instants: list[Instant]
    """The N readable instants."""
    maps: Tensor
    """(N, h, w) maps of the clean clips."""
    about: dict[str, Any]
    baselines: Mapping[str, Mapping[str, float]]
    batch_size: int = 16
    progress: bool = False

    @property
    def manifest(self) -> Manifest:
        return self.clips.manifest

    @property
    def rows(self) -> np.ndarray:
        return np.array([instant.row for instant in self.instants], dtype=np.int64)

    @property
    def streams(self) -> Mapping[str, Collection[Modality]]:
        return dict.fromkeys(_NUMBERS.values(), ("video", "audio"))

    def run(self, corruption: Corruption | None) -> dict[str, np.ndarray]:
        """Return the (N,) scores by name."""
        maps = self.maps
        if corruption is not None:
            found = own_maps(
                self.pretrained,
                self.clips,
                self.instants,
                corruption=corruption,
                batch_size=self.batch_size,
                progress=self.progress,
            )
            if found.unreadable:
                raise RunError(f"{self.manifest.root}: files that could be read before cannot be read now.")
            maps = found.maps[TRAINED]
        return _numbers(score_rows(self.instants, {"": maps.__getitem__}, [RULE])[""])

    def scores(
        self, runs: Mapping[Corruption | None, Mapping[str, np.ndarray]]
    ) -> dict[Corruption | None, dict[str, np.ndarray]]:
        return {corruption: dict(run) for corruption, run in runs.items()}


def heatmap_clips(
    pretrained: PretrainedModel, manifest: Manifest, *, seed: int = 0, batch_size: int = 16, progress: bool = False
) -> HeatmapClips:
    """Find the instants of the rows, and compute the maps of the clean clips and the baselines.

    Args:
        pretrained: Loaded with ``crop="full"``.
        manifest: Rows with ``truth``.
        seed: Random seed of the random map.

    Raises:
        ManifestError: If there is nothing to score, or it cannot be read.
        InputError: If the model does not see the whole frame.
    """
    if pretrained.transform.video_eval.crop != "full":
        raise InputError('localization needs the whole frame: from_pretrained(..., crop="full").')
    found, left_out = find_instants(manifest, pretrained.sampling.video_seconds)
    clips = InstantClips(manifest, pretrained.sampling)
    positive = [instant for instant in found if instant.is_positive]
    clean = own_maps(pretrained, clips, positive, batch_size=batch_size, progress=progress)
    instants, maps = clean.instants, clean.maps[TRAINED]
    height, width = maps.shape[1:]
    baselines = Baselines(instants, sources_of(manifest, instants), (height, width), seed)
    others = score_rows(instants, {name: partial(baselines.maps, name) for name in _BASELINES}, [RULE])
    others[RANDOM]["pointing"] = others[RANDOM]["truth_area"]  # exactly how often a random point hits
    numbers = {_BASELINES[name]: _numbers(samples) for name, samples in others.items()}
    about = {
        "name": f"heat maps at instants with a visible source, mirrored and smoothed; rule {RULE}",
        "n_test": len(instants),
        "unreadable": sum(clean.unreadable.values()),
        "left_out": dict(left_out + clean.unreadable),
        "clip_list": manifest.hash(),
        "seed": seed,
        "checkpoint": pretrained.source,
        "weights": pretrained.weights_hash(),
    }
    means = {name: {key: float(values.mean()) for key, values in each.items()} for name, each in numbers.items()}
    return HeatmapClips(pretrained, clips, instants, maps, about, means, batch_size, progress)


def _numbers(samples: Samples) -> dict[str, np.ndarray]:
    return {title: samples[key].double().numpy() for key, title in _NUMBERS.items()}
