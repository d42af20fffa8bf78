"""The contract between an objective and whatever surrounds it: model, transform and task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avssl.core.affine import RandomAffine
from avssl.core.errors import InputError


@dataclass(frozen=True)
class TemporalWindows:
    """Windows of a training clip at several times of its row.

    A clip has ``num_views`` windows of video with their audio, and for each of them ``num_negatives`` further windows
    of audio. Times are random: every other negative is near its view's audio (hard), the rest are far (easy). Hard
    negatives of the same video are from Korbar et al., 2018 (AVTS), https://arxiv.org/abs/1807.00230, many of them at
    once from Chung et al., 2019 (Perfect Match), https://arxiv.org/abs/1809.08001.

    Raises:
        InputError: If the range of near windows is empty.
    """

    num_views: int = 1
    """V: windows of video with their own audio. Views lie at least the nearest distance apart from the first."""
    num_negatives: int = 0
    """K: further windows of audio for each view."""
    near_seconds: tuple[float, float] = (0.2, 0.6)
    """Smallest and largest distance of near windows; far ones are further away than the largest."""

    def __post_init__(self) -> None:
        low, high = self.near_seconds
        if not 0 < low < high:
            raise InputError(f"temporal_near_seconds {self.near_seconds} must be ascending and above 0.")

    @property
    def num_audio(self) -> int:
        """Windows of audio of a clip: each view's own, and its negatives behind it."""
        return self.num_views * (1 + self.num_negatives)


@dataclass(frozen=True)
class MaskedPatches:
    """Patches that the encoders skip, and a decoder that predicts patches from the others.

    Raises:
        InputError: If the heads do not divide the width, or there is no ratio.
    """

    ratios: tuple[float, ...]
    """Shares of the patches of a clip that are hidden, in [0, 1); of several, each clip draws one."""
    predicts: Literal["pixels", "latents"]
    """``"pixels"`` of both modalities from the visible patches of both, or ``"latents"``, the head of the momentum
    model on every patch, of one modality from the visible patches of the other."""
    own: bool = False
    """With latents: also predict the hidden patches of a modality from its visible ones."""
    width: int = 512
    """Width of the decoder."""
    num_blocks: int = 8
    """Transformer blocks of the decoder."""
    num_heads: int = 16
    """Attention heads of a block."""

    def __post_init__(self) -> None:
        if not self.ratios or not all(0 <= ratio < 1 for ratio in self.ratios) or max(self.ratios) == 0:
            raise InputError(f"mask_ratios {self.ratios} must be shares below 1, at least one of them above 0.")
        if self.width % self.num_heads:
            raise InputError(f"decoder_heads ({self.num_heads}) must divide decoder_width ({self.width}) evenly.")


@dataclass(frozen=True)
class ObjectiveNeeds:
    """Everything an objective needs beyond the pooled embeddings of one view of each clip.

    It follows from the objective's name and options alone, because a released model is rebuilt without its objective.

    Raises:
        ValueError: If a number of negative sounds cannot be half silence, half noise.

    Example:
        >>> objective = create_objective("moco", embedding_size=128, momentum=0.99)
        >>> objective.needs.target_momentum, objective.needs.maps
        (0.99, False)
    """

    num_views: int = 1
    """Augmented views of each clip, view-major in ``Embeddings``."""
    originals: bool = False
    """The clips without augmentation too, from which the embeddings of the first view are predicted: see
    ``Embeddings.video_augmented`` and ``audio_augmented``."""
    local_views: int = 0
    """Small views of each clip beside the full ones, for ``Embeddings.local``; 0 for none."""
    view_warp: RandomAffine | None = None
    """Makes the frames of the second of two views from those of the first; None augments each view by itself."""
    maps: bool = False
    """``video_map`` and ``audio_map``: the heads applied to every cell."""
    framewise: bool = False
    """Each frame is compared with the audio of its own moment: the model is trained to tell times of a clip apart."""
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
    prototypes: int = 0
    """Learned unit vectors that each embedding is compared with, for ``video_scores`` and ``audio_scores``; 0 for
    none."""
    prototype_sets: int = 1
    """Sets of as many prototypes each, which assign the clips separately."""
    shared_prototypes: bool = False
    """Both modalities are compared with the same prototypes; else each has its own."""
    predictor_hidden: int = 0
    """Width of the hidden layer of the predictors, for ``video_prediction`` and ``audio_prediction``; 0 for none."""
    joint_dropout: float | None = None
    """Share of the clips whose joint embedding lacks one modality in training; None has no ``joint``."""
    masked: MaskedPatches | None = None
    """Skipped patches and a decoder, for ``video_patches`` and ``audio_patches``; None encodes every patch."""
    target_momentum: float | None = None
    """Share of itself that the momentum (target) model keeps in a step; None has no such model."""
    final_momentum: float | None = None
    """Share that it keeps at the end of the run, reached along half a cosine; None keeps ``target_momentum``."""
    windows: TemporalWindows | None = None
    """Windows of each clip at several times; None for one window. With several views there are as many ``num_views``,
    and those are no second looks at one window."""
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
        others = (
            self.maps or self.where_heads or self.local_views or self.originals or self.negative_sounds or self.windows
        )
        if self.joint_dropout is not None and (self.masked is not None or self.num_views != 1):
            raise InputError("a joint embedding goes with one view of whole clips.")
        if self.masked is not None and (others or self.num_views != 1):
            raise InputError("masked patches go with pooled embeddings of one view, and no other needs.")
        if self.windows is not None and self.windows.num_views not in (1, self.num_views):
            raise InputError(f"{self.windows.num_views} windows are not the {self.num_views} views of a clip.")
