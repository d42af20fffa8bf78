"""Run by torchrun from test_two_ranks.py: one step of a tiny DDP model, saved to FOLDER/rank<r>.pt.

The test loads this file too, and calls :func:`step` on all clips in one process.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avssl.core import distributed
from avssl.core.batch import AugmentedPair, BatchIndex, Embeddings
from avssl.core.needs import ObjectiveNeeds
from avssl.models import LogitScale, objective_heads
from avssl.models.equivariance import EquivariantBranch
from avssl.objectives import create_objective, objective_needs

NUM_CLIPS = 6
EXCLUDE = {"exclude_same_file": True, "exclude_near_duplicates": 0.4, "exclude_hardest": 0.25}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "pooled": ("info_nce", {"temperature": 0.2, "pooling": "pooled"}),
    "max": ("info_nce", {"temperature": 0.2, "pooling": "max"}),
    "both": ("info_nce", {"temperature": 0.2, "pooling": "both"}),
    "chunked": ("info_nce", {"temperature": 0.2, "pooling": "pooled", "chunk_size": 2}),
    "excluding": ("info_nce", {"temperature": 0.2, "pooling": "both", **EXCLUDE}),
    "excluding, chunked": ("info_nce", {"temperature": 0.2, "pooling": "pooled", "chunk_size": 2, **EXCLUDE}),
    "learned": ("info_nce", {"temperature": 0.2, "pooling": "pooled", "learn_temperature": True}),
    "learned, chunked": (
        "info_nce",
        {"temperature": 0.2, "pooling": "pooled", "learn_temperature": True, "chunk_size": 2},
    ),
    "two views": ("info_nce", {"temperature": 0.2, "pooling": "pooled", "within_modal": 0.5}),
    "equivariant": ("info_nce", {"temperature": 0.2, "pooling": "pooled", "equivariant": 15.0}),
    "equivariant, siglip": ("siglip", {"initial_scale": 3.0, "initial_bias": -1.0, "equivariant": 15.0}),
    "fnac": ("fnac", {"temperature": 0.5, "warmup_epochs": 0, "max_over": "space"}),
    "ssl_tie": ("ssl_tie", {"temperature": 0.2, "threshold_width": 0.3, "equivariance_weight": 3.0}),
    "ssl_tie, info_nce": ("ssl_tie", {"temperature": 0.2, "contrast": "both", "equivariance_weight": 3.0}),
    "lvs": ("lvs", {"temperature": 0.2, "positive_threshold": 0.4, "negative_threshold": 0.2, "threshold_width": 0.2}),
    "lvs, symmetric": ("lvs", {"temperature": 0.2, "threshold_width": 0.3, "symmetric": True}),
    "siglip": ("siglip", {"initial_scale": 3.0, "initial_bias": -1.0}),
    "siglip, chunked": ("siglip", {"initial_scale": 3.0, "initial_bias": -1.0, "chunk_size": 2}),
    "silence": ("info_nce", {"temperature": 0.2, "pooling": "both", "negative_sounds": 2}),
    "silence, excluding, chunked": (
        "info_nce",
        {"temperature": 0.2, "pooling": "pooled", "chunk_size": 2, "negative_sounds": 2, **EXCLUDE},
    ),
    "silence, two views": (
        "info_nce",
        {"temperature": 0.2, "pooling": "pooled", "within_modal": 0.5, "negative_sounds": 2},
    ),
    "in time": ("info_nce", {"temperature": 0.2, "pooling": "both", "temporal_negatives": 3}),
    "in time, two windows": (
        "info_nce",
        {"temperature": 0.2, "pooling": "both", "temporal_negatives": 2, "temporal_views": 2, "within_modal": 0.5},
    ),
    "in time, dense_av": (
        "dense_av",
        {
            "temperature": 0.2,
            "learn_temperature": False,
            "temporal_negatives": 2,
            "temporal_views": 2,
            "silence_dbfs": -60.0,
            "negative_sounds": 2,
            "pooled_weight": 0.5,
            "nonnegative_weight": 0.5,
            "negative_weight": 0.5,
        },
    ),
    "framewise": ("framewise", {"temperature": 0.2}),
    "swav": ("swav", {"embedding_size": 6, "prototypes": 5, "epsilon": 0.2}),
    "swav, two views": (
        "swav",
        {"embedding_size": 6, "prototypes": 5, "epsilon": 0.2, "shared_prototypes": False, "within_modal": 0.5},
    ),
    "framewise, batch": (
        "framewise",
        {"temperature": 0.2, "negatives": "batch", "around_steps": 1, "ignored_steps": 1},
    ),
    "barlow_twins, two views": ("barlow_twins", {"off_diagonal": 0.5, "within_modal": 0.5}),
    "vicreg, two views": ("vicreg", {"within_modal": 0.5}),
    "sigreg, two views": ("sigreg", {"num_directions": 8, "regularization": 0.5, "within_modal": 0.5}),
    "byol": ("byol", {"predictor_hidden": 8}),
    "byol, two views": ("byol", {"predictor_hidden": 8, "within_modal": 0.5, "residual": False}),
    "simsiam": ("simsiam", {"predictor_hidden": 8}),
    "simsiam, two views": ("simsiam", {"predictor_hidden": 8, "within_modal": 0.5, "residual": False}),
    "dino": ("dino", {"prototypes": 5, "student_temperature": 0.5, "teacher_temperature": 0.3}),
    "dino, two views": (
        "dino",
        {
            "prototypes": 5,
            "student_temperature": 0.5,
            "teacher_temperature": 0.3,
            "within_modal": 0.5,
            "shared_prototypes": False,
        },
    ),
    "silence, margin_nce": ("margin_nce", {"temperature": 0.2, "pooling": "both", "negative_sounds": 2}),
    "margin_nce": ("margin_nce", {"temperature": 0.2, "margin": -0.3, "pooling": "both"}),
    "slavc": ("slavc", {"temperature": 0.2}),
    "dense_av": ("dense_av", {"temperature": 0.2, "learn_temperature": False, "num_heads": 3}),
    "dense_av, everything": (
        "dense_av",
        {
            "temperature": 1.5,
            "silence_dbfs": -60.0,
            "negative_sounds": 2,
            **dict.fromkeys(("pooled_weight", "overlap_weight", "nonnegative_weight", "smooth_weight"), 0.5),
            **dict.fromkeys(("silence_weight", "negative_weight", "floor_weight"), 0.5),
        },
    ),
}


class TinyModel(nn.Module):
    """Linear heads on given features; the pooled video embedding is the mean of the map's."""

    def __init__(self, needs: ObjectiveNeeds, seed: int = 7) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.framewise = needs.framewise
        self.video_head = nn.Linear(6, 6)
        self.audio_head = nn.Linear(4, 6)
        self.where = nn.ModuleList([nn.Linear(6, 6), nn.Linear(4, 6)]) if needs.where_heads else None
        heads = objective_heads(needs, 6)
        self.objective_heads = None if heads is None else heads.eval()  # BatchNorm of a rank knows its own clips only
        self.branches = branches(6) if needs.originals else None
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.logits = LogitScale(needs.logit_scale, needs.logit_bias) if needs.logit_scale else None

    def forward(self, video: Tensor, audio: Tensor, negative_audio: Tensor, others: Tensor | None = None) -> Embeddings:
        cells = self.video_head(video)  # (B, T, H, W, D)
        sounds = over_time(audio)
        if self.framewise:  # as many steps as frames
            sounds = sounds[:, : cells.shape[1]]
        scale, bias = self.logits() if self.logits else (None, None)
        pooled, sound = cells.mean((1, 2, 3)), self.audio_head(audio)
        return Embeddings(
            pooled,
            sound,
            video_map=cells.movedim(-1, 1),
            audio_map=self.audio_head(sounds).movedim(-1, 1),
            audio_heard=sounds[..., 0] > -0.5,
            video_where_map=self.where[0](video).movedim(-1, 1) if self.where else None,
            audio_where=self.where[1](audio) if self.where else None,
            logit_scale=scale,
            logit_bias=bias,
            negative_audio=self.audio_head(negative_audio) if len(negative_audio) else None,
            negative_audio_map=self.audio_head(over_time(negative_audio)).movedim(-1, 1)
            if len(negative_audio)
            else None,
            **({} if others is None else self._at_other_times(others)),
            **({} if self.objective_heads is None else self.objective_heads(pooled, sound)),
            **({} if self.branches is None else augmented(self.branches, pooled, sound)),
        )

    def _at_other_times(self, others: Tensor) -> dict[str, Tensor]:
        """Embeddings of (B, K, 4) features."""
        steps = torch.stack([over_time(sound) for sound in others.unbind(1)], dim=1)  # (B, K, S, 4)
        return {
            "other_audio": self.audio_head(others),
            "other_audio_map": self.audio_head(steps).movedim(-1, 2),
            "other_heard": steps[..., 0] > -0.5,
        }


