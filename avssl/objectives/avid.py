"""AVID: audio-visual instance discrimination against a memory of every training clip.

Source: Morgado, Vasconcelos and Misra, CVPR 2021, https://arxiv.org/abs/2004.12943, section 3; the
noise-contrastive estimation is Wu et al., CVPR 2018, https://arxiv.org/abs/1805.01978, eqs. 5 to 8.

Dimensions: B clips on this rank, N rows of the memory, P positives, K negatives, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms, Modality
from avssl.core.distributed import mean
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, Seed, ShareBelowOne, Temperature, checked
from avssl.objectives.memory_bank import MemoryBank, MemoryDtype, MemoryRows
from avssl.objectives.negatives import NegativeSampler
from avssl.objectives.objective import Objective

Variant = Literal["cross", "self", "joint"]
ContrastLoss = Literal["softmax", "nce_frozen", "nce_running", "nce_batch"]
ScoresOfZ = Literal["all", "first"]

_MODALITIES: tuple[Modality, Modality] = ("video", "audio")


def nce_loss(positive_scores: Tensor, negative_scores: Tensor, z: float | Tensor) -> Tensor:
    """Return the noise-contrastive loss: binary classification of the data score against K noise scores.

    With ``h(s) = exp(s) / (exp(s) + K z)`` it is the mean over clips of the mean over positives of ``-log h(s)`` plus
    the sum over negatives of ``-log(1 - h(s))``. It is computed in logarithms, so that no score overflows.

    Args:
        positive_scores: ``(B, P)`` cosines over the temperature.
        negative_scores: ``(B, K)`` cosines over the temperature.
        z: The normalizing constant, > 0, a number or ``()`` tensor; in AVID the mean of ``exp(s)`` over negatives.

    Returns:
        ``()`` float32 (float64 for such scores), in nats; ``log(1 + K) + K log(1 + 1 / K)`` when every ``exp(s)`` is z.

    Raises:
        ValueError: If a shape is wrong, or a number ``z`` is not above 0.

    Example:
        >>> nce_loss(torch.zeros(8, 1), torch.zeros(8, 4), z=1.0)  # log(1 + 4) + 4 log(1 + 1 / 4)
        tensor(2.5020)
    """
    _check_scores(positive_scores, negative_scores)
    if not isinstance(z, Tensor):
        if not 0 < z < math.inf:
            raise InputError(f"z ({z}) must be a finite number above 0.")
        z = torch.tensor(z, dtype=torch.float64)
    positive, negative = (s if s.dtype == torch.float64 else s.float() for s in (positive_scores, negative_scores))
    log_kz = (z.double().log() + math.log(negative.shape[1])).to(positive)
    # -log(e^s / (e^s + Kz)) = softplus(log Kz - s), and -log(Kz / (e^s + Kz)) = softplus(s - log Kz).
    attract = F.softplus(log_kz - positive).mean(dim=1)
    repel = F.softplus(negative - log_kz).sum(dim=1)
    return (attract + repel).mean()


def sampled_softmax_loss(positive_scores: Tensor, negative_scores: Tensor) -> Tensor:
    """Return the mean cross-entropy of each positive against the negatives.

    Args:
        positive_scores: ``(B, P)`` cosines over the temperature.
        negative_scores: ``(B, K)`` cosines over the temperature.

    Returns:
        ``()`` float32 (float64 for such scores), in nats; ``log(1 + K)`` when all scores are equal.

    Raises:
        ValueError: If a shape is wrong.

    Example:
        >>> sampled_softmax_loss(torch.zeros(2, 1), torch.zeros(2, 7))  # log(1 + 7)
        tensor(2.0794)
    """
    _check_scores(positive_scores, negative_scores)
    positive, negative = (s if s.dtype == torch.float64 else s.float() for s in (positive_scores, negative_scores))
    # -log(e^p / (e^p + sum e^n)) = softplus(log sum e^n - p).
    return F.softplus(negative.logsumexp(dim=1, keepdim=True) - positive).mean()


@dataclass(frozen=True)
class Scores:
    """Scores of clips: cosines over the temperature."""

    positive: Tensor
    """(B, P)."""
    negative: Tensor
    """(B, K)."""


@checked
class AVID(Objective):
    """Instance discrimination against a memory of all training clips, across or within modalities.

    Positives and negatives are rows of the memory, never other embeddings of the batch. K negatives per clip are
    drawn from the rows of other files, the same for all of its terms.

    Args:
        rows: Rows of the memory, in the order of the manifest: ``MemoryRows.from_ids(ids)``.
        embedding_size: Embedding size, D.
        variant: Memory to contrast with: that of the other modality ("cross"), of the own one ("self"), or both
            ("joint").
        loss: Cross-entropy ("softmax"), or noise-contrastive estimation with the normalizer of the first batch
            ("nce_frozen", the paper's; fragile on small data), a running mean of it, or each batch's own.
        temperature: Softmax temperature, > 0.
        num_negatives: Memory rows of other files to contrast a clip with, drawn with replacement, >= 1.
        momentum: Share of its old value that a memory row keeps when its clip is used, in [0, 1).
        z_momentum: Momentum of the running normalizer, in [0, 1).
        z_scores: Scores that the normalizer is the mean of: those of every term, or of the first term alone ("first",
            the released program's): across modalities unless variant is "self". The two differ if there are several
            terms when it is set: with variant "joint", or where CMA begins without the normalizer of an AVID run. The
            paper's models, with variant "cross", have the same one either way.
        dtype: Number format of the memory; in fp32 a row of 128 features takes 1024 bytes.
        seed: Random seed of the initial memory.
        remap: Load the memory of another corpus: rows are matched by id, and new ids keep their random values.
            Otherwise such a memory is rejected.
        sharded: Divide the memory over the processes, for corpora whose memory no GPU holds; a step then fetches the
            rows that it needs from the others. The numbers are the same.

    Terms, means over this rank's rows: ``loss``; ``loss_cross`` and ``loss_self``; for each direction
    ("v2a" ...) ``accuracy_<direction>``, how often the clip's own row beats its K negatives;
    ``cosine_positive`` and ``cosine_negative``; ``z`` where there is one.

    Raises:
        ValueError: If an argument is out of range, or a file leaves no negatives.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> objective = AVID(MemoryRows.from_ids([f"{n}.mp4" for n in range(100)]), embedding_size=8, num_negatives=16)
        >>> row = torch.arange(4)
        >>> clips = avssl.Embeddings(objective.bank.audio[row], objective.bank.video[row])
        >>> terms = objective(clips, None, BatchIndex(row, row, row)).terms
        >>> round(terms["cosine_positive"].item(), 3)  # each clip is compared with its own embedding
        1.0
    """

    needs = ObjectiveNeeds(embedding_size=True, memory=True)

    z: Tensor
    """() float64: the normalizing constant; NaN until the first update."""

    def __init__(
        self,
        rows: MemoryRows,
        embedding_size: int,
        *,
        variant: Variant = "cross",
        loss: ContrastLoss = "softmax",
        temperature: Temperature = 0.07,
        num_negatives: Count = 1024,
        momentum: ShareBelowOne = 0.5,
        z_momentum: ShareBelowOne = 0.99,
        z_scores: ScoresOfZ = "all",
        dtype: MemoryDtype = "fp32",
        seed: Seed = 0,
        remap: bool = False,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        if variant not in get_args(Variant):
            raise InputError(f'variant ({variant!r}) must be "cross", "self" or "joint".')
        if loss not in get_args(ContrastLoss):
            raise InputError(f"loss ({loss!r}) must be one of {', '.join(get_args(ContrastLoss))}.")
        if z_scores not in get_args(ScoresOfZ):
            raise InputError(f'z_scores ({z_scores!r}) must be "all" or "first".')
        self.variant, self.loss, self.temperature = variant, loss, temperature
        self.num_negatives, self.z_momentum, self.z_scores = num_negatives, z_momentum, z_scores
        self.bank = MemoryBank(
            rows, embedding_size, momentum=momentum, dtype=dtype, seed=seed, remap=remap, sharded=sharded
        )
        self.negatives = NegativeSampler(rows.group)
        self.register_buffer("z", torch.tensor(math.nan, dtype=torch.float64))
        # On the host, so that reading it does not wait for the device.
        self._has_z = False
        self.register_load_state_dict_post_hook(_note_z)

    def extra_repr(self) -> str:
        return (
            f"variant={self.variant!r}, loss={self.loss!r}, temperature={self.temperature}, "
            f"num_negatives={self.num_negatives}"
        )

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or the embedding size is wrong.
        """
        contrasts = self._contrasts(online, index)
        z = self._current_z(contrasts)
        losses = {name: self._loss(scores, z) for name, scores in contrasts.items()}
        total = self._weighted(losses)
        terms = {"loss": total.detach(), **{f"loss_{name}": loss.detach() for name, loss in losses.items()}}
        return LossTerms(total, terms | self._statistics(contrasts) | ({} if z is None else {"z": z.float()}))

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Store z, then move the memory; every rank must call it."""
        if self.loss == "nce_running" or (self.loss == "nce_frozen" and not self._has_z):
            z = self._batch_z(self._contrasts(online, index))
            self.z.copy_(self.z.lerp(z, 1 - self.z_momentum) if self._has_z else z)
            self._has_z = True
        self.bank.update(online, index)

    def _contrasts(self, online: Embeddings, index: BatchIndex) -> dict[str, dict[str, Scores]]:
        """Return the scores of each term of the loss, by direction."""
        return self._instance_contrasts(online, index, self.negatives.draw(index, self.num_negatives))

    def _instance_contrasts(
        self, online: Embeddings, index: BatchIndex, negatives: Tensor
    ) -> dict[str, dict[str, Scores]]:
        rows = torch.cat([index.row[:, None], negatives], dim=1)
        names = ("cross", "self") if self.variant == "joint" else (self.variant,)
        return {name: self._score(online, index, name == "cross", rows, num_positives=1) for name in names}

    def _score(
        self, online: Embeddings, index: BatchIndex, across: bool, rows: Tensor, num_positives: int
    ) -> dict[str, Scores]:
        """Return the scores of both modalities with (B, P + K) memory rows of the other modality, or of their own."""
        scores = {}
        # Autocast would multiply in bfloat16: at temperature 0.07 its step of 2^-8 moves a score by 0.06.
        with torch.autocast(online.video.device.type, enabled=False):
            for embedding, own, other in zip(
                self.bank.unit(online, index), _MODALITIES, _MODALITIES[::-1], strict=True
            ):
                memory = other if across else own
                both = self.bank.cosines(embedding, memory, rows) / self.temperature
                scores[f"{own[0]}2{memory[0]}"] = Scores(both[:, :num_positives], both[:, num_positives:])
        return scores

    def _current_z(self, contrasts: Mapping[str, dict[str, Scores]]) -> Tensor | None:
        """Return the normalizer of the loss; before the first update the batch's, which that update will store."""
        if self.loss == "softmax":
            return None
        return self.z if self._has_z and self.loss != "nce_batch" else self._batch_z(contrasts)

    def _batch_z(self, contrasts: Mapping[str, dict[str, Scores]]) -> Tensor:
        """Return the mean of exp(score) over the negatives of the global batch, () float64."""
        terms = list(contrasts.values())[: 1 if self.z_scores == "first" else None]
        negatives = [scores.negative.detach().double() for term in terms for scores in term.values()]
        return mean(torch.cat([negative.flatten() for negative in negatives]).exp().mean())

    def _loss(self, directions: Mapping[str, Scores], z: Tensor | None) -> Tensor:
        """Return the mean loss of the two directions."""
        losses = [
            sampled_softmax_loss(scores.positive, scores.negative)
            if z is None
            else nce_loss(scores.positive, scores.negative, z)
            for scores in directions.values()
        ]
        return torch.stack(losses).mean()

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(losses.values())).mean()

    def _statistics(self, contrasts: Mapping[str, dict[str, Scores]]) -> dict[str, Tensor]:
        """Return () tensors on the device: reading them here would stall the GPU once per step."""
        numbers, positives, negatives = {}, [], []
        for direction, scores in next(iter(contrasts.values())).items():
            positive, negative = scores.positive.detach(), scores.negative.detach()
            numbers[f"accuracy_{direction}"] = (positive[:, 0] > negative.amax(dim=1)).float().mean()
            positives.append(positive.mean() * self.temperature)
            negatives.append(negative.mean() * self.temperature)
        return numbers | {
            "cosine_positive": torch.stack(positives).mean(),
            "cosine_negative": torch.stack(negatives).mean(),
        }


def _note_z(objective: AVID, _: object) -> None:
    objective._has_z = not bool(objective.z.isnan())


def _check_scores(positive: Tensor, negative: Tensor) -> None:
    if (
        positive.ndim != 2
        or negative.ndim != 2
        or len(positive) != len(negative)
        or 0 in (*positive.shape, *negative.shape)
    ):
        raise InputError(
            "positive_scores (B, P) and negative_scores (B, K) must be of the same B > 0 clips, P > 0 and K > 0, "
            f"got {tuple(positive.shape)} and {tuple(negative.shape)}."
        )
