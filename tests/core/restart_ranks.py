"""Run by torchrun from test_distributed.py: rank 1 of the first attempt is killed, rank 0 of the second comes late."""

import os
import signal
import sys
import time
from pathlib import Path

import torch.distributed as dist

from avssl.core import distributed


def main(folder: Path) -> None:
    attempt, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
    if attempt == 1 and rank == 0:
        time.sleep(1)  # rank 1 would find what its dead peer left
    distributed.start("cpu")
    assert distributed.has_flag("by rank 1") == (attempt == 1)
    store = dist.distributed_c10d._get_default_store()
    assert not store.check([f"rank {rank} was here"]), "a group must not meet the keys of an earlier attempt"
    store.set(f"rank {rank} was here", "")
    if rank == 1:
        distributed.set_flag("by rank 1")
    distributed.barrier()
    if attempt == 0 and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()
    (folder / f"rank{rank}").write_text(str(attempt))
    distributed.barrier()
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
