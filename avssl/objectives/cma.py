"""CMA: AVID with further positives, found by cross-modal agreement.

Source: Morgado, Vasconcelos and Misra, CVPR 2021, https://arxiv.org/abs/2004.12943, section 4.

Dimensions: B clips on this rank, N rows of the memory, P positives, K negatives, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import any_true, total
from avssl.core.divided_rows import Division, RowBuffers
from avssl.core.errors import InputError
from avssl.core.ranges import Count, CountOrZero, Positive, checked
from avssl.core.sharded import local_part
from avssl.objectives.avid import AVID, Scores
from avssl.objectives.divided_neighbors import divided_agreements
from avssl.objectives.inverted_lists import Lists
from avssl.objectives.memory_bank import MemoryRows
from avssl.objectives.negatives import NegativeSampler
from avssl.objectives.neighbors import Agreement, top_agreements

PositiveTerm = Literal["within", "across", "both"]
SearchKind = Literal["exact", "ivf"]

_TERMS = ("within", "across")


def positive_sets(video_memory: Tensor, audio_memory: Tensor, num_positives: int, agreement: Agreement) -> Tensor:
    """Return the instances that agree most with each instance, excluding itself, by exact search in blocks.

    Args:
        video_memory: ``(N, D)`` video features of any scale; their cosines are compared.
        audio_memory: ``(N, D)`` audio features of the same instances in the same order.
        num_positives: P, in [1, N - 1]; 32 in the paper.
        agreement: Agreement of two instances: the lower of their video and audio cosines ("consensus", the paper's),
            the higher ("union"), or one of them ("video", "audio").

    Returns:
        ``(N, P)`` int64 row numbers, ascending in each row. Of rows that agree equally, to the rounding of
        float32, any may be taken.

    Raises:
        ValueError: If the memories differ in shape, or an argument is out of range.

    Example:
        >>> angles = torch.tensor([0.0, 0.1, 2.0, 2.1])  # two pairs of instances near each other
        >>> memory = torch.stack([angles.cos(), angles.sin()], dim=1)
        >>> positive_sets(memory, memory, num_positives=1, agreement="consensus").flatten()
        tensor([1, 0, 3, 2])
    """
    return top_agreements(video_memory, audio_memory, num_positives, agreement)


def neighbor_precision(positives: Tensor, labels: Tensor) -> Tensor:
    """Return how often a positive has the label of its instance.

    Args:
        positives: ``(N, P)`` int64 rows from :func:`positive_sets`.
        labels: ``(N,)`` int64 classes; negative where there is none.

    Returns:
        ``()`` float32 in [0, 1], over the pairs in which both have a label; NaN if there are none.

    Raises:
        ValueError: If the two are not of the same N instances.

    Example:
        >>> positives, labels = torch.tensor([[1], [0], [0]]), torch.tensor([7, 7, 3])
        >>> neighbor_precision(positives, labels)  # right for the first two rows
        tensor(0.6667)
    """
    if positives.ndim != 2 or labels.shape != positives.shape[:1]:
        raise InputError(
            f"positives (N, P) and labels (N,) must be of the same instances, "
            f"got {tuple(positives.shape)} and {tuple(labels.shape)}."
        )
    same, known = _num_pairs(positives, labels, labels)
    return same / known


def _num_pairs(positives: Tensor, own: Tensor, labels: Tensor) -> Tensor:
    """Return the numbers of pairs of one label, and of pairs that both have a label, (2,) int64."""
    theirs, own = labels[positives], own[:, None]
    known = (theirs >= 0) & (own >= 0)
    return torch.stack([((theirs == own) & known).sum(), known.sum()])


@checked
class CMA(AVID, RowBuffers):
    """AVID with further positives: the instances that agree most with the clip's own.

    A second term contrasts each modality with the memory rows of P positives. They are searched in the memory
    before the first epoch after warm-up and then every few epochs, and are never drawn as negatives. Until then
    the loss is AVID's; without warm-up, start from the state of an AVID run.

    Args:
        rows: Rows of the memory, in the order of the manifest: ``MemoryRows.from_ids(ids)``. Labels, if any, are only
            used to report ``neighbor_precision``.
        embedding_size: Embedding size, D.
        agreement: Agreement of two clips: the lower of their video and audio cosines ("consensus"), the higher
            ("union"), or one of them ("video", "audio").
        num_positives: Positives per clip, in [1, number of rows - 2].
        positives: Memory whose rows are the positives of an embedding: that of its own modality ("within", the
            paper's), the other ("across"), or both.
        positive_negatives: Number of a clip's negatives, the first, that positives within a modality are contrasted
            with; those across are contrasted with all, as in the released program.
        positive_weight: Weight of the positives' term relative to the instance term's 1, > 0. With "both" it is the
            weight of the mean of the two: the released program's weights of 1 for each are 2 here.
        warmup_epochs: Epochs with AVID's loss only; 0 if the run starts from an AVID run (train.init_from).
        refresh_epochs: Epochs between searches of positives, >= 1; 50 in the paper.
        search: "exact" compares each row with all others, N * N products. "ivf" divides them into lists of rows near
            each other, and compares a row with those of a few lists only, by faiss on the CPU (extra ``search``) in
            ``train.threads`` threads; it misses some positives.
        search_lists: Number of lists of "ivf"; 0 for four times the square root of the number of rows.
        search_probes: Number of lists that "ivf" searches for each row; with all of them it finds what "exact" does.
        **options: Options of :class:`AVID`. With ``sharded``, each process searches its own rows for those of all.

    Terms: those of :class:`AVID`; ``loss_within`` and ``loss_across`` of the positives; and
    ``neighbor_precision``, of the last search, in [0, 1].

    Raises:
        ValueError: If an argument is out of range, or a file leaves no negatives.

    Example:
        >>> rows = MemoryRows.from_ids([f"{n}.mp4" for n in range(100)])
        >>> objective = CMA(rows, embedding_size=8, num_positives=5, warmup_epochs=0)
        >>> objective.on_epoch_start(0)  # searches the memory
        >>> objective.found.shape
        torch.Size([100, 5])
    """

    row_buffers: ClassVar[Mapping[str, int]] = {"found": 0}

    found: Tensor
    """(N, P) int64 positives of each row, -1 before the first search; divided as the memory is."""
    precision: Tensor
    """() float32, :func:`neighbor_precision` of the last search; NaN without labels."""
    labels: Tensor | None
    """(N,) int64 classes, for measurement only."""

    def __init__(
        self,
        rows: MemoryRows,
        embedding_size: int,
        *,
        agreement: Agreement = "consensus",
        num_positives: Count = 32,
        positives: PositiveTerm = "within",
        positive_negatives: Count = 64,
        positive_weight: Positive = 1.0,
        warmup_epochs: CountOrZero = 5,
        refresh_epochs: Count = 5,
        search: SearchKind = "exact",
        search_lists: CountOrZero = 0,
        search_probes: Count = 32,
        **options: Any,
    ) -> None:
        super().__init__(rows, embedding_size, **options)
        if agreement not in get_args(Agreement):
            raise InputError(f'agreement ({agreement!r}) must be "consensus", "union", "video" or "audio".')
        if positives not in get_args(PositiveTerm):
            raise InputError(f'positives ({positives!r}) must be "within", "across" or "both".')
        if search not in get_args(SearchKind):
            raise InputError(f'search ({search!r}) must be "exact" or "ivf".')
        if not 1 <= num_positives < len(rows) - 1:
            raise InputError(
                f"num_positives ({num_positives}) must be at least 1 and leave negatives among {len(rows)} rows."
            )
        if not 1 <= positive_negatives <= self.num_negatives:
            raise InputError(
                f"positive_negatives ({positive_negatives}) must be in [1, num_negatives ({self.num_negatives})]."
            )
        self.agreement, self.num_positives, self.positives = agreement, num_positives, positives
        self.positive_negatives, self.positive_weight = positive_negatives, positive_weight
        self.warmup_epochs, self.refresh_epochs = warmup_epochs, refresh_epochs
        self.lists = Lists(search_lists, search_probes, options.get("seed", 0)) if search == "ivf" else None
        self.negatives = NegativeSampler(rows.group, most_excluded=num_positives)
        self.division = self.bank.division
        self.register_buffer("found", torch.full((self.division.size, num_positives), -1))
        self.register_buffer("precision", torch.tensor(math.nan))
        self.register_buffer("labels", rows.label, persistent=False)
        # On the host, so that reading it does not wait for the device.
        self._has_positives = self._search_after_load = False
        self.register_load_state_dict_post_hook(_note_positives)

    def on_epoch_start(self, number: int) -> None:
        """Search the positives if due in this epoch; every rank must call it."""
        since = number - self.warmup_epochs
        if since >= 0 and (since % self.refresh_epochs == 0 or not self._has_positives):
            self.find_positives()

    @torch.no_grad()
    def find_positives(self) -> None:
        """Search the memory for the positives of every row; each rank searches for its share of the rows."""
        division = Division(len(self.bank), requested=True)  # of the work, also if every rank has the whole memory
        if self.lists is None and not self.division.is_divided:
            memories = self.bank.video, self.bank.audio
            found = top_agreements(*memories, self.num_positives, self.agreement, division.own)
        else:
            video, audio = self.bank.shares(division)
            found = divided_agreements(video, audio, self.num_positives, self.agreement, division, self.lists)
        self.found.copy_(division.padded(found) if self.division.is_divided else division.gathered(found))
        self._has_positives = True
        if self.labels is not None:
            same, known = total(_num_pairs(found, self.labels[division.own], self.labels))
            self.precision.copy_(same / known)

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms, as :class:`AVID`."""
        result = super().forward(online, target, index)
        if not self._has_positives or self.labels is None:
            return result
        return LossTerms(result.total, {**result.terms, "neighbor_precision": self.precision})

    def _contrasts(self, online: Embeddings, index: BatchIndex) -> dict[str, dict[str, Scores]]:
        if not self._has_positives:
            return super()._contrasts(online, index)
        found = self.division.fetch(self.found, index.row)
        negatives = self.negatives.draw(index, self.num_negatives, excluded=found)
        contrasts = self._instance_contrasts(online, index, negatives)
        # The program limits the negatives within a modality only.
        chosen = {"within": negatives[:, : self.positive_negatives], "across": negatives}
        names = _TERMS if self.positives == "both" else (self.positives,)
        return contrasts | {
            name: self._score(
                online, index, name == "across", torch.cat([found, chosen[name]], dim=1), self.num_positives
            )
            for name in names
        }

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        instance = torch.stack([loss for name, loss in losses.items() if name not in _TERMS]).mean()
        if not self._has_positives:
            return instance
        positive = torch.stack([loss for name, loss in losses.items() if name in _TERMS]).mean()
        return (instance + self.positive_weight * positive) / (1 + self.positive_weight)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(prefix + "found")
        self._search_after_load = False
        if saved is not None and not self.bank.holds(state_dict, prefix + "bank."):
            # Row numbers of another order are meaningless here.
            self._search_after_load = self._are_found(local_part(saved))
            none = self.found.new_full((1, 1), -1).expand(len(self.bank), self.num_positives)
            state_dict = dict(state_dict) | {prefix + "found": none}
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _are_found(self, found: Tensor) -> bool:
        """Return True if these positives of this rank have been searched; every rank must call it."""
        are_found = found.numel() > 0 and bool((found >= 0).all())  # a rank may have no rows
        return any_true(are_found) if self.division.is_divided else are_found


def _note_positives(objective: CMA, _: object) -> None:
    objective._has_positives = objective._are_found(objective.division.mine(objective.found))
    if objective._search_after_load:
        objective.find_positives()
