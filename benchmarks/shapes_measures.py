"""Measures of a model on SoundingShapes in memory: probes, retrieval, pointing, rank.

Dimensions: N clips, C features, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from shapes_in_memory import Shapes, fixed_batches
from torch import Tensor

from avssl.core.batch import Batch
from avssl.data.sampling import ClipSampling
from avssl.engine import Precision
from avssl.evaluation import (
    center_blob,
    linear_probe,
    localization_samples,
    random_object,
)
from avssl.localization.similarity import at_instant, smooth, sound_map
from avssl.models import AVModel, unit_cells
from avssl.training.monitors.embedding import embedding_numbers
from avssl.transforms import ClipTransform


@torch.inference_mode()
def encode(
    model: AVModel, transform: ClipTransform, batches: Iterable[Batch], precision: Precision
) -> dict[str, np.ndarray]:
    """Return ``video`` and ``audio`` (N, C) features, ``video_embedding`` and ``audio_embedding`` (N, D), float32."""
    model.eval()
    transform.eval()
    parts: list[dict[str, Tensor]] = []
    for raw in batches:
        batch: Batch = transform(raw)
        with precision.autocast("cpu"):
            found = {
                "video": model.encode_video(precision.arrange(batch.video)),
                "audio": model.encode_audio(precision.arrange(batch.audio)),
            }
            found["video_embedding"] = model.video_head(found["video"])
            found["audio_embedding"] = model.audio_head(found["audio"])
        parts.append({name: value.float() for name, value in found.items()})
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def probes(
    world: Shapes, features: dict[str, np.ndarray], fit: np.ndarray, test: np.ndarray, seed: int
) -> dict[str, float]:
    """Return the accuracy of linear probes for the kind and action of the sounding object, from video and from audio.

    Args:
        world: Clips whose ``kind`` and ``action`` are the labels.
        features: Features of all clips from :func:`encode`.
        fit: Rows to fit on.
        test: Rows to score.
        seed: Random seed of the held-out part that chooses the L2 penalty.
    """
    numbers = {}
    for task, labels in (("object", world.kind), ("action", world.action)):
        for modality in ("video", "audio"):
            x = features[modality]
            result = linear_probe(x[fit], labels[fit], x[test], labels[test], seed=seed)
            numbers[f"{task}_{modality}"] = result.accuracy
        numbers[f"{task}_chance"] = 1 / len(set(labels[fit]))
    return numbers


def retrieval_numbers(features: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, float]:
    """Return retrieval among ``rows`` (mean of both directions; also with shuffled audio) and effective ranks."""
    found = embedding_numbers(*(torch.from_numpy(features[f"{name}_embedding"][rows]) for name in ("video", "audio")))
    return {
        "R@10": found["retrieval/R@10"],
        "R@10_shuffled": found["retrieval_shuffled/R@10"],
        "R@10_chance": found["retrieval/chance_R@10"],
        "gallery": found["retrieval/gallery_size"],
        "rank_video": found["rank/video"],
        "rank_audio": found["rank/audio"],
    }


@torch.inference_mode()
def pointing_numbers(
    model: AVModel, transform: ClipTransform, world: Shapes, rows: np.ndarray, sampling: ClipSampling, *, seed: int = 0
) -> dict[str, float]:
    """Return pointing accuracy at a visible sound event, with the true and another clip's audio, and two priors."""
    model.eval()
    transform.eval()
    rows = rows[np.isfinite(world.point_start[rows])]
    middle, num_frames = sampling.num_frames / 2, sampling.num_frames
    cells, sounds = [], []
    for raw in fixed_batches(world, rows, sampling, world.point_start[rows]):
        batch: Batch = transform(raw)
        places = unit_cells(model, batch.video)  # (B, D, T', h, w)
        at = torch.full((len(places),), middle)
        place, heard = at_instant(places, model.sound_queries(batch.audio).float(), at, num_frames)
        cells.append(place)
        sounds.append(heard)
    cell, sound = torch.cat(cells), torch.cat(sounds)
    masks = torch.from_numpy(world.masks[rows])
    truth = masks[:, 0]
    hw = (int(truth.shape[1]), int(truth.shape[2]))
    maps = {
        "pointing": smooth(sound_map(cell, sound, model.num_heads)[:, 0], 2),
        "pointing_shuffled": smooth(sound_map(cell, sound.roll(len(sound) // 2, dims=0), model.num_heads)[:, 0], 2),
        "pointing_center": center_blob(len(rows), hw),
        "pointing_random_object": random_object(masks, seed=seed)[0],
    }
    numbers = {
        name: localization_samples(values, truth.float())["pointing"].mean().item() for name, values in maps.items()
    }
    return numbers | {"pointing_n": float(len(rows))}
