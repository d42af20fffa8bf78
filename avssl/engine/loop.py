"""The training loop: steps any task over any loader, and can be killed at any moment.

What one step does, in order::

    on_epoch_start (first step of a pass) → lr → forward → backward → clip → optimizer → after_step
        → average → log, monitors, checkpoint where due → stop if asked to

The host reads a number from the device once per log: losses, gradient norms and the check that
they are finite are summed on the device, and nothing is saved before that check has been read.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avssl.core import distributed
from avssl.core.batch import LossTerms
from avssl.core.errors import InputError, Interrupted, RunError
from avssl.engine.average import WeightAverage
from avssl.engine.checkpoint import Checkpointer
from avssl.engine.meter import Meter
from avssl.engine.metrics_log import MetricsLog
from avssl.engine.optim import Schedule, set_lr
from avssl.engine.progress import Progress
from avssl.engine.protocols import Loader, Monitor
from avssl.engine.replicas import collect_ranks, pick_rank, replicated
from avssl.engine.runtime import Precision
from avssl.engine.stop_request import StopRequest


@dataclass(frozen=True)
class LoopSettings:
    """How long to train, and how often to look.

    Raises:
        ValueError: If a number cannot be.
    """

    total_steps: int
    """Optimizer steps of the whole run, counted over all its resumes."""
    steps_per_epoch: int
    """Steps of one pass over the data: the loader's."""
    log_every: int = 10
    """Steps from log to log; the one moment when the host waits for the device."""
    checkpoint_every: int = 500
    """Steps from checkpoint to checkpoint; one is written at the end too."""
    best_by: str | None = None
    """A monitor's number, higher being better: the weights at its maximum are kept beside the checkpoints."""
    grad_clip: float | None = None
    """Largest norm of the whole gradient; None leaves it."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the task is."""
    precision: Precision = field(default_factory=Precision)
    """Number format and memory layout of the model."""

    def __post_init__(self) -> None:
        for name in ("total_steps", "steps_per_epoch", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} ({getattr(self, name)}) must be at least 1.")
        if self.grad_clip is not None and not self.grad_clip > 0:
            raise InputError(f"grad_clip ({self.grad_clip}) must be greater than 0, or None.")


@dataclass(frozen=True)
class FitResult:
    """How a run ended."""

    step: int
    """Steps made over all resumes."""
    samples_seen: int
    """Clips stepped over all resumes and ranks."""
    wall_seconds: float
    """Time inside the loop over all resumes."""
    metrics: dict[str, float]
    """The last value of every number that was logged."""
    checkpoint: Path | None
    """The newest checkpoint, or None without a checkpointer."""


