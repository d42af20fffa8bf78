"""Adapters and shared blocks in training: run by torchrun, four steps of each pair saved to FOLDER/rank<r>.pt.

The test loads this file too, and trains on all clips in one process.
"""

import io
import sys
from pathlib import Path
from typing import Any

import torch

from avssl.core import distributed
from avssl.core.batch import BatchIndex
from avssl.engine import create_optimizer
from avssl.engine.replicas import Replica
from avssl.models import AVModel, create_encoder, create_head
from avssl.objectives import create_objective

NUM_CLIPS, NUM_STEPS = 6, 4
CONFIG = ("depth=2", "embed_dim=16", "num_heads=2", "img_size=16", "patch_size=8")
OWN = {"name": "vit_spectrogram", "width": 16, "num_blocks": 1, "num_heads": 2, "patch": 8, "num_rows": 2}
SHARED = {"name": "shared_vit", "patch": 8, "num_columns": 3, "num_rows": 2, "own_norms": True}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "adapters": ({"lora": 2}, OWN, {}),
    "shared": ({}, SHARED, {}),
    "shared, recomputed in chunks": ({"recompute": True}, SHARED, {"chunk_size": 2}),
    "shared adapters": ({"lora": 2}, SHARED, {}),
    "shared, frozen": ({"frozen": True}, SHARED, {}),
}
"""Options of the video tower, the audio tower and those of a forward pass."""


def create(pair: str) -> AVModel:
    """A model with random weights, also those of adapters, which would be zero."""
    video_options, audio_options, _ = PAIRS[pair]
    torch.manual_seed(0)
    video = create_encoder("timm", backbone="vit_tiny_patch16_224", config=CONFIG, **video_options)
    trunk = {"trunk": video} if audio_options["name"] == "shared_vit" else {}
    audio = create_encoder(modality="audio", **trunk, **audio_options)
    model = AVModel(video, audio, create_head("mlp", 16, 8, 8), create_head("mlp", 16, 8, 8))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.train()


def train(pair: str, rows: slice = slice(None), stop: int = NUM_STEPS) -> dict[str, Any]:
    """Train on the clips of this process, with a new model from a saved state after step ``stop``."""
    model = create(pair)
    wrapped, optimizer = _start(model)
    losses, gradients = [], {}
    for number in range(NUM_STEPS):
        if number == stop:
            file = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            model = create(pair)
            model.load_state_dict(saved["model"])
            wrapped, optimizer = _start(model)
            optimizer.load_state_dict(saved["optimizer"])
        optimizer.zero_grad()
        result = _objective()(wrapped(*_clips(number, rows), **PAIRS[pair][2]), None, _index(rows))
        result.total.backward()
        if number == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        losses.append(result.total.detach())
    return {"losses": torch.stack(losses), "gradients": gradients, "state": dict(model.state_dict())}


def _start(model: AVModel) -> tuple[Any, torch.optim.Optimizer]:
    wrapped = Replica(model, torch.device("cpu")) if distributed.world_size() > 1 else model
    return wrapped, create_optimizer(model, "sgd", lr=0.1, weight_decay=0.05)


def _objective() -> Any:
    return create_objective("info_nce", temperature=0.2, pooling="pooled")


def _clips(number: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(10 + number)
    video = torch.randn(NUM_CLIPS, 3, 2, 16, 16, generator=generator)
    return video[rows], torch.randn(NUM_CLIPS, 1, 24, 16, generator=generator)[rows]


def _index(rows: slice) -> BatchIndex:
    numbers = torch.arange(NUM_CLIPS)[rows]
    return BatchIndex(numbers, numbers, numbers)


def main(folder: Path) -> None:
    distributed.start("cpu")
    rank, share = distributed.rank(), NUM_CLIPS // distributed.world_size()
    rows = slice(rank * share, (rank + 1) * share)
    results = {pair: {"whole": train(pair, rows), "parts": train(pair, rows, stop=2)} for pair in PAIRS}
    torch.save(results, folder / f"rank{rank}.pt")
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
