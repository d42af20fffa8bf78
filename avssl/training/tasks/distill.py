"""Distillation: a student is trained on a teacher's output for clips with or without labels.

Source: Chen et al., 2020 (SimCLRv2), https://arxiv.org/abs/2006.10029, eq. 2 and 3, with temperature t and weight a::

    loss = a * sum_y -P_teacher(y | x; t) log P_student(y | x; t)  +  (1 - a) * -log P_student(label | x)
    P(y | x; t) = exp(logit_y / t) / sum_y' exp(logit_y' / t)

averaged over the clips of a batch; a clip without a label has no second term.

Dimensions: B clips, N rows of the manifest, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import Batch, LossTerms
from avssl.core.errors import InputError
from avssl.engine import Task
from avssl.models import Classifier
from avssl.transforms import ClipTransform


class DistillTask(Task):
    """Transform, student and teacher, which get the same augmented clips.

    The teacher is fixed: in evaluation mode, without gradient, and neither trained, moved to another device
    nor saved in checkpoints.

    Args:
        transform: Raw :class:`Batch` → :class:`Batch` of one view, without gradient.
        model: The student, a :class:`~avssl.models.Classifier`; each of its heads is trained separately.
        teacher: A classifier of the same K classes, on the device of the student.
        targets: (N,) int64 classes of the loader's rows, -1 without a label; None if no clip has one.
        temperature: t, > 0. Above 1 softens the teacher's output, below 1 sharpens it.
        teacher_weight: a in [0, 1]; below 1 ``targets`` are needed.
        multi_label: Use the binary cross-entropy of every class, mean over classes, and no labels.

    Raises:
        ValueError: If the classes differ in number, or a setting is out of range.
    """

    transform: ClipTransform
    model: Classifier
    target: Classifier
    targets: Tensor | None

    def __init__(
        self,
        transform: ClipTransform,
        model: Classifier,
        teacher: Classifier,
        targets: Tensor | None = None,
        *,
        temperature: float = 1.0,
        teacher_weight: float = 1.0,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        if not temperature > 0 or not 0 <= teacher_weight <= 1:
            raise InputError(
                f"temperature ({temperature}) must be > 0 and teacher_weight ({teacher_weight}) in [0, 1]."
            )
        if teacher_weight < 1 and (targets is None or multi_label):
            raise InputError(f"teacher_weight ({teacher_weight}) below 1 needs targets, one label a row.")
        self.transform, self.model = transform, model
        if teacher.num_classes != model.num_classes:
            raise InputError(f"the teacher has {teacher.num_classes} classes, the student {model.num_classes}.")
        # Set past nn.Module, which would train and save the teacher too.
        self.__dict__["target"] = teacher.eval().requires_grad_(False)
        self.register_buffer("targets", targets, persistent=False)
        self.temperature, self.teacher_weight, self.multi_label = temperature, teacher_weight, multi_label

    def forward(self, batch: Batch) -> LossTerms:
        """Return the loss of a raw batch of B clips, on the device of both models."""
        view: Batch = self.transform(batch)
        with torch.no_grad():
            teacher = self.target(view.video, view.audio).float()
        heads: tuple[Tensor, ...] = self.model(view.video, view.audio, each_head=True)
        distilled = torch.stack([self._distilled(logits.float(), teacher) for logits in heads]).mean()
        total, terms = self.teacher_weight * distilled, {"distillation": distilled.detach()}
        if self.teacher_weight < 1:
            assert self.targets is not None, "the constructor has seen to it"
            labels = self.targets[batch.index.row]
            each = [F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction="sum") for logits in heads]
            labeled = torch.stack(each).mean() / len(labels)
            total, terms["labeled"] = total + (1 - self.teacher_weight) * labeled, labeled.detach()
        student = torch.stack(heads).mean(dim=0)
        return LossTerms(total, terms | {"agreement": (student.argmax(1) == teacher.argmax(1)).float().mean()})

    def _distilled(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the () cross-entropy of the teacher's and the student's probabilities, both (B, K) logits."""
        student, teacher = student / self.temperature, teacher / self.temperature
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(student, teacher.sigmoid())
        return F.cross_entropy(student, teacher.softmax(dim=1))

    def networks(self) -> list[nn.Module]:
        """Return the student and the teacher."""
        return [self.model, self.target]

    def compilable(self) -> dict[Literal["model", "transforms"], list[nn.Module]]:
        """Return networks and transform."""
        return {"model": self.networks(), "transforms": [self.transform]}

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Set the format of augmented frames."""
        self.transform.set_output(dtype, memory_format)
