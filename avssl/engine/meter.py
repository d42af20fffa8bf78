"""Sums of losses on the device, read by the host once per log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avssl.core import distributed
from avssl.core.batch import LossTerms
from avssl.core.errors import RunError


class Meter:
    """Means over the steps since the last reading, and whether all of them were finite.

    Reading a number from a GPU waits until everything queued there is done. So each step only adds
    to tensors, and :meth:`read` fetches all of them in one transfer.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._last_good = 0

    def start(self, step: int) -> None:
        """Forgets everything; steps up to ``step`` are known to be finite."""
        self._sums, self._counts, self._last_good = {}, {}, step

    def state_dict(self) -> dict[str, Any]:
        """The open interval, so that the first log after a resume is what it would have been."""
        sums = {name: value.cpu() for name, value in self._sums.items()}
        return {"sums": sums, "counts": dict(self._counts), "last_good": self._last_good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = {name: value.to(self._device) for name, value in state["sums"].items()}
        self._counts, self._last_good = dict(state["counts"]), state["last_good"]

    def add(self, terms: LossTerms, grad_norm: Tensor) -> None:
        """One step's numbers, without waiting for them."""
        values = {"loss": terms.total, **{k: v for k, v in terms.terms.items() if k != "loss"}, "grad_norm": grad_norm}
        # A NaN or an infinity stays one in every later sum: the sums are the finite check.
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self, step: int, checkpoint: Path | None) -> dict[str, float]:
        """Means over steps and ranks since the last reading, by name. Every rank must call it.

        Raises:
            RuntimeError: As :meth:`check_finite`.
        """
        if not self._sums:
            return {}
        names = list(self._sums)
        means = distributed.mean(torch.stack([self._sums[name] / self._counts[name] for name in names]))
        values = dict(zip(names, means.tolist(), strict=True))  # the one host sync
        self._refuse_nonfinite(values, step, checkpoint)
        self.start(step)
        return values

    def check_finite(self, step: int, checkpoint: Path | None) -> None:
        """Makes sure that every step so far was finite, without closing the interval of the means.

        Args:
            step: Steps made so far.
            checkpoint: The last good one, to be named.

        Raises:
            RuntimeError: If the loss or the gradient became NaN or infinite, on any rank.
        """
        if not self._sums:
            return
        names = ("loss", "grad_norm")
        sums = distributed.mean(torch.stack([self._sums[name] for name in names]))
        self._refuse_nonfinite(dict(zip(names, sums.tolist(), strict=True)), step, checkpoint)
        self._last_good = step

    def _refuse_nonfinite(self, values: dict[str, float], step: int, checkpoint: Path | None) -> None:
        for name, what in (("loss", "loss"), ("grad_norm", "the gradient")):
            value = torch.tensor(values[name])
            if not torch.isfinite(value):
                kind = "NaN" if torch.isnan(value) else "infinite"
                where = f"step {_step_of(checkpoint)} ({checkpoint})" if checkpoint else "none yet"
                raise RunError(
                    f"{what} became {kind} between steps {self._last_good} and {step}. "
                    f"Last good checkpoint: {where}. "
                    "Lower the learning rate, lengthen the warm-up or set a gradient clip, and resume."
                )


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))
