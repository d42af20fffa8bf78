"""TensorBoard files in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from avssl.core.whole_file import names_full_disk
from avssl.engine.trackers.tracker import TrackedRun, numbers_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes ``tensorboard/`` in the run directory: ``tensorboard --logdir runs`` shows all runs.

    Args:
        run: The run.
    """

    rewinds = True

    def __init__(self, run: TrackedRun) -> None:
        self._folder = run.folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def start(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        # TensorBoard hides events that a killed run left for steps from purge_step on.
        with names_full_disk(self._folder):
            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def log(self, record: Mapping[str, Any]) -> None:
        assert self._writer is not None, "started"
        with names_full_disk(self._folder):
            for name, value in numbers_of(record).items():
                self._writer.add_scalar(name, value, record["step"])

    def finish(self, *, failed: bool) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with names_full_disk(self._folder):
                writer.close()
