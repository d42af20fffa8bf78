"""A tiny pretraining task for every objective; run by torchrun too, five steps to FOLDER/rank<r>.pt."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avssl.core import distributed
from avssl.core.batch import Batch, BatchIndex, Embeddings
from avssl.core.needs import ObjectiveNeeds
from avssl.engine.replicas import replicated
from avssl.models import AVModel, LogitScale, create_encoder, create_head, objective_heads
from avssl.models.joint_head import JointHead
from avssl.models.masked import PatchPrediction
from avssl.objectives import create_objective
from avssl.training.tasks import PretrainTask
from avssl.transforms import NegativeSounds

NUM_CLIPS = 6
STEPS_PER_PASS = 3  # four steps end within a pass
TOTAL_STEPS = 8
EXCLUDE = {"exclude_same_file": True, "exclude_hardest": 0.25}
DECODER = {"decoder_width": 12, "decoder_blocks": 1, "decoder_heads": 2}
PREDICTOR = {"predictor_width": 12, "predictor_blocks": 1, "predictor_heads": 2}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "info_nce": ("info_nce", {"temperature": 0.2, "pooling": "both"}),
    "info_nce, everything": (
        "info_nce",
        {
            "temperature": 0.2,
            "pooling": "pooled",
            "learn_temperature": True,
            "chunk_size": 2,
            "within_modal": 0.5,
            **EXCLUDE,
        },
    ),
    "info_nce, silence": ("info_nce", {"temperature": 0.2, "pooling": "both", "negative_sounds": 4}),
    "framewise": ("framewise", {"temperature": 0.2}),
    "fnac": ("fnac", {"temperature": 0.2, "warmup_epochs": 1}),
    "ssl_tie": ("ssl_tie", {"temperature": 0.2}),
    "lvs": ("lvs", {"temperature": 0.2, "symmetric": True}),
    "siglip": ("siglip", {"chunk_size": 4}),
    "margin_nce": ("margin_nce", {"temperature": 0.2}),
    "cav_mae": (
        "cav_mae",
        {
            "mask_ratios": (0.75, 0.25),
            "contrast_weight": 0.5,
            "temperature": 0.5,
            "normalize_patches": False,
            **DECODER,
        },
    ),
    "joint": ("joint", {"modality_dropout": 0.6, "initial_scale": 3.0, "initial_bias": -1.0}),
    "mjepa": ("mjepa", {"own_weight": 0.5, "contrast_weight": 0.5, "temperature": 0.2, "momentum": 0.7, **PREDICTOR}),
    "moco": ("moco", {"embedding_size": 6, "queue_size": 16, "temperature": 0.2, "momentum": 0.7}),
    "barlow_twins": ("barlow_twins", {"within_modal": 0.5}),
    "vicreg": ("vicreg", {"within_modal": 0.5}),
    "sigreg": ("sigreg", {"num_directions": 8}),
    "byol": ("byol", {"predictor_hidden": 8, "momentum": 0.7, "within_modal": 0.5}),
    "simsiam": ("simsiam", {"predictor_hidden": 8, "within_modal": 0.5}),
    "dino": ("dino", {"prototypes": 5, "momentum": 0.7, "within_modal": 0.5}),
    "swav": ("swav", {"embedding_size": 6, "prototypes": 5, "epsilon": 0.2, "queue_size": 15}),
    "slavc": ("slavc", {"temperature": 0.2, "momentum": 0.7}),
    "dense_av": ("dense_av", {"temperature": 0.2, "silence_dbfs": -6.0, "negative_sounds": 4, "pooled_weight": 0.5}),
}
ON_RANKS = ("dino", "moco", "swav", "cav_mae", "mjepa", "joint")


class Views(nn.Module):
    """Raw batch to V views, which differ by a factor, and sounds of no clip."""

    def __init__(self, num_views: int, negative_sounds: int) -> None:
        super().__init__()
        self.num_views = num_views
        self.negative_sounds = NegativeSounds(negative_sounds) if negative_sounds else None

    def forward(self, batch: Batch) -> Batch:
        video = batch.video.float().transpose(1, 2) / 255
        audio = batch.audio[:, None, :, None]
        factors = [1 + number / 2 for number in range(self.num_views)]
        videos, audios = torch.cat([video**f for f in factors]), torch.cat([audio.sin() * f for f in factors])
        if self.negative_sounds is None:
            return Batch(videos, audios, batch.index)
        sounds = self.negative_sounds(batch.index.key, batch.audio.shape[1])
        return Batch(videos, audios, batch.index, negative_audio=sounds[:, None, :, None])


class Pair(nn.Module):
    """Linear heads on every pixel and on the sound."""

    def __init__(self, needs: ObjectiveNeeds) -> None:
        super().__init__()
        self.video = nn.Linear(3, 6)
        self.audio = nn.Linear(8, 6)
        self.num_steps = 2 if needs.framewise else 4
        self.where = nn.ModuleList([nn.Linear(3, 6), nn.Linear(8, 6)]) if needs.where_heads else None
        self.logits = LogitScale(needs.logit_scale, needs.logit_bias) if needs.logit_scale else None
        self.objective_heads = objective_heads(needs, 6)

    def forward(
        self, video: Tensor, audio: Tensor, needs_maps: bool = False, negative_audio: Tensor | None = None
    ) -> Embeddings:
        pixels, sound = video.movedim(1, -1), audio[:, 0, :, 0]
        cells = self.video(pixels).tanh()
        scale, bias = self.logits() if self.logits else (None, None)
        pooled, heard = cells.amax((1, 2, 3)), self.audio(sound)
        return Embeddings(
            pooled,
            heard,
            cells.movedim(-1, 1) if needs_maps else None,
            self._over_time(sound) if needs_maps else None,
            video_where_map=self.where[0](pixels).movedim(-1, 1) if self.where else None,
            audio_where=self.where[1](sound) if self.where else None,
            logit_scale=scale,
            logit_bias=bias,
            negative_audio=None if negative_audio is None else self.audio(negative_audio[:, 0, :, 0]),
            negative_audio_map=None if negative_audio is None else self._over_time(negative_audio[:, 0, :, 0]),
            **({} if self.objective_heads is None else self.objective_heads(pooled, heard)),
        )

    def _over_time(self, sound: Tensor) -> Tensor:
        """(B, 8) to (B, 6, T) of four steps, or of one for each frame."""
        steps = torch.stack([sound.roll(number, dims=1) for number in range(self.num_steps)], dim=1)
        return self.audio(steps).movedim(-1, 1)


def create(variant: str) -> tuple[PretrainTask, torch.optim.Optimizer]:
    name, options = VARIANTS[variant]
    objective = create_objective(name, **options)
    torch.manual_seed(0)
    views = Views(objective.needs.num_views, objective.needs.negative_sounds)
    is_whole = objective.needs.masked is not None or objective.needs.joint_dropout is not None
    model = _transformers(objective.needs) if is_whole else Pair(objective.needs)
    task = PretrainTask(views, model, objective).train()
    return task, torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9)


def _transformers(needs: ObjectiveNeeds) -> AVModel:
    """Towers that can skip patches, four of a frame and eight of the sound, with what predicts or joins them."""
    options = {"width": 8, "num_blocks": 1, "num_heads": 2, "class_token": True, "pool": "class"}
    video = create_encoder("vit_frames", modality="video", patch=2, grid=2, **options)
    audio = create_encoder("vit_spectrogram", modality="audio", patch=1, num_columns=8, num_rows=1, **options)
    heads = [create_head("mlp", 8, out_features=6, hidden=8, depth=2) for _ in range(2)]
    return AVModel(
        video,
        audio,
        *heads,
        LogitScale(needs.logit_scale, needs.logit_bias) if needs.logit_scale else None,
        joint_head=None if needs.joint_dropout is None else JointHead(8, 8, 6, needs.joint_dropout),
        patch_prediction=None if needs.masked is None else PatchPrediction(video, audio, 6, needs.masked),
    )


def batch(number: int, rows: slice) -> Batch:
    generator = torch.Generator().manual_seed(number)
    video = torch.randint(0, 256, (NUM_CLIPS, 2, 3, 4, 4), dtype=torch.uint8, generator=generator)[rows]
    audio = torch.randn(NUM_CLIPS, 8, generator=generator)[rows]
    row = ((torch.arange(NUM_CLIPS) + 4 * number) % 11)[rows]
    return Batch(video, audio, BatchIndex(row, row // 2, row), torch.full((len(video), 2), 4))


def train(
    task: PretrainTask, optimizer: torch.optim.Optimizer, numbers: range, rows: slice = slice(None)
) -> list[Tensor]:
    """One step for each number; the losses."""
    losses = []
    for number in numbers:
        if number % STEPS_PER_PASS == 0:
            task.on_epoch_start(number // STEPS_PER_PASS)
        task.on_step_start(number / TOTAL_STEPS)
        total = task(batch(number, rows)).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        task.after_step()
        losses.append(total.detach())
    return losses


def main(folder: Path) -> None:
    rank, share = distributed.rank(), NUM_CLIPS // distributed.world_size()
    found = {}
    for variant in ON_RANKS:
        task, optimizer = create(variant)
        with replicated(task, torch.device("cpu")):
            losses = train(task, optimizer, range(5), slice(rank * share, (rank + 1) * share))
        found[variant] = {"losses": losses, "state": task.state_dict()}
    torch.save(found, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
