"""Base class of encoders: one trunk pass gives the feature map and the pooled vector.

Dimensions: B clips, C channels, T frames, H and W pixels; primed letters count the cells of the
feature map. Spectrograms are time first: (B, 1, time, freq) gives (B, C, T', F').
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.attention_pool import AttentionPool
from avssl.models.blocks import Detail, split_stages, units_of_stage

Pooling = Literal["max", "mean", "attention"]
"""Pooling of all cells of a map into one vector; "attention" learns which cells count."""

_LAYOUT: dict[str, str] = {"video": "(B, 3, T, H, W)", "audio": "(B, 1, time, freq)"}
_NUM_CHANNELS: dict[str, int] = {"video": 3, "audio": 1}


class Encoder(nn.Module):
    """Maps a clip to a feature map and the map to a vector; also returns the outputs of its stages.

    A subclass registers one submodule for each of ``stage_names`` under that name, and the base
    class runs them in order. An encoder that is not such a chain (a transformer reshapes tokens)
    overrides :meth:`forward_features`, :meth:`blocks` and :meth:`forward_stages`, and calls :meth:`check_input`; with a
    class token also :meth:`forward_pooled`.

    Args:
        modality: ``"video"`` or ``"audio"``.
        num_features: C of the feature map and of the pooled vector.
        stage_names: Attribute names of the stages, in order; the last one gives the feature map.
        pool: ``"max"`` or ``"mean"`` over all cells, or ``"attention"``, a mean whose weights are learned.

    Raises:
        ValueError: If ``pool`` is none of them.

    Example:
        >>> class OneLayer(Encoder):
        ...     def __init__(self):
        ...         super().__init__("audio", 8, ("stage1",), pool="mean")
        ...         self.stage1 = torch.nn.Conv2d(1, 8, kernel_size=3, stride=2, padding=1)
        >>> pooled, feature_map = OneLayer().forward_pooled(torch.randn(2, 1, 100, 64))
        >>> pooled.shape, feature_map.shape
        (torch.Size([2, 8]), torch.Size([2, 8, 50, 32]))
    """

    modality: Modality
    """Modality of the input."""
    num_features: int
    """C of :meth:`forward_features` and :meth:`forward`."""
    stage_names: tuple[str, ...]
    """Keys of :meth:`forward_stages`, from input to output."""
    frames_alone: bool = False
    """The cells of a frame do not depend on the other frames of its clip."""
    pools_map: bool = True
    """The pooled vector is :meth:`pool` of the map; False for an encoder that takes it from a class token."""

    def __init__(self, modality: Modality, num_features: int, stage_names: tuple[str, ...], pool: Pooling) -> None:
        super().__init__()
        if pool not in ("max", "mean", "attention"):
            raise InputError(f'pool ({pool!r}) must be "max", "mean" or "attention".')
        self.modality = modality
        self.num_features = num_features
        self.stage_names = stage_names
        self.pooling = pool
        self.attention = AttentionPool(num_features) if pool == "attention" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the (B, C) pooled features of :meth:`forward_pooled`."""
        return self.forward_pooled(x)[0]

    def forward_pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, C) pooled features and the map of :meth:`forward_features`, from one pass."""
        features = self.forward_features(x)
        return self.pool(features), features

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature map before pooling.

        Args:
            x: Video (B, 3, T, H, W) or audio (B, 1, time, freq), normalized float.

        Returns:
            Video (B, C, T', H', W') or audio (B, C, T', F').

        Raises:
            ValueError: If ``x`` has another layout or is not floating point.
        """
        self.check_input(x)
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return x

    def pool(self, features: Tensor) -> Tensor:
        """Return the (B, C) vector of all cells of a (B, C, ...) map."""
        if self.attention is not None:
            pooled: Tensor = self.attention(features)
            return pooled
        cells = features.movedim(1, -1).flatten(1, -2)  # (B, cells, C), a view of channels-last maps
        # Unlike that of adaptive max pooling, this gradient is deterministic on CUDA; amax's costs twice as much.
        return cells.max(dim=1).values if self.pooling == "max" else cells.mean(dim=1)

    def blocks(self) -> dict[str, nn.Module]:
        """Return the blocks of all stages by name, from input to output (:mod:`avssl.models.blocks`)."""
        return split_stages(self._stages())

    def units(self) -> list[nn.Module]:
        """Return the modules that the encoder calls in turn: its residual blocks, and whole stages without such."""
        return [unit for stage in self._stages().values() for unit in units_of_stage(stage)]

    def forward_stages(self, x: Tensor, detail: Detail = "stages") -> dict[str, Tensor]:
        """Return the output of every stage or of every block by name, in order; the last is :meth:`forward_features`.

        Args:
            x: As for :meth:`forward_features`.
            detail: ``"stages"``, or ``"blocks"`` for those of :meth:`blocks`.

        Raises:
            ValueError: If ``detail`` is neither, and as :meth:`forward_features`.
        """
        self.check_input(x)
        if detail not in ("stages", "blocks"):
            raise InputError(f'detail ({detail!r}) must be "stages" or "blocks".')
        outputs: dict[str, Tensor] = {}
        for name, part in (self._stages() if detail == "stages" else self.blocks()).items():
            outputs[name] = x = part(x)
        return outputs

    def parameters_by_depth(self) -> Iterator[tuple[int, list[nn.Parameter]]]:
        """Yield (depth, parameters) of the stages: depth 0 for the last one, 1 for the one below, and so on.

        The pooling belongs to the last stage, and other parameters outside of stages to the first.
        """
        seen: set[int] = set()
        on_top = [] if self.attention is None else list(self.attention.parameters())
        for depth, name in enumerate(reversed(self.stage_names)):
            stage = self if depth == len(self.stage_names) - 1 else getattr(self, name)
            parameters = [p for p in [*([] if depth else on_top), *stage.parameters()] if id(p) not in seen]
            seen.update(map(id, parameters))
            yield depth, parameters

    def _stages(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in self.stage_names}

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError unless ``x`` is a floating-point tensor of this modality's layout."""
        layout, num_channels = _LAYOUT[self.modality], _NUM_CHANNELS[self.modality]
        if x.ndim != layout.count(",") + 1 or x.shape[1] != num_channels:
            raise InputError(
                f"the {self.modality} encoder {type(self).__name__} takes {layout}, "
                f"got {tuple(x.shape)}.{_advice(self.modality, x)}"
            )
        if not x.is_floating_point():
            raise InputError(
                f"the {self.modality} encoder {type(self).__name__} takes normalized floating-point values, "
                f"got {x.dtype}. Pass the output of the transforms, not the decoded clip."
            )


def _advice(modality: Modality, x: Tensor) -> str:
    """Return advice on the likeliest mistakes in layout, or an empty string."""
    if modality == "video" and x.ndim == 5 and x.shape[2] == 3:
        return " These look like (B, T, 3, H, W): use x.transpose(1, 2)."
    if modality == "video" and x.ndim == 4 and x.shape[0] == 3:
        return " This looks like one clip: use x[None]."
    if modality == "audio" and x.ndim == 3:
        return " The channel dimension is missing: use x[:, None]."
    return ""
