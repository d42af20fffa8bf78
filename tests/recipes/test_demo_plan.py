"""The demo ends within the minutes that README promises, and is only shortened where it would not."""

from __future__ import annotations

import itertools

import pytest
import torch

from avssl.recipes.demo import plan as module
from avssl.recipes.demo.plan import LIMIT_SECONDS, expected_seconds, fitting_plan, make_plan, measure_clip
from avssl.recipes.demo.settings import DemoPlan, DemoSettings


def test_a_fast_machine_runs_the_whole_demo() -> None:
    assert fitting_plan(1 / 60) == DemoPlan(12, 500)
    settings = DemoSettings()
    assert {name: split.num_clips for name, split in settings.splits(DemoPlan()).items()} == {
        "train": 1920, "single": 500, "several": 500, "pairs": 500,
    }  # fmt: skip


@pytest.mark.parametrize("clips_per_second", [45, 30, 19, 10])
def test_a_slow_one_ends_in_time(clips_per_second: int) -> None:
    plan = fitting_plan(1 / clips_per_second)
    assert 1 <= plan.epochs < 12
    assert expected_seconds(plan, 1 / clips_per_second) <= LIMIT_SECONDS
    longer = DemoPlan(plan.epochs + 1, plan.test_clips)
    assert expected_seconds(longer, 1 / clips_per_second) > LIMIT_SECONDS


def test_two_cores_without_bf16_keep_enough_to_learn_something() -> None:
    """19 clips a second, of which a whole training alone takes 20 minutes."""
    assert expected_seconds(DemoPlan(), 1 / 19) > 20 * 60
    assert fitting_plan(1 / 19).epochs >= 4


def test_slower_plans_are_never_longer() -> None:
    plans = [fitting_plan(1 / rate) for rate in range(80, 1, -1)]
    clips = [plan.epochs * 1920 + 3 * plan.test_clips * 3 for plan in plans]
    assert all(a >= b for a, b in itertools.pairwise(clips))


def test_what_is_shortened_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([1 / 10, 1 / 19, 1 / 15])  # the fastest counts
    monkeypatch.setattr(module, "measure_clip", lambda *_: next(times))
    plan = make_plan(DemoSettings(device="cpu"))
    assert plan == fitting_plan(1 / 19)
    said = capsys.readouterr().out
    assert f"shortened: {plan.epochs} epochs instead of 12" in said
    assert "so that all ends within 15 minutes; this machine trains 19 clips a second" in said
    monkeypatch.setattr(module, "measure_clip", lambda *_: 1 / 100)
    assert make_plan(DemoSettings(device="cpu")) == DemoPlan()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(module, "measure_clip", lambda *_: 1.0)
    assert make_plan(DemoSettings(device="cpu")) == DemoPlan(1, 100)
    assert "about" in capsys.readouterr().out


def test_a_clip_is_measured_without_files() -> None:
    assert 0 < measure_clip(DemoSettings(), torch.device("cpu")) < 60
