"""LeJEPA's objective across modalities: video and audio agree, and embeddings are distributed as a normal distribution.

Source: Balestriero and LeCun, 2025 (LeJEPA), https://arxiv.org/abs/2511.08544, section 4: SIGReg, Sketched Isotropic
Gaussian Regularization. Random directions turn the embeddings into numbers, and the test of Epps and Pulley compares
the empirical characteristic function of those with that of N(0, 1). It is linear in batch, dimensions and directions,
and needs neither negatives nor a second network. Video and audio take the place of the paper's views.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size, M directions, K knots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together, world_size
from avssl.core.draws import normal
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, PositiveOrZero, ShareBelowOne, checked
from avssl.objectives.objective import Objective
from avssl.objectives.pairs import check_statistics, cross_and_within, views_needed
from avssl.objectives.scores import check_pair

Knots = Literal["symmetric", "folded"]
"""Knots of the integral over the frequency t: 17 in [-5, 5], as in the paper, or 17 in [0, 3] counted twice."""
_NUM_KNOTS = 17


def sigreg(embeddings: Tensor, directions: Tensor, knots: Knots = "symmetric") -> Tensor:
    """Return the statistic of Epps and Pulley for N(0, 1), averaged over directions.

    It is N times the integral of ``|ecf(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2)`` over t by the trapezoidal rule, where
    ``ecf`` is the empirical characteristic function of the projections.

    Args:
        embeddings: ``(B, D)``; their scale counts.
        directions: ``(D, M)`` columns of unit length, equal on every rank; used as they are.
        knots: "symmetric": 17 knots in [-5, 5]. "folded": 17 knots in [0, 3] whose integral counts twice, because the
            integrand is even; the form of the paper's package.

    Returns:
        ``()`` float32, also under autocast: the statistic of the global batch, equal on every rank. Gradients, after
        DDP averages them over ranks, equal those of one process that sees the whole batch.

    Raises:
        ValueError: If the shapes do not agree or ``knots`` is unknown.

    Example:
        >>> directions = torch.nn.functional.normalize(torch.randn(16, 256), dim=0)
        >>> sigreg(torch.zeros(64, 16), directions) > sigreg(torch.randn(64, 16), directions)  # not normal, normal
        tensor(True)
    """
    return _sigreg([embeddings], directions, knots)[0]


def _sigreg(sides: Sequence[Tensor], directions: Tensor, knots: str) -> list[Tensor]:
    """Return :func:`sigreg` of each of several embeddings, by one exchange."""
    for embeddings in sides:
        _check(embeddings, directions)
    if knots not in get_args(Knots):
        raise InputError(f'knots ({knots!r}) must be "symmetric" or "folded".')
    low, high, factor = (-5.0, 5.0, 1.0) if knots == "symmetric" else (0.0, 3.0, 2.0)
    with torch.autocast(directions.device.type, enabled=False):
        t = torch.linspace(low, high, _NUM_KNOTS, device=directions.device)
        parts = [_parts(embeddings, directions, t)[None] for embeddings in sides]
        found = []
        # The mean over ranks of the parts is that of the global batch: a rank's embeddings need not be gathered.
        for embeddings, everyone in zip(sides, gather_together(*parts), strict=True):
            real, imaginary = everyone.mean(dim=0)
            normal_one = torch.exp(-t.square() / 2)
            distance = ((real - normal_one).square() + imaginary.square()) * normal_one  # (M, K)
            num_clips = len(embeddings) * world_size()
            found.append(factor * num_clips * torch.trapezoid(distance, t, dim=1).mean())
    return found


def _parts(embeddings: Tensor, directions: Tensor, t: Tensor) -> Tensor:
    """Return the (2, M, K) real and imaginary part of the characteristic function of this rank's clips."""
    angles = (embeddings.float() @ directions.float())[..., None] * t  # (B, M, K)
    return torch.stack([angles.cos().mean(dim=0), angles.sin().mean(dim=0)])


