"""``killed_pretrain.py STEP WORDS``: ``avssl WORDS``, whose last rank is killed (SIGKILL) in the middle of a step.

A process that torchrun started again is left alone.
"""

import os
import signal
import sys

from avssl.cli import main
from avssl.core import distributed
from avssl.training.tasks import PretrainTask


def kill_in_step(last: int) -> None:
    steps = iter(range(1, last + 1))
    after_step = PretrainTask.after_step

    def killed(task: PretrainTask) -> None:
        if next(steps) == last and distributed.rank() == distributed.world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        after_step(task)

    PretrainTask.after_step = killed


if __name__ == "__main__":
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        kill_in_step(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
