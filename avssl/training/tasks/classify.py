"""Classification of labeled clips: raw batch → one augmented view → logits → loss, as one module that the loop calls.

Dimensions: B clips, N rows of the manifest, K classes.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core import distributed
from avssl.core.batch import Batch, LossTerms
from avssl.core.errors import InputError
from avssl.engine import Task
from avssl.models import Classifier
from avssl.models.batch_norm import hold_statistics
from avssl.training.tasks.mixup import Mixup, mix
from avssl.transforms import ClipTransform


class ClassifyTask(Task):
    """Transform, classifier and the labels of every row.

    Single-label: the classifier's loss, mean over the batch weighted by the classes' weights as in
    ``torch.nn.CrossEntropyLoss``, over all ranks together. Multi-label: binary cross-entropy, mean over
    clips and classes. The loss of a classifier with several heads is the mean of theirs.

    Args:
        transform: Raw :class:`Batch` → :class:`Batch` of one view, without gradient.
        model: A :class:`~avssl.models.Classifier`; ``model(video, audio, each_head=True)`` gives logits.
        targets: (N,) int64 classes, or (N, K) bool if a clip may have several, in the order of the loader's
            manifest. Not saved in checkpoints.
        label_smoothing: Share of the target spread over all classes, in [0, 1); multi-label targets become
            ``label_smoothing / 2`` and 1 minus that.
        class_weights: (K,) weights of single-label classes; None for equal weights.
        mixup_alpha: Strength of :class:`~avssl.training.tasks.mixup.Mixup`; 0 for none.
        frozen_batch_norm: Keep the statistics of BatchNorm fixed in training.

    Raises:
        ValueError: If a target is not a class, or the settings do not fit the targets.
    """

    transform: ClipTransform
    model: Classifier
    targets: Tensor
    class_weights: Tensor | None

    def __init__(
        self,
        transform: ClipTransform,
        model: Classifier,
        targets: Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        mixup_alpha: float = 0.0,
        frozen_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.transform, self.model = transform, model
        _check_targets(targets, self.model.num_classes)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing ({label_smoothing}) must be in [0, 1).")
        if class_weights is not None and (targets.ndim == 2 or len(class_weights) != self.model.num_classes):
            raise InputError(
                f"class_weights are one of each of {self.model.num_classes} single-label classes, got "
                f"{tuple(class_weights.shape)} for targets {tuple(targets.shape)}."
            )
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.label_smoothing = label_smoothing
        self.mixup = Mixup(mixup_alpha) if mixup_alpha else None
        self.frozen_batch_norm = frozen_batch_norm

    def forward(self, batch: Batch) -> LossTerms:
        """Return the loss of a raw batch of B clips, on the device of the model."""
        view: Batch = self.transform(batch)
        video, audio, targets = view.video, view.audio, self.targets[batch.index.row]
        parts = [(targets, torch.ones(len(batch), device=video.device))]
        if self.mixup is not None:
            share, partner = self.mixup(batch.index.key)
            video, audio = (mix(values, share, partner) for values in (video, audio))
            parts = [(targets, share), (targets[partner], 1 - share)]
        heads: tuple[Tensor, ...] = self.model(video, audio, each_head=True)
        losses = [self._loss(logits.float(), parts) for logits in heads]
        chosen = torch.stack(heads).mean(dim=0).argmax(dim=1)
        accuracy = sum((share * _is_hit(chosen, target)).mean() for target, share in parts)
        return LossTerms(torch.stack(losses).mean(), {"accuracy": torch.as_tensor(accuracy).detach()})

    def _loss(self, logits: Tensor, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the () loss of (B, K) logits; ``parts`` are targets and their (B,) shares of each clip."""
        if parts[0][0].ndim == 2:
            target = sum(share[:, None] * target.float() for target, share in parts)
            smooth = torch.as_tensor(target) * (1 - self.label_smoothing) + self.label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, smooth)
        loss, weight = logits.new_zeros(()), logits.new_zeros(())
        for target, share in parts:
            each = self.model.loss.per_clip(logits, target, self.class_weights, self.label_smoothing)
            loss = loss + (share * each).sum()
            weight = weight + (share if self.class_weights is None else share * self.class_weights[target]).sum()
        return loss / distributed.mean(weight)

    def compilable(self) -> dict[Literal["model", "transforms"], list[nn.Module]]:
        """Return networks and transform."""
        return {"model": self.networks(), "transforms": [self.transform]}

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Set the format of augmented frames."""
        self.transform.set_output(dtype, memory_format)

    def train(self, mode: bool = True) -> Self:
        """Set the mode as PyTorch does, but keep fixed BatchNorm layers in evaluation mode."""
        super().train(mode)
        if self.frozen_batch_norm:
            hold_statistics(self.model)
        return self


def balanced_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Return (K,) float32 weights ``N / (K * N_c)``: equal total weight per class, mean weight 1 per clip.

    Source: King and Zeng, 2001, Logistic Regression in Rare Events Data; scikit-learn's "balanced".

    Args:
        targets: (N,) int64 classes of the training clips.
        num_classes: K.

    Raises:
        ValueError: If a class has no clip.
    """
    counts = torch.bincount(targets, minlength=num_classes)
    if len(empty := torch.nonzero(counts == 0)):
        raise InputError(f"balanced class weights need a training clip of every class; class {int(empty[0])} has none.")
    return len(targets) / (num_classes * counts.float())


def _check_targets(targets: Tensor, num_classes: int) -> None:
    if targets.ndim == 2:
        fits = targets.dtype == torch.bool and targets.shape[1] == num_classes
    else:
        fits = targets.ndim == 1 and targets.dtype == torch.int64
        fits = fits and (not len(targets) or (int(targets.min()) >= 0 and int(targets.max()) < num_classes))
    if not fits:
        raise InputError(
            f"targets must be (N,) int64 in [0, {num_classes}) or (N, {num_classes}) bool, "
            f"got {tuple(targets.shape)} {targets.dtype}."
        )


def _is_hit(chosen: Tensor, target: Tensor) -> Tensor:
    """Return (B,) float, 1 where the highest class (B,) is the target or one of the targets."""
    hit = chosen == target if target.ndim == 1 else target.gather(1, chosen[:, None])[:, 0]
    return hit.float()
