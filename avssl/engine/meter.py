"""Losses summed on the device and read by the host once per log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avssl.core import distributed
from avssl.core.batch import LossTerms
from avssl.core.errors import RunError
from avssl.engine.checkpoint import step_of


class Meter:
    """Means of losses over the steps since the last reading, and a check that they are finite.

    Reading a number from a GPU waits for all work queued there. Each step therefore only adds to
    tensors, and :meth:`read` fetches them in one transfer.

    Args:
        device: Device of the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._last_good = 0

    def start(self, step: int) -> None:
        """Start a new interval after ``step``, up to which every number is known to be finite."""
        self._sums, self._counts, self._last_good = {}, {}, step

    def state_dict(self) -> dict[str, Any]:
        """Return the open interval, so that the first log after a resume equals that of an uninterrupted run."""
        sums = {name: value.cpu() for name, value in self._sums.items()}
        return {"sums": sums, "counts": dict(self._counts), "last_good": self._last_good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = {name: value.to(self._device) for name, value in state["sums"].items()}
        self._counts, self._last_good = dict(state["counts"]), state["last_good"]

    def add(self, terms: LossTerms, grad_norm: Tensor) -> None:
        """Add the numbers of a step without waiting for them."""
        values = {"loss": terms.total, **{k: v for k, v in terms.terms.items() if k != "loss"}, "grad_norm": grad_norm}
        # A NaN or an infinity stays in every later sum, so checking the sums checks every step.
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self, step: int, checkpoint: Path | None) -> dict[str, float]:
        """Return the means over steps and ranks since the last reading, by name. Every rank must call it.

        Raises:
            RuntimeError: As in :meth:`check_finite`.
        """
        if not self._sums:
            return {}
        names = list(self._sums)
        means = distributed.mean(torch.stack([self._sums[name] / self._counts[name] for name in names]))
        values = dict(zip(names, means.tolist(), strict=True))  # the only host sync
        self._check_values(values, step, checkpoint)
        self.start(step)
        return values

    def check_finite(self, step: int, checkpoint: Path | None) -> None:
        """Check every step so far without closing the interval of the means.

        Args:
            step: Steps done so far.
            checkpoint: The last good checkpoint, for the message.

        Raises:
            RuntimeError: If the loss or the gradient became NaN or infinite on any rank.
        """
        if not self._sums:
            return
        names = ("loss", "grad_norm")
        sums = distributed.mean(torch.stack([self._sums[name] for name in names]))
        self._check_values(dict(zip(names, sums.tolist(), strict=True)), step, checkpoint)
        self._last_good = step

    def _check_values(self, values: dict[str, float], step: int, checkpoint: Path | None) -> None:
        for name, what in (("loss", "loss"), ("grad_norm", "the gradient")):
            value = torch.tensor(values[name])
            if not torch.isfinite(value):
                kind = "NaN" if torch.isnan(value) else "infinite"
                how = "Resume" if checkpoint else "Start again"
                last = f"step {step_of(checkpoint)} ({checkpoint})" if checkpoint else "none yet"
                raise RunError(
                    f"{what} became {kind} between steps {self._last_good} and {step}. "
                    f"Last good checkpoint: {last}. "
                    f"{how} with a lower --optim.lr, a longer warm-up or a gradient clip, such as --optim.grad-clip 1."
                )
