"""Run by torchrun from test_sharded_memory.py: the steps of memory_ranks.py, a clip on each of four ranks.

Every case is run with a whole memory on every rank, with a divided one, and with a divided one that is stopped, saved
and continued. Results go to FOLDER/rank<r>.pt.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from memory_ranks import NUM_STEPS, TinyModel, make_objective, train
from torch.nn.parallel import DistributedDataParallel

from avssl.core import distributed

CASES = ("avid softmax", "avid nce_running", "robust_xid", "robust_xid swapped")
STOP = 3


def run(case: str, **options: Any) -> dict[str, Any]:
    objective = make_objective(case, **options)
    model = DistributedDataParallel(TinyModel(objective.needs), broadcast_buffers=False)
    steps = train(model, objective, range(NUM_STEPS), slice(distributed.rank(), distributed.rank() + 1))
    return {"steps": steps, "state": objective.state_dict(), "rows": len(objective.bank.video)}


def resumed(case: str, file: Path) -> dict[str, Any]:
    before, after = make_objective(case, sharded=True), make_objective(case, sharded=True, seed=5)
    model = DistributedDataParallel(TinyModel(before.needs), broadcast_buffers=False)
    part = slice(distributed.rank(), distributed.rank() + 1)
    train(model, before, range(STOP), part)
    state = before.state_dict()
    if distributed.is_main():
        torch.save(state, file)
    distributed.barrier()
    after.load_state_dict(torch.load(file, weights_only=True))
    return {"steps": train(model, after, range(STOP, NUM_STEPS), part), "state": after.state_dict()}


def main(folder: Path) -> None:
    found = {
        case: {
            "whole": run(case),
            "divided": run(case, sharded=True),
            "resumed": resumed(case, folder / f"{case}.pt"),
        }
        for case in CASES
    }
    torch.save(found, folder / f"rank{distributed.rank()}.pt")
    distributed.barrier()


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
