"""The blocks of an encoder: its residual blocks, and its convolutions outside of them.

A block begins at each child of a stage that contains a convolution; normalization, activation and pooling behind it
belong to it. So a network of four stages has tens of blocks, whose similarity shows what its depth is used for
(Nguyen, Raghu and Kornblith, 2021, https://arxiv.org/abs/2010.15327).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from torch import nn

from avssl.core.errors import InputError

if TYPE_CHECKING:
    from avssl.models.encoder import Encoder

T = TypeVar("T")

Detail = Literal["stages", "blocks"]
"""Layers of a model that are compared or probed: the stages of its encoders, or their blocks."""


def split_stages(stages: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the blocks of stages by name, in order; they share the stages' modules.

    A stage of one block keeps its name, the blocks of others are numbered: ``"stem"``, ``"layer1.0"``, ``"layer1.1"``.
    """
    blocks: dict[str, nn.Module] = {}
    for name, stage in stages.items():
        parts = _parts(stage)
        blocks |= {name if len(parts) == 1 else f"{name}.{number}": part for number, part in enumerate(parts)}
    return blocks


def units_of_stage(stage: nn.Module) -> list[nn.Module]:
    """Return the modules that a stage calls as a whole: its residual blocks, or the stage itself."""
    children = list(stage) if isinstance(stage, nn.Sequential) else []
    blocks = [child for child in children if _has_convolution(child)]
    are_layers = any(isinstance(block, nn.Conv2d | nn.Conv3d) for block in blocks)
    return [stage] if are_layers or len(blocks) < 2 else blocks


def removable_blocks(encoder: Encoder) -> list[str]:
    """Return the names of the residual blocks that keep the shape of their input: those without a shortcut layer."""
    return [name for name, block in encoder.blocks().items() if _is_removable(block)]


@contextmanager
def without_blocks(encoder: Encoder, names: Sequence[str]) -> Iterator[None]:
    """Let an encoder skip residual blocks inside a ``with``, as a test of what they contribute.

    Source: Veit, Wilber and Belongie, 2016, https://arxiv.org/abs/1605.06431, section 4.1.

    Args:
        encoder: The encoder; it is as before afterwards.
        names: Names of blocks, out of :func:`removable_blocks`.

    Raises:
        ValueError: If a block cannot be removed.

    Example:
        >>> encoder = avssl.create_encoder("avid_r2plus1d_18").eval()
        >>> x = torch.ones(1, 3, 2, 32, 32)
        >>> with without_blocks(encoder, ["conv4x.1"]):
        ...     features = encoder(x)
        >>> features.shape == encoder(x).shape, torch.equal(features, encoder(x))
        (True, False)
    """
    allowed = removable_blocks(encoder)
    if wrong := [name for name in names if name not in allowed]:
        raise InputError(
            f"{wrong[0]!r} is not a residual block of {type(encoder).__name__} that keeps the shape of its input; "
            f"these can be removed: {', '.join(allowed) or 'none'}."
        )
    places: list[tuple[nn.Sequential, int]] = []
    for name in names:
        # The name counts blocks, and each block of a stage of residual blocks is one child.
        stage, _, number = name.partition(".")
        places.append((getattr(encoder, stage), int(number or 0)))
    blocks = [chain[place] for chain, place in places]
    try:
        for chain, place in places:
            chain[place] = nn.Identity()
        yield
    finally:
        for (chain, place), block in zip(places, blocks, strict=True):
            chain[place] = block


def delete_each_block(encoder: Encoder, measure: Callable[[], T]) -> dict[str, T]:
    """Measure an encoder without each of its :func:`removable_blocks` in turn.

    Args:
        encoder: The encoder; it is as before afterwards.
        measure: Called once for each block, while the encoder skips it.

    Returns:
        Its results by the name of the deleted block, in the order of the blocks.
    """
    found: dict[str, T] = {}
    for name in removable_blocks(encoder):
        with without_blocks(encoder, [name]):
            found[name] = measure()
    return found


def _parts(stage: nn.Module) -> list[nn.Module]:
    """Return the blocks of one stage; slices of a Sequential are of its own class and share its modules."""
    if not isinstance(stage, nn.Sequential):
        return [stage]
    starts = [place for place, child in enumerate(stage) if _has_convolution(child)]
    if len(starts) < 2:
        return [stage]
    stops = [*starts[1:], len(stage)]
    return [stage[start:stop] for start, stop in zip([0, *starts[1:]], stops, strict=True)]


def _has_convolution(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Conv2d | nn.Conv3d) for part in module.modules())


def _is_removable(block: nn.Module) -> bool:
    """Return True for one residual block whose shortcut is the identity."""
    (*others, last) = block.children() if isinstance(block, nn.Sequential) else [block]
    is_ours = isinstance(getattr(last, "shortcut", None), nn.Identity)
    is_torchvisions = hasattr(last, "downsample") and last.downsample is None
    return not others and (is_ours or is_torchvisions)
