"""XDC: the clusters of one modality are the classes of the other.

Source: Alwassel et al., NeurIPS 2020, https://arxiv.org/abs/1911.12667, section 3.2. K-means of all audio embeddings
labels the videos, and that of all video embeddings labels the audio; both encoders are trained to classify, then
clustered again.

Differences: the clustered embeddings are those of the last epoch (see ``pseudo_labels.py``) behind the projection
heads; k-means continues from the last clusters, so that cluster numbers keep their meaning and the classifiers need
not start anew; clusters of any size count equally, as by the sampling of DeepCluster,
https://arxiv.org/abs/1807.05520, section 3.3; and by default both classifiers are one, so that the embeddings of the
two modalities are comparable.

Dimensions: B clips on this rank, N rows, M of them with an embedding, K clusters, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms, Modality
from avssl.core.distributed import mean
from avssl.core.draws import clip_key
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, Seed, ShareBelowOne, Temperature, checked
from avssl.objectives.k_means import first_labels, k_means
from avssl.objectives.memory_bank import MemoryDtype, MemoryRows
from avssl.objectives.objective import Objective
from avssl.objectives.prototypes import prototype_scores
from avssl.objectives.pseudo_labels import PseudoLabels, unlabeled_loss

_MODALITIES: tuple[Modality, Modality] = ("video", "audio")


@checked
class XDC(Objective):
    """Classification of each modality into the k-means clusters of the other.

    The first epoch has no labels and trains nothing: it only stores the embeddings of the untrained model. Afterwards
    the rows are clustered at the start of every ``refresh_epochs`` epochs.

    Args:
        rows: Rows of the memory, in the order of the manifest: ``MemoryRows.from_ids(ids)``.
        embedding_size: Embedding size, D.
        clusters: Number of clusters of each modality, K, >= 2; 64 to 1024 in the paper.
        shared_prototypes: Classify both modalities by the same prototypes, so that their embeddings are comparable,
            as retrieval and search need. Audio clusters then take the numbers of the video clusters that they overlap
            most. False is the paper's: a classifier for each modality, and embeddings that only probes can use.
        temperature: Softmax temperature of the cosines with the prototypes, > 0.
        balanced: Give every cluster the same weight, whatever its size. Without it large clusters grow.
        refresh_epochs: Epochs between two clusterings, >= 1.
        iterations: Largest number of iterations of k-means, >= 1.
        momentum: Share of its old value that a stored embedding keeps when its clip is used, in [0, 1).
        dtype: Number format of the memory; in fp32 a row of 128 features takes 1024 bytes.
        seed: Random seed of the first clusters.
        remap: Load the memory of another corpus: rows are matched by id, and new ids have no label at first.
            Otherwise such a memory is rejected.
        sharded: Divide memory and labels over the processes, each of which labels its rows, for corpora whose memory no
            GPU holds. The labels are the same, but for rounding where two clusters are equally near.

    Terms: ``loss``; ``accuracy_video`` and ``accuracy_audio``, how often a clip is classified as the other modality
    is clustered; ``used_clusters``, the perplexity of the cluster sizes as a share of K, in (0, 1].

    Raises:
        ValueError: If an argument is out of range, or there are fewer rows than clusters.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> objective = XDC(MemoryRows.from_ids([f"{n}.mp4" for n in range(8)]), embedding_size=2, clusters=2)
        >>> row, sides = torch.arange(8), torch.tensor([[1.0, 0], [-1, 0]]).repeat(4, 1)
        >>> objective.update(avssl.Embeddings(sides, sides), None, BatchIndex(row, row, row))
        >>> objective.on_epoch_start(1)  # finds two clusters of four clips
        >>> round(objective.used_clusters.item(), 3)
        1.0
    """

    later_terms: ClassVar[tuple[str, ...]] = ("accuracy_video", "accuracy_audio", "used_clusters")
    weights: Tensor
    """(2, N) float32 weights of the rows by their video and audio cluster; 0 without a label."""
    used_clusters: Tensor
    """() float32."""

    def __init__(
        self,
        rows: MemoryRows,
        embedding_size: int,
        *,
        clusters: Count = 64,
        shared_prototypes: bool = True,
        temperature: Temperature = 0.1,
        balanced: bool = True,
        refresh_epochs: Count = 1,
        iterations: Count = 20,
        momentum: ShareBelowOne = 0.0,
        dtype: MemoryDtype = "fp32",
        seed: Seed = 0,
        remap: bool = False,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        self.clusters, self.shared_prototypes, self.temperature = clusters, shared_prototypes, temperature
        self.balanced, self.refresh_epochs, self.iterations, self.seed = balanced, refresh_epochs, iterations, seed
        self.needs = self.needs_of({"clusters": clusters, "shared_prototypes": shared_prototypes})
        self.labels = PseudoLabels(
            rows,
            embedding_size,
            num_sets=2,
            num_clusters=clusters,
            momentum=momentum,
            dtype=dtype,
            seed=seed,
            remap=remap,
            sharded=sharded,
        )
        self.register_buffer("weights", torch.zeros(2, clusters + 1), persistent=False)  # of each label + 1
        self.register_buffer("used_clusters", torch.zeros(()), persistent=False)
        self.register_load_state_dict_post_hook(lambda objective, _: objective._weigh())

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            prototypes=options["clusters"],
            shared_prototypes=options["shared_prototypes"],
            embedding_size=True,
            memory=True,
        )

    def extra_repr(self) -> str:
        return f"clusters={self.clusters}, temperature={self.temperature}, balanced={self.balanced}"

    def on_epoch_start(self, number: int) -> None:
        """Cluster all rows if due in this epoch; every rank must call it."""
        since = number - 1
        if since >= 0 and (since % self.refresh_epochs == 0 or not self.labels.has_labels):
            self.find_clusters()

    @torch.no_grad()
    def find_clusters(self) -> None:
        """Cluster the stored embeddings of each modality, from the last clusters if there are any.

        Raises:
            ValueError: If fewer rows than clusters have an embedding.
        """
        rows, bank, divided = self.labels.seen_rows(), self.labels.bank, self.labels.division.is_divided
        found = []
        for number, modality in enumerate(_MODALITIES):
            points, labels = self.labels.points(modality, rows), self.labels.labels_of(number, rows)
            if not self.labels.has_labels:
                keys = clip_key(self.seed, number, bank.id_key[rows])
                labels = first_labels(points, keys, self.clusters, divided=divided)
            found.append(k_means(points, labels, self.clusters, self.iterations, divided=divided))
        video, audio = found
        if self.shared_prototypes:
            overlap = torch.bincount(audio * self.clusters + video, minlength=self.clusters**2)
            audio = _matching(self.labels.division.total(overlap).view(self.clusters, self.clusters))[audio]
        for number, labels in enumerate((video, audio)):
            self.labels.set_labels(number, rows, labels)
        self._weigh()

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or the model has other prototypes.
        """
        self.check_views(online, index)
        scores = [prototype_scores(online, name, 1, self.clusters, "XDC")[:, 0] for name in _MODALITIES]
        if not self.labels.has_labels:
            total = unlabeled_loss(scores, self.clusters)
            return LossTerms(total, {"loss": total.detach()})
        terms, losses = {}, []
        with torch.autocast(online.video.device.type, enabled=False):
            # Video is classified as its audio is clustered (set 1), and audio as its video is.
            labels_of = self.labels.of(index)
            weights_of = self.weights.gather(1, labels_of + 1)  # (2, B)
            # The sum of the weights is the global batch's, so that the mean over ranks is one process's loss.
            sizes = mean(torch.stack([weights.mean() for weights in weights_of])).clamp(min=1e-30)
            for name, logits, number in zip(_MODALITIES, scores, (1, 0), strict=True):
                labels, weights = labels_of[number], weights_of[number]
                each = F.cross_entropy(logits.float() / self.temperature, labels.clamp(min=0), reduction="none")
                losses.append((weights * each).mean() / sizes[number])
                terms[f"accuracy_{name}"] = (logits.detach().argmax(dim=1) == labels).float().mean()
        total = torch.stack(losses).mean()
        return LossTerms(total, {"loss": total.detach(), **terms, "used_clusters": self.used_clusters.clone()})

    @torch.no_grad()
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Store the embeddings; every rank must call it."""
        self.labels.update(online, index)

    @torch.no_grad()
    def _weigh(self) -> None:
        if not self.labels.has_labels:
            return
        for number in range(2):
            weights = self.labels.balanced_weights(number)
            self.weights[number] = weights if self.balanced else (weights > 0).float()
        self.used_clusters.copy_(torch.stack([self.labels.used_clusters(number) for number in range(2)]).mean())


def _matching(overlap: Tensor) -> Tensor:
    """Return the (K,) new number of each audio cluster: the video clusters that they overlap most, one for each.

    Args:
        overlap: (K, K) number of rows of an audio cluster (row) and a video cluster (column).
    """
    rows, columns = linear_sum_assignment(overlap.cpu().numpy(), maximize=True)
    order = torch.empty(len(overlap), dtype=torch.int64)
    order[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return order.to(overlap.device)
