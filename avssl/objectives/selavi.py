"""SeLaVi: clusters of given sizes that video and audio agree on, in several heads.

Source: Asano, Patrick, Rupprecht and Vedaldi, NeurIPS 2020, https://arxiv.org/abs/2006.13662, sections 3.1 to 3.3,
after Asano, Rupprecht and Vedaldi, ICLR 2020, https://arxiv.org/abs/1911.05371. Written from the papers.

Differences: the rows are labeled from the embeddings of the last epoch (see ``pseudo_labels.py``), scored by the
prototypes of now; the order of audio prototypes is matched by the optimal assignment instead of greedy swaps; heads
take turns in being labeled, so that their labels come from other augmentations; and by default the modalities share
prototypes, so that their embeddings are comparable.

Dimensions: B clips on this rank, N rows, M of them with an embedding, H heads, K clusters, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms, Modality
from avssl.core.distributed import gather_with_grad, mean, total
from avssl.core.draws import normal, splitmix64
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, CountOrZero, Seed, ShareBelowOne, Temperature, checked
from avssl.objectives.memory_bank import MemoryDtype, MemoryRows
from avssl.objectives.objective import Objective
from avssl.objectives.prototypes import prototype_scores
from avssl.objectives.pseudo_labels import PseudoLabels, unlabeled_loss
from avssl.objectives.swav import sinkhorn

_MODALITIES: tuple[Modality, Modality] = ("video", "audio")
# The smallest cluster, in clusters of mean size: a normal number may be negative.
_SMALLEST_SIZE = 0.01


def cluster_sizes(seed: int, head: int, num_clusters: int, deviation: float) -> Tensor:
    """Return the sizes of the clusters of a head: normal numbers around 1, scaled to the mean 1.

    Args:
        seed: Random seed.
        head: Number of the head, >= 0; every head has its own sizes.
        num_clusters: K.
        deviation: Standard deviation of the sizes before scaling; 0.1 in the paper, 0 for equal sizes.

    Returns:
        ``(K,)`` float64, descending.
    """
    key = splitmix64(torch.tensor([seed])) ^ head
    sizes = (1 + deviation * normal(key, "selavi/sizes", num_clusters)[0]).clamp(min=_SMALLEST_SIZE)
    return (sizes / sizes.mean()).sort(descending=True).values


def transported_labels(
    log_probabilities: Tensor, sizes: Tensor, epsilon: float, iterations: int, *, divided: bool = False
) -> Tensor:
    """Return the labels of an optimal transport of rows to clusters of given sizes.

    The largest size goes to the cluster with the largest probability over all rows, and so on.

    Args:
        log_probabilities: ``(M, K)`` logarithms of the classes' probabilities.
        sizes: ``(K,)`` relative sizes, descending.
        epsilon: Smoothness of the transport; 1 / 20 in the paper.
        iterations: Iterations of Sinkhorn's algorithm; 0 for the most probable class, of any size.
        divided: The rows of every rank are others; else all ranks have the same.

    Returns:
        ``(M,)`` int64.
    """
    scores = log_probabilities.double()
    sums = scores.exp().sum(dim=0)
    order = (total(sums) if divided else sums).argsort(descending=True, stable=True)
    own = torch.empty_like(sizes).scatter_(0, order, sizes)
    return sinkhorn(scores, epsilon, iterations, sizes=own).argmax(dim=1)


@checked
class SeLaVi(Objective):
    """Classification of both modalities into clusters that optimal transport finds from the two together.

    The first epoch has no labels and trains nothing: it only stores the embeddings of the untrained model. Afterwards
    rows are labeled at the start of an epoch, each head once in every ``refresh_epochs`` epochs.

    Args:
        rows: Rows of the memory, in the order of the manifest: ``MemoryRows.from_ids(ids)``.
        embedding_size: Embedding size, D.
        clusters: Number of clusters, K, >= 2; as many as classes in the paper.
        heads: Number of heads with clusters of their own, H; 10 in the paper.
        shared_prototypes: Classify both modalities by the same prototypes, so that their embeddings are comparable,
            as retrieval and search need. False is the paper's: prototypes for each modality, of which those of audio
            are matched with those of video before the first labels, and embeddings that only probes can use.
        temperature: Softmax temperature of the cosines with the prototypes, > 0.
        size_deviation: Standard deviation of the cluster sizes relative to their mean, in [0, 1); 0 for equal sizes.
        epsilon: Smoothness of the transport, > 0.
        iterations: Iterations of Sinkhorn's algorithm. 0 takes the most probable classes, of any size, and the
            embeddings collapse.
        refresh_epochs: Epochs between two labelings of a head, >= 1.
        momentum: Share of its old value that a stored embedding keeps when its clip is used, in [0, 1).
        dtype: Number format of the memory; in fp32 a row of 128 features takes 1024 bytes.
        seed: Random seed of the cluster sizes.
        remap: Load the memory of another corpus: rows are matched by id, and new ids have no label at first.
            Otherwise such a memory is rejected.
        sharded: Divide memory and labels over the processes, each of which labels its rows, for corpora whose memory no
            GPU holds. The labels are the same, but for rounding where two clusters are equally near.

    Terms, means over heads: ``loss``; ``accuracy_video`` and ``accuracy_audio``, how often a clip is classified by its
    label; ``used_clusters``, the perplexity of the cluster sizes as a share of K, in (0, 1].

    Raises:
        ValueError: If an argument is out of range, or there are fewer rows than clusters.

    Example:
        >>> rows = MemoryRows.from_ids([f"{n}.mp4" for n in range(100)])
        >>> objective = SeLaVi(rows, embedding_size=8, clusters=10, heads=2)
        >>> objective.needs.prototypes, objective.needs.prototype_sets
        (10, 2)
    """

    later_terms: ClassVar[tuple[str, ...]] = ("accuracy_video", "accuracy_audio", "used_clusters")
    video_prototypes: Tensor
    """(H, K, D) of the last step."""
    audio_prototypes: Tensor
    """(H, K, D) of the last step."""
    sizes: Tensor
    """(H, K) float64 relative sizes of the clusters, descending."""
    audio_order: Tensor
    """(H, K) int64, the audio prototype of each cluster."""
    used_clusters: Tensor
    """() float32."""

    def __init__(
        self,
        rows: MemoryRows,
        embedding_size: int,
        *,
        clusters: Count = 64,
        heads: Count = 4,
        shared_prototypes: bool = True,
        temperature: Temperature = 0.1,
        size_deviation: ShareBelowOne = 0.1,
        epsilon: Temperature = 0.05,
        iterations: CountOrZero = 50,
        refresh_epochs: Count = 1,
        momentum: ShareBelowOne = 0.0,
        dtype: MemoryDtype = "fp32",
        seed: Seed = 0,
        remap: bool = False,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        self.clusters, self.heads, self.shared_prototypes = clusters, heads, shared_prototypes
        self.temperature = temperature
        self.epsilon, self.iterations, self.refresh_epochs = epsilon, iterations, refresh_epochs
        self.needs = self.needs_of({"clusters": clusters, "heads": heads, "shared_prototypes": shared_prototypes})
        self.labels = PseudoLabels(
            rows,
            embedding_size,
            num_sets=heads,
            num_clusters=clusters,
            momentum=momentum,
            dtype=dtype,
            seed=seed,
            remap=remap,
            sharded=sharded,
        )
        for name in _MODALITIES:
            self.register_buffer(f"{name}_prototypes", torch.zeros(heads, clusters, embedding_size))
        sizes = [cluster_sizes(seed, head, clusters, size_deviation) for head in range(heads)]
        self.register_buffer("sizes", torch.stack(sizes))
        self.register_buffer("audio_order", torch.arange(clusters).repeat(heads, 1))
        self.register_buffer("used_clusters", torch.zeros(()))

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            prototypes=options["clusters"],
            prototype_sets=options["heads"],
            shared_prototypes=options["shared_prototypes"],
            embedding_size=True,
            memory=True,
        )

    def extra_repr(self) -> str:
        return f"clusters={self.clusters}, heads={self.heads}, temperature={self.temperature}"

    def on_epoch_start(self, number: int) -> None:
        """Label all rows by the heads whose turn it is; every rank must call it."""
        if number == 0:
            return
        first = not self.labels.has_labels
        due = [head for head in range(self.heads) if first or (number - 1 - head) % self.refresh_epochs == 0]
        if due:
            self.find_clusters(due)

    @torch.no_grad()
    def find_clusters(self, heads: list[int]) -> None:
        """Label the rows by the given heads, from the stored embeddings and the prototypes of the last step.

        Raises:
            ValueError: If fewer rows than clusters have an embedding.
        """
        rows = self.labels.seen_rows()
        first, division = not self.labels.has_labels, self.labels.division
        for head in heads:
            video, audio = (self._log_probabilities(name, head, rows) for name in _MODALITIES)
            if first and not self.shared_prototypes:
                agreed = division.total(video.double().exp().T @ audio.double().exp())
                self.audio_order[head] = _matching(agreed)
            together = (video + audio[:, self.audio_order[head]]) / 2
            options = self.sizes[head], self.epsilon, self.iterations
            labels = transported_labels(together, *options, divided=division.is_divided)
            self.labels.set_labels(head, rows, labels)
        used = [self.labels.used_clusters(head) for head in range(self.heads)]
        self.used_clusters.copy_(torch.stack(used).mean())

    def _log_probabilities(self, modality: Modality, head: int, rows: Tensor) -> Tensor:
        """Return (M, K) logarithms of the classes' probabilities by one modality."""
        prototypes: Tensor = getattr(self, f"{modality}_prototypes")[head]
        return (self.labels.points(modality, rows) @ prototypes.T / self.temperature).log_softmax(dim=1)

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or the model has other prototypes.
        """
        self.check_views(online, index)
        video, audio = (prototype_scores(online, name, self.heads, self.clusters, "SeLaVi") for name in _MODALITIES)
        if not self.labels.has_labels:
            total = unlabeled_loss([video, audio], self.clusters)
            return LossTerms(total, {"loss": total.detach()})
        audio = audio.gather(2, self.audio_order.expand(len(audio), -1, -1))
        labels = self.labels.of(index).T  # (B, H)
        labeled = (labels >= 0).float()
        terms, losses = {}, []
        with torch.autocast(online.video.device.type, enabled=False):
            count = mean(labeled.mean()).clamp(min=1e-30)  # of the global batch, as the mean over ranks needs
            for name, scores in zip(_MODALITIES, (video, audio), strict=True):
                logits = (scores.float() / self.temperature).movedim(1, 2)  # (B, K, H)
                each = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")  # (B, H)
                losses.append((labeled * each).mean() / count)
                terms[f"accuracy_{name}"] = (scores.detach().argmax(dim=2) == labels).float().mean()
        total = torch.stack(losses).mean()
        return LossTerms(total, {"loss": total.detach(), **terms, "used_clusters": self.used_clusters.clone()})

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Store the embeddings and the prototypes; every rank must call it."""
        self.labels.update(online, index)
        for name in _MODALITIES:
            prototypes: Tensor | None = getattr(online, f"{name}_prototypes")
            if prototypes is None:
                raise InputError(f"SeLaVi needs Embeddings.{name}_prototypes (H, K, D), got none.")
            getattr(self, f"{name}_prototypes").copy_(prototypes)


def _matching(together: Tensor) -> Tensor:
    """Return the (K,) audio class that agrees with each video class, from (K, K) expected numbers of rows in both."""
    # Every rank must match equally, and the sums may differ between devices in their last bits.
    rows, columns = linear_sum_assignment(gather_with_grad(together[None])[0].cpu().numpy(), maximize=True)
    order = torch.empty(len(rows), dtype=torch.int64)
    order[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return order.to(together.device)
