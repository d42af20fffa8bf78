"""A training of small networks on pairs of known structure, and what the monitor finds in the embeddings.

A clip is a class and its own numbers, and both modalities show all of them through random nonlinear maps. Uneven clips
are numbers of very different strength instead: an objective that only makes pairs agree needs none, or the first.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.draws import clip_key, epoch_order
from avssl.core.needs import ObjectiveNeeds
from avssl.engine import create_optimizer
from avssl.models import objective_heads
from avssl.models.momentum import MomentumModel
from avssl.objectives import MemoryRows, Objective, create_objective, objective_needs
from avssl.training.monitors.diagnosis import TIMES, Diagnosis
from avssl.training.monitors.embedding import embedding_numbers

NUM_CLIPS, NUM_CLASSES, BATCH, SIZE = 256, 8, 32, 16


class Networks(nn.Module):
    """An encoder with a head for each modality, and the heads that the objective needs."""

    def __init__(self, needs: ObjectiveNeeds, size: int = SIZE) -> None:
        super().__init__()
        self.video, self.audio = (nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, size)) for _ in range(2))
        self.objective_heads = objective_heads(needs, size)

    def forward(self, video: Tensor, audio: Tensor) -> Embeddings:
        embeddings = self.video(video), self.audio(audio)
        return Embeddings(*embeddings, **({} if self.objective_heads is None else self.objective_heads(*embeddings)))


@dataclass(frozen=True)
class Result:
    """Outcome of a training."""

    losses: list[float]
    numbers: dict[str, float]
    """Numbers of the monitor."""
    findings: list[str]
    """Findings of the monitor's diagnosis."""
    purity: float
    """How often a clip's nearest other clip by video embedding is of its class; 1 / NUM_CLASSES is chance."""
    objective: Any
    """The objective with its final buffers."""


def clips() -> tuple[Tensor, Tensor, Tensor]:
    """(N, 24) features of video and of audio, and (N,) classes."""
    generator = torch.Generator().manual_seed(1)
    classes = torch.arange(NUM_CLIPS) % NUM_CLASSES
    content = torch.cat(
        [F.one_hot(classes, NUM_CLASSES).float() * 2, 0.7 * torch.randn(NUM_CLIPS, 4, generator=generator)], dim=1
    )
    maps = torch.randn(2, content.shape[1], 24, generator=generator)
    video, audio = ((content @ each).tanh() + 1.0 for each in maps)
    return video, audio, classes


def uneven_clips(weakest: float) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 24) features of video and of audio, and (N,) classes, of which there is one."""
    generator = torch.Generator().manual_seed(1)
    content = torch.randn(NUM_CLIPS, 12, generator=generator) * torch.logspace(0.5, math.log10(weakest), 12)
    maps = torch.randn(2, 12, 24, generator=generator) / 12**0.5
    video, audio = content @ maps + 0.3 * torch.randn(2, NUM_CLIPS, 24, generator=generator)
    return video, audio, torch.zeros(NUM_CLIPS, dtype=torch.int64)


def train(name: str, epochs: int, lr: float = 3e-3, seed: int = 0, **options: Any) -> Result:
    """Train with an objective by name and measure all clips."""
    torch.manual_seed(seed)
    needs = objective_needs(name, options)
    rows = MemoryRows.from_ids([str(number) for number in range(NUM_CLIPS)])
    stored = {"embedding_size": SIZE} if needs.embedding_size else {}
    objective = create_objective(name, **stored, **({"rows": rows} if needs.memory else {}), **options)
    return train_objective(objective, epochs, lr, seed)


def train_uneven(
    objective: Objective,
    epochs: int = 40,
    lr: float = 1e-2,
    weight_decay: float = 1.0,
    *,
    size: int = 64,
    weakest: float = 0.3,
) -> Result:
    """Train wide embeddings of uneven clips with weight decay, which takes what the loss does not hold."""
    torch.manual_seed(0)
    data = uneven_clips(weakest)
    return train_objective(objective, epochs, lr, 0, data=data, size=size, weight_decay=weight_decay)


def train_objective(
    objective: Objective,
    epochs: int,
    lr: float,
    seed: int,
    *,
    data: tuple[Tensor, Tensor, Tensor] | None = None,
    size: int = SIZE,
    weight_decay: float = 1e-2,
) -> Result:
    """Train with an objective and measure all clips."""
    needs = objective.needs
    rows = MemoryRows.from_ids([str(number) for number in range(NUM_CLIPS)])
    model = Networks(needs, size)
    momentum = needs.target_momentum
    target = None if momentum is None else MomentumModel(model, momentum, needs.final_momentum)
    optimizer = create_optimizer(model, "adamw", lr=lr, weight_decay=weight_decay)
    video, audio, classes = data or clips()
    losses, step, num_steps = [], 0, epochs * (NUM_CLIPS // BATCH)
    for epoch in range(epochs):
        objective.on_epoch_start(epoch)
        for row in epoch_order(seed, epoch, rows.id_key).split(BATCH):
            noise = torch.Generator().manual_seed(step)
            views = [
                torch.cat([x[row] + 0.2 * torch.randn(BATCH, 24, generator=noise) for _ in range(needs.num_views)])
                for x in (video, audio)
            ]
            index = BatchIndex(row, row, clip_key(seed, epoch, rows.id_key[row]))
            slow = None
            if target is not None:
                target.set_progress(step / num_steps)
                slow = target(*views)
            online = model(*views)
            total = objective(online, slow, index).total
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            objective.update(online.detach(), slow, index)
            if target is not None:
                target.follow(model)
            losses.append(float(total.detach()))
            step += 1
    with torch.no_grad():
        online = model.eval()(video, audio)
    numbers = embedding_numbers(online.video, online.audio)
    diagnosis = Diagnosis()
    for loss in (losses[0], losses[-1]):
        diagnosis.observe({"loss": loss})
    findings = [line for _ in range(max(TIMES.values())) for line in diagnosis.findings(numbers, size)]
    return Result(losses, numbers, findings, _purity(online.video, classes), objective)


def _purity(embeddings: Tensor, classes: Tensor) -> float:
    unit = F.normalize(embeddings, dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(dim=1)
    return float((classes[nearest] == classes).float().mean())
