"""Length of the demo on this machine: a training step is measured, and the rest is known in such steps."""

from __future__ import annotations

from pathlib import Path

import torch

from avssl.core.batch import Batch, BatchIndex
from avssl.engine import choose_device
from avssl.recipes.demo.settings import TRAIN_CLIPS, DemoPlan, DemoSettings
from avssl.training.build import build_task
from avssl.training.setup import PROBE_CLIPS, choose_precision

LIMIT_SECONDS = 15 * 60.0
"""Longest demo: what README promises."""
_RESERVE_SECONDS = 75.0
"""Imports, measuring, overlays and the report."""
_FILE_SECONDS = 0.05
"""Rendering, encoding and checking one clip, on two cores."""
_READING = 1.1
"""Time of a training clip with its decoding, as a multiple of its step in the model."""
_MEASURED_PER_TRAIN_CLIP, _MEASURED_PER_TEST_CLIP = 1.2, 2.8
"""Probes, retrieval and localization of a clip, for the trained and the random model, in training clips."""
_TEST_CLIPS = (500, 250, 100)
_FEW_EPOCHS = 4
"""With fewer epochs, smaller test sets pay more than further epochs cost."""


def make_plan(settings: DemoSettings) -> DemoPlan:
    """Return the longest demo that ends in time; print what is shortened, and why."""
    if settings.tiny:
        return DemoPlan(epochs=1)
    device, full = choose_device(settings.device), DemoPlan()
    if device.type != "cpu":
        return full
    # The fastest of a few measurements, as other programs may disturb one.
    seconds = measure_clip(settings, device)
    for _ in range(2):
        if expected_seconds(full, seconds) > LIMIT_SECONDS:
            seconds = min(seconds, measure_clip(settings, device))
    plan = fitting_plan(seconds)
    if plan != full:
        minutes, expected = LIMIT_SECONDS / 60, expected_seconds(plan, seconds) / 60
        end = f"so that all ends within {minutes:.0f} minutes" if expected <= minutes else f"about {expected:.0f} min"
        shorter = f"{plan.epochs} epochs instead of {full.epochs}"
        if plan.test_clips != full.test_clips:
            shorter += f", and {plan.test_clips} clips in each test set instead of {full.test_clips}"
        print(f"shortened: {shorter}, {end}; this machine trains {1 / seconds:.0f} clips a second", flush=True)
    return plan


def fitting_plan(clip_seconds: float) -> DemoPlan:
    """Return the longest demo that ends in time where a training clip takes so long; the shortest if none does."""
    plans = []
    for test_clips in _TEST_CLIPS:
        epochs = range(DemoPlan().epochs, 0, -1)
        fitting = (DemoPlan(number, test_clips) for number in epochs)
        plans += [p for p in fitting if expected_seconds(p, clip_seconds) <= LIMIT_SECONDS][:1]
    full_tests = [plan for plan in plans if plan.epochs >= _FEW_EPOCHS]
    return (full_tests or plans[::-1] or [DemoPlan(1, _TEST_CLIPS[-1])])[0]


def expected_seconds(plan: DemoPlan, clip_seconds: float) -> float:
    """Return the expected time of a demo where a training clip takes ``clip_seconds``, with its decoding."""
    tests = 3 * plan.test_clips
    clips = (plan.epochs + _MEASURED_PER_TRAIN_CLIP) * TRAIN_CLIPS + _MEASURED_PER_TEST_CLIP * tests
    return _RESERVE_SECONDS + _FILE_SECONDS * (TRAIN_CLIPS + tests) + clip_seconds * clips


def measure_clip(settings: DemoSettings, device: torch.device) -> float:
    """Return the time of training on one clip, in the fastest precision, with its decoding."""
    config = settings.config(Path(), DemoPlan())
    task, sampling = build_task(config), config.sampling
    standardize = task.transform.standardize
    assert standardize is not None, "build_transform always gives it"
    standardize.set_statistics(torch.zeros_like(standardize.mean), torch.ones_like(standardize.std))
    generator = torch.Generator().manual_seed(0)
    side = 128
    video = torch.randint(0, 256, (PROBE_CLIPS, sampling.num_frames, 3, side, side), generator=generator)
    audio = torch.rand(PROBE_CLIPS, round(sampling.audio_seconds * sampling.sample_rate_hz), generator=generator)
    rows = torch.arange(PROBE_CLIPS)
    size = torch.full((PROBE_CLIPS, 2), side)
    sample = Batch(video.to(torch.uint8), audio - 0.5, BatchIndex(rows, rows, rows), size)
    return choose_precision(config, task, sample, device).step_seconds / config.optim.batch_size * _READING
