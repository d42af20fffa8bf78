"""Tasks with made-up batches, for counts that depend on shapes alone: no file is read and nothing is learned."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from avssl.config import Config, config_from_dict, read_yaml
from avssl.core.batch import Batch, BatchIndex
from avssl.core.needs import TemporalWindows
from avssl.engine import Task
from avssl.models import Classifier
from avssl.objectives import MemoryRows
from avssl.training.build import build_model, build_sampling, build_task
from avssl.training.tasks import ClassifyTask, DistillTask, PretrainTask

NUM_CLIPS = 8
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("soundingshapes_*.yaml"))


def small(path: Path) -> Config:
    """Read a configuration, with memories that a few rows fill."""
    tree = read_yaml(path)
    objective = tree.setdefault("objective", {})
    for name in ("num_negatives", "num_positives", "positive_negatives"):
        if name in objective:
            objective[name] = 16
    return config_from_dict(tree)


def everything() -> dict[str, Config]:
    """Return configurations with what those of the objectives leave out."""
    augmented = {"video": {"preset": "simclr", "size": 64, "hue": 0.1}, "audio": {"preset": "simclr"}}
    more = {"equivariant": 0.5, "within_modal": 0.5, "negative_sounds": 4, "exclude_same_file": True}
    return {
        "augmented": config_from_dict({"transform": augmented, "objective": {"name": "info_nce", **more}}),
        "local views": config_from_dict({"objective": {"name": "swav", "local_views": 2}}),
        "in time": config_from_dict({"objective": {"temporal_negatives": 2, "temporal_views": 2}}),
        "in blocks": config_from_dict({"objective": {"pooling": "pooled", "chunk_size": 4, "exclude_hardest": 0.2}}),
    }


def windows_of(task: Task) -> TemporalWindows:
    """Windows of each clip that a task takes."""
    return (task.objective.needs.windows if isinstance(task, PretrainTask) else None) or TemporalWindows()


def made_up_batch(config: Config, windows: TemporalWindows, canvas: tuple[int, int] | None = None) -> Batch:
    """Raw planes of noise, as the loader makes them, on a canvas of some height and width."""
    sampling = build_sampling(config)
    height, width = canvas or (sampling.short_side or 64,) * 2
    frames, rows = sampling.num_frames * windows.num_views, torch.arange(NUM_CLIPS)
    random = torch.Generator().manual_seed(0)

    def plane(*shape: int) -> Tensor:
        return torch.randint(256, (NUM_CLIPS, frames, *shape), dtype=torch.uint8, generator=random)

    return Batch(
        plane(1, height, width),
        torch.randn(NUM_CLIPS, sampling.num_samples * windows.num_audio, generator=random) / 10,
        BatchIndex(rows, rows // 2, rows),
        torch.tensor([[height, width]]).repeat(NUM_CLIPS, 1),
        plane(2, (height + 1) // 2, (width + 1) // 2),
    )


def ready_task(config: Config) -> PretrainTask:
    """Return the task of a configuration on the host, with statistics."""
    task = build_task(config, MemoryRows.from_ids([f"row {number}" for number in range(64)])).train()
    standardize = task.transform.standardize
    assert standardize is not None, "build_transform always gives it"
    standardize.set_statistics(torch.zeros_like(standardize.mean), torch.ones_like(standardize.mean))
    assert standardize.is_ready  # read once, not in every step
    task.on_epoch_start(0)
    return task


def supervised_tasks() -> dict[str, Task]:
    """Tasks of fine-tuning and distillation on the host."""
    config = config_from_dict({})
    transform = ready_task(config).transform

    def classifier() -> Classifier:
        return Classifier.of(build_model(config), num_classes=5, inputs="both")

    targets, weights = torch.arange(64) % 5, torch.ones(5)
    several = torch.nn.functional.one_hot(targets, 5).bool()
    return {
        "classify": ClassifyTask(transform, classifier(), targets, class_weights=weights, mixup_alpha=0.3),
        "classify, several labels": ClassifyTask(transform, classifier(), several, label_smoothing=0.1),
        "distill": DistillTask(transform, classifier(), classifier(), targets, teacher_weight=0.5),
    }
