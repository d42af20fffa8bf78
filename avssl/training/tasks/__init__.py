"""Tasks: transform, model and objective as one module that the training loop calls."""

from avssl.training.tasks.classify import ClassifyTask, balanced_weights
from avssl.training.tasks.distill import DistillTask
from avssl.training.tasks.pretrain import PretrainTask

__all__ = ["ClassifyTask", "DistillTask", "PretrainTask", "balanced_weights"]
