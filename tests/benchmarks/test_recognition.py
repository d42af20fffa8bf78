"""A small run of the recognition benchmark: its jobs, their order, and its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from .conftest import shrunk


@pytest.fixture
def recognition(benchmark_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = benchmark_script("recognition")
    small = {"SPLITS": shrunk(module.SPLITS, 120), "BATCH": 8, "PRETRAIN_EPOCHS": 1, "DISTILL_EPOCHS": 1, "ROUNDS": 2}
    small |= {"STEPS": dict.fromkeys(module.STEPS, 2), "PRECISION": benchmark_script("objectives").Precision()}
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(benchmark_script("objectives"), "SCENE", {"width": 32})
    return module


def test_every_job_gives_a_row_and_none_is_done_twice(recognition: ModuleType, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    sampling = recognition.build_sampling(recognition.settings(recognition.OBJECTIVE, 1e-3, 1, 0))
    world = recognition.shapes(tmp_path / "clips", recognition.SPLITS, 1, sampling)
    bench = recognition.Bench(world, tmp_path / "rows.jsonl", tmp_path / "models")
    seen = set()
    for job in [job for job in recognition.jobs() if job[3] in (0, recognition.TUNING_SEED)]:
        other = ("pretrain", "info_nce", recognition.PRETRAIN_RATE, 1)
        if job[0] == "similarity" and other not in recognition.done(recognition.read_rows(bench.file)):
            recognition.run(bench, other)
        if job[:2] not in seen or job[2] == 1.0:
            recognition.run(bench, job)
        seen.add(job[:2])
    rows = recognition.read_rows(bench.file)
    assert {row["job"] for row in rows} == set(recognition.JOBS)
    assert all(0 <= row["accuracy"] <= 1 for row in rows if "accuracy" in row)
    taught = next(row for row in rows if row["job"] == "distill")
    teacher = next(row for row in rows if row["job"] == "finetune")
    assert taught["parameters"] <= teacher["parameters"] / 4
    assert len(recognition.done(rows) & set(recognition.jobs())) == len(rows)
    recognition.draw(rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def finetuned(how: str, share: float, seed: int, accuracy: float) -> dict[str, Any]:
    return {"job": "finetune", "how": how, "value": share, "seed": seed, "accuracy": accuracy, "parameters": 400}


def test_the_answers_are_counted_seed_by_seed(recognition: ModuleType) -> None:
    rows = [finetuned("pretrained", 0.05, seed, 0.5) for seed in (0, 1, 2)]
    rows += [finetuned("scratch", 0.25, 0, 0.4), finetuned("scratch", 0.25, 1, 0.6)]
    assert "in 1 of 2 seeds" in recognition.tables(rows)


def test_the_student_is_compared_with_its_own_teacher(recognition: ModuleType) -> None:
    rows = [finetuned("pretrained", 1.0, 0, 0.80), finetuned("pretrained", 1.0, 1, 0.90)]
    rows += [
        {"job": "distill", "how": "taught", "value": 1e-3, "seed": 1, "accuracy": 0.88, "parameters": 100},
        {"job": "distill", "how": "taught", "value": 1e-3, "seed": 0, "accuracy": 0.81, "parameters": 100},
    ]
    text = recognition.tables(rows)
    assert "0.25 of the parameters and is 0.5 points below" in text
    assert "(seed by seed: -1.0, 2.0)" in text


def test_learning_rates_are_chosen_by_validation_accuracy(recognition: ModuleType) -> None:
    rows = [
        {"job": "tune", "how": how, "value": choice, "seed": 9, "accuracy": accuracy}
        for how, choice, accuracy in (("scratch", 0, 0.2), ("scratch", 1, 0.3), ("pretrained", 0, 0.9))
    ]
    assert recognition.best_rates(rows, "scratch") == recognition.RATES["scratch"][1]


def test_jobs_come_after_what_they_need(recognition: ModuleType) -> None:
    order = recognition.jobs()
    assert len(set(order)) == len(order)
    for seed in recognition.SEEDS:
        first = order.index(("pretrain", "info_nce", recognition.PRETRAIN_RATE, seed))
        later = [i for i, job in enumerate(order) if job[3] == seed and job[0] in ("finetune", "active", "similarity")]
        assert first < min(later)
        assert order.index(("finetune", "pretrained", 1.0, seed)) < min(
            i for i, job in enumerate(order) if job[0] == "distill" and job[3] == seed
        )
