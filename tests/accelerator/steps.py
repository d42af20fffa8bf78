"""Run by test_steps.py: two training steps of every objective on the pretended accelerator, as JSON in a file.

Arguments: the file, the number of processes (it is number 3 of them if they are several), the configurations. A step
that raises is reported with the line of avssl.
"""

import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.distributed as dist
from pretend import DEVICE, FakeTensorMode, Launches, move, register
from torch.testing._internal.distributed.fake_pg import FakeStore

from avssl.config import Config, config_from_dict, read_yaml
from avssl.core.batch import Batch, BatchIndex
from avssl.core.needs import TemporalWindows
from avssl.engine import Precision, Task
from avssl.engine.meter import Meter
from avssl.localization.similarity import cell_similarity, maps_at, smooth
from avssl.models import Classifier, unit_cells
from avssl.objectives import MemoryRows
from avssl.training.build import build_model, build_optimizer, build_sampling, build_task
from avssl.training.tasks import ClassifyTask, DistillTask, PretrainTask

NUM_CLIPS = 8
HOST = torch.ones(3)
PRECISION = Precision("bf16", "channels_last")


def small(path: Path) -> Config:
    """The configuration with memories that a few rows fill."""
    tree = read_yaml(path)
    objective = tree.setdefault("objective", {})
    for name in ("num_negatives", "num_positives", "positive_negatives"):
        if name in objective:
            objective[name] = 16
    return config_from_dict(tree)


def everything() -> dict[str, Config]:
    """Configurations with what those of the objectives leave out."""
    augmented = {"video": {"preset": "simclr", "size": 64, "hue": 0.1}, "audio": {"preset": "simclr"}}
    more = {"equivariant": 0.5, "within_modal": 0.5, "negative_sounds": 4, "exclude_same_file": True}
    return {
        "augmented": config_from_dict({"transform": augmented, "objective": {"name": "info_nce", **more}}),
        "local views": config_from_dict({"objective": {"name": "swav", "local_views": 2}}),
        "in time": config_from_dict({"objective": {"temporal_negatives": 2, "temporal_views": 2}}),
        "in blocks": config_from_dict({"objective": {"pooling": "pooled", "chunk_size": 4, "exclude_hardest": 0.2}}),
    }


