"""A task and a loader small enough to be checked by hand; imported by path, as tests are no package."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avssl.core import distributed
from avssl.core.batch import LossTerms
from avssl.engine import Task


@dataclass(frozen=True)
class ToyBatch:
    x: Tensor

    def to(self, device):
        return ToyBatch(self.x.to(device))

    def __len__(self):
        return len(self.x)


class ToyLoader:
    """Batch i is a function of i; the position counts the batches handed out."""

    def __init__(self, batch_size=4, bad_from=None, stop_at=None):
        self.batch_size, self.bad_from, self.stop_at, self.position = batch_size, bad_from, stop_at, 0

    def __iter__(self):
        while self.position != self.stop_at:
            generator = torch.Generator().manual_seed(self.position)
            x = torch.randn(self.batch_size, 6, generator=generator)
            if self.bad_from is not None and self.position >= self.bad_from:
                x = x * float("nan")
            self.position += 1
            yield ToyBatch(x)

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class ToyTask(Task):
    """Dropout draws from the generator, the bank is an objective's buffer, and calls are counted."""

    def __init__(self, unused=False):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        if unused:
            self.model.add_module("idle", nn.Identity())
            self.model.idle.register_parameter("weight", nn.Parameter(torch.zeros(2, 2)))
        self.register_buffer("bank", torch.zeros(3))
        self.epochs, self.shares_done = [], []

    def forward(self, batch):
        self.last = self.model(batch.x)
        loss = (self.last - 1 - 0.1 * self.bank).square().mean()
        return LossTerms(loss, {"bank_norm": self.bank.norm()})

    def after_step(self):
        # From all ranks, like real banks: buffers must be equal on every rank.
        self.bank.lerp_(distributed.mean(self.last.detach().mean(0)), 0.1)

    def on_epoch_start(self, number):
        self.epochs.append(number)

    def on_step_start(self, share_done):
        self.shares_done.append(share_done)
