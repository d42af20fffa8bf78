"""The training loop. It trains any task on any loader, and a killed run resumes exactly.

Order of one step::

    on_epoch_start (first step of an epoch) → on_step_start → learning rate → forward → backward → clip → optimizer
        → after_step → weight average → log, monitors and checkpoint where due → stop if requested

The host reads the device once per log: losses, gradient norms and the check that they are finite
are summed on the device. No checkpoint is written before that check has been read.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from avssl.core import distributed
from avssl.core.batch import Batch, LossTerms
from avssl.core.errors import Interruption
from avssl.core.sharded import is_sharded
from avssl.engine.average import WeightAverage
from avssl.engine.checkpoint import Checkpointer, CheckpointError, load_checkpoint
from avssl.engine.compilation import compiled
from avssl.engine.meter import Meter
from avssl.engine.metrics_log import MetricsLog
from avssl.engine.optim import Schedule, set_lr
from avssl.engine.parameter_checks import check_gradients, check_optimizer
from avssl.engine.progress import Progress
from avssl.engine.protocols import Loader, Monitor, Task
from avssl.engine.replicas import replicated
from avssl.engine.run_state import RunState
from avssl.engine.settings import FitResult, LoopSettings
from avssl.engine.sharding import gathered, whole
from avssl.engine.stop_request import StopRequest

_Task = TypeVar("_Task", bound=Task)


def fit(
    task: _Task,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    settings: LoopSettings,
    checkpointer: Checkpointer | None = None,
    metrics_log: MetricsLog | None = None,
    monitors: Sequence[Monitor[_Task]] = (),
    average: WeightAverage | None = None,
    progress: bool = True,
    resume: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train a task for ``settings.total_steps`` steps.

    N steps, a resume and N more equal 2N steps bit for bit on the CPU at the same thread count.

    Args:
        task: The task, on ``settings.device``.
        loader: This rank's part of the batches.
        optimizer: Holds every trainable parameter of the task.
        schedule: Learning rate as a function of the step.
        settings: Length and intervals.
        checkpointer: Where to save checkpoints; None saves none.
        metrics_log: Where to write numbers; None keeps only the last ones.
        monitors: Measurements during training, on the averaged weights if there is an average.
        average: Average of the weights of ``task.model``, updated after each step.
        progress: Show a bar on a terminal; elsewhere a line every 30 seconds at most.
        resume: Continue from the newest checkpoint, if there is one.
        extra: Plain values to keep in every checkpoint.

    Raises:
        FileExistsError: If there are checkpoints and ``resume`` is False.
        Interruption: If a rank received SIGTERM, SIGHUP or SIGUSR1, after everything is saved. Without a
            checkpointer these signals keep their usual effect.
        RuntimeError: If the loss or the gradient becomes NaN or infinite, if a trainable parameter
            gets no gradient, or if the loader ends.
        ValueError: If a trainable parameter is not in the optimizer.

    Example:
        >>> from avssl.core.batch import LossTerms
        >>> from avssl.data import ClipDataset, ClipSampling, TrainLoader
        >>> class Loudness(Task):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.model = torch.nn.Linear(1, 1)
        ...     def forward(self, batch):
        ...         return LossTerms(self.model(batch.audio.std(1, keepdim=True)).square().mean())
        >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), ClipSampling())
        >>> loader, task = TrainLoader(dataset, batch_size=4), Loudness()
        >>> optimizer = create_optimizer(task, "adamw", lr=0.01, weight_decay=0.0)
        >>> settings = LoopSettings(total_steps=2, steps_per_epoch=2)
        >>> result = fit(task, loader, optimizer, WarmupCosine(0.01, 2), settings=settings, progress=False)
        >>> result.step, result.samples_seen
        (2, 8)
    """
    check_optimizer(task, optimizer)
    meter = Meter(settings.device)
    state = RunState(task, loader, optimizer, monitors, average, meter, settings, extra or {})
    loop = _Loop(state, schedule, checkpointer, metrics_log)
    failed = True
    try:
        with settings.precision.applied_to(task, settings.device):
            loop.begin(resume)
            with (
                loop.stop if checkpointer is not None else nullcontext(),
                compiled(task, settings.compile),
                replicated(task, settings.device),
                Progress(state.step, settings.total_steps, show=progress) as shown,
            ):
                loop.run(shown)
        failed = False
    except BaseException:
        if checkpointer is not None:
            with suppress(Exception):  # what is being written is worth waiting for; the first error is the one to show
                checkpointer.wait()
        raise
    finally:
        if metrics_log is not None:
            metrics_log.close(failed=failed)
    return FitResult(state.step, state.samples_seen, state.wall_seconds, dict(state.metrics), loop.checkpoint)


