"""Run by torchrun from the tests of objectives with a memory: steps of a tiny DDP model, saved to FOLDER/rank<r>.pt.

The tests load this file too, and call :func:`train` on all clips in one process.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avssl.core import distributed
from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.draws import clip_key
from avssl.core.needs import ObjectiveNeeds
from avssl.models import objective_heads
from avssl.objectives import MemoryRows, Objective, create_objective

NUM_ROWS, NUM_CLIPS, NUM_STEPS = 14, 6, 4
# Row 3 is seen twice in a batch, and so are two rows of one file.
BATCHES = [[0, 1, 2, 3, 3, 4], [5, 6, 7, 8, 9, 10], [11, 3, 3, 12, 13, 0], [1, 2, 4, 5, 6, 7]]
GROUPS = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]
FEW = {"num_positives": 3, "positive_negatives": 8, "warmup_epochs": 1, "refresh_epochs": 1}
CASES: dict[str, dict[str, Any]] = {
    "selavi": {"name": "selavi", "clusters": 3, "heads": 2},
    "selavi apart": {"name": "selavi", "clusters": 3, "heads": 2, "shared_prototypes": False, "refresh_epochs": 2},
    "xdc": {"name": "xdc", "clusters": 3},
    "xdc apart": {"name": "xdc", "clusters": 3, "shared_prototypes": False, "balanced": False, "momentum": 0.5},
    "avid softmax": {"name": "avid", "loss": "softmax", "variant": "joint"},
    "avid nce_frozen": {"name": "avid", "loss": "nce_frozen", "variant": "cross"},
    "avid nce_running": {"name": "avid", "loss": "nce_running", "variant": "self"},
    "avid nce_batch": {"name": "avid", "loss": "nce_batch", "variant": "cross"},
    "robust_xid": {"name": "robust_xid", "warmup_epochs": 1, "tau_s": 0.2},
    "robust_xid swapped": {"name": "robust_xid", "warmup_epochs": 0, "targets": "swapped", "tau_s": 0.2, "w_min": 0.0},
    "cma softmax": {"name": "cma", **FEW},
    "cma nce_frozen": {"name": "cma", "loss": "nce_frozen", "agreement": "union", **FEW},
    "cma both": {"name": "cma", "positives": "both", "agreement": "audio", "dtype": "bf16", **FEW},
}


class TinyModel(nn.Module):
    """A linear head for each modality, and the heads that an objective needs."""

    def __init__(self, needs: ObjectiveNeeds | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.video_head, self.audio_head = nn.Linear(6, 5), nn.Linear(4, 5)
        self.objective_heads = objective_heads(needs or ObjectiveNeeds(), 5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, video: Tensor, audio: Tensor) -> Embeddings:
        pair = self.video_head(video), self.audio_head(audio)
        return Embeddings(*pair, **({} if self.objective_heads is None else self.objective_heads(*pair)))


def memory_rows() -> MemoryRows:
    rows = MemoryRows.from_ids([f"clip{i}" for i in range(NUM_ROWS)], [f"file{g}" for g in GROUPS])
    return MemoryRows(rows.id_key, rows.group, torch.arange(NUM_ROWS) % 3)


def make_objective(case: str, **changes: Any) -> Objective:
    negatives = {} if "clusters" in CASES[case] else {"num_negatives": 16}
    options = {"embedding_size": 5, "temperature": 0.3} | negatives | CASES[case] | changes
    return create_objective(options.pop("name"), rows=memory_rows(), **options)


def clips(step: int) -> tuple[Tensor, Tensor, BatchIndex]:
    """Features and index of the global batch of a step; clips of one row differ."""
    generator = torch.Generator().manual_seed(step)
    row = torch.tensor(BATCHES[step % len(BATCHES)])
    rows = memory_rows()
    number = torch.arange(NUM_CLIPS)
    index = BatchIndex(row, rows.group[row], clip_key(0, step, rows.id_key[row], number))
    video, audio = torch.randn(NUM_CLIPS, 6, generator=generator), torch.randn(NUM_CLIPS, 4, generator=generator)
    return video, audio, index


def train(
    model: nn.Module, objective: Objective, steps: range, part: slice = slice(None), steps_per_epoch: int = 2
) -> list[dict[str, Any]]:
    """Steps with the clips in ``part`` of every batch: loss, terms and gradients of each, as the loop makes them."""
    results = []
    for step in steps:
        if step % steps_per_epoch == 0:
            objective.on_epoch_start(step // steps_per_epoch)
        video, audio, index = clips(step)
        index = BatchIndex(index.row[part], index.group[part], index.key[part])
        online = model(video[part], audio[part])
        result = objective(online, None, index)
        model.zero_grad()
        result.total.backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.05 * gradient
        objective.update(online.detach(), None, index)
        results.append({"total": result.total.detach(), "terms": result.terms, "gradients": gradients})
    return results


def main(folder: Path) -> None:
    share = NUM_CLIPS // distributed.world_size()
    part = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
    found = {}
    for case in CASES:
        objective = make_objective(case)
        model = DistributedDataParallel(TinyModel(objective.needs), broadcast_buffers=False)
        found[case] = {"steps": train(model, objective, range(NUM_STEPS), part), "state": objective.state_dict()}
    torch.save(found, folder / f"rank{distributed.rank()}.pt")
    distributed.barrier()


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
