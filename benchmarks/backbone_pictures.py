"""A classifier of single images of SoundingShapes, whose weights ``backbones.py`` takes as public ones.

Dimensions: B images, M pixels of margin.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from shapes_in_memory import Shapes
from torch import Tensor, nn

from avssl.core.progress import Bar
from avssl.engine import create_optimizer, seed_everything
from avssl.engine.optim import WarmupCosine, set_lr

STEPS, BATCH, LR = 1500, 64, 2e-3
MARGIN = 16
HALF = [0.5, 0.5, 0.5]
"""Mean and deviation of each channel."""


def train_on_pictures(folder: Path, world: Shapes, architecture: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Train a network of timm on the kinds of objects of the split ``"pictures"``, and save it as timm does.

    Args:
        folder: For the weights. If they are there, nothing is trained.
        world: The clips.
        architecture: Name in timm.
        arguments: Settings of the network that differ from its own.

    Returns:
        The row: ``accuracy`` on the middle frames of the split "single", ``chance`` and ``cpu_seconds``.
    """
    import timm

    done = folder / "accuracy.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    began = time.process_time()
    seed_everything(0)
    names = sorted(set(world.kind) - {""})
    network = timm.create_model(architecture, num_classes=len(names), **arguments)
    fit_classifier(network, world, world.rows("pictures"), names)
    accuracy = accuracy_of(network, world, world.rows("single"), names)
    folder.mkdir(parents=True, exist_ok=True)
    size = world.settings.width
    about = {
        "architecture": architecture,
        "num_classes": len(names),
        "model_args": dict(arguments),
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": HALF,
            "std": HALF,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "classifier": "head",
            "license": "apache-2.0",
        },
    }
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(about))
    row = {
        "stage": "pictures",
        "tower": f"{architecture}, classifier of images",
        "lr": LR,
        "seed": 0,
        "accuracy": accuracy,
        "chance": 1 / len(names),
        "cpu_seconds": time.process_time() - began,
    }
    done.write_text(json.dumps(row))
    return row


def fit_classifier(network: nn.Module, world: Shapes, rows: np.ndarray, names: list[str]) -> None:
    """Train a classifier on random frames of clips, each turned, moved and recolored at random."""
    rng = np.random.default_rng(0)
    kind = np.array([names.index(name) if name else -1 for name in world.kind])
    optimizer = create_optimizer(network, "adamw", lr=LR, weight_decay=0.05)
    schedule = WarmupCosine(LR, STEPS, STEPS // 10)
    network.train()
    for step in Bar(range(STEPS), desc="pictures", unit="step", show=sys.stderr.isatty()):
        set_lr(optimizer, schedule(step))
        chosen = rng.choice(rows, BATCH, replace=False)
        pictures = frames(world, chosen, rng.integers(world.settings.num_frames, size=len(chosen)))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(changed(pictures, rng))
        loss = F.cross_entropy(logits.float(), torch.from_numpy(kind[chosen]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def accuracy_of(network: nn.Module, world: Shapes, rows: np.ndarray, names: list[str]) -> float:
    """Return the accuracy on the middle frames of clips."""
    network.eval()
    with torch.inference_mode():
        found = network(frames(world, rows, np.full(len(rows), world.settings.num_frames // 2))).argmax(dim=1)
    return float(np.mean([names[place] == kind for place, kind in zip(found.tolist(), world.kind[rows], strict=True)]))


def frames(world: Shapes, rows: np.ndarray, at: np.ndarray) -> Tensor:
    """Return one frame of each row as (B, 3, H, W), normalized."""
    x = torch.from_numpy(np.stack([world.video[row][frame] for row, frame in zip(rows, at, strict=True)]))
    return x.float() / 127.5 - 1


def changed(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Return (B, 3, H, H) images moved, turned by right angles, mirrored, with other colors: the kind stays."""
    size = x.shape[-1]
    padded = F.pad(x, (MARGIN,) * 4, mode="replicate")
    pictures = []
    for picture in padded:
        top, left = rng.integers(2 * MARGIN + 1, size=2)
        y = picture[:, top : top + size, left : left + size].rot90(int(rng.integers(4)), (1, 2))
        y = y.flip(2) if rng.random() < 0.5 else y
        y = y[torch.from_numpy(rng.permutation(3))]
        pictures.append(-y if rng.random() < 0.5 else y)
    return torch.stack(pictures)
