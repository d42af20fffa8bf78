"""State of modules that share parts: one entry for each tensor.

PyTorch names a shared tensor once for each place that it has in a model. With :func:`keep_one_copy` the state of the
model has its first name only, so that checkpoints, averages and releases hold it once.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from torch import Tensor, nn


def keep_one_copy(model: nn.Module) -> None:
    """Let ``model.state_dict()`` name each shared parameter and buffer once, and ``load_state_dict`` read that state.

    Args:
        model: Its parts may be shared before or after this call, as modules: a shared ``nn.Parameter`` alone would be
            separated when the model moves to another device.
    """
    model.register_state_dict_post_hook(_leave_out)
    model.register_load_state_dict_pre_hook(_fill_in)


def _leave_out(model: nn.Module, state: MutableMapping[str, Any], prefix: str, _: Any) -> None:
    for name, _first in _other_names(model):
        state.pop(prefix + name, None)


def _fill_in(model: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    for name, first in _other_names(model):
        if prefix + first in state:
            state.setdefault(prefix + name, state[prefix + first])


def _other_names(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, first name) of each further place of a shared tensor."""
    firsts: dict[int, str] = {}
    everything: list[tuple[str, Tensor]] = list(model.named_parameters(remove_duplicate=False))
    for name, value in [*everything, *model.named_buffers(remove_duplicate=False)]:
        first = firsts.setdefault(id(value), name)
        if first != name:
            yield name, first
