"""Predictions of a model about a batch: for augmented clips, and of patches; and what they are made from.

Dimensions: B clips, T frames, h and w pixels, D embedding size, L patches of a clip, P numbers of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from avssl.core.errors import InputError


@dataclass(frozen=True)
class Originals:
    """Clips without augmentation beside the numbers that describe the augmentation of their first view."""

    video: Tensor
    """(B, 3, T, h, w) float frames as in evaluation."""
    audio: Tensor
    """(B, 1, time, freq) float spectrograms as in evaluation."""
    video_draws: Tensor
    """(B, P) float32 numbers of the augmentation of the frames."""
    audio_draws: Tensor
    """(B, Q) float32 numbers of the augmentation of the audio."""

    def __post_init__(self) -> None:
        sizes = {len(x) for x in (self.video, self.audio, self.video_draws, self.audio_draws)}
        if len(sizes) != 1:
            raise InputError(f"originals: one row of each clip, got {sizes} rows.")


@dataclass(frozen=True)
class AugmentedPair:
    """Predicted and true embeddings of the first, augmented view of B clips, not normalized."""

    predicted: Tensor
    """(B, D), from the clip without augmentation and the numbers of its augmentation."""
    true: Tensor
    """(B, D)."""

    def detach(self) -> AugmentedPair:
        """Return the same values without gradient."""
        return AugmentedPair(self.predicted.detach(), self.true.detach())


@dataclass(frozen=True)
class Patches:
    """Patches of one modality of B clips: L of a clip, with P numbers each."""

    values: Tensor | None = None
    """(B, L, P) float32 targets: pixels, or latents of the momentum model; None where only it has them."""
    hidden: Tensor | None = None
    """(B, L) bool: patches that the encoder skipped; None if it saw all."""
    from_both: Tensor | None = None
    """(B, L, P) predicted from the visible patches of both modalities."""
    from_other: Tensor | None = None
    """(B, L, P) predicted from the visible patches of the other modality."""
    from_own: Tensor | None = None
    """(B, L, P) predicted from the visible patches of this modality."""

    def __post_init__(self) -> None:
        shapes = {
            tuple(x.shape) for x in (self.values, self.from_both, self.from_other, self.from_own) if x is not None
        }
        fits = len(shapes) == 1 and len(shape := min(shapes)) == 3
        if not fits or (self.hidden is not None and tuple(self.hidden.shape) != shape[:2]):
            raise InputError(
                f"patches and their predictions must be (B, L, P) and hidden (B, L), got {sorted(shapes)} and "
                f"{None if self.hidden is None else tuple(self.hidden.shape)}."
            )

    def detach(self) -> Patches:
        """Return the same values without gradient."""
        return Patches(**{name: value.detach() for name, value in vars(self).items() if value is not None})
