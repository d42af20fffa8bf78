import os
import signal
import threading

import pytest
import torch
from engine_toy import ToyLoader, ToyTask

from avssl.engine import (
    Checkpointer,
    Interruption,
    LoopSettings,
    MetricsLog,
    WeightAverage,
    create_optimizer,
    fit,
    load_checkpoint,
    read_metrics,
)
from avssl.engine.stop_request import StopRequest

TIMES = ("wall_seconds", "samples_per_second")


def train(folder, *, signal_at=None, number=signal.SIGUSR1, resume=False, save=True):
    task = ToyTask()
    if signal_at is not None:
        whole = task.after_step

        def after_step():
            whole()
            task.steps = getattr(task, "steps", 0) + 1
            if task.steps == signal_at:
                os.kill(os.getpid(), number)

        task.after_step = after_step
    settings = LoopSettings(total_steps=12, steps_per_epoch=5, log_every=4, checkpoint_every=100)
    result = fit(
        task,
        ToyLoader(),
        create_optimizer(task, "adamw", lr=0.01, weight_decay=0.0),
        lambda step: 0.01,
        settings=settings,
        checkpointer=Checkpointer(folder / "checkpoints") if save else None,
        metrics_log=MetricsLog(folder),
        average=WeightAverage(task.model, 0.9),
        progress=False,
        resume=resume,
    )
    return task, result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_after_the_step_and_the_resume_equals_an_uninterrupted_run(tmp_path, number):
    """Model, optimizer, average and metrics.jsonl."""
    before = signal.getsignal(number)
    with pytest.raises(
        Interruption, match=rf"stopped by {number.name} after step 7; continue from .*000007\.pt"
    ) as told:
        train(tmp_path / "parts", signal_at=7, number=number)
    assert signal.getsignal(number) is before
    assert told.value.checkpoint == Checkpointer(tmp_path / "parts" / "checkpoints").latest()
    _, parts = train(tmp_path / "parts", resume=True)
    _, whole = train(tmp_path / "whole")
    one, two = load_checkpoint(whole.checkpoint), load_checkpoint(parts.checkpoint)
    for name in ("task", "average"):
        one_part = one[name]["average"] if name == "average" else one[name]
        two_part = two[name]["average"] if name == "average" else two[name]
        assert all(torch.equal(value, two_part[key]) for key, value in one_part.items()), name
    assert one["average"]["num_updates"] == two["average"]["num_updates"] == 12
    logs = [
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]


def test_a_signal_in_the_last_step_is_no_interruption(tmp_path):
    _, result = train(tmp_path, signal_at=12)
    assert result.step == 12


def test_without_a_checkpointer_signals_keep_their_effect(tmp_path):
    caught = []
    before = signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    try:
        _, result = train(tmp_path, signal_at=3, save=False)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (caught, result.step) == ([1], 12)


def test_outside_the_main_thread_training_works_and_catches_nothing(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tmp_path)[1]))
    thread.start()
    thread.join()
    assert results[0].step == 12


def test_a_forked_process_obeys_sigterm_and_ignores_sigusr1():
    with StopRequest() as stop:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert stop.received is None


class Scored:
    """A monitor whose scores are given; the best is the second."""

    every_steps = 3

    def __init__(self):
        self.scores = iter([0.2, 0.9, 0.9, 0.4])

    def run(self, task):
        return {"score": next(self.scores)}

    def observe(self, record):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_the_best_weights_are_kept_beside_the_last(tmp_path):
    task = ToyTask()
    seen = {}
    whole = task.after_step
    optimizer = create_optimizer(task, "adamw", lr=0.01, weight_decay=0.0)

    def after_step():
        whole()
        seen[len(seen) + 1] = task.model[0].weight.detach().clone()

    task.after_step = after_step
    checkpointer = Checkpointer(tmp_path, keep_last=1)
    settings = LoopSettings(total_steps=12, steps_per_epoch=5, checkpoint_every=4, best_by="score")
    monitors = [Scored()]
    fit(task, ToyLoader(), optimizer, lambda s: 0.01, settings=settings, checkpointer=checkpointer, monitors=monitors,
        progress=False)  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step-000000012.pt"]
    best = load_checkpoint(checkpointer.best)
    assert (best["step"], best["score"]) == (6, 0.9)  # the first of equals
    assert torch.equal(best["task"]["model.0.weight"], seen[6])
    assert load_checkpoint(checkpointer.latest())["best"] == 0.9
