"""Corpora of benchmarks, shrunk for tests."""

from __future__ import annotations

import dataclasses
from typing import Any


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
