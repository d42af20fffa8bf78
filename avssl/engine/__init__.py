"""Training of any task: the loop, checkpoints, optimizers, precision and the metrics log."""

from avssl.core.errors import Interrupted
from avssl.engine.average import WeightAverage
from avssl.engine.checkpoint import Checkpointer, CheckpointError, load_checkpoint
from avssl.engine.cost import StepCost, checkpoint_bytes, module_bytes, state_bytes, step_cost
from avssl.engine.loop import fit
from avssl.engine.metrics_log import MetricsLog, read_metrics
from avssl.engine.optim import RateGroup, Schedule, WarmupCosine, WarmupSteps, create_optimizer
from avssl.engine.precision import Precision, all_precisions, probe_precision
from avssl.engine.progress import show_progress
from avssl.engine.protocols import Loader, Monitor, Task
from avssl.engine.runtime import choose_device, environment_report, seed_everything, set_threads
from avssl.engine.settings import FitResult, LoopSettings

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "FitResult",
    "Interrupted",
    "Loader",
    "LoopSettings",
    "MetricsLog",
    "Monitor",
    "Precision",
    "RateGroup",
    "Schedule",
    "StepCost",
    "Task",
    "WarmupCosine",
    "WarmupSteps",
    "WeightAverage",
    "all_precisions",
    "checkpoint_bytes",
    "choose_device",
    "create_optimizer",
    "environment_report",
    "fit",
    "load_checkpoint",
    "module_bytes",
    "probe_precision",
    "read_metrics",
    "seed_everything",
    "set_threads",
    "show_progress",
    "state_bytes",
    "step_cost",
]
