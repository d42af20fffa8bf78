"""Run by test_replicas.py under torchrun: trains on two ranks and checks against one process's result."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyBatch, ToyLoader, ToyTask

from avssl.core import distributed
from avssl.engine import (
    Checkpointer,
    Interruption,
    LoopSettings,
    MetricsLog,
    Precision,
    WarmupCosine,
    create_optimizer,
    fit,
)
from avssl.engine.replicas import Replica

BAD = 10_000


class HalfLoader(ToyLoader):
    """Loads this rank's rows of the batch of a single process; its state differs between ranks."""

    def __iter__(self):
        for batch in super().__iter__():
            rows = batch.x.chunk(distributed.world_size())[distributed.rank()]
            if self.position > BAD and distributed.rank() == 1:
                rows = rows * float("nan")
            yield ToyBatch(rows)

    def state_dict(self):
        return {"position": self.position, "rank": distributed.rank()}

    def load_state_dict(self, state):
        assert state["rank"] == distributed.rank(), "another rank's state"
        super().load_state_dict(state)


class EvalTask(ToyTask):
    """Without batch statistics, dropout or a bank, two ranks equal one process."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def after_step(self):
        pass


def train(folder, task, total, *, start=0, resume=False):
    settings = LoopSettings(total_steps=total, steps_per_epoch=5, log_every=2, checkpoint_every=4)
    loader = HalfLoader(batch_size=8)
    loader.position = start
    return fit(
        task,
        loader,
        create_optimizer(task, "sgd", lr=0.1, betas=(0.9, 0.9), weight_decay=0.0),
        WarmupCosine(0.1, 12),
        settings=settings,
        checkpointer=Checkpointer(folder / "checkpoints"),
        metrics_log=MetricsLog(folder),
        resume=resume,
    )


def check_gradients_lie_in_the_buffers_that_are_exchanged():
    """The result of ``gradient_as_bucket_view``: equal numbers bit for bit, in one block of memory."""
    gradients = []
    for in_buffers in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv3d(3, 4, (1, 3, 3)), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(64, 5))
        Precision("fp32", "channels_last").apply(model, "cpu").remove()
        replica = Replica(model, torch.device("cpu"))
        if not in_buffers:
            replica = DistributedDataParallel(model, broadcast_buffers=False)
        for step in range(2):
            model.zero_grad(set_to_none=True)
            video = torch.randn(2, 3, 1, 6, 6, generator=torch.Generator().manual_seed(distributed.rank() + 10 * step))
            replica(video).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
        blocks = {p.grad.untyped_storage().data_ptr() for p in model.parameters()}
        assert (len(blocks) == 1) == in_buffers
    assert all(map(torch.equal, *gradients))


def main(folder):
    check_gradients_lie_in_the_buffers_that_are_exchanged()
    task = EvalTask()
    result = train(folder / "two", task, 12)
    assert result.samples_seen == 96
    assert isinstance(task.model, nn.Sequential), "the model is unwrapped after the run"

    # The ranks' dropout differs, as their generators do, and each continues with its own.
    whole, parts = ToyTask(), ToyTask()
    for task, name, total in ((whole, "whole", 12), (parts, "parts", 8)):
        torch.manual_seed(100 + distributed.rank())
        train(folder / name, task, total)
    parts = ToyTask()
    train(folder / "parts", parts, 12, resume=True)
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, parts.model.get_parameter(name)), name

    # A signal to rank 1 stops both after one step, and the resume equals an uninterrupted run.
    signaled = ToyTask()
    torch.manual_seed(100 + distributed.rank())
    whole_step = signaled.after_step

    def after_step():
        whole_step()
        signaled.steps = getattr(signaled, "steps", 0) + 1
        if signaled.steps == 5 and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    signaled.after_step = after_step
    with pytest.raises(Interruption, match="after step 6") as told:
        train(folder / "signaled", signaled, 12)
    assert ("SIGUSR1" in str(told.value)) == (distributed.rank() == 1)
    signaled = ToyTask()
    train(folder / "signaled", signaled, 12, resume=True)
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, signaled.model.get_parameter(name)), name

    # A NaN on rank 1 stops both.
    with pytest.raises(RuntimeError, match=r"loss became NaN between steps 2 and 4.*none yet"):
        train(folder / "bad", ToyTask(), 12, start=BAD - 2)


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
