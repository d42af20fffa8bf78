"""DINO across modalities: the video's share of each prototype is predicted from its audio, and vice versa.

Source: Caron et al., ICCV 2021, https://arxiv.org/abs/2104.14294, eq. 1 and algorithm 1, with video and audio in the
place of global views. The last layer of the head, whose weights have unit length, are the model's prototypes. There
are no negatives: the scores of the slower teacher are centered, so that no prototype takes all clips, and sharpened by
a low temperature, so that no clip has the same share of all.

Dimensions: B clips on this rank, K prototypes, V full views and L local views of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core import distributed
from avssl.core.batch import BatchIndex, Embeddings, LossTerms, Modality
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, CountOrZero, PositiveOrZero, Share, Temperature, checked
from avssl.objectives.objective import Objective
from avssl.objectives.pairs import views_needed
from avssl.objectives.prototypes import local_scores, prototype_scores

_MODALITIES: tuple[Modality, Modality] = ("video", "audio")


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, student_temperature: Temperature, teacher_temperature: Temperature
) -> Tensor:
    """Return the cross-entropy of the student's softmax with the teacher's centered and sharpened one, in nats.

    Args:
        student: ``(B, K)`` scores.
        teacher: ``(B, K)`` scores of the same clips in the same order. Their gradient is not stopped here.
        center: ``(K,)``, subtracted from the teacher's scores.
        student_temperature: Softmax temperature, > 0; 0.1 in the paper.
        teacher_temperature: Softmax temperature of the teacher, > 0; lower than the student's, 0.04 to 0.07 in the
            paper.

    Returns:
        ``()`` float32, also under autocast: the mean over this rank's rows.

    Raises:
        ValueError: If the shapes do not agree, or a temperature is not above 0.

    Example:
        >>> scores = torch.zeros(8, 64)
        >>> dino_loss(scores, scores, torch.zeros(64), student_temperature=0.1, teacher_temperature=0.04)  # log 64
        tensor(4.1589)
    """
    if student.ndim != 2 or student.shape != teacher.shape or center.shape != student.shape[1:] or len(student) == 0:
        raise InputError(
            "student (B, K), teacher (B, K) and center (K,) must have the same B > 0 and K, "
            f"got {tuple(student.shape)}, {tuple(teacher.shape)} and {tuple(center.shape)}."
        )
    for name, value in (("student_temperature", student_temperature), ("teacher_temperature", teacher_temperature)):
        if not value > 0:
            raise InputError(f"{name} ({value}) must be above 0.")
    with torch.autocast(student.device.type, enabled=False):
        shares = F.softmax((teacher.float() - center.float()) / teacher_temperature, dim=1)
        return _cross_entropy(shares, F.log_softmax(student.float() / student_temperature, dim=1))


@checked
class DINO(Objective):
    """:func:`dino_loss` of every student view of one modality and every teacher view of the other.

    The teacher sees the full views, and its momentum rises over the run. Each modality has its own center, an average
    of the teacher's scores of all ranks that :meth:`update` moves.

    Args:
        prototypes: Prototypes that the embeddings are compared with, K.
        student_temperature: Softmax temperature of the student, > 0.
        teacher_temperature: Softmax temperature of the teacher, > 0; lower than the student's.
        center_momentum: Share of itself that a center keeps in a step, in [0, 1].
        momentum: Share of itself that the teacher keeps in a step at the start of the run, in [0, 1]; use less for
            short runs.
        final_momentum: That share at the end of the run, reached along half a cosine.
        shared_prototypes: Both modalities are compared with the same prototypes, so that their embeddings share one
            space; retrieval and localization need that.
        within_modal: Weight of the loss between two views of the video and of the audio; above 0 each clip is augmented
            twice.
        local_views: Small views of each clip that only the student sees; the group ``local_views`` says how small.

    Terms, means over this rank's rows: ``loss``; ``entropy``, that of the teacher's softmax in nats; ``divergence``,
    the cross-modal loss minus that entropy, which is 0 if teacher and student agree. Two views add ``loss_cross`` and
    ``loss_within``.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, ones = torch.arange(4), torch.ones(4, 2)
        >>> scores = torch.zeros(4, 1, 8)  # no prototype is nearer than another
        >>> clips = avssl.Embeddings(ones, ones, video_scores=scores, audio_scores=scores)
        >>> DINO(prototypes=8)(clips, clips, BatchIndex(row, row, row)).total  # log 8
        tensor(2.0794)
    """

    video_center: Tensor
    audio_center: Tensor

    def __init__(
        self,
        prototypes: Count = 4096,
        student_temperature: Temperature = 0.1,
        teacher_temperature: Temperature = 0.04,
        center_momentum: Share = 0.9,
        momentum: Share = 0.99,
        final_momentum: Share = 1.0,
        *,
        shared_prototypes: bool = True,
        within_modal: PositiveOrZero = 0.0,
        local_views: CountOrZero = 0,
    ) -> None:
        super().__init__()
        self.temperatures = student_temperature, teacher_temperature
        self.center_momentum, self.within_modal = center_momentum, within_modal
        self.needs = self.needs_of(
            {
                "prototypes": prototypes,
                "momentum": momentum,
                "final_momentum": final_momentum,
                "shared_prototypes": shared_prototypes,
                "within_modal": within_modal,
                "local_views": local_views,
            }
        )
        self.register_buffer("video_center", torch.zeros(prototypes))
        self.register_buffer("audio_center", torch.zeros(prototypes))

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        if options["prototypes"] < 2:
            raise InputError(f"prototypes ({options['prototypes']}) must be at least 2: one has a share of 1 always.")
        return ObjectiveNeeds(
            num_views=views_needed(options["within_modal"]),
            local_views=options["local_views"],
            prototypes=options["prototypes"],
            shared_prototypes=options["shared_prototypes"],
            target_momentum=options["momentum"],
            final_momentum=options["final_momentum"],
        )

    def extra_repr(self) -> str:
        return f"prototypes={self.needs.prototypes}, temperatures={self.temperatures}"

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms.

        Raises:
            ValueError: If there is no target, scores or local views are missing, or the number of views is wrong.
        """
        self.check_views(online, index)
        teacher_video, teacher_audio = self._teacher(target)
        student_video, student_audio = self._students(online, index)
        with torch.autocast(online.video.device.type, enabled=False):
            video = self._shares(teacher_video, self.video_center).split(len(index))
            audio = self._shares(teacher_audio, self.audio_center).split(len(index))
            cross = (_every_pair(student_video, audio) + _every_pair(student_audio, video)) / 2
            entropy = _entropy(torch.cat([*video, *audio]))
            terms = {"loss": cross.detach(), "entropy": entropy, "divergence": cross.detach() - entropy}
            if not self.within_modal:
                return LossTerms(cross, terms)
            within = (_every_other(student_video, video) + _every_other(student_audio, audio)) / 2
        total = cross + self.within_modal * within
        parts = {"loss": total.detach(), "loss_cross": cross.detach(), "loss_within": within.detach()}
        return LossTerms(total, {**terms, **parts})

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Move the centers by the teacher's scores of all ranks."""
        means = distributed.mean(torch.stack([scores.mean(dim=0) for scores in self._teacher(target)]))
        for center, new in zip((self.video_center, self.audio_center), means, strict=True):
            center.lerp_(new, 1 - self.center_momentum)

    def _teacher(self, target: Embeddings | None) -> tuple[Tensor, Tensor]:
        """Return the (V*B, K) float32 scores of the teacher."""
        if target is None:
            raise InputError("DINO needs the embeddings of a momentum model; PretrainTask makes one.")
        video, audio = self._scores(target)
        return video.detach(), audio.detach()

    def _students(self, online: Embeddings, index: BatchIndex) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the (B, K) log-softmax of each view of the student, the local ones last."""
        needs = self.needs
        video, audio = (
            torch.cat(
                [
                    full,
                    local_scores(online, name, len(index), needs.local_views, needs.prototypes, "DINO").flatten(0, 1),
                ]
            )
            for full, name in zip(self._scores(online), _MODALITIES, strict=True)
        )
        first, second = (F.log_softmax(x.float() / self.temperatures[0], dim=1) for x in (video, audio))
        return first.split(len(index)), second.split(len(index))

    def _scores(self, embeddings: Embeddings) -> tuple[Tensor, Tensor]:
        """Return the (N, K) float32 scores of video and audio."""
        video, audio = (prototype_scores(embeddings, name, 1, self.needs.prototypes, "DINO") for name in _MODALITIES)
        return video[:, 0].float(), audio[:, 0].float()

    def _shares(self, scores: Tensor, center: Tensor) -> Tensor:
        return F.softmax((scores - center) / self.temperatures[1], dim=1)


def _cross_entropy(shares: Tensor, log_shares: Tensor) -> Tensor:
    return -(shares * log_shares).sum(dim=1).mean()


def _entropy(shares: Tensor) -> Tensor:
    return -torch.xlogy(shares, shares).sum(dim=1).mean()


def _every_pair(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Return the mean cross-entropy over all pairs of a student and a teacher view."""
    return torch.stack([_cross_entropy(teacher, student) for student in students for teacher in teachers]).mean()


def _every_other(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Return the mean cross-entropy over pairs of a student and a teacher view that are not the same view."""
    pairs = [(s, t) for i, s in enumerate(students) for j, t in enumerate(teachers) if i != j]
    return torch.stack([_cross_entropy(teacher, student) for student, teacher in pairs]).mean()
