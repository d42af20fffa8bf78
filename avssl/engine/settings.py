"""Settings and result of the training loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from avssl.core.errors import InputError
from avssl.engine.compilation import Compiled
from avssl.engine.precision import Precision


@dataclass(frozen=True)
class LoopSettings:
    """Length and intervals of a training.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> settings = LoopSettings(total_steps=1000, steps_per_epoch=50, best_by="monitor.r1")
        >>> settings.total_steps / settings.steps_per_epoch  # epochs
        20.0
        >>> LoopSettings(total_steps=0, steps_per_epoch=50)
        Traceback (most recent call last):
            ...
        avssl.core.errors.InputError: total_steps (0) must be at least 1.
    """

    total_steps: int
    """Optimizer steps of the whole run, including those before a resume."""
    steps_per_epoch: int
    """Steps of one epoch, as the loader counts them."""
    log_every: int = 10
    """Steps between logs. The host waits for the device only then."""
    checkpoint_every: int = 500
    """Steps between checkpoints; one more is written at the end."""
    best_by: str | None = None
    """Name of a monitor's number, higher being better. The weights at its maximum are saved as ``best.pt``."""
    grad_clip: float | None = None
    """Maximum norm of the whole gradient; None does not clip."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device of the task."""
    precision: Precision = field(default_factory=Precision)
    """Number format and memory layout of the model."""
    compile: Compiled = "none"
    """Parts of the step to run as compiled programs."""

    def __post_init__(self) -> None:
        for name in ("total_steps", "steps_per_epoch", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} ({getattr(self, name)}) must be at least 1.")
        if self.grad_clip is not None and not self.grad_clip > 0:
            raise InputError(f"grad_clip ({self.grad_clip}) must be greater than 0, or None.")


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training, counted over all resumes.

    Example:
        >>> result = FitResult(step=1000, samples_seen=64_000, wall_seconds=320.0, metrics={"loss": 2.5})
        >>> result.samples_seen / result.wall_seconds, result.metrics["loss"]  # clips per second
        (200.0, 2.5)
    """

    step: int = 0
    """Optimizer steps."""
    samples_seen: int = 0
    """Clips trained on, over all ranks."""
    wall_seconds: float = 0.0
    """Time inside the loop."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of every logged number."""
    checkpoint: Path | None = None
    """Newest checkpoint, or None without a checkpointer."""
