"""torch.compile of a task: its transforms, networks and loss run as generated programs of few kernels.

Names of weights, checkpoints and the values of random numbers of clips stay; numbers differ by rounding from those of
the same modules without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from avssl.core.traced import mark_constants
from avssl.engine.protocols import Task

Compiled = Literal["none", "model", "transforms", "all"]
"""Parts of a step to compile: ``"model"`` are the networks and, on one process, the loss."""

_EXPECTED = (
    "The .grad attribute of a Tensor that is not a leaf",  # of what a program takes, such as embeddings
    "Torchinductor does not support code generation for complex operators",  # spectra are those of a library
)


@contextmanager
def compiled(task: Task, what: Compiled, backend: str | Callable[..., Any] = "inductor") -> Iterator[None]:
    """Within the context, run parts of a task as compiled programs, which the first batch makes.

    Args:
        task: In its precision and with its weights loaded, before DDP wraps its model.
        what: Parts to compile.
        backend: As for ``torch.compile``; "inductor" generates kernels, others show what is traced.
    """
    modules = [module for part, modules in task.compilable().items() if what in (part, "all") for module in modules]
    if modules:
        mark_constants()
        torch.compiler.reset()  # after other programs in this process, shapes would be dynamic, and rounding another
    for module in modules:
        module.compile(backend=backend)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for module in modules:
            module._compiled_call_impl = None
