"""torch.compile of a task: its transforms, networks and loss run as generated programs of few kernels.

Names of weights, checkpoints and the values of random numbers of clips stay; numbers differ by rounding from those of
the same modules without it.

A network in shards (:mod:`avssl.engine.sharding`) is not one program, because programs cannot gather and free its
weights: each of its units is one, between the two. What lies outside of units (heads, patches) is not compiled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from avssl.core.traced import mark_constants
from avssl.engine.protocols import Task
from avssl.engine.sharding import sharded_units

Compiled = Literal["none", "model", "transforms", "all"]
"""Parts of a step to compile: ``"model"`` are the networks and, on one process, the loss."""

_EXPECTED = (
    "The .grad attribute of a Tensor that is not a leaf",  # of what a program takes, such as embeddings
    "Torchinductor does not support code generation for complex operators",  # spectra are those of a library
)
_MOST_PROGRAMS = 64


@contextmanager
def compiled(task: Task, what: Compiled, backend: str | Callable[..., Any] = "inductor") -> Iterator[None]:
    """Within the context, run parts of a task as compiled programs, which the first batch makes.

    Args:
        task: In its precision and with its weights loaded, before DDP wraps its model.
        what: Parts to compile.
        backend: As for ``torch.compile``; "inductor" generates kernels, others show what is traced.
    """
    modules = [module for part, modules in task.compilable().items() if what in (part, "all") for module in modules]
    if not modules:
        yield
        return
    mark_constants()
    torch.compiler.reset()  # after other programs in this process, shapes would be dynamic, and rounding another
    with ExitStack() as undo:
        for module in modules:
            units = sharded_units(module)
            for unit in units:
                undo.callback(_compile_forward(unit, backend))
            if not units:
                module.compile(backend=backend)
                undo.callback(setattr, module, "_compiled_call_impl", None)
        # Blocks of a class share their code, of which torch makes 8 programs for other strides and widths, no more.
        undo.enter_context(torch._dynamo.config.patch(recompile_limit=_MOST_PROGRAMS))
        undo.enter_context(warnings.catch_warnings())
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message)
        yield


def _compile_forward(module: nn.Module, backend: str | Callable[..., Any]) -> Callable[[], None]:
    """Compile the forward pass of a module without its hooks; return a function that undoes it."""
    own = vars(module).get("forward")
    module.forward = torch.compile(module.forward, backend=backend)  # type: ignore[method-assign]

    def undo() -> None:
        del module.forward
        if own is not None:
            module.forward = own

    return undo
