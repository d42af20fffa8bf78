"""Localization scores on clips in memory: of models, and of maps that ignore the audio or the frames.

Every map belongs to one frame, in the middle of a window. Truth is the visible part of the sounding object.

Dimensions: N clips, D embedding size, h and w cells of a map, K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from shapes_in_memory import Clips, Shapes, fixed_batches
from sklearn.metrics import average_precision_score
from torch import Tensor

from avssl.core.batch import Batch
from avssl.data.sampling import ClipSampling
from avssl.evaluation import (
    center_blob,
    localization_samples,
    mean_prior,
    random_maps,
    random_object,
    summarize,
    whole_frame,
)
from avssl.evaluation.localization import extended_scores
from avssl.localization.similarity import SMOOTHING, at_instant, cell_similarity, smooth, sound_map
from avssl.models import unit_cells
from avssl.synthetic import Split, draw_scene, render_frames
from avssl.synthetic.truth import scene_truth
from avssl.training.tasks import PretrainTask
from avssl.transforms import VideoEval

RULE = "adaptive"
CELLS = (12, 12)


@dataclass(frozen=True, eq=False)
class Seen:
    """Embeddings of one frame and its audio for each clip."""

    cells: Tensor
    """(N, D, 1, h, w)."""
    queries: Tensor
    """(N, D, 1): the clip's own audio."""
    silence: Tensor
    """(N, D, 1)."""
    noise: Tensor
    """(N, D, 1)."""
    activation: Tensor
    """(N, h, w): mean absolute visual feature of a cell, which does not depend on the audio."""
    num_heads: int

    def maps(self, queries: Tensor | None = None, times: int = SMOOTHING) -> Tensor:
        """Return (N, h, w) maps of the own audio, or of other queries, smoothed ``times`` times."""
        found = sound_map(self.cells, self.queries if queries is None else queries, self.num_heads)
        return smooth(found[:, 0], times)

    def swapped(self) -> Tensor:
        """Return (N, D, 1) queries in which each clip has the audio of another."""
        return self.queries.roll(len(self.queries) // 2, dims=0)


@torch.inference_mode()
def look(task: PretrainTask, world: Clips, rows: np.ndarray, start: np.ndarray, sampling: ClipSampling) -> Seen:
    """Embed one window of each row; its middle frame is scored."""
    task.eval()
    model, transform = task.model, task.transform
    parts: list[dict[str, Tensor]] = []
    for raw in fixed_batches(world, rows, sampling, start):
        batch: Batch = transform(raw)
        cells = unit_cells(model, batch.video)
        at = torch.full((len(cells),), sampling.num_frames / 2)
        sounds = {
            "queries": batch.audio,
            "silence": transform.audio_input(torch.zeros_like(raw.audio)),
            "noise": transform.audio_input(noise_like(raw.audio)),
        }
        part = {}
        for name, sound in sounds.items():
            place, part[name] = at_instant(cells, model.sound_queries(sound).float(), at, sampling.num_frames)
        features = model.video_encoder.forward_features(batch.video).abs().mean(dim=1)  # (B, T', h, w)
        middle = features[:, (features.shape[1] - 1) // 2 : features.shape[1] // 2 + 1].mean(dim=1)
        parts.append({"cells": place, "activation": middle.float(), **part})
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Seen(**joined, num_heads=model.num_heads)


def noise_like(audio: Tensor) -> Tensor:
    """Return white noise at -20 dBFS, the same in every call."""
    return 0.1 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))


def measure(task: PretrainTask, world: Shapes, two: TwoSources, sampling: ClipSampling) -> dict[str, Any]:
    """Return the numbers of a row by prefix: for the own audio, and for others."""
    rows = visible(world, "several")
    seen = look(task, world, rows, world.point_start[rows], sampling)
    maps = {
        "": seen.maps(),
        "swapped_": seen.maps(seen.swapped()),
        "silent_": seen.maps(seen.silence),
        "noise_": seen.maps(seen.noise),
        "image_": seen.activation,
    }
    numbers = table_numbers(maps, truth_of(world, rows))
    rows, groups = pairs(world)
    seen = look(task, world, rows, world.point_start[rows], sampling)
    of_pairs = {"": seen.maps(), "swapped_": seen.maps(seen.swapped()), "image_": seen.activation}
    numbers |= pair_numbers(of_pairs, truth_of(world, rows), groups)
    numbers |= rejection(task, world, sampling, maps[""])
    return numbers | two_sounds(task, world, two, sampling)


def baselines(world: Shapes, seed: int, pool: str = "") -> dict[str, Any]:
    """Return the same numbers for maps that ignore the audio, by prefix, and the scores of random confidences.

    ``pool`` is what the names of the splits begin with; one without pairs, or without negatives, has no such numbers.
    """
    numbers: dict[str, Any] = {}
    for split in ("several", "pairs"):
        rows, groups = (visible(world, pool + split), None) if split == "several" else pairs(world, pool + split)
        if not len(rows):
            continue
        masks = torch.from_numpy(world.masks[rows])
        truth, hw = masks[:, 0].float(), (int(masks.shape[2]), int(masks.shape[3]))
        maps = {
            "center_": center_blob(len(rows), hw),
            "random_": random_maps(len(rows), CELLS, seed=seed),
            "whole_": whole_frame(len(rows), hw),
            "mean_": mean_of_others(truth),
            "object_": random_object(masks, seed=seed)[0],
        }
        numbers |= table_numbers(maps, truth) if groups is None else pair_numbers(maps, truth, groups)
    seen = len(visible(world, pool + "several"))
    for split in ("off_screen", "silent"):
        count = len(world.rows(pool + split))
        numbers |= {f"n_{split}": count, f"chance_ap_{split}": seen / (seen + count)}
    return numbers


