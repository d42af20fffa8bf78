"""Tasks: transforms, model and objective as one module that the loop calls."""

from avssl.tasks.classify import ClassifyTask, balanced_weights
from avssl.tasks.distill import DistillTask
from avssl.tasks.pretrain import PretrainTask

__all__ = ["ClassifyTask", "DistillTask", "PretrainTask", "balanced_weights"]
