"""Evaluate the localization of a model on clips with known truth, beside baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.progress import Bar
from avssl.data.splits import Recordings
from avssl.downstream.localization.baselines import Baselines
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.duets import duet_rows
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.maps import (
    NOISE,
    OWN_PRIOR,
    RESNET_PRIOR,
    SHUFFLED,
    SILENCE,
    TRAINED,
    UNTRAINED,
    InstantMaps,
    compute_maps,
)
from avssl.downstream.localization.masks import mask_rows, prompted_rows
from avssl.downstream.localization.negatives import rejection, under_negative_audio
from avssl.downstream.localization.partners import Partners
from avssl.downstream.localization.rows import find_instants, groups_of, sources_of
from avssl.downstream.localization.scores import Numbers, paired_differences, score_rows, success_curves, table_rows
from avssl.evaluation.localization import RULES, fuse_object_prior, resize_heatmaps
from avssl.evaluation.localization.rules import find_rule
from avssl.hub.pretrained import PretrainedModel
from avssl.localization.object_prior import ResNetPrior
from avssl.localization.similarity import SMOOTHING
from avssl.media.backends import BackendName

OWN = "own"
"""Use the model's own video encoder as object prior, instead of a file of weights."""


@dataclass(frozen=True, eq=False)
class LocalizationTable:
    """Scores of several maps over the same instants."""

    about: dict[str, Any]
    """Conditions that other numbers must share to be comparable."""
    rows: dict[str, Numbers]
    """Name of the map -> scores in [0, 1] and ``n``; ``iiou_*`` and ``iauc_*`` only where clips come in pairs."""
    intervals: dict[str, dict[str, tuple[float, float]]]
    """Name of the map -> score -> its 95 % bootstrap interval."""
    differences: dict[str, dict[str, dict[str, Any]]]
    """Name of another map -> score -> difference of the trained model to it, with its paired interval."""
    curves: dict[str, dict[str, list[float]]]
    """Name of the map -> rule -> the share of instants that reach each of ``evaluation.localization.THRESHOLDS``."""
    rejection: dict[str, Numbers]
    """Name of the map -> how well its confidence detects a visible source; empty without negatives."""
    rejection_intervals: dict[str, dict[str, tuple[float, float]]]
    """Name of the map -> average precision -> its 95 % bootstrap interval."""
    negative_audio: dict[str, Any]
    """Area that the trained model marks under silence, noise and other clips' audio."""
    masks: dict[str, Numbers]
    """Name of the map -> AVSBench's ``miou``, ``f`` and ``f_by_video``; empty where truth is boxes."""
    prompted: dict[str, Numbers]
    """Name of the map -> ``map`` and ``miou`` over the classes; empty without masks of two classes."""
    duets: dict[str, Numbers]
    """Name of the map -> scores of the sources in mixtures; empty without mixtures."""
    instants: list[Instant]
    """The N scored instants, with a visible source."""
    maps: dict[str, Tensor]
    """Name of the map -> (N, h, w) float32, for the maps of models."""

    @property
    def num_left_out(self) -> int:
        """Number of rows and instants without a score."""
        return sum(self.about["left_out"].values())


def measure_localization(
    pretrained: PretrainedModel,
    manifest: Manifest,
    *,
    rules: Sequence[str] = ("adaptive", "ezvsl"),
    object_prior: Path | str | None = None,
    map_weight: float = 0.4,
    seed: int = 0,
    batch_size: int = 16,
    backend: BackendName = "auto",
    progress: bool = True,
) -> LocalizationTable:
    """Score a model's maps and their baselines.

    Args:
        pretrained: Loaded with ``crop="full"``, so that a map covers the whole frame.
        manifest: Rows with ``truth``; rows that share ``pair`` have the same frames and different audio.
        rules: Binarization rules, names of :data:`avssl.evaluation.localization.RULES`.
        object_prior: A file of torchvision's ResNet-18 weights, or "own": adds a row of the map fused with it.
        map_weight: Weight of the trained map in the fused one, in [0, 1]; EZ-VSL uses 0.4.
        seed: Random seed of baselines, shuffling, noise, untrained model and resampling.

    Raises:
        ManifestError: If there is nothing to score, or nothing to compare it with.
        InputError: If a rule is unknown, ``map_weight`` is out of range, ``object_prior`` is no such file, or the
            model does not see the whole frame.
    """
    resnet = _prepare(pretrained, rules, object_prior, map_weight)
    instants, left_out = find_instants(manifest, pretrained.sampling.video_seconds)
    clips = InstantClips(manifest, pretrained.sampling, backend)
    partners = Partners(manifest, instants, seed)
    found = compute_maps(
        pretrained, clips, instants, partners, resnet=resnet, seed=seed, batch_size=batch_size, progress=progress
    )
    positive = torch.tensor([instant.is_positive for instant in found.instants])
    scored = [instant for instant in found.instants if instant.is_positive]
    maps = {name: values[positive] for name, values in found.maps.items()}
    groups = _groups(manifest, scored)
    makers = _makers(
        maps, Baselines(scored, sources_of(manifest, scored), _cells(found), seed), object_prior, map_weight
    )
    with Bar(total=len(scored), desc="score", unit="clip", show=progress) as bar:
        samples = score_rows(scored, makers, rules, bar.update)
    recordings = Recordings(manifest).groups[[instant.row for instant in scored]]
    rows, intervals = table_rows(samples, groups, recordings, seed)
    about = _about(pretrained, manifest, found, rules) | {
        "n": len(scored),
        "n_without_source": len(found.instants) - len(scored),
        "share_from_a_quarter": float((samples[TRAINED]["truth_area"] >= 0.25).double().mean()),
        "num_pairs": 0 if groups is None else len({group for group in groups if group}),
        "left_out": dict(left_out + found.unreadable),
        "object_prior": None if object_prior is None else {"source": str(object_prior), "map_weight": map_weight},
        "seed": seed,
    }
    return LocalizationTable(
        about,
        rows,
        intervals,
        paired_differences(samples, TRAINED, groups, recordings, seed),
        {name: success_curves(values) for name, values in samples.items()},
        *rejection(found.maps, positive, samples, scored[0].hw, seed),
        under_negative_audio(maps, scored, TRAINED, (SILENCE, NOISE, SHUFFLED)),
        mask_rows(found.maps, found.instants),
        prompted_rows(maps, scored, manifest),
        duet_rows(pretrained, clips, maps, scored, rules, seed, batch_size),
        scored,
        maps,
    )


