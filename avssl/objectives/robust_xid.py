"""Robust-xID: instance discrimination with faulty positives and faulty negatives.

Source: Morgado, Misra and Vasconcelos, CVPR 2021, https://arxiv.org/abs/2103.15916. A pair whose
video and audio do not belong together gets a low weight (section 4.1), and instances that resemble
the anchor are no longer entirely negative: the targets become soft (section 4.2).

Dimensions: B clips on this rank, N instances, K negatives, D embedding size. v and a are unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms, Modality
from avssl.core.distributed import mean
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, CountOrZero, Positive, Seed, Share, ShareBelowOne, Signed, Temperature, checked
from avssl.objectives.memory_bank import MemoryBank, MemoryDtype, MemoryRows
from avssl.objectives.negatives import NegativeSampler
from avssl.objectives.objective import Objective

SoftTargets = Literal["bootstrapping", "swapped", "neighbor", "cycle"]

_MODALITIES: tuple[Modality, Modality] = ("video", "audio")


def instance_weights(scores: Tensor, delta: float, kappa: float, w_min: float) -> Tensor:
    """Return instance weights that grow with the agreement of an instance's own video and audio.

    ``(1 - w_min) Phi((s - (mu + delta sigma)) / (sqrt(kappa) sigma)) + w_min``, with the mean mu and the
    population standard deviation sigma of the scores, and Phi the normal distribution function.

    Args:
        scores: ``(N,)`` cosines of the video and the audio feature of each instance.
        delta: Shift of the threshold, in standard deviations.
        kappa: Softness of the threshold, > 0: the variance of Phi in units of that of the scores.
        w_min: The lowest weight, in [0, 1].

    Returns:
        ``(N,)`` float32 (float64 for such scores) in [w_min, 1]. If all scores are equal, each is at the mean.

    Raises:
        ValueError: If ``scores`` is not (N,) with N > 0, or an argument is out of range.

    Example:
        >>> instance_weights(torch.tensor([-1.0, 1.0]), delta=0.0, kappa=1.0, w_min=0.0)  # Phi(-1) and Phi(1)
        tensor([0.1587, 0.8413])
    """
    if scores.ndim != 1 or len(scores) == 0:
        raise InputError(f"scores must be (N,) with N > 0, got {tuple(scores.shape)}.")
    if not kappa > 0:
        raise InputError(f"kappa ({kappa}) must be above 0; 0.5 is usual.")
    if not 0 <= w_min <= 1:
        raise InputError(f"w_min ({w_min}) must be in [0, 1]; 0.25 is usual.")
    exact = scores.double()
    centered = exact - exact.mean()
    sigma = centered.square().mean().sqrt()
    # A spread below the resolution of float32 cosines is a rounding error.
    standard = torch.where(sigma > 1e-7, centered / sigma, 0.0)
    weights = (1 - w_min) * torch.special.ndtr((standard - delta) / math.sqrt(kappa)) + w_min
    return weights if scores.dtype == torch.float64 else weights.float()


def soft_targets(
    video: Tensor, audio: Tensor, kind: SoftTargets, tau_s: Temperature, tau_t: Temperature
) -> tuple[Tensor, Tensor]:
    """Return soft targets: how much instance j counts as a positive of instance i, for anchors of either modality.

    Row i of S_v is the softmax over j of

    - "bootstrapping": ``v_i a_j / tau_s``;
    - "swapped": ``a_i v_j / tau_s``;
    - "neighbor": ``v_i v_j / tau_s``;
    - "cycle": ``v_i a_i / tau_t + a_i v_j / tau_s + v_j a_j / tau_t``;

    and S_a is the same with v and a exchanged. In "cycle", the last term excludes instances that are
    themselves bad pairs.

    Args:
        video: ``(N, D)`` features of any scale; normalized here.
        audio: ``(N, D)`` features of the same instances in the same order.
        kind: As above.
        tau_s: Temperature across instances, > 0.
        tau_t: Temperature within an instance, > 0; only used by "cycle".

    Returns:
        S_v (targets over audio for a video anchor) and S_a, both ``(N, N)`` with rows that sum to 1.

    Raises:
        ValueError: If the shapes differ, or an argument is out of range.

    Example:
        >>> of_video, of_audio = soft_targets(torch.eye(2), torch.eye(2), "bootstrapping", tau_s=1.0, tau_t=1.0)
        >>> of_video[0]  # the softmax of 1 and 0
        tensor([0.7311, 0.2689])
    """
    if video.ndim != 2 or video.shape != audio.shape or len(video) == 0:
        raise InputError(
            "video and audio must hold the same instances in the same order, both (N, D) with N > 0, "
            f"got video {tuple(video.shape)} and audio {tuple(audio.shape)}."
        )
    _check_soft_targets(kind, tau_s, tau_t)
    video, audio = (F.normalize(x if x.dtype == torch.float64 else x.float(), dim=1) for x in (video, audio))
    with torch.autocast(video.device.type, enabled=False):
        everyone = torch.stack([video, audio])[:, None]  # (2, 1, N, D): the same candidates for all anchors
        both = (
            _soft_logits(anchor, other, candidates[0], candidates[1], kind, tau_s, tau_t).softmax(dim=1)
            for anchor, other, candidates in ((video, audio, everyone), (audio, video, everyone.flip(0)))
        )
        s_v, s_a = both
    return s_v, s_a


@checked
class RobustXID(Objective):
    """Cross-modal instance discrimination with weighted instances and soft targets.

    A clip is discriminated from K rows of other files in the memory of the other modality, by softmax. After
    warm-up the loss of a clip has the weight of its instance, and its targets are ``(1 - soft_weight)`` of its own
    row plus ``soft_weight`` of the soft targets, which are computed from the memory over the same 1 + K rows.

    Args:
        rows: Rows of the memory, in the order of the manifest: ``MemoryRows.from_ids(ids)``.
        embedding_size: Embedding size, D.
        targets: Soft targets; see :func:`soft_targets`. "none" keeps hard targets.
        soft_weight: Share of the soft targets, in [0, 1]; the rest is the clip's own row.
        tau_s: Temperature across clips in the soft targets, > 0.
        tau_t: Temperature within a clip in the soft targets, > 0.
        weighted: Give clips whose video and audio disagree a lower weight.
        delta: Shift of the weights' threshold from the mean agreement, in standard deviations.
        kappa: Softness of that threshold, > 0.
        w_min: The lowest weight, in [0, 1].
        warmup_epochs: Epochs of plain instance discrimination, in which weights and targets would mean nothing yet; at
            least 1, or 0 if the run starts from another run (train.init_from).
        temperature: Softmax temperature, > 0.
        num_negatives: Memory rows of other files to contrast a clip with, drawn with replacement, >= 1.
        momentum: Share of its old value that a memory row keeps when its clip is used, in [0, 1).
        dtype: Number format of the memory; in fp32 a row of 128 features takes 1024 bytes.
        seed: Random seed of the initial memory.
        remap: Load the memory of another corpus: rows are matched by id, and new ids keep their random values.
            Otherwise such a memory is rejected.
        sharded: Divide the memory over the processes, for corpora whose memory no GPU holds; a step then fetches the
            rows that it needs from the others. The numbers are the same.

    Terms, means over this rank's rows: ``loss``, the weighted mean over clips of the mean of the two
    directions; ``accuracy_v2a`` and ``accuracy_a2v``, how often the clip's own row beats its negatives;
    ``cosine_positive`` and ``cosine_negative``; ``weight``, the mean weight.

    Raises:
        ValueError: If an argument is out of range, or a file leaves no negatives.

    Example:
        >>> rows = MemoryRows.from_ids([f"{n}.mp4" for n in range(100)])
        >>> objective = RobustXID(rows, embedding_size=8, w_min=0.25, warmup_epochs=1)
        >>> objective.on_epoch_start(1)  # weighs the rows by the agreement of their video and audio
        >>> bool(objective.weights.min() >= 0.25), bool(objective.weights.max() <= 1)
        (True, True)
    """

    needs = ObjectiveNeeds(embedding_size=True, memory=True)

    weights: Tensor
    """(N,) float32 weight of each instance at the start of the epoch; 1 during warm-up."""
    is_warm: Tensor
    """() bool, True after warm-up."""

    def __init__(
        self,
        rows: MemoryRows,
        embedding_size: int,
        *,
        targets: Literal["none", "bootstrapping", "swapped", "neighbor", "cycle"] = "cycle",
        soft_weight: Share = 0.5,
        tau_s: Temperature = 0.02,
        tau_t: Temperature = 0.07,
        weighted: bool = True,
        delta: Signed = 0.0,
        kappa: Positive = 0.5,
        w_min: Share = 0.25,
        warmup_epochs: CountOrZero = 5,
        temperature: Temperature = 0.07,
        num_negatives: Count = 1024,
        momentum: ShareBelowOne = 0.5,
        dtype: MemoryDtype = "fp32",
        seed: Seed = 0,
        remap: bool = False,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        if targets != "none":
            _check_soft_targets(targets, tau_s, tau_t)
        instance_weights(torch.zeros(1), delta, kappa, w_min)  # checks the options
        self.targets, self.soft_weight, self.tau_s, self.tau_t = targets, soft_weight, tau_s, tau_t
        self.weighted, self.delta, self.kappa, self.w_min = weighted, delta, kappa, w_min
        self.warmup_epochs, self.temperature, self.num_negatives = warmup_epochs, temperature, num_negatives
        self.bank = MemoryBank(
            rows, embedding_size, momentum=momentum, dtype=dtype, seed=seed, remap=remap, sharded=sharded
        )
        self.negatives = NegativeSampler(rows.group)
        self.register_buffer("weights", torch.ones(len(rows)))
        self.register_buffer("is_warm", torch.tensor(False))
        self._is_warm = self._weigh_after_load = False  # on the host: reading it does not wait
        self.register_load_state_dict_post_hook(_note_warmth)

    def on_epoch_start(self, number: int) -> None:
        """Compute the weights of all instances from the memory, after warm-up."""
        if number >= self.warmup_epochs:
            self._is_warm = True
            self.is_warm.fill_(True)
            self._weigh()

    @torch.no_grad()
    def _weigh(self) -> None:
        if self.weighted:
            self.weights.copy_(instance_weights(self.bank.agreements(), self.delta, self.kappa, self.w_min))

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or the embedding size is wrong.
        """
        negatives = self.negatives.draw(index, self.num_negatives)
        rows = torch.cat([index.row[:, None], negatives], dim=1)  # (B, 1 + K), the clip's own first
        # Autocast would multiply in bfloat16: at temperature 0.07 its step of 2^-8 moves a score by 0.06.
        with torch.autocast(online.video.device.type, enabled=False):
            video, audio = self.bank.unit(online, index)
            cosines = {"v2a": self.bank.cosines(video, "audio", rows), "a2v": self.bank.cosines(audio, "video", rows)}
            targets = self._targets(rows)
        losses = torch.zeros_like(cosines["v2a"][:, 0])  # (B,)
        for scores, expected in zip(cosines.values(), targets, strict=True):
            losses = losses - (expected * (scores / self.temperature).log_softmax(dim=1)).sum(dim=1) / 2
        weights = self.weights[index.row]  # (B,)
        # The sum of the weights is the global batch's, so that the mean over ranks is one process's loss.
        total = (weights * losses).mean() / mean(weights.mean())
        return LossTerms(total, {"loss": total.detach(), **_statistics(cosines), "weight": weights.mean()})

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Move the memory; every rank must call it."""
        self.bank.update(online, index)

    @torch.no_grad()
    def _targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 1 + K) targets over the (B, 1 + K) rows, for video and for audio anchors."""
        hard = torch.zeros(rows.shape, device=rows.device)
        hard[:, 0] = 1
        if self.targets == "none" or not self._is_warm:
            return hard, hard
        video, audio = (F.normalize(self.bank.rows(modality, rows), dim=2) for modality in _MODALITIES)  # (B, 1 + K, D)
        both = []
        for anchors, others in ((video, audio), (audio, video)):
            logits = _soft_logits(anchors[:, 0], others[:, 0], anchors, others, self.targets, self.tau_s, self.tau_t)
            both.append(hard.lerp(logits.softmax(dim=1), self.soft_weight))
        return both[0], both[1]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self._weigh_after_load = False
        if prefix + "weights" in state_dict and not self.bank.holds(state_dict, prefix + "bank."):
            # Weights are per row, and rows have another order here.
            self._weigh_after_load = True
            state_dict = dict(state_dict) | {prefix + "weights": torch.ones_like(self.weights)}
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _note_warmth(objective: RobustXID, _: object) -> None:
    objective._is_warm = bool(objective.is_warm)
    if objective._is_warm and objective._weigh_after_load:
        objective._weigh()


