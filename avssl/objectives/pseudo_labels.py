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
from typing import Any

import torch
from torch import Tensor, nn

from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.distributed import gather_with_grad
from avssl.core.errors import InputError
from avssl.objectives.memory_bank import MemoryBank, MemoryDtype, MemoryRows

UNLABELED = -1


class PseudoLabels(nn.Module):
    """A memory of all rows with L labels of each, the same on every rank.

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

    Raises:
        ValueError: If there are fewer rows than clusters.
    """

    seen: Tensor
    """(N,) bool: rows with an embedding."""
    labels: Tensor
    """(L, N) int64 in [0, K), or :data:`UNLABELED`."""

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
    ) -> None:
        super().__init__()
        if not 2 <= num_clusters <= len(rows):
            raise InputError(f"clusters ({num_clusters}) must be at least 2 and at most the {len(rows)} rows.")
        self.num_clusters = num_clusters
        self.bank = MemoryBank(rows, embedding_size, momentum=momentum, dtype=dtype, seed=seed, remap=remap)
        self.register_buffer("seen", torch.zeros(len(rows), dtype=torch.bool))
        self.register_buffer("labels", torch.full((num_sets, len(rows)), UNLABELED))
        self.has_labels = False  # on the host: reading a buffer would wait for the device once per step
        self.register_load_state_dict_post_hook(_note_labels)

    @torch.no_grad()
    def update(self, online: Embeddings, index: BatchIndex) -> None:
        """Store the embeddings of the global batch; every rank must call it."""
        self.seen.index_fill_(0, self.bank.update(online, index), True)

    def seen_rows(self) -> Tensor:
        """Return the (M,) int64 rows that can be labeled.

        Raises:
            ValueError: If they are fewer than the clusters.
        """
        rows = self.seen.nonzero().squeeze(1)
        if len(rows) < self.num_clusters:
            raise InputError(
                f"clusters ({self.num_clusters}) must be at most the {len(rows)} rows whose clips could be read."
            )
        return rows

    def set_labels(self, number: int, rows: Tensor, labels: Tensor) -> None:
        """Set the (M,) labels of (M,) rows in one set; those of rank 0 count, so that all ranks agree to the bit."""
        self.labels[number, rows] = gather_with_grad(labels[None])[0]
        self.has_labels = True

    def of(self, number: int, index: BatchIndex) -> Tensor:
        """Return the (B,) labels of a batch in one set."""
        return self.labels[number, index.row]

    def balanced_weights(self, number: int) -> Tensor:
        """Return (N,) float32 weights that give every cluster of a set the same sum; 0 without a label."""
        labels = self.labels[number]
        sizes = torch.bincount(labels + 1, minlength=self.num_clusters + 1).float()
        sizes[0] = torch.inf  # rows without a label
        return 1 / sizes.clamp(min=1)[labels + 1]

    def used_clusters(self, number: int) -> Tensor:
        """Return the () perplexity of the sizes of a set's clusters, as a share of K, in (0, 1]."""
        sizes = torch.bincount(self.labels[number] + 1, minlength=self.num_clusters + 1)[1:].float()
        return torch.special.entr(sizes / sizes.sum()).sum().exp() / self.num_clusters

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        bank = prefix + "bank."
        if bank + "id_key" in state_dict and not self.bank.holds(state_dict, bank):
            source, found = self.bank.source_rows(state_dict, bank)
            labels, seen = state_dict[prefix + "labels"].to(self.labels), state_dict[prefix + "seen"].to(self.seen)
            state_dict = dict(state_dict) | {
                prefix + "labels": torch.where(found, labels[:, source], UNLABELED),
                prefix + "seen": found & seen[source],
            }
        super()._load_from_state_dict(state_dict, prefix, *rest)


def unlabeled_loss(scores: Sequence[Tensor], num_clusters: int) -> Tensor:
    """Return the loss of the first epoch: log K, that of a classifier that knows nothing, with a gradient of zero.

    Every score has a part in it, because DDP waits for the gradient of all parameters.
    """
    return 0 * torch.stack([each.float().sum() for each in scores]).sum() + math.log(num_clusters)


def _note_labels(module: PseudoLabels, _: object) -> None:
    module.has_labels = bool((module.labels >= 0).any())