def visible(world: Shapes, split: str) -> np.ndarray:
    """Return the rows of a split that have a sound event with a visible source."""
    rows = world.rows(split)
    return rows[np.isfinite(world.point_start[rows])]


def pairs(world: Shapes, split: str = "pairs") -> tuple[np.ndarray, list[int]]:
    """Return the rows of complete interactive pairs, and the pair of each."""
    rows = visible(world, split)
    pair = np.array([int(name.split("/")[1]) // 2 for name in world.ids[rows]], dtype=np.int64)
    complete = np.isin(pair, np.flatnonzero(np.bincount(pair) == 2))
    return rows[complete], pair[complete].tolist()


def truth_of(world: Shapes, rows: np.ndarray) -> Tensor:
    """Return (N, H, W) float32 masks of the visible part of the sounding object."""
    return torch.from_numpy(world.masks[rows])[:, 0].float()


def table_numbers(maps: dict[str, Tensor], truth: Tensor) -> dict[str, float]:
    """Return pointing, cIoU success and AUC of each map, and the number of clips."""
    numbers: dict[str, float] = {"n": len(truth)}
    for prefix, values in maps.items():
        found = summarize(localization_samples(values, truth, (RULE,)))
        numbers |= {
            f"{prefix}pointing": found["pointing"],
            f"{prefix}ciou": found[f"ciou_success_{RULE}"],
            f"{prefix}auc": found[f"auc_{RULE}"],
        }
    return numbers


def pair_numbers(maps: dict[str, Tensor], truth: Tensor, groups: list[int]) -> dict[str, float]:
    """Return IIoU and IAUC of each map: a pair counts by the worse of its two."""
    numbers: dict[str, float] = {"n_pairs": len(set(groups))}
    for prefix, values in maps.items():
        found = summarize(localization_samples(values, truth, (RULE,)), groups)
        numbers |= {f"{prefix}iiou": found[f"iiou_{RULE}"], f"{prefix}iauc": found[f"iauc_{RULE}"]}
    return numbers


def mean_of_others(truth: Tensor) -> Tensor:
    """Return (N, H, W): for each half of the clips the mean truth of the other half, so that no clip uses its own."""
    half = len(truth) // 2
    return torch.cat([mean_prior(truth[half:], half), mean_prior(truth[:half], len(truth) - half)])


def rejection(
    task: PretrainTask, world: Shapes, sampling: ClipSampling, own: Tensor, pool: str = ""
) -> dict[str, float]:
    """Score the detection of clips without a visible source by the confidence, the maximum of a map.

    ``ap_off_screen`` and ``ap_silent``: average precision of the clips with a visible source against these.
    ``slavc_ap``: SLAVC's, against both together; there a source that is missed counts as a false alarm. ``pool`` is
    what the names of the splits begin with.
    """
    rows = visible(world, pool + "several")
    confidence = {"seen": own.amax(dim=(1, 2))}
    for split in ("off_screen", "silent"):
        others = world.rows(pool + split)
        start = np.full(len(others), (world.settings.duration_seconds - sampling.audio_seconds) / 2)
        confidence[split] = look(task, world, others, start, sampling).maps().amax(dim=(1, 2))
    numbers = {
        f"ap_{split}": plain_ap(confidence["seen"], confidence[split]) for split in confidence if split != "seen"
    }
    every = torch.cat(list(confidence.values()))
    found = localization_samples(own, truth_of(world, rows), (RULE,))[f"ciou_{RULE}"]
    ciou = torch.cat([found, torch.zeros(len(every) - len(found), dtype=found.dtype)])
    has_box = torch.arange(len(every)) < len(found)
    slavc = extended_scores(every.numpy(), ciou.numpy(), has_box.numpy())
    return numbers | {"slavc_ap": slavc.ap, "slavc_f1": slavc.max_f1}


def plain_ap(positive: Tensor, negative: Tensor) -> float:
    """Return the average precision of ``positive`` against ``negative`` confidences."""
    labels = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
    return float(average_precision_score(labels.numpy(), torch.cat([positive, negative]).numpy()))


def by_size(
    task: PretrainTask, world: Shapes, sampling: ClipSampling, sizes: Sequence[int], smoothings: Sequence[int]
) -> list[dict[str, float]]:
    """Return pointing, cIoU and IIoU at each frame size and number of smoothings."""
    found = []
    rows, (paired, groups) = visible(world, "several"), pairs(world)
    for size in sizes:
        task.transform.video_eval = VideoEval(size, crop="full")
        seen, pair = (look(task, world, of, world.point_start[of], sampling) for of in (rows, paired))
        for times in smoothings:
            numbers = table_numbers({"": seen.maps(times=times)}, truth_of(world, rows))
            numbers |= pair_numbers({"": pair.maps(times=times)}, truth_of(world, paired), groups)
            found.append({"frame_size": size, "smoothed": times} | numbers)
    return found


# ---------------------------------------------------------------- two objects that sound


@dataclass(frozen=True, eq=False)
class TwoSources:
    """Sound events of clips in which two of three objects sound."""

    rows: np.ndarray
    """(n,) positions in the world."""
    start: np.ndarray
    """(n,) seconds: start of the window whose middle is the event."""
    masks: Tensor
    """(n, 2, H, W) bool at the event: masks of its object, and of the other sounding object."""


APART_SECONDS = 0.15
"""Least distance between a scored event and any event of the other source."""


def two_sources(world: Shapes, split: Split, seed: int, sampling: ClipSampling) -> TwoSources:
    """Return, for each source in the split "two", its event that is furthest from the other's events.

    Events nearer than :data:`APART_SECONDS` to one of the other's, or with one of the two objects hidden, are left out.
    """
    rows, starts, masks = [], [], []
    duration, length = world.settings.duration_seconds, sampling.audio_seconds
    for row in world.rows("two"):
        scene = draw_scene(split.settings, seed, "two", int(world.ids[row].split("/")[1]))
        truth = scene_truth(scene, render_frames(scene)[1])
        for source in np.flatnonzero(truth.sounding):
            other = truth.sounding & (np.arange(len(truth.sounding)) != source)
            events = truth.event_seconds[truth.event_object == source]
            events = events[(events >= length / 2) & (events <= duration - length / 2)]
            others = truth.event_seconds[other[truth.event_object]]
            apart = np.abs(events[:, None] - others).min(axis=1, initial=duration)
            if len(events) == 0 or apart.max() < APART_SECONDS:
                continue
            event = events[apart.argmax()]
            at = truth.masks[truth.frame_at(event)]
            both = np.stack([at[source], at[other].any(axis=0)])
            if both.any(axis=(1, 2)).all():
                rows.append(row)
                starts.append(event - length / 2)
                masks.append(both)
    return TwoSources(np.array(rows), np.array(starts), torch.from_numpy(np.stack(masks)))


def two_sounds(task: PretrainTask, world: Shapes, two: TwoSources, sampling: ClipSampling) -> dict[str, float]:
    """Score whether both of two sources are found, and which of them sounds now.

    ``two_each`` and ``two_both``: two places are pointed at, by the two heads where the model has them and else by the
    two highest peaks of one map; the share of the sources that are hit, each place counting for one, and of instants
    with both hit. ``two_now``: the peak of the one map lies on the source whose event it is; ``two_now_other``: on the
    other.
    """
    seen = look(task, world, two.rows, two.start, sampling)
    one = seen.maps()
    if seen.num_heads == 2:
        heads = cell_similarity(seen.cells, seen.queries, 2).by_head()[:, :, 0]
        places = torch.stack([highest(smooth(heads[:, head])) for head in range(2)], dim=1)
    else:
        places = two_peaks(one)
    hit = hits(places, two.masks)
    straight, crossed = hit[:, 0, 0].int() + hit[:, 1, 1].int(), hit[:, 0, 1].int() + hit[:, 1, 0].int()
    found = torch.maximum(straight, crossed)
    now = hits(highest(one)[:, None], two.masks)[:, 0].float().mean(dim=0)
    return {
        "two_each": found.double().mean().item() / 2,
        "two_both": (found == 2).double().mean().item(),
        "two_now": now[0].item(),
        "two_now_other": now[1].item(),
        "n_two": len(hit),
    }


def highest(maps: Tensor) -> Tensor:
    """Return (N, 2): height and width of the peak of (N, h, w) maps, as shares of the frame."""
    height, width = maps.shape[1:]
    peak = maps.flatten(1).argmax(dim=1)
    return torch.stack([(peak // width + 0.5) / height, (peak % width + 0.5) / width], dim=1)


def two_peaks(maps: Tensor, apart: float = 0.2) -> Tensor:
    """Return (N, 2, 2): the peak of (N, h, w) maps, and the highest cell more than ``apart`` of the frame from it."""
    first = highest(maps)
    y, x = (torch.arange(side) + 0.5 for side in maps.shape[1:])
    distance = torch.hypot(
        y[None, :, None] / len(y) - first[:, 0, None, None], x[None, None] / len(x) - first[:, 1, None, None]
    )
    return torch.stack([first, highest(maps.masked_fill(distance <= apart, -torch.inf))], dim=1)


def hits(places: Tensor, masks: Tensor) -> Tensor:
    """Return (N, P, O) bool: whether each of (N, P, 2) points lies on each object of the (N, O, H, W) masks."""
    height, width = masks.shape[2:]
    y, x = (places[..., 0] * height).long(), (places[..., 1] * width).long()
    row = torch.arange(len(masks))[:, None]
    return masks[row, :, y, x]