def _check(embeddings: Tensor, directions: Tensor) -> None:
    if embeddings.ndim != 2 or len(embeddings) == 0 or directions.ndim != 2 or len(directions) != embeddings.shape[1]:
        raise InputError(
            "embeddings (B, D) with B > 0 and directions (D, M) must have the same D, "
            f"got {tuple(embeddings.shape)} and {tuple(directions.shape)}."
        )


@checked
class SigReg(Objective):
    """Squared distance of video and audio from their mean, with :func:`sigreg` of both.

    ``loss = (1 - regularization) * loss_prediction + regularization * loss_sigreg``. The directions are random and new
    in each step; they depend only on the number of the step, so that all ranks and a resumed run have the same.

    Args:
        regularization: Weight of the distribution of the embeddings against the agreement of video and audio, in
            [0, 1); 0.05 in the paper.
        num_directions: Random directions of each step.
        knots: Knots of the integral: "symmetric", 17 in [-5, 5], or "folded", 17 in [0, 3] counted twice.
        within_modal: Weight of the loss between two views of the video and of the audio; above 0 each clip is augmented
            twice.

    Terms: ``loss``; ``loss_prediction``, the mean squared distance from the mean of both, over this rank's rows;
    ``loss_sigreg``, the mean statistic of both, of the global batch. Two views add ``loss_cross`` and ``loss_within``;
    the other terms are then the cross-modal ones.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, opposite = torch.arange(4), avssl.Embeddings(torch.ones(4, 8), -torch.ones(4, 8))
        >>> SigReg()(opposite, None, BatchIndex(row, row, row)).terms["loss_prediction"]  # both are 1 from the mean
        tensor(1.)
    """

    step: Tensor

    def __init__(
        self,
        regularization: ShareBelowOne = 0.05,
        num_directions: Count = 256,
        knots: Knots = "symmetric",
        within_modal: PositiveOrZero = 0.0,
    ) -> None:
        super().__init__()
        if knots not in get_args(Knots):
            raise InputError(f'knots ({knots!r}) must be "symmetric" or "folded".')
        self.regularization, self.num_directions, self.knots = regularization, num_directions, knots
        self.within_modal = within_modal
        self.needs = self.needs_of({"within_modal": within_modal})
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(num_views=views_needed(options["within_modal"]))

    def extra_repr(self) -> str:
        return f"regularization={self.regularization}, num_directions={self.num_directions}, knots={self.knots!r}"

    def directions(self, embedding_size: int) -> Tensor:
        """Return the (D, M) float32 unit vectors of this step, drawn on the device of the buffers."""
        # One draw of a pure function of the step: nothing is read by the host, and no generator has a state.
        drawn = normal(self.step[None], "sigreg directions", embedding_size * self.num_directions)
        return F.normalize(drawn.view(embedding_size, self.num_directions), dim=0).float()

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If the number of views is wrong, or there is one clip over all ranks.
        """
        self.check_views(online, index)
        directions = self.directions(online.video.shape[1])
        video, audio = online.video.split(len(index)), online.audio.split(len(index))
        return cross_and_within(video, audio, self.within_modal, lambda x, y: self._pair(x, y, directions))

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Count the step, so that the next one has other directions."""
        self.step += 1

    def _pair(self, video: Tensor, audio: Tensor, directions: Tensor) -> LossTerms:
        check_pair(video, audio)
        check_statistics(len(video) * world_size())
        prediction = (video.float() - audio.float()).square().mean() / 4  # each is half the difference from the mean
        of_video, of_audio = _sigreg([video, audio], directions, self.knots)
        statistic = (of_video + of_audio) / 2
        total = (1 - self.regularization) * prediction + self.regularization * statistic
        parts = {"loss_prediction": prediction.detach(), "loss_sigreg": statistic.detach()}
        return LossTerms(total, {"loss": total.detach(), **parts})
