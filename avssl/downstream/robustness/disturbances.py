"""Encode the same clips clean and under each disturbance.

Dimensions: N clips, W windows of each, V views (crops) of a window, C features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from avssl.core.batch import Batch, BatchIndex, Clip
from avssl.core.errors import RunError
from avssl.core.progress import Bar
from avssl.data.dataset import ClipDataset
from avssl.data.eval_loader import EvalLoader
from avssl.downstream.robustness.cutouts import Cutouts
from avssl.transforms.corruptions import Corruption
from avssl.transforms.disturbances import (
    add_noise,
    occlude,
    paste,
    reverse_frames,
    silence,
    swap_audio,
    swap_video,
    to_rgb,
)

CLEAN = "clean"
Encode = Callable[[Batch], Tensor]
"""Raw batch of B clips -> (B, V, C) features of one modality."""


@dataclass(frozen=True)
class Disturbance:
    """One disturbance of the standard table."""

    apply: Callable[[Batch, Batch, Tensor], Batch]
    """(clips, their partners, (B, T, H, W) bool masks of the partners' cutouts) -> disturbed clips."""
    modality: str
    """Disturbed modality, "video" or "audio"; the other one stays the same tensor."""
    uses_partner: bool = False
    """True if the partner's audio, video or object is put into the clip."""


def _noise(snr_db: float) -> Disturbance:
    return Disturbance(lambda clips, partners, masks: add_noise(clips, snr_db), "audio")


def _occlusion(share: float) -> Disturbance:
    return Disturbance(lambda clips, partners, masks: occlude(clips, share), "video")


DISTURBANCES: dict[str, Disturbance] = {
    "noise at SNR 20 dB": _noise(20),
    "noise at SNR 10 dB": _noise(10),
    "noise at SNR 0 dB": _noise(0),
    "no audio": Disturbance(lambda clips, partners, masks: silence(clips), "audio"),
    "audio of another class": Disturbance(
        lambda clips, partners, masks: swap_audio(clips, partners), "audio", uses_partner=True
    ),
    "25 % of the frame covered": _occlusion(0.25),
    "50 % of the frame covered": _occlusion(0.5),
    "video of another class": Disturbance(
        lambda clips, partners, masks: swap_video(clips, partners), "video", uses_partner=True
    ),
    "frames reversed in time": Disturbance(lambda clips, partners, masks: reverse_frames(clips), "video"),
    "object of another class pasted": Disturbance(paste, "video", uses_partner=True),
}
"""Standard table of disturbances, in the order of the report."""


@dataclass(frozen=True, eq=False)
class DisturbedFeatures:
    """Features of the clips by name of the disturbance, including :data:`CLEAN`."""

    features: dict[str, dict[str, np.ndarray]]
    """Disturbance -> modality -> (N, W * V, C) float32; the clean array itself for an undisturbed modality."""
    examples: dict[str, Batch]
    """Disturbance -> raw batch of the first clips."""
    num_pasted: int
    """Number of clips into which a visible object was pasted."""


@torch.inference_mode()
def encode_disturbed(
    encode: Mapping[str, Encode],
    dataset: ClipDataset,
    partners: Sequence[int] | np.ndarray,
    cutouts: Cutouts,
    *,
    windows_per_clip: int = 1,
    batch_size: int = 32,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    num_examples: int = 2,
    progress: bool = False,
) -> DisturbedFeatures:
    """Read each clip and its partner once, and encode the clip under every disturbance.

    Args:
        encode: Encoder of each modality, by ``"video"`` and ``"audio"``, or only one of them.
        dataset: N readable rows; its seed is the random seed of the disturbances.
        partners: (N,) rows whose audio, video or object is put into the clips.
        cutouts: Masks of the objects to paste.
        windows_per_clip: Evenly spaced windows of each row.
        num_workers: Decoding processes for the clips, and as many for their partners.
        num_examples: Number of disturbed clips that are returned as examples.

    Raises:
        RuntimeError: If a row cannot be read.
    """
    loaders = [
        EvalLoader(dataset, batch_size, rows=chosen, clips_per_row=windows_per_clip, num_workers=num_workers)
        for chosen in (range(len(dataset)), partners)
    ]
    parts: list[dict[tuple[str, str], np.ndarray]] = []
    examples: dict[str, Batch] = {}
    num_pasted = 0
    with Bar(desc="disturb", total=len(dataset), unit="row", delay=1.0, show=progress) as bar:
        # Not strict: if a whole last batch of one loader fails, the check after the loop names the file.
        for both in zip(*(loader.clips() for loader in loaders), strict=False):
            _check_readable(loaders)
            clips, donors = (clips for clips, _ in both)
            batch, partner_batch = (to_rgb(loaders[0].batch(each).to(device)) for each in (clips, donors))
            masks = _masks(cutouts, donors, partner_batch)
            parts.append(_encode_batch(encode, batch, partner_batch, masks, windows_per_clip))
            # A row counts once, however many of its windows show the object.
            of_row = rearrange(masks, "(rows windows) t h w -> rows (windows t h w)", windows=windows_per_clip)
            num_pasted += int(of_row.any(1).sum())
            if not examples:
                first = slice(0, num_examples * windows_per_clip, windows_per_clip)
                # Random numbers depend on the clip alone, so these equal the clips that are encoded.
                examples = _examples(_part(batch, first), _part(partner_batch, first), masks[first])
            bar.update(len(clips) // windows_per_clip)
    _check_readable(loaders)
    return DisturbedFeatures(_joined(parts), examples, num_pasted)


@torch.inference_mode()
def encode_clips(
    encode: Encode,
    dataset: ClipDataset,
    corruption: Corruption,
    *,
    windows_per_clip: int = 1,
    batch_size: int = 32,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> np.ndarray:
    """Return (N, W * V, C) features of the corrupted clips in one modality; raise RuntimeError as encode_disturbed."""
    loader = EvalLoader(dataset, batch_size, clips_per_row=windows_per_clip, num_workers=num_workers)
    parts = []
    with Bar(desc=str(corruption), total=len(dataset), unit="row", delay=1.0, leave=False, show=progress) as bar:
        for clips, _ in loader.clips():
            batch = corruption(loader.batch(clips).to(device), dataset.sampling.sample_rate_hz)
            features = rearrange(encode(batch), "(rows windows) v c -> rows (windows v) c", windows=windows_per_clip)
            parts.append(features.cpu().numpy())
            bar.update(len(clips) // windows_per_clip)
    _check_readable([loader])
    return np.concatenate(parts)


def _check_readable(loaders: Sequence[EvalLoader]) -> None:
    for failure in (failure for loader in loaders for failure in loader.ledger):
        raise RunError(f"a file that could be read before cannot be read now: {failure.message}")


def _encode_batch(
    encode: Mapping[str, Encode], batch: Batch, partners: Batch, masks: Tensor, windows: int
) -> dict[tuple[str, str], np.ndarray]:
    """Return (rows, W * V, C) by disturbance and disturbed modality."""
    features = {(CLEAN, modality): function(batch) for modality, function in encode.items()}
    for name, disturbance in DISTURBANCES.items():
        if function := encode.get(disturbance.modality):
            features[name, disturbance.modality] = function(disturbance.apply(batch, partners, masks))
    pattern = "(rows windows) v c -> rows (windows v) c"
    return {key: rearrange(value, pattern, windows=windows).cpu().numpy() for key, value in features.items()}


def _joined(parts: list[dict[tuple[str, str], np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Concatenate to (N, W * V, C); an undisturbed modality gets the clean array and no copy of it."""
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    clean = {modality: array for (name, modality), array in whole.items() if name == CLEAN}
    return {
        name: {modality: whole.get((name, modality), array) for modality, array in clean.items()}
        for name in (CLEAN, *DISTURBANCES)
    }


def _examples(batch: Batch, partners: Batch, masks: Tensor) -> dict[str, Batch]:
    return {CLEAN: batch} | {name: each.apply(batch, partners, masks) for name, each in DISTURBANCES.items()}


def _masks(cutouts: Cutouts, clips: Sequence[Clip], batch: Batch) -> Tensor:
    """Return (B, T, H, W) bool masks over the canvas of a batch."""
    frames, height, width = batch.video.shape[1], *batch.video.shape[3:]
    masks = torch.zeros(len(clips), frames, height, width, dtype=torch.bool)
    for i, clip in enumerate(clips):
        mask = cutouts.mask(clip)
        masks[i, :, : mask.shape[1], : mask.shape[2]] = mask
    return masks.to(batch.video.device)


def _part(batch: Batch, part: slice) -> Batch:
    assert batch.valid_hw is not None, "a raw batch"
    index = BatchIndex(batch.index.row[part], batch.index.group[part], batch.index.key[part])
    return Batch(batch.video[part], batch.audio[part], index, batch.valid_hw[part])
