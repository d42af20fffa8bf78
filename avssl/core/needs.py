"""The contract between an objective and whatever surrounds it: model, transform and task."""

from __future__ import annotations

from dataclasses import dataclass

from avssl.core.affine import RandomAffine
from avssl.core.errors import InputError


@dataclass(frozen=True)
class ObjectiveNeeds:
    """Everything an objective needs beyond the pooled embeddings of one view of each clip.

    It follows from the objective's name and options alone, because a released model is rebuilt without its objective.

    Raises:
        ValueError: If a number of negative sounds cannot be half silence, half noise.
    """

    num_views: int = 1
    """Augmented views of each clip, view-major in ``Embeddings``."""
    view_warp: RandomAffine | None = None
    """Makes the frames of the second of two views from those of the first; None augments each view by itself."""
    maps: bool = False
    """``video_map`` and ``audio_map``: the heads applied to every cell."""
    where_heads: bool = False
    """A second pair of projection heads, for ``video_where_map`` and ``audio_where``."""
    num_heads: int = 1
    """Groups of channels that are compared separately where audio meets the cells of a map."""
    audio_over_time: bool = False
    """Audio is compared with the map step by step instead of as a whole."""
    logit_scale: float | None = None
    """Initial value of a learned inverse temperature; None learns none."""
    logit_bias: float | None = None
    """Initial value of a learned offset of all logits; None learns none."""
    target_momentum: float | None = None
    """Share of itself that the momentum (target) model keeps in a step; None has no such model."""
    negative_sounds: int = 0
    """Clips of silence and noise per step and rank in ``negative_audio``; with ``maps``, ``negative_audio_map``."""
    silence_dbfs: float | None = None
    """Level, in decibels of full scale, below which ``audio_heard`` is False; None needs no ``audio_heard``."""
    embedding_size: bool = False
    """The class takes ``embedding_size``, because it stores embeddings."""
    memory: bool = False
    """The class takes ``rows`` and ``seed`` too, because it stores embeddings of every training clip."""

    def __post_init__(self) -> None:
        count = self.negative_sounds
        if count < 0 or count % 2:
            raise InputError(f"negative_sounds ({count}) must be even and >= 0: half are silence, half noise.")
