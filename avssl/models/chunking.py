"""Large batches on a small device: clips are encoded in chunks whose activations are not kept.

Source: Gao et al., 2021 (GradCache), https://arxiv.org/abs/2101.06983, by activation checkpointing
(Chen et al., 2016, https://arxiv.org/abs/1604.06174): backward runs a chunk again when its gradient
is needed. The loss uses all clips, which gradient accumulation cannot do for a contrastive loss.

Between forward and backward a chunk keeps its inputs, its embeddings and (if needed) its maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from avssl.core.errors import InputError

Outputs = tuple[Tensor | None, ...]


def in_chunks(
    model: nn.Module, function: Callable[..., Outputs], inputs: tuple[Tensor, ...], chunk_size: int
) -> Outputs:
    """Return ``function(*inputs)``, computed in chunks of rows that backward recomputes.

    Value and gradient equal those of all rows at once, if rows are independent. BatchNorm in training normalizes
    within a chunk, and its running statistics move once per chunk.

    Args:
        model: Holds every module that ``function`` runs.
        function: Takes rows of each input to rows of each output; an output may be None.
        inputs: Tensors of equally many rows.
        chunk_size: Largest number of rows, >= 1. Chunks differ by one row at most.

    Raises:
        ValueError: If ``chunk_size`` is below 1.
    """
    if chunk_size < 1:
        raise InputError(f"chunk_size ({chunk_size}) must be at least 1.")
    num_chunks = math.ceil(len(inputs[0]) / chunk_size)
    if num_chunks <= 1:
        return function(*inputs)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_held(norms)

    chunks = zip(*(x.tensor_split(num_chunks) for x in inputs), strict=True)
    # A compiled program recomputes values alone: statistics move in its forward pass only.
    held: dict[str, Any] = {} if torch.compiler.is_compiling() else {"context_fn": contexts}
    outputs = [checkpoint(function, *rows, use_reentrant=False, **held) for rows in chunks]
    return tuple(None if parts[0] is None else torch.cat(parts) for parts in zip(*outputs, strict=True))


@contextmanager
def statistics_held(norms: list[_BatchNorm]) -> Iterator[None]:
    """Keep the running statistics of BatchNorm fixed, so that recomputation does not move them again."""
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.track_running_stats]
    for norm, _, count in kept:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count
