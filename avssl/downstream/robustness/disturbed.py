"""The same clips as they are and under each disturbance, through the encoders.

Dimensions: N clips, W windows of each, V views (crops) of a window, C features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from avssl.core.batch import Batch, BatchIndex, Clip
from avssl.core.errors import RunError
from avssl.data.dataset import ClipDataset
from avssl.data.eval_loader import EvalLoader
from avssl.downstream.robustness.cutouts import Cutouts
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
"""Raw batch of B clips -> (B, V, C) features of one modality, of V views (crops) of each clip."""


@dataclass(frozen=True)
class Disturbance:
    """One row of the standard table."""

    apply: Callable[[Batch, Batch, Tensor], Batch]
    """(clips, their partners, (B, T, H, W) bool of what is cut out of the partners) -> disturbed clips."""
    modality: str
    """What it disturbs: "video" or "audio"; the other one stays the very tensor."""
    uses_partner: bool = False
    """Whether something of another clip is put in."""


def _noise(snr_db: float) -> Disturbance:
    return Disturbance(lambda clips, others, cut: add_noise(clips, snr_db), "audio")


def _occlusion(share: float) -> Disturbance:
    return Disturbance(lambda clips, others, cut: occlude(clips, share), "video")


DISTURBANCES: dict[str, Disturbance] = {
    "noise at SNR 20 dB": _noise(20),
    "noise at SNR 10 dB": _noise(10),
    "noise at SNR 0 dB": _noise(0),
    "no sound": Disturbance(lambda clips, others, cut: silence(clips), "audio"),
    "sound of another class": Disturbance(lambda clips, others, cut: swap_audio(clips, others), "audio", True),
    "25 % of the picture covered": _occlusion(0.25),
    "50 % of the picture covered": _occlusion(0.5),
    "picture of another class": Disturbance(lambda clips, others, cut: swap_video(clips, others), "video", True),
    "frames reversed in time": Disturbance(lambda clips, others, cut: reverse_frames(clips), "video"),
    "object of another class pasted": Disturbance(paste, "video", True),
}
"""The standard table, after the clean clips."""


@dataclass(frozen=True, eq=False)
class Disturbed:
    """What the encoders make of the clips, by name of the disturbance, :data:`CLEAN` among them."""

    features: dict[str, dict[str, np.ndarray]]
    """Disturbance -> modality -> (N, W * V, C) float32; the clean array itself where a modality is left alone."""
    examples: dict[str, Batch]
    """Disturbance -> the first clips, raw."""
    num_pasted: int
    """Clips in which something was in sight to be pasted."""


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
) -> Disturbed:
    """Reads each clip and its partner once, and encodes what every disturbance makes of them.

    Args:
        encode: How each modality becomes features, by ``"video"`` and ``"audio"``, or one of them.
        dataset: N rows, all of which can be read; its seed is that of all draws.
        partners: (N,) rows whose sound, picture or object is put in.
        cutouts: What is cut out of partners.
        windows_per_clip: Evenly spaced windows of each row.
        batch_size: Windows at a time.
        num_workers: Decoding processes for the clips, and as many for their partners.
        device: Where the encoders are.
        num_examples: Disturbed clips that are kept for the eye.
        progress: Show a bar.

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
    with tqdm(desc="disturb", total=len(dataset), unit="row", delay=1.0, disable=not progress) as bar:
        # Not strict: where the last list of one fails whole, the check after the loop says which file it was.
        for both in zip(*(loader.clips() for loader in loaders), strict=False):
            _refuse_failures(loaders)
            clips, donors = (clips for clips, _ in both)
            batch, other = (to_rgb(loaders[0].batch(each).to(device)) for each in (clips, donors))
            cut = _masks(cutouts, donors, other)
            parts.append(_encode_batch(encode, batch, other, cut, windows_per_clip))
            num_pasted += int(cut.flatten(1).any(1).unflatten(0, (-1, windows_per_clip)).any(1).sum())
            if not examples:
                first = slice(0, num_examples * windows_per_clip, windows_per_clip)
                # As a draw depends on its clip alone, these are what the encoders saw.
                examples = _examples(_part(batch, first), _part(other, first), cut[first])
            bar.update(len(clips) // windows_per_clip)
    _refuse_failures(loaders)
    return Disturbed(_joined(parts), examples, num_pasted)


def _refuse_failures(loaders: Sequence[EvalLoader]) -> None:
    for failure in (failure for loader in loaders for failure in loader.ledger):
        raise RunError(f"a file that could be read before cannot be read now: {failure.message}")


def _encode_batch(
    encode: Mapping[str, Encode], batch: Batch, other: Batch, cut: Tensor, windows: int
) -> dict[tuple[str, str], np.ndarray]:
    """(rows, W * V, C) by disturbance and modality, without what a disturbance leaves alone."""
    found = {(CLEAN, modality): function(batch) for modality, function in encode.items()}
    for name, disturbance in DISTURBANCES.items():
        if function := encode.get(disturbance.modality):
            found[name, disturbance.modality] = function(disturbance.apply(batch, other, cut))
    return {key: value.unflatten(0, (-1, windows)).flatten(1, 2).cpu().numpy() for key, value in found.items()}


def _joined(parts: list[dict[tuple[str, str], np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """(N, W * V, C) of each; where a modality is left alone, the clean array and no copy of it."""
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    clean = {modality: array for (name, modality), array in whole.items() if name == CLEAN}
    return {
        name: {modality: whole.get((name, modality), array) for modality, array in clean.items()}
        for name in (CLEAN, *DISTURBANCES)
    }


def _examples(batch: Batch, other: Batch, cut: Tensor) -> dict[str, Batch]:
    return {CLEAN: batch} | {name: each.apply(batch, other, cut) for name, each in DISTURBANCES.items()}


def _masks(cutouts: Cutouts, clips: Sequence[Clip], batch: Batch) -> Tensor:
    """(B, T, H, W) bool over the canvas of a batch."""
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