def branches(size: int) -> nn.ModuleList:
    """One branch of each modality, for augmentations of two numbers."""
    return nn.ModuleList([EquivariantBranch(size, size, 2, hidden=4) for _ in range(2)])


def augmented(pair: nn.ModuleList, video: Tensor, audio: Tensor) -> dict[str, AugmentedPair]:
    """Embeddings that stand for those of an augmented clip, and predictions of them from a part."""
    return {
        f"{name}_augmented": branch(x.tanh() / 20, x.cos(), x.detach()[:, :2])
        for name, branch, x in zip(("video", "audio"), pair, (video, audio), strict=True)
    }


def over_time(audio: Tensor) -> Tensor:
    """(B, 4) features to (B, S, 4) of three steps."""
    return torch.stack([audio, audio.flip(1), audio.roll(1, dims=1)], dim=1)


def create_model(variant: str, seed: int = 7) -> TinyModel:
    return TinyModel(objective_needs(*VARIANTS[variant]), seed)


def clips(view: int = 0) -> tuple[Tensor, Tensor]:
    """(N, T, H, W, 6) and (N, 4) features of one view of the global batch."""
    generator = torch.Generator().manual_seed(3 + view)
    return torch.randn(NUM_CLIPS, 2, 3, 3, 6, generator=generator), torch.randn(NUM_CLIPS, 4, generator=generator)


