"""Tasks: transforms, model and objective as one module that the loop calls."""

from avssl.tasks.pretrain import PretrainTask

__all__ = ["PretrainTask"]
