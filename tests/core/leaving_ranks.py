"""Run by torchrun from test_distributed.py: leave a group after a training, and after an error on rank 1 alone.

Saves what each rank saw to FOLDER/rank<r>.json.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avssl.core import distributed


def train(*, fails: bool) -> None:
    model = DistributedDataParallel(nn.Linear(2, 2))
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
    if fails and distributed.rank() == 1:
        pending = dist.all_reduce(torch.ones(1), async_op=True)
        raise KeyError(f"a bug; {pending}")
    for _ in range(2):
        dist.all_reduce(torch.ones(1))


def num_gloo_threads() -> int:
    return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))


def main(folder: Path) -> None:
    with distributed.process_group("cpu"):
        rank = distributed.rank()
        train(fails=False)
        during = num_gloo_threads()
    seen = {"during": during, "after_success": num_gloo_threads()}
    try:
        with distributed.process_group("cpu"):
            train(fails=True)
    except (KeyError, RuntimeError) as error:
        seen |= {"error": f"{type(error).__name__}: {error}", "after_error": num_gloo_threads()}
    (folder / f"rank{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
