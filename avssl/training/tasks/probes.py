"""Training of classifiers on precomputed feature maps.

The backbone computed the maps in evaluation mode, with BatchNorm's own statistics, so it is truly frozen. AVID's
published probe differs: its backbone is in training mode and normalizes by batch while the probe is trained, and its
clips are cropped and colored anew in every epoch. Here every clip has W fixed, evenly spaced windows without
augmentation, and each epoch draws one of them per clip; more windows replace the missing augmentation. Results of
the two are similar, not equal.

Dimensions: N clips, W windows of each, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core import draws
from avssl.core.errors import InputError
from avssl.core.progress import Bar
from avssl.core.ranges import Count, Positive, Share, checked


@checked
@dataclass(frozen=True)
class ProbeSchedule:
    """Optimization of a probe; the defaults are AVID's for Kinetics.

    Raises:
        ValueError: If a number is out of range.
    """

    epochs: Count = 12
    """Epochs over the training clips. Use more with few clips: 12 epochs of a thousand clips are a hundred steps."""
    batch_size: Count = 128
    """Clips per step, at least 2 because of BatchNorm; the batches of an epoch differ by at most one clip."""
    lr: Positive = 1e-4
    """Learning rate of Adam (no weight decay)."""
    drops: tuple[Share, ...] = (0.5, 0.75)
    """Shares of the epochs after which the learning rate is divided by ten: 6 and 9 of 12."""

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise InputError(f"batch_size ({self.batch_size}) must be at least 2.")

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.lr * 0.1 ** sum(epoch >= share * self.epochs for share in self.drops)


def train_probe(
    probe: nn.Module,
    maps: Mapping[str, np.ndarray],
    labels: np.ndarray,
    ids: Sequence[str],
    schedule: ProbeSchedule,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> None:
    """Train a probe in place, by the sum of the cross-entropies of all its outputs.

    Args:
        probe: Maps (B, C, ...) by stage to logits (B, K) by stage.
        maps: (N, W, C, ...) float32 by stage.
        labels: (N,) int64 in [0, K).
        ids: N manifest ids: order and windows of an epoch are functions of (seed, epoch, id).
        schedule: Epochs, batches and rates.
        seed: Random seed of order and windows.
        device: Device to train on.

    Raises:
        ValueError: If lengths differ, there are fewer than two clips, or a map holds NaN or infinity.
    """
    count, windows = _checked(maps, len(labels))
    if len(ids) != count or count < 2:
        raise InputError(f"a probe is trained on at least two clips, each with an id; got {count} and {len(ids)} ids.")
    keys, truth = draws.text_keys(ids), torch.from_numpy(labels)
    probe.to(device).train()
    optimizer = torch.optim.Adam(probe.parameters(), lr=schedule.lr)
    for number in Bar(range(schedule.epochs), desc="probe", unit="epoch", delay=1.0, show=progress):
        optimizer.param_groups[0]["lr"] = schedule.rate(number)
        window = draws.integers(draws.clip_key(seed, number, keys), "probe.window", 1, windows)[:, 0]
        # Batches of nearly equal size: a last batch of one clip would have no batch statistics.
        batches = -(-count // schedule.batch_size)
        for rows in draws.epoch_order(seed, number, keys).tensor_split(max(1, min(batches, count // 2))):
            logits = probe(_taken(maps, rows, window[rows], device))
            target = truth[rows].to(device)
            loss = torch.stack([F.cross_entropy(value, target) for value in logits.values()]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    probe.eval()


@torch.inference_mode()
def probe_logits(
    probe: nn.Module, maps: Mapping[str, np.ndarray], *, batch_size: Count = 128, device: torch.device | str = "cpu"
) -> dict[str, np.ndarray]:
    """Return the (N, W, K) logits of every window, by stage, of a trained probe in evaluation mode.

    Raises:
        ValueError: If maps differ in N or W, or hold NaN or infinity.
    """
    count, windows = _checked(maps, len(next(iter(maps.values()))))
    parts: dict[str, list[np.ndarray]] = {}
    for rows in torch.arange(count).split(batch_size):
        for window in range(windows):
            for name, logits in probe(_taken(maps, rows, torch.full_like(rows, window), device)).items():
                parts.setdefault(name, []).append(logits.float().cpu().numpy())
    return {name: _by_window(values, windows) for name, values in parts.items()}


def _by_window(parts: list[np.ndarray], windows: int) -> np.ndarray:
    """Return (N, W, K) from batches (b, K) ordered by window."""
    return np.concatenate([np.stack(parts[i : i + windows], axis=1) for i in range(0, len(parts), windows)])


def _taken(
    maps: Mapping[str, np.ndarray], rows: Tensor, windows: Tensor, device: torch.device | str
) -> dict[str, Tensor]:
    """Return one window of each row, (b, C, ...), on the device."""
    at = rows.numpy(), windows.numpy()
    return {name: torch.from_numpy(value[at]).to(device) for name, value in maps.items()}


def _checked(maps: Mapping[str, np.ndarray], count: int) -> tuple[int, int]:
    """Return N and W, which all maps share."""
    shapes = {value.shape[:2] for value in maps.values()}
    if len(shapes) != 1 or next(iter(shapes))[0] != count:
        raise InputError(f"maps must be (N, W, ...) of the same N = {count} clips and windows, got {sorted(shapes)}.")
    for name, value in maps.items():
        # A sum takes a tenth of the memory of a test of every number, and is finite only if all numbers are.
        with np.errstate(invalid="ignore"):  # infinity less infinity
            bad = ~np.isfinite(value.reshape(count, -1).sum(axis=1, dtype=np.float64))
        if bad.any():
            raise InputError(f"the maps of {name} hold NaN or infinity, first in clip {bad.argmax()}.")
    return next(iter(shapes))
