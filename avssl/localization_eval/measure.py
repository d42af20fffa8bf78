"""Localization measured on clips whose sounding object is known: every number beside its baselines.

Each clip is seen through one window whose middle is a sound event, and the map at that instant is
scored against the visible pixels of the object that sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.draws import pass_order, text_key
from avssl.evaluation import (
    bootstrap_interval,
    centre_blob,
    localization_samples,
    random_maps,
    random_object,
    summarize,
    whole_frame,
)
from avssl.extract import run_precision
from avssl.hub import Pretrained, random_init
from avssl.localization.heatmap import at_instant, maps_at, smooth, sound_map, unit_cells
from avssl.localization_eval.instants import PointingWindow, choose_window
from avssl.manifest import Manifest, ManifestError
from avssl.synthetic import read_truth

RULES = ("adaptive", "ezvsl")
"""Area-adaptive and (inclusive) median binarization."""


@dataclass(frozen=True, eq=False)
class LocalizationTable:
    """Rows of scores over the same windows."""

    rows: dict[str, dict[str, float]]
    """Name of the map -> scores in [0, 1] and ``n``; ``iiou_*`` only where clips come in pairs."""
    intervals: dict[str, tuple[float, float]]
    """Name of the map -> 95 % bootstrap interval of its pointing accuracy."""
    windows: list[PointingWindow]
    """What was scored."""
    maps: Tensor
    """(N, h, w) float32: the trained model's maps."""
    skipped: int
    """Clips without a sound event at which the source is visible."""


def measure_localization(
    pretrained: Pretrained,
    manifest: Manifest,
    *,
    seed: int = 0,
    batch_size: int = 25,
    backend: str = "pyav",
    progress: bool = True,
) -> LocalizationTable:
    """Scores a model's maps and everything they must be compared with.

    Args:
        pretrained: Loaded with ``crop="full"``, so that a map covers the whole picture.
        manifest: Rows with ``truth`` of SoundingShapes; rows that share ``pair`` are interactive pairs.
        seed: Of the random baselines, the shuffle and the untrained twin.
        batch_size: Windows embedded at a time.
        backend: Reader of media files.
        progress: Show a bar.

    Returns:
        Rows ``random map``, ``centre blob``, ``whole frame``, ``random object``, ``random-init
        model``, ``shuffled sound`` and ``trained model``.

    Raises:
        ManifestError: If no row has a truth in which a sound event can be seen.
    """
    if pretrained.transform.video_eval.crop != "full":
        raise ValueError('localization needs the whole picture: from_pretrained(..., crop="full").')
    windows, skipped = _windows(pretrained, manifest)
    dataset = ClipDataset(manifest, pretrained.sampling, backend=backend)
    twin = random_init(pretrained, seed + 1)
    heat: dict[str, list[Tensor]] = {"trained": [], "random": [], "cells": [], "sound": []}
    with tqdm(total=len(windows), desc="localize", unit="clip", disable=not progress) as bar:
        for first in range(0, len(windows), batch_size):
            part = windows[first : first + batch_size]
            for name, values in _embed(pretrained, twin, dataset, part).items():
                heat[name].append(values)
            bar.update(len(part))
    trained, untrained, cells, sound = (torch.cat(heat[name]) for name in ("trained", "random", "cells", "sound"))
    others = sound[_derangement(len(windows), seed)]
    shuffled = smooth(sound_map(cells, others, pretrained.model.num_heads)[:, 0])
    truth = torch.stack([window.truth for window in windows])
    count, hw = len(windows), (int(truth.shape[1]), int(truth.shape[2]))
    objects = _padded([window.others for window in windows])
    maps = {
        "random map": random_maps(count, (int(trained.shape[1]), int(trained.shape[2])), seed=seed),
        "centre blob": centre_blob(count, hw),
        "whole frame": whole_frame(count, hw),
        "random object": random_object(objects, seed=seed)[0],
        "random-init model": untrained,
        "shuffled sound": shuffled,
        "trained model": trained,
    }
    pairs = _pairs(manifest, windows)
    samples = {name: localization_samples(values, truth.float(), RULES) for name, values in maps.items()}
    return LocalizationTable(
        rows={name: summarize(values, pairs) for name, values in samples.items()},
        intervals={name: bootstrap_interval(values["pointing"], seed=seed) for name, values in samples.items()},
        windows=windows,
        maps=trained,
        skipped=skipped,
    )


def _windows(pretrained: Pretrained, manifest: Manifest) -> tuple[list[PointingWindow], int]:
    sampling = pretrained.sampling
    windows, skipped = [], 0
    for row in range(len(manifest)):
        path = manifest.truth_file(row)
        if path is None:
            raise ManifestError(f"row {manifest.value(row, 'id')!r} has no truth; localization is scored against it.")
        truth = read_truth(path)
        duration = len(truth.masks) / truth.video_fps
        window = choose_window(truth, row, sampling.num_frames, sampling.frames_per_second, duration)
        if window is None:
            skipped += 1
        else:
            windows.append(window)
    if not windows:
        raise ManifestError(f"none of {len(manifest)} rows has a sound event at which its source can be seen.")
    return windows, skipped


@torch.inference_mode()
def _embed(
    pretrained: Pretrained, twin: Pretrained, dataset: ClipDataset, part: Sequence[PointingWindow]
) -> dict[str, Tensor]:
    """Maps of both models at the windows' instants, and what shuffling the sound needs."""
    clips = [dataset.read_window(w.row, w.start_seconds, w.start_seconds) for w in part]
    raw = collate(clips, dataset.index([w.row for w in part], 0, [0] * len(part)))
    batch = pretrained.transform(raw.to(pretrained.device))
    frame = torch.tensor([w.frame for w in part])
    num_frames = pretrained.sampling.num_frames
    found: dict[str, Tensor] = {}
    for name, each in (("trained", pretrained), ("random", twin)):
        with run_precision(pretrained).autocast(pretrained.device):
            cells, sound = unit_cells(each.model, batch.video), each.model.sound_queries(batch.audio)
        maps = sound_map(cells, sound, each.model.num_heads).cpu()
        found[name] = smooth(maps_at(maps, frame, num_frames))
        if each is pretrained:
            found["cells"], found["sound"] = at_instant(cells.cpu(), sound.float().cpu(), frame, num_frames)
    return found


def _derangement(count: int, seed: int) -> Tensor:
    """(count,) rows such that none is in its place: each takes the sound of the next in a random order."""
    order = pass_order(seed, 0, torch.tensor([text_key(f"shuffle/{i}") for i in range(count)]))
    other = torch.empty(count, dtype=torch.int64)
    other[order] = order.roll(1)
    return other


def _padded(masks: list[Tensor]) -> Tensor:
    """(N, O, H, W) of scenes with up to O objects; missing ones are empty."""
    most = max(len(mask) for mask in masks)
    return torch.stack([F.pad(mask, (0, 0, 0, 0, 0, most - len(mask))) for mask in masks])


def _pairs(manifest: Manifest, windows: list[PointingWindow]) -> list[Any] | None:
    if "pair" not in manifest:
        return None
    pairs = [manifest.value(window.row, "pair") for window in windows]
    complete = {pair for pair in pairs if pair and pairs.count(pair) > 1}
    return [pair if pair in complete else None for pair in pairs] if complete else None
