"""Cluster labels of every training clip, and the stored embeddings from which they are made.

Methods that alternate between clustering and training read the whole corpus once more to cluster it: DeepCluster,
Caron et al., ECCV 2018, https://arxiv.org/abs/1807.05520, and those after it. Here the embeddings of the last epoch are
kept instead, so that an epoch reads every clip once and a resumed run needs nothing but its state. The embeddings of
a clip are then up to an epoch old, and of an augmented clip. The first epoch only collects them.

Dimensions: B clips on this rank, N rows, L label sets, K clusters, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, Modality
from avssl.core.distributed import any_true, gather_with_grad
from avssl.core.divided_rows import RowBuffers
from avssl.core.errors import InputError
from avssl.objectives.memory_bank import MemoryBank, MemoryDtype, MemoryRows

UNLABELED = -1


class PseudoLabels(RowBuffers):
    """A memory of all rows with L labels of each, whole on every rank or divided over ranks.

    A row without an embedding so far has no label. A state whose rows have another order is reordered like the memory.

    Args:
        rows: Ids and files of the rows.
        embedding_size: D.
        num_sets: L.
        num_clusters: K, at least 2 and at most the number of rows.
        momentum: Share of its old value that a row of the memory keeps, in [0, 1).
        dtype: Number format of the memory.
        seed: Random seed of the initial memory.
        remap: Accept a state of other rows.
        sharded: Divide memory and labels over ranks, each of which labels its rows.

    Raises:
        ValueError: If there are fewer rows than clusters.
    """

    row_buffers: ClassVar[Mapping[str, int]] = {"labels": 1}

    seen: Tensor
    """(N,) bool: rows with an embedding."""
    labels: Tensor
    """(L, N) int64 in [0, K), or :data:`UNLABELED`; divided as the memory is."""

    def __init__(
        self,
        rows: MemoryRows,
        embedding_size: int,
        *,
        num_sets: int,
        num_clusters: int,
        momentum: float = 0.0,
        dtype: MemoryDtype = "fp32",
        seed: int = 0,
        remap: bool = False,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        if not 2 <= num_clusters <= len(rows):
            raise InputError(f"clusters ({num_clusters}) must be at least 2 and at most the {len(rows)} rows.")
        self.num_clusters = num_clusters
        self.bank = MemoryBank(
            rows, embedding_size, momentum=momentum, dtype=dtype, seed=seed, remap=remap, sharded=sharded
        )
        self.division = self.bank.division
        self.register_buffer("seen", torch.zeros(len(rows), dtype=torch.bool))
        self.register_buffer("labels", torch.full((num_sets, self.division.size), UNLABELED))
        self.has_labels = False  # on the host: reading a buffer would wait for the device once per step
        self.register_load_state_dict_post_hook(_note_labels)

    @torch.no_grad()
    def update(self, online: Embeddings, index: BatchIndex) -> None:
        """Store the embeddings of the global batch; every rank must call it."""
        self.seen.index_fill_(0, self.bank.update(online, index), True)

    def seen_rows(self) -> Tensor:
        """Return the (M,) int64 rows that can be labeled; if they are divided, those of this rank.

        Raises:
            ValueError: If all of them are fewer than the clusters.
        """
        rows = self.seen.nonzero().squeeze(1)
        if len(rows) < self.num_clusters:
            raise InputError(
                f"clusters ({self.num_clusters}) must be at most the {len(rows)} rows whose clips could be read."
            )
        own = self.division.own
        return rows[(rows >= own.start) & (rows < own.stop)] if self.division.is_divided else rows

    def points(self, modality: Modality, rows: Tensor) -> Tensor:
        """Return the (M, D) float32 embeddings of (M,) rows from :meth:`seen_rows`."""
        memory: Tensor = getattr(self.bank, modality)
        return memory.index_select(0, rows - self.division.own.start).float()

    def labels_of(self, number: int, rows: Tensor) -> Tensor:
        """Return the (M,) labels of (M,) rows from :meth:`seen_rows` in one set."""
        return self.labels[number, rows - self.division.own.start]

    def set_labels(self, number: int, rows: Tensor, labels: Tensor) -> None:
        """Set the (M,) labels of (M,) rows from :meth:`seen_rows` in one set.

        Of rows that every rank has, the labels of rank 0 count, so that all ranks agree to the bit.
        """
        if not self.division.is_divided:
            labels = gather_with_grad(labels[None])[0]
        self.labels[number, rows - self.division.own.start] = labels
        self.has_labels = True

    def of(self, index: BatchIndex) -> Tensor:
        """Return the (L, B) labels of a batch."""
        return self.division.fetch(self.labels.T, index.row).T

    def balanced_weights(self, number: int) -> Tensor:
        """Return the (K + 1,) float32 weight of each label + 1, by which all clusters have one sum; 0 for no label."""
        sizes = self._sizes(number)
        sizes[0] = torch.inf  # rows without a label
        return 1 / sizes.clamp(min=1)

    def used_clusters(self, number: int) -> Tensor:
        """Return the () perplexity of the sizes of a set's clusters, as a share of K, in (0, 1]."""
        sizes = self._sizes(number)[1:]
        return torch.special.entr(sizes / sizes.sum()).sum().exp() / self.num_clusters

    def _sizes(self, number: int) -> Tensor:
        """Return the (K + 1,) float32 number of rows without a label, and of those of each cluster, of all ranks."""
        labels = self.division.mine(self.labels, dim=1)[number]
        return self.division.total(torch.bincount(labels + 1, minlength=self.num_clusters + 1)).float()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        bank = prefix + "bank."
        if bank + "id_key" in state_dict and not self.bank.holds(state_dict, bank):
            source, found = self.bank.source_rows(state_dict, bank)
            seen, none = state_dict[prefix + "seen"].to(self.seen), torch.full_like(self.labels, UNLABELED)
            labels = self.division.reordered(state_dict[prefix + "labels"], source, found, none, dim=1)
            state_dict = dict(state_dict) | {prefix + "labels": labels, prefix + "seen": found & seen[source]}
        super()._load_from_state_dict(state_dict, prefix, *rest)


def unlabeled_loss(scores: Sequence[Tensor], num_clusters: int) -> Tensor:
    """Return the loss of the first epoch: log K, that of a classifier that knows nothing, with a gradient of zero.

    Every score has a part in it, because DDP waits for the gradient of all parameters.
    """
    return 0 * torch.stack([each.float().sum() for each in scores]).sum() + math.log(num_clusters)


def _note_labels(module: PseudoLabels, _: object) -> None:
    has_labels = bool((module.division.mine(module.labels, dim=1) >= 0).any())
    module.has_labels = any_true(has_labels) if module.division.is_divided else has_labels
