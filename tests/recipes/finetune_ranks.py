"""Run by torchrun from test_finetune.py: a classifier trained whole, in shards, and in shards with an interruption.

Arguments: a folder with config.yaml, in which the runs two, sharded and resumed are written.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from avssl.config import FinetuneConfig, load_config
from avssl.core.batch import Batch, LossTerms
from avssl.core.sharded import is_sharded
from avssl.downstream.finetuning import driver
from avssl.engine import Interruption, Precision
from avssl.recipes.finetune import finetune
from avssl.training.tasks import ClassifyTask

FOLDER = Path(sys.argv[1])
config = load_config(FOLDER / "config.yaml", FinetuneConfig)
train = replace(config.train, parallel="fsdp", activation_checkpointing="block", precision="auto")
in_shards = replace(config, train=train)
whole_forward, on_epoch_start, choose_precision = (
    ClassifyTask.forward,
    ClassifyTask.on_epoch_start,
    driver.choose_precision,
)
timed = []


def forward(task: ClassifyTask, batch: Batch) -> LossTerms:
    """Compute the loss of a classifier, no part of which is whole, timed or trained."""
    assert all(map(is_sharded, task.model.parameters()))
    return whole_forward(task, batch)


def choose(*arguments: Any) -> Any:
    """Time the precisions in shards, and take fp32, as the classifier that is compared."""
    timed.append(choose_precision(*arguments))
    return replace(timed[-1], precision=Precision())


def interrupt(task: ClassifyTask, number: int) -> None:
    """Send a signal when the second epoch begins."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGUSR1)
    on_epoch_start(task, number)


finetune(config, out=FOLDER / "two", progress=False)
ClassifyTask.forward = forward  # type: ignore[method-assign]
driver.choose_precision = choose
finetune(in_shards, out=FOLDER / "sharded", progress=False)
assert len(timed) == 1
assert "fp32" in timed[0].reason
ClassifyTask.on_epoch_start = interrupt  # type: ignore[method-assign]
try:
    finetune(in_shards, out=FOLDER / "resumed", progress=False)
    raise AssertionError("the signal stops the run")
except Interruption:
    ClassifyTask.on_epoch_start = on_epoch_start  # type: ignore[method-assign]
resumed = replace(in_shards, train=replace(train, precision="fp32", memory_format="contiguous"))
finetune(resumed, resume=FOLDER / "resumed", progress=False)