def fit(
    task: nn.Module,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    settings: LoopSettings,
    checkpointer: Checkpointer | None = None,
    metrics_log: MetricsLog | None = None,
    monitors: Sequence[Monitor] = (),
    average: WeightAverage | None = None,
    progress: bool = True,
    resume: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> FitResult:
    """Trains a task for ``settings.total_steps`` steps.

    N steps, a resume and N more equal 2N steps bit for bit on the CPU at the same thread count.

    Args:
        task: A :class:`~avssl.engine.Task`, on ``settings.device``.
        loader: A :class:`~avssl.engine.Loader`; each rank has its own part of the stream.
        optimizer: Over the task's trainable parameters.
        schedule: Learning rate by step.
        settings: Lengths and intervals.
        checkpointer: Where to save; None saves nothing.
        metrics_log: Where numbers go; None keeps only the last ones.
        monitors: Measurements during training, of the averaged weights where there is an average.
        average: Of ``task.model``'s weights; moved after each step.
        progress: A bar on a terminal, a line at every log elsewhere.
        resume: Continue from the newest checkpoint, if there is one.
        extra: Plain values to keep in every checkpoint (the config, the manifest's hash).

    Raises:
        FileExistsError: If there are checkpoints and ``resume`` is False.
        Interrupted: If a rank was sent SIGTERM or SIGUSR1, once everything is saved. Without a
            checkpointer these signals do what they always do.
        RuntimeError: If the loss or the gradient becomes NaN or infinite, if a trainable parameter
            gets no gradient, or if the loader ends.
        ValueError: If a trainable parameter is not in the optimizer.
    """
    _check_optimizer(task, optimizer)
    loop = _Loop(task, loader, optimizer, schedule, settings, checkpointer, metrics_log, monitors, average, extra or {})
    try:
        with settings.precision.applied_to(task, settings.device):
            loop.begin(resume)
            with (
                loop.stop if checkpointer is not None else nullcontext(),
                replicated(task, settings.device),
                Progress(loop.step, settings.total_steps, show=progress) as shown,
            ):
                loop.run(shown)
    finally:
        if metrics_log is not None:
            metrics_log.close()
    return loop.result()


class _Loop:
    """The state of a run: five names, and exactly what a checkpoint keeps of them."""

    def __init__(
        self,
        task: nn.Module,
        loader: Loader,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        settings: LoopSettings,
        checkpointer: Checkpointer | None,
        metrics_log: MetricsLog | None,
        monitors: Sequence[Monitor],
        average: WeightAverage | None,
        extra: Mapping[str, Any],
    ) -> None:
        # Any: what Task promises and what nn.Module is cannot be said in one type.
        self.task: Any = task
        self.loader, self.optimizer, self.schedule, self.settings = loader, optimizer, schedule, settings
        self.checkpointer, self.metrics_log, self.monitors, self.extra = checkpointer, metrics_log, monitors, extra
        self.parameters = {name: p for name, p in task.named_parameters() if p.requires_grad}
        self.average = average
        self.stop = StopRequest()
        self.meter = Meter(settings.device)
        self.metrics: dict[str, float] = {}
        self.checkpoint: Path | None = None
        self.best: float | None = None

        self.step = 0
        self.samples_seen = 0
        self.wall_seconds = 0.0

    # ---------------------------------------------------------------- start and resume

    def begin(self, resume: bool) -> None:
        """Restores the newest checkpoint, or makes sure that none would be overwritten."""
        if self.checkpointer is not None and resume:
            state = self.checkpointer.load_latest()
            if state is not None:
                self.load_state_dict(state)
                self.checkpoint = self.checkpointer.path(self.step)
        elif self.checkpointer is not None and self.checkpointer.files():
            raise FileExistsError(
                f"{self.checkpointer.folder} holds the checkpoints of an earlier run. "
                "Continue it with --resume, or choose another folder."
            )
        if self.metrics_log is not None:
            self.metrics_log.truncate_after(self.step)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on. Every rank must call it."""
        settings = self.settings
        return {
            "step": self.step,
            "pass": self.step // settings.steps_per_epoch,
            "samples_seen": self.samples_seen,
            "wall_seconds": self.wall_seconds,
            "metrics": dict(self.metrics),
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best": self.best,
            "monitors": [monitor.state_dict() for monitor in self.monitors],
            # What differs from rank to rank, in their order.
            "loader": collect_ranks(self.loader.state_dict()),
            "rng": collect_ranks(_rng_state(settings.device)),
            "meter": collect_ranks(self.meter.state_dict()),
            "world_size": distributed.world_size(),
            "threads": torch.get_num_threads(),
            "precision": {"name": settings.precision.name, "memory_format": settings.precision.memory_format},
            "extra": dict(self.extra),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`, with a warning where the run will not be bit-exact."""
        _warn_of_differences(state, self.settings)
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best = state["best"]
        for monitor, monitor_state in zip(self.monitors, state["monitors"], strict=True):
            monitor.load_state_dict(monitor_state)
        self.loader.load_state_dict(pick_rank(state["loader"]))
        self.meter.start(state["step"])
        if state["world_size"] == distributed.world_size():
            self.meter.load_state_dict(pick_rank(state["meter"]))
            _set_rng_state(pick_rank(state["rng"]), self.settings.device)
        self.step, self.samples_seen = state["step"], state["samples_seen"]
        self.wall_seconds, self.metrics = state["wall_seconds"], dict(state["metrics"])

    # ---------------------------------------------------------------- the loop

    def run(self, progress: Progress) -> None:
        """Steps until the last one, then lets the loader's workers go."""
        batches = iter(self.loader)
        try:
            self.run_over(batches, progress)
        except RuntimeError as error:
            # A dead worker is reported by a signal, which may arrive anywhere in a step.
            report = getattr(self.loader, "worker_report", lambda: "")()
            if report and report not in str(error):
                error.add_note(report)
            raise
        finally:
            if isinstance(batches, Generator):
                batches.close()

    def run_over(self, batches: Iterator[Any], progress: Progress) -> None:
        self.task.train()
        before, start = self.wall_seconds, time.perf_counter()
        first = self.step
        while self.step < self.settings.total_steps:
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(f"the loader ended after step {self.step}; it must be endless.")
            self.train_step(batch, check_gradients=self.step == first)
            self.wall_seconds = before + time.perf_counter() - start
            progress.advance(len(batch) * distributed.world_size())
            self.after_step(progress)

    def train_step(self, batch: Any, *, check_gradients: bool) -> None:
        settings = self.settings
        if self.step % settings.steps_per_epoch == 0:
            self.task.on_epoch_start(self.step // settings.steps_per_epoch)
        set_lr(self.optimizer, self.schedule(self.step), self.step)

        terms: LossTerms = self.task(batch.to(settings.device))
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        if check_gradients:
            _check_gradients(self.parameters)
        grad_norm = self.clip_gradient()
        self.optimizer.step()
        self.task.after_step()
        if self.average is not None:
            self.average.update()

        self.step += 1
        self.samples_seen += len(batch) * distributed.world_size()
        self.meter.add(terms, grad_norm)

    def clip_gradient(self) -> Tensor:
        """The norm of the whole gradient before clipping, () on the device."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.settings.grad_clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.settings.grad_clip, norm)
        return norm

    def after_step(self, progress: Progress) -> None:
        """Logs, measures and saves, where this step is due for it; then stops, if a rank was asked to."""
        last = self.step == self.settings.total_steps
        record: dict[str, float] = {}
        if last or self.step % self.settings.log_every == 0:
            record |= self.meter.read(self.step, self.checkpoint) | {
                "samples_per_second": progress.samples_per_second()
            }
            progress.show(record)
            for monitor in self.monitors:
                getattr(monitor, "observe", _ignore)(record)
        record |= self.measure(last)
        if record:
            self.write(record)
        if self.checkpointer is None:
            return
        stop = self.stop.is_agreed()
        if last or stop or self.step % self.settings.checkpoint_every == 0:
            self.meter.check_finite(self.step, self.checkpoint)
            self.checkpoint = self.checkpointer.save(self.step, self.state_dict())
        if stop and not last:
            assert self.checkpoint is not None, "saved just now"
            raise Interrupted(self.stop.received or "a signal to another rank", self.step, self.checkpoint)

    def measure(self, last: bool) -> dict[str, float]:
        """What the monitors that are due find in the weights that would be released; the best are kept."""
        due = [monitor for monitor in self.monitors if last or self.step % monitor.every_steps == 0]
        numbers: dict[str, float] = {}
        if not due:
            return numbers
        with self.average.applied() if self.average is not None else nullcontext():
            for monitor in due:
                numbers |= monitor.run(self.task)
            score = numbers.get(self.settings.best_by or "")
            if self.checkpointer is not None and score is not None and (self.best is None or score > self.best):
                self.meter.check_finite(self.step, self.checkpoint)
                self.best = score
                self.checkpointer.save_best(self.step, {"score": score, "task": self.task.state_dict()})
        self.task.train()
        return numbers

    def write(self, record: dict[str, float]) -> None:
        self.metrics |= record
        if self.metrics_log is not None:
            position = {
                "step": self.step,
                "pass": self.step / self.settings.steps_per_epoch,
                "samples_seen": self.samples_seen,
                "wall_seconds": round(self.wall_seconds, 3),
                "lr": self.schedule(self.step - 1),
            }
            self.metrics_log.write(position | record)

    def result(self) -> FitResult:
        return FitResult(self.step, self.samples_seen, self.wall_seconds, dict(self.metrics), self.checkpoint)


# -------------------------------------------------------------------- checks


def _ignore(record: Mapping[str, float]) -> None:
    """In place of what a monitor does not offer."""


def _check_optimizer(task: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A trainable parameter the optimizer does not hold would keep its first values, without a word."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in task.named_parameters() if p.requires_grad and id(p) not in held]
    if missing:
        raise InputError(
            f"{len(missing)} trainable parameters are not in the optimizer: {_shortened(missing)}. "
            "Add them, or freeze them with requires_grad_(False)."
        )


def _check_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """A parameter that the loss does not reach is a mistake in the model, and would hang DDP."""
    missing = [name for name, p in parameters.items() if p.grad is None]
    if missing:
        raise RunError(
            f"{len(missing)} trainable parameters got no gradient from the loss: {_shortened(missing)}. "
            "Use them in forward, or freeze them with requires_grad_(False)."
        )


def _shortened(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _warn_of_differences(state: Mapping[str, Any], settings: LoopSettings) -> None:
    """Says what makes a resume differ from the run that was not interrupted."""
    precision = settings.precision
    now = {
        "world_size": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "precision": {"name": precision.name, "memory_format": precision.memory_format},
    }
    for name, value in now.items():
        if state[name] != value:
            warnings.warn(
                f"resuming with {name} {value}, saved with {state[name]}: "
                "the run continues, but not bit for bit as it would have.",
                stacklevel=2,
            )


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_rng_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
