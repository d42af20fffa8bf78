"""Tasks: transform, model and objective as one module that the training loop calls."""

from avssl.training.tasks.classify import ClassifyTask as ClassifyTask
from avssl.training.tasks.classify import balanced_weights as balanced_weights
from avssl.training.tasks.distill import DistillTask as DistillTask
from avssl.training.tasks.pretrain import PretrainTask as PretrainTask
