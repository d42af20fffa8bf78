"""Corpora of benchmarks, shrunk for tests or in place of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avssl.core.manifest import Manifest
from avssl.media import write_video

GRAMMAR = {
    "command": ("bin", "lay"),
    "color": ("blue", "red"),
    "preposition": ("at", "by"),
    "letter": ("a", "b"),
    "digit": ("one", "two"),
    "adverb": ("now", "soon"),
}


def shrunk(splits: dict[str, Any], num_train: int) -> dict[str, Any]:
    """Return the same scenes with 32 x 32 pixels and two seconds: ``num_train`` training clips, 24 in other splits."""
    return {
        name: dataclasses.replace(
            split,
            num_clips=num_train if name == "train" else 24,
            settings=dataclasses.replace(split.settings, width=32, height=32, duration_seconds=2.0),
        )
        for name, split in splits.items()
    }


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eighteen sentences of noise in GRID's format: digits one and two, two letters and two colors."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[str]] = {name: [] for name in ("id", "path", "split", "word_seconds", *GRAMMAR)}
    for number in range(18):
        video = torch.from_numpy(rng.integers(0, 255, (75, 3, 288, 360), dtype=np.uint8))
        audio = 0.1 * torch.randn(1, 72_000, generator=torch.Generator().manual_seed(number))
        write_video(tmp_path / f"{number}.mp4", video, 25.0, audio, 24_000, crf=51, preset="ultrafast")
        values = {"id": str(number), "path": f"{number}.mp4", "split": "train" if number < 12 else "test"}
        values["word_seconds"] = "0.5-0.7 0.7-0.9 0.9-1.1 1.1-1.3 1.3-1.5 1.5-1.7"
        values |= {name: words[number % 2] for name, words in GRAMMAR.items()}
        for name, value in values.items():
            rows[name].append(value)
    Manifest.from_columns(rows, tmp_path).write(tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"
