"""What every objective offers to the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from avssl.core.affine import RandomAffine
from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError


class Objective(nn.Module, ABC):
    """Embeddings → one number to minimize.

    An objective holds buffers only (banks, queues, tables), never parameters: what is learned
    belongs to the model, inside the one call that DDP wraps. ``forward`` changes nothing, because
    under activation checkpointing it runs twice; what moves, moves in :meth:`update`.
    """

    needs_target: bool = False
    """Whether ``forward`` wants embeddings of the momentum (target) model."""
    target_momentum: float = 0.999
    """Share of itself that the momentum model keeps in a step, where there is one."""
    holds_embeddings: bool = False
    """Whether the class takes ``embedding_size``: it has banks or queues of embeddings."""
    needs_maps: bool = False
    """Whether ``forward`` wants ``video_map`` and ``audio_map``: one head call on every cell."""
    num_views: int = 1
    """Augmented views of each clip that ``forward`` expects, view-major."""
    view_warp: RandomAffine | None = None
    """How the picture of the second of two views is made of the first's; both draw it from the clips' keys. None where
    every view is augmented by itself. Sounds always are."""
    negative_sounds: int = 0
    """Sounds of silence and noise a step and rank that ``forward`` expects in ``Embeddings.negative_audio``, even;
    with ``needs_maps`` their maps are in ``negative_audio_map``."""
    silence_dbfs: float | None = None
    """Level in decibels of full scale below which a time cell of a sound is not heard: ``forward`` then expects
    ``Embeddings.audio_heard``, and needs maps."""
    heads: tuple[str, ...] = ()
    """Further pairs of projection heads that the model must carry, told by the class alone, because a released model
    is built anew without its objective. There is one, "where": see :class:`avssl.models.AVModel`."""

    @classmethod
    def initial_logits(cls, options: Mapping[str, Any]) -> dict[str, float]:
        """First values of what the model must learn for this objective's logits, by name.

        Told by the options alone, because a released model is built anew without its objective.

        Args:
            options: The keyword arguments of the class.

        Returns:
            ``logit_scale`` and ``logit_bias`` where they are learned, as in
            :class:`avssl.models.heads.LogitScale`.
        """
        return {}

    @classmethod
    def model_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """How a sound meets the cells of a map in the model: told by the options alone, as above.

        Args:
            options: The keyword arguments of the class.

        Returns:
            Keyword arguments of :class:`avssl.models.AVModel`, such as ``num_heads``; none by default.
        """
        return {}

    @abstractmethod
    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """The loss of this rank's clips against the global batch.

        Args:
            online: Embeddings with history, V views of B clips.
            target: The momentum model's, without history; None unless ``needs_target``.
            index: The B clips.
        """

    def negatives_of(self, online: Embeddings) -> Tensor | None:
        """(M, D) embeddings of silence and noise where the objective asks for them, else None.

        Raises:
            ValueError: If there are not ``negative_sounds`` of them.
        """
        if not self.negative_sounds:
            return None
        if online.negative_audio is None or len(online.negative_audio) != self.negative_sounds:
            found = "none" if online.negative_audio is None else len(online.negative_audio)
            raise InputError(
                f"{type(self).__name__}(negative_sounds={self.negative_sounds}) needs as many rows of "
                f"Embeddings.negative_audio, got {found}: give the transform "
                "negative_sounds=objective.negative_sounds and the model the batch's negative_audio."
            )
        return online.negative_audio

    def check_views(self, online: Embeddings, index: BatchIndex) -> None:
        """Raises ValueError unless there are ``num_views`` embeddings of each clip.

        One more would be a negative of the clip's own first.
        """
        if len(online.video) != self.num_views * len(index):
            views = "one view" if self.num_views == 1 else f"{self.num_views} views"
            raise InputError(
                f"{type(self).__name__} takes {views} of each clip, "
                f"got {len(online.video)} embeddings of {len(index)} clips."
            )

    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Moves banks and queues, once after each optimizer step, on detached embeddings."""

    def on_epoch_start(self, number: int) -> None:
        """Called once before pass ``number`` (from 0); not again when a run resumes mid-pass."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Refuses parameters.

        Raises:
            TypeError: Always, except for None.
        """
        if param is not None:
            raise TypeError(
                f"{type(self).__name__}.{name}: an objective holds no parameters. Learn it in the model "
                "(a head, Embeddings.prototypes or logit_scale), or use register_buffer if it does not learn."
            )
        super().register_parameter(name, param)