def made_up_batch(config: Config, num_windows: int, num_audio: int) -> Batch:
    """Raw planes of noise, as the loader makes them."""
    sampling = build_sampling(config)
    side, frames = sampling.short_side or 64, sampling.num_frames * num_windows
    rows = torch.arange(NUM_CLIPS)
    return Batch(
        torch.zeros(NUM_CLIPS, frames, 1, side, side, dtype=torch.uint8),
        torch.zeros(NUM_CLIPS, sampling.num_samples * num_audio),
        BatchIndex(rows, rows // 2, rows),
        torch.full((NUM_CLIPS, 2), side),
        torch.zeros(NUM_CLIPS, frames, 2, (side + 1) // 2, (side + 1) // 2, dtype=torch.uint8),
    )


def ready_task(config: Config) -> PretrainTask:
    """The task on the host, with statistics."""
    task = build_task(config, MemoryRows.from_ids([f"row {number}" for number in range(64)])).train()
    standardize = task.transform.standardize
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


def count_maps(mode: FakeTensorMode) -> dict[str, Any]:
    """Launches of heat maps, and their copies between host and device."""
    model, launches = build_model(config_from_dict({"objective": {"name": "dense_av"}})), Launches()
    with mode, torch.no_grad():
        model = move(model.eval())
        video, audio = torch.zeros(2, 3, 4, 64, 64, device=DEVICE), torch.zeros(2, 1, 40, 64, device=DEVICE)
        for _ in range(2):
            launches.counts.clear()
            launches.copies.clear()
            with launches.counting("maps"):
                cells, queries = unit_cells(model, video), model.sound_queries(audio)
                similarity = cell_similarity(cells, queries, model.num_heads)
                smooth(maps_at(similarity.best(), torch.zeros(2, device=DEVICE), 4))
                similarity.by_head()
    return {"launches": dict(launches.counts), "copies": dict(launches.copies)}


def count_pretraining(config: Config, mode: FakeTensorMode) -> dict[str, Any]:
    task = ready_task(config)
    return count_step(task, config, mode, task.objective.needs.windows or TemporalWindows())


def count_step(task: Any, config: Config, mode: FakeTensorMode, windows: TemporalWindows) -> dict[str, Any]:
    """Launches of each part of the second step, and its copies between host and device."""
    batch, launches = made_up_batch(config, windows.num_views, windows.num_audio), Launches()
    with mode:
        for module in {task, *task.networks()}:
            move(module)
        batch = Batch(**{name: to_device(mode, value) for name, value in vars(batch).items()})
        optimizer, meter = build_optimizer(config, task), Meter(torch.device(DEVICE))
        with PRECISION.applied_to(task, DEVICE):
            for _ in range(2):
                launches.counts.clear()
                launches.copies.clear()
                with launches.counting("transforms"):
                    task.transform(batch)
                with launches.counting("step"):
                    terms = task(batch)
                with launches.counting("backward"):
                    terms.total.backward()
                with launches.counting("optimizer"):
                    norm = torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
                with launches.counting("after"):
                    task.after_step()
                    meter.add(terms, norm)
    counts = dict(launches.counts)
    counts["forward"] = counts.pop("step") - counts["transforms"]
    return {"launches": counts, "copies": dict(launches.copies)}


def to_device(mode: FakeTensorMode, value: Any) -> Any:
    if isinstance(value, BatchIndex):
        return BatchIndex(*(to_device(mode, x) for x in vars(value).values()))
    return mode.from_tensor(value).to(DEVICE) if isinstance(value, torch.Tensor) else value


def failure(error: Exception) -> str:
    frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__) if "/avssl/" in f.filename]
    return f"{type(error).__name__}: {str(error)[:300]} at {frames[-2:]}"


def count_mistakes(mode: FakeTensorMode) -> dict[str, Any]:
    """Return the mistakes that the tool detects: the host waits, or devices are mixed."""
    found, launches = {}, Launches()
    mistakes = {
        "a number is read": lambda x: x.sum().item(),
        "the shape depends on data": lambda x: x[x > 0],
        "two devices": lambda x: x + torch.ones(3),
        "a buffer on the host": lambda x: x + HOST,
    }
    with mode, launches.counting("tensor of numbers"):
        x = torch.ones(3, device=DEVICE) * torch.tensor([1.0, 2.0, 3.0], device=DEVICE)
        for name, mistake in mistakes.items():
            try:
                mistake(x)
            except Exception as error:
                found[name] = type(error).__name__
    return {"mistakes": found, "copies": dict(launches.copies)}


def as_rank(number: int, world_size: int) -> None:
    """Stand for one process of many, whose messages go nowhere."""
    dist.init_process_group("fake", store=FakeStore(), rank=number, world_size=world_size)


def main(output: Path, world_size: int, configs: list[Path]) -> None:
    keep, mode = register(), FakeTensorMode(allow_non_fake_inputs=True)  # one, because constants are kept
    if world_size > 1:
        as_rank(3, world_size)
    results: dict[str, Any] = {"tool": count_mistakes(mode)}
    runs: dict[str, Callable[[], dict[str, Any]]] = {"maps": partial(count_maps, mode)}
    for name, task in supervised_tasks().items():
        runs[name] = partial(count_step, task.train(), config_from_dict({}), mode, TemporalWindows())
    for name, config in {**everything(), **{path.stem: small(path) for path in configs}}.items():
        runs[name] = partial(count_pretraining, config, mode)
    for name, run in runs.items():
        try:
            results[name] = run()
        except Exception as error:
            results[name] = {"error": failure(error)}
    output.write_text(json.dumps(results, indent=1))
    assert keep, "libraries must live as long as the device is used"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