def _statistics(cosines: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return () tensors on the device: reading them here would stall the GPU once per step."""
    detached = {name: value.detach() for name, value in cosines.items()}
    accuracies = {
        f"accuracy_{name}": (value[:, 0] > value[:, 1:].amax(dim=1)).float().mean() for name, value in detached.items()
    }
    values = torch.stack(list(detached.values()))  # (2, B, 1 + K)
    return accuracies | {"cosine_positive": values[:, :, 0].mean(), "cosine_negative": values[:, :, 1:].mean()}


def _soft_logits(
    anchor: Tensor, other: Tensor, anchors: Tensor, others: Tensor, kind: SoftTargets, tau_s: float, tau_t: float
) -> Tensor:
    """Return the (B, C) logits of C candidates for B instances.

    Args:
        anchor: (B, D) unit memory of the instances in the anchor's modality.
        other: (B, D) unit memory of the instances in the other modality.
        anchors: (B or 1, C, D) unit memory of the candidates in the anchor's modality.
        others: (B or 1, C, D) unit memory of the candidates in the other modality.
    """
    if kind == "bootstrapping":
        return _dots(anchor, others) / tau_s
    if kind == "swapped":
        return _dots(other, anchors) / tau_s
    if kind == "neighbor":
        return _dots(anchor, anchors) / tau_s
    own = (anchor * other).sum(dim=1, keepdim=True) / tau_t
    return own + _dots(other, anchors) / tau_s + (anchors * others).sum(dim=2) / tau_t


def _dots(x: Tensor, candidates: Tensor) -> Tensor:
    """Return the (B, C) products of (B, D) with (B or 1, C, D)."""
    if len(candidates) == 1:
        return x @ candidates[0].T
    return torch.einsum("bd,bcd->bc", x, candidates)


def _check_soft_targets(kind: str, tau_s: float, tau_t: float) -> None:
    if kind not in get_args(SoftTargets):
        raise InputError(f'kind ({kind!r}) must be one of "bootstrapping", "swapped", "neighbor", "cycle".')
    for name, value in (("tau_s", tau_s), ("tau_t", tau_t)):
        if not value > 0:
            raise InputError(f"{name} ({value}) must be above 0.")