def _prepare(
    pretrained: PretrainedModel, rules: Sequence[str], object_prior: Path | str | None, map_weight: float
) -> ResNetPrior | None:
    """Check the options early, and return the object prior if it is a file."""
    if pretrained.transform.video_eval.crop != "full":
        raise InputError('localization needs the whole frame: from_pretrained(..., crop="full").')
    if not rules:
        raise InputError(f"name at least one rule of {', '.join(RULES)}.")
    for rule in rules:
        find_rule(rule)
    if not 0 <= map_weight <= 1:
        raise InputError(f"map_weight ({map_weight}) must be in [0, 1].")
    if object_prior is None or object_prior == OWN:
        return None
    return ResNetPrior(object_prior).to(pretrained.device)


def _groups(manifest: Manifest, instants: Sequence[Instant]) -> list[str | None] | None:
    groups = groups_of(manifest, instants)
    return groups if any(groups) else None


def _cells(found: InstantMaps) -> tuple[int, int]:
    _, height, width = found.maps[TRAINED].shape
    return height, width


def _makers(
    maps: dict[str, Tensor], baselines: Baselines, object_prior: Path | str | None, map_weight: float
) -> dict[str, Callable[[slice], Tensor]]:
    """Return the rows of the table, in order."""
    order = [TRAINED, SHUFFLED, SILENCE, NOISE, UNTRAINED, OWN_PRIOR, RESNET_PRIOR]
    makers: dict[str, Callable[[slice], Tensor]] = {name: maps[name].__getitem__ for name in order if name in maps}
    makers |= {name: partial(baselines.maps, name) for name in baselines.names}
    if object_prior is not None:
        name = f"trained model + {OWN if object_prior == OWN else 'ImageNet'} object prior, map weight {map_weight:g}"
        prior = maps[OWN_PRIOR if object_prior == OWN else RESNET_PRIOR]
        makers[name] = partial(_fused, maps[TRAINED], prior, map_weight, baselines.hw)
    return makers


def _fused(trained: Tensor, prior: Tensor, map_weight: float, hw: tuple[int, int], part: slice) -> Tensor:
    """Fuse both maps, resized as EZ-VSL does: (n, H, W)."""
    heard, seen = (resize_heatmaps(maps[part], hw, "bilinear_corners") for maps in (trained, prior))
    return fuse_object_prior(heard, seen, map_weight)


def _about(pretrained: PretrainedModel, manifest: Manifest, found: InstantMaps, rules: Sequence[str]) -> dict[str, Any]:
    sampling = pretrained.sampling
    splits = Counter(str(value) for value in manifest["split"]) if "split" in manifest else {}
    return {
        "checkpoint": pretrained.source,
        "weights": pretrained.weights_hash(),
        "clip_list": manifest.hash(),
        "num_rows": len(manifest),
        "splits": dict(splits),
        "rules": {rule: {"resize": RULES[rule].mode} for rule in rules},
        "truth_size": list(found.instants[0].hw),
        "map": {"cells": list(_cells(found)), "mirrored": True, "smoothing": SMOOTHING},
        "window": {
            "num_frames": sampling.num_frames,
            "frames_per_second": sampling.frames_per_second,
            "audio_seconds": sampling.audio_seconds,
            "sample_rate_hz": sampling.sample_rate_hz,
        },
    }