class _Loop(Generic[_Task]):
    """Steps, logs, measures and saves."""

    def __init__(
        self,
        state: RunState[_Task],
        schedule: Schedule,
        checkpointer: Checkpointer | None,
        metrics_log: MetricsLog | None,
    ) -> None:
        self.state, self.task, self.settings, self.meter = state, state.task, state.settings, state.meter
        self.schedule, self.checkpointer, self.metrics_log = schedule, checkpointer, metrics_log
        self.parameters = {name: p for name, p in self.task.named_parameters() if p.requires_grad}
        self.stop = StopRequest()
        self.checkpoint: Path | None = None

    def begin(self, resume: bool) -> None:
        """Restore the newest checkpoint, or make sure that none would be overwritten."""
        if self.checkpointer is not None and resume:
            saved = self.checkpointer.load_latest()
            if saved is not None:
                self.state.load_state_dict(saved)
                self._check_best(self.checkpointer)
                self.checkpoint = self.checkpointer.path(self.state.step)
        elif self.checkpointer is not None and self.checkpointer.files():
            raise FileExistsError(
                f"{self.checkpointer.folder} holds the checkpoints of an earlier run. "
                "Continue it with --resume, or choose another folder."
            )
        if self.metrics_log is not None:
            self.metrics_log.start(self.state.step)

    def _check_best(self, checkpointer: Checkpointer) -> None:
        """Let the next measurement write best.pt anew if it is gone or damaged."""
        if self.state.best is None or self.state.step == self.settings.total_steps:
            return
        is_whole = True
        if distributed.is_main():
            try:
                load_checkpoint(checkpointer.best)
            except CheckpointError as error:
                warnings.warn(f"{error} The next measurement writes it anew.", stacklevel=2)
                is_whole = False
        if distributed.any_true(not is_whole):
            self.state.best = None

    def run(self, progress: Progress) -> None:
        """Train until the last step, then release the loader's workers."""
        batches = iter(self.state.loader)
        try:
            self._train_on(batches, progress)
        finally:
            if isinstance(batches, Generator):
                batches.close()

    def _train_on(self, batches: Iterator[Batch], progress: Progress) -> None:
        state = self.state
        self.task.train()
        before, start = state.wall_seconds, time.perf_counter()
        first = state.step
        while state.step < self.settings.total_steps:
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(f"the loader ended after step {state.step}; it must be endless.")
            self._step(batch, check=state.step == first)
            state.wall_seconds = before + time.perf_counter() - start
            progress.advance(len(batch) * distributed.world_size())
            self._after_step(progress)

    def _step(self, batch: Batch, *, check: bool) -> None:
        state, settings = self.state, self.settings
        if state.step % settings.steps_per_epoch == 0:
            self.task.on_epoch_start(state.step // settings.steps_per_epoch)
        self.task.on_step_start(state.step / settings.total_steps)
        set_lr(state.optimizer, self.schedule(state.step), state.step)

        terms: LossTerms = self.task(batch.to(settings.device))
        state.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        if check:
            check_gradients(self.parameters)
        grad_norm = self._clip_gradient()
        state.optimizer.step()
        self.task.after_step()
        if state.average is not None:
            state.average.update()

        state.step += 1
        state.samples_seen += len(batch) * distributed.world_size()
        self.meter.add(terms, grad_norm)

    def _clip_gradient(self) -> Tensor:
        """Clip the gradient, and return the () norm that it had before, on the device."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if is_sharded(norm):  # of the shards of all ranks
            norm = norm.full_tensor()  # type: ignore[attr-defined]
        if self.settings.grad_clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.settings.grad_clip, norm)
        return norm

    def _after_step(self, progress: Progress) -> None:
        """Log, measure and save if due after this step, and stop if a rank was told to."""
        step = self.state.step
        last = step == self.settings.total_steps
        record: dict[str, float] = {}
        if last or step % self.settings.log_every == 0:
            record |= self.meter.read(step, self.checkpoint) | {"samples_per_second": progress.samples_per_second()}
            progress.show(record)
            for monitor in self.state.monitors:
                monitor.observe(record)
        record |= self._measure(last)
        if record:
            self._write(record)
        if self.checkpointer is None:
            return
        stop = self.stop.is_agreed()
        if last or stop or step % self.settings.checkpoint_every == 0:
            self.meter.check_finite(step, self.checkpoint)
            self.checkpoint = self.checkpointer.save(step, self.state.state_dict())
        if last or stop:
            self.checkpointer.wait()
        if stop and not last:
            assert self.checkpoint is not None, "saved just now"
            raise Interruption(self.stop.received or "a signal to another rank", step, self.checkpoint)

    def _measure(self, last: bool) -> dict[str, float]:
        """Return the numbers of the monitors that are due, and save the weights if they are the best so far."""
        state = self.state
        due = [monitor for monitor in state.monitors if last or state.step % monitor.every_steps == 0]
        numbers: dict[str, float] = {}
        if not due:
            return numbers
        with state.average.applied() if state.average is not None else nullcontext():
            with gathered(self.task):
                for monitor in due:
                    numbers |= monitor.run(self.task)
            score = numbers.get(self.settings.best_by or "")
            if self.checkpointer is not None and score is not None and (state.best is None or score > state.best):
                self.meter.check_finite(state.step, self.checkpoint)
                state.best = score
                self.checkpointer.save_best(state.step, {"score": score, "task": whole(self.task.weights())})
        self.task.train()
        return numbers

    def _write(self, record: dict[str, float]) -> None:
        state = self.state
        state.metrics |= record
        if self.metrics_log is not None:
            position = {
                "step": state.step,
                "epoch": state.step / self.settings.steps_per_epoch,
                "samples_seen": state.samples_seen,
                "wall_seconds": round(state.wall_seconds, 3),
                "lr": self.schedule(state.step - 1),
            }
            self.metrics_log.write(position | record)