def negatives(count: int, share: slice) -> Tensor:
    """(M, 4) features of sounds of no clip: those of one rank, or of both where the share is everything."""
    features = torch.randn(2 * count, 4, generator=torch.Generator().manual_seed(11))
    return features[share]


def step(model: nn.Module, rows: slice, variant: str) -> dict[str, Any]:
    """Loss, terms and parameter gradients of the clips in ``rows``."""
    model.zero_grad()
    name, options = VARIANTS[variant]
    count = options.get("negative_sounds", 0)
    # One process has the sounds of all ranks, as it has their clips.
    share = slice(None) if rows == slice(None) else slice(distributed.rank() * count, (distributed.rank() + 1) * count)
    sounds = negatives(count, share)
    objective = create_objective(name, **(options | {"negative_sounds": len(sounds)} if count else options))
    objective.on_epoch_start(0)
    views = [tuple(features[rows] for features in clips(number)) for number in range(objective.needs.num_views)]
    video, audio = (torch.cat(features) for features in zip(*views, strict=True))
    windows = objective.needs.windows
    others = None
    if windows is not None and windows.num_negatives:
        generator = torch.Generator().manual_seed(19)
        each = torch.randn(objective.needs.num_views, NUM_CLIPS, windows.num_negatives, 4, generator=generator)
        others = each[:, rows].flatten(0, 1)
    numbers = torch.arange(NUM_CLIPS)[rows]
    # Files of clips: 0 0 1 2 3 0, so that one file is on both ranks.
    index = BatchIndex(numbers, torch.tensor([0, 0, 1, 2, 3, 0])[rows], numbers)
    target = None
    if objective.needs.target_momentum is not None:
        with torch.no_grad():
            target = create_model(variant, seed=8)(video, audio, sounds)
    result = objective(model(video, audio, sounds, others), target, index)
    result.total.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    return {"total": result.total.detach(), "terms": result.terms, "gradients": gradients}


def main(folder: Path) -> None:
    rank, share = distributed.rank(), NUM_CLIPS // distributed.world_size()
    rows = slice(rank * share, (rank + 1) * share)
    results = {}
    for variant in VARIANTS:
        model = DistributedDataParallel(create_model(variant), broadcast_buffers=False)
        results[variant] = step(model, rows, variant)
    torch.save(results, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
