"""The contract between an objective and the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds


class Objective(nn.Module, ABC):
    """Base class of all losses: embeddings in, one number to minimize out.

    An objective holds buffers only (banks, queues, tables), never parameters: what is learned
    belongs to the model, inside the one call that DDP wraps. ``forward`` changes no state, because
    activation checkpointing runs it twice; state moves in :meth:`update`.

    A subclass documents its options under ``Args`` and gives each a default, from which the configuration is derived.
    It states what it needs in :meth:`needs_of` and sets :attr:`needs` when it is built.

    Example:
        >>> from avssl.core.batch import BatchIndex, LossTerms
        >>> class Distance(Objective):
        ...     def forward(self, online, target, index):
        ...         return LossTerms((online.video - online.audio).square().mean())
        >>> row, clips = torch.arange(4), avssl.Embeddings(torch.ones(4, 8), torch.zeros(4, 8))
        >>> Distance()(clips, None, BatchIndex(row, row, row)).total
        tensor(1.)
    """

    needs: ObjectiveNeeds = ObjectiveNeeds()
    """Requirements of this instance on model, transform and task."""
    later_terms: ClassVar[tuple[str, ...]] = ()
    """Terms of the loss that the first epoch does not have."""

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        """Return the requirements of an instance with these options.

        Args:
            options: Keyword arguments of the class that the requirements depend on.
        """
        return cls.needs

    @abstractmethod
    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss of this rank's clips against the global batch.

        Args:
            online: Embeddings with gradient, V views of B clips.
            target: Embeddings of the momentum model, without gradient; None unless ``needs.target_momentum`` is set.
            index: The B clips.
        """

    def negatives_of(self, online: Embeddings) -> Tensor | None:
        """Return the (M, D) embeddings of silence and noise, or None if the objective needs none.

        Raises:
            ValueError: If there are not ``needs.negative_sounds`` of them.
        """
        expected = self.needs.negative_sounds
        if not expected:
            return None
        if online.negative_audio is None or len(online.negative_audio) != expected:
            found = "none" if online.negative_audio is None else len(online.negative_audio)
            raise InputError(
                f"{type(self).__name__}(negative_sounds={expected}) needs as many rows of "
                f"Embeddings.negative_audio, got {found}: give the transform "
                "negative_sounds=objective.needs.negative_sounds and the model the batch's negative_audio."
            )
        return online.negative_audio

    def check_views(self, online: Embeddings, index: BatchIndex) -> None:
        """Raise ValueError unless there are ``needs.num_views`` embeddings of each clip.

        An extra view would be a negative of the clip's own first view.
        """
        if len(online.video) != self.needs.num_views * len(index):
            views = "one view" if self.needs.num_views == 1 else f"{self.needs.num_views} views"
            raise InputError(
                f"{type(self).__name__} takes {views} of each clip, "
                f"got {len(online.video)} embeddings of {len(index)} clips."
            )

    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Move banks and queues by detached embeddings; called once after each optimizer step."""

    def on_epoch_start(self, number: int) -> None:
        """Prepare epoch ``number`` (from 0); not called again when a run resumes within an epoch."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Reject parameters.

        Raises:
            TypeError: If ``param`` is not None.
        """
        if param is not None:
            raise TypeError(
                f"{type(self).__name__}.{name}: an objective holds no parameters. Learn it in the model "
                "(a head or logit_scale), or use register_buffer if it is not learned."
            )
        super().register_parameter(name, param)
