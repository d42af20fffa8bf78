"""Settings that a resumed run may change; everything else stays as the run began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from avssl.config.files import flatten, to_dict
from avssl.core.errors import ConfigError

_Root = TypeVar("_Root")

CHANGEABLE = (
    "data.source",
    "data.num_workers",
    "optim.lr",
    "optim.head_lr",
    "optim.layer_decay",
    "optim.final_lr",
    "optim.warmup_fraction",
    "optim.warmup_epochs",
    "optim.weight_decay",
    "optim.grad_clip",
    "schedule.final_lr",
    "train.log_every",
    "train.trackers",
    "train.checkpoint_every_steps",
    "train.keep_checkpoints",
    "train.device",
    "train.compile",
)
"""Settings of the source, the learning rates, logging, trackers, checkpoints, the device and compiled programs."""


def changed_settings(before: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """Return (old, new) of every setting that differs, by its name."""
    old, new = (flatten(to_dict(config)) for config in (before, now))
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def with_settings(config: _Root, values: Mapping[str, Any]) -> _Root:
    """Return the settings with these values, by names such as ``optim.lr``."""
    changed: Any = config
    for name, value in values.items():
        group, _, field = name.partition(".")
        changed = replace(changed, **{group: replace(getattr(changed, group), **{field: value})})
    result: _Root = changed
    return result


def refuse_changes(before: Any, now: Any) -> None:
    """Raise ConfigError if a setting differs from the one with which a run began, and must not."""
    for key, (old, new) in changed_settings(before, now).items():
        if key not in CHANGEABLE:
            may = ", ".join(f"--{name.replace('_', '-')}" for name in CHANGEABLE if name in flatten(to_dict(before)))
            raise ConfigError(
                f"--{key.replace('_', '-')} ({new}) was {old} when the run began; a resumed run keeps its settings, "
                f"except {may}. Start a new run to change others."
            )
