"""A memory of every training clip: one video and one audio row for each id.

Source: Wu et al., CVPR 2018, https://arxiv.org/abs/1805.01978, section 3; as in AVID, Morgado et al.,
CVPR 2021, https://arxiv.org/abs/2004.12943, extended to repeated ids and other corpora.

Dimensions: B clips on this rank, W ranks, N rows of the memory, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, Modality
from avssl.core.distributed import gather_together, rank, world_size
from avssl.core.divided_rows import Division, RowBuffers
from avssl.core.draws import clip_key, text_key, uniform
from avssl.core.errors import InputError

_MODALITIES: tuple[Modality, Modality] = ("video", "audio")
MemoryDtype = Literal["fp32", "fp16", "bf16"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Rows are initialized this many at a time: 64 MiB of float64 at 128 features.
_ROWS_AT_ONCE = 2**16


@dataclass(frozen=True)
class MemoryRows:
    """Ids, files and labels of the rows of a memory, in the order of the training manifest.

    Raises:
        ValueError: If the tensors differ in length, or two rows have one id.

    Example:
        >>> rows = MemoryRows.from_ids(["a.mp4#0-10", "a.mp4#10-20", "b.mp4"], ["a.mp4", "a.mp4", "b.mp4"])
        >>> len(rows), rows.group.tolist()
        (3, [0, 0, 1])
    """

    id_key: Tensor
    """(N,) int64, :func:`avssl.core.draws.text_key` of each id, which identifies a row in any order."""
    group: Tensor
    """(N,) int64; equal for rows cut from the same source file."""
    label: Tensor | None = None
    """(N,) int64 classes, negative without a label; for measurement only."""

    def __post_init__(self) -> None:
        for name in ("group", "label"):
            value = getattr(self, name)
            if value is not None and value.shape != self.id_key.shape:
                raise InputError(
                    f"{name} {tuple(value.shape)} and id_key {tuple(self.id_key.shape)} must be one a row."
                )
        if len(self.id_key.unique()) != len(self.id_key):
            raise InputError(f"two of the {len(self.id_key)} rows have the same id; every row needs its own.")

    def __len__(self) -> int:
        return len(self.id_key)

    @classmethod
    def from_ids(cls, ids: Sequence[str], files: Sequence[str] | None = None) -> MemoryRows:
        """Return rows from ids and the file of each; by default every row is its own file."""
        numbers: dict[str, int] = {}
        group = [numbers.setdefault(name, len(numbers)) for name in (ids if files is None else files)]
        keys = torch.tensor([text_key(name) for name in ids], dtype=torch.int64)
        return cls(keys, torch.tensor(group, dtype=torch.int64))


class MemoryBank(RowBuffers):
    """A unit row per instance and modality, the moving average of its embeddings.

    A row starts as a random direction that depends only on the seed and its id. After a step it becomes
    ``normalize(m row + (1 - m) e)``, where e is the mean of the unit embeddings of all clips of that id in
    the global batch. All ranks hold the same memory, and each draws a part of it: every rank must create it.

    The ids are saved with the rows. A state of the same ids in another order is reordered. A state of other ids
    raises ValueError, or with ``remap`` provides the rows it has; the others keep their random directions.

    Args:
        rows: Ids, files and labels of the rows.
        embedding_size: D.
        momentum: m, in [0, 1); 0.5 in AVID.
        dtype: Number format of the rows, which are unit vectors up to its rounding.
        seed: Random seed of the initial directions.
        remap: Accept a state of other ids.
        sharded: Divide the rows over ranks, which fetch from each other what a batch needs. Each saves its rows, and
            any number of ranks loads them.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> bank = MemoryBank(MemoryRows.from_ids(["a.mp4", "b.mp4"]), embedding_size=4, momentum=0.0)
        >>> row, clip = torch.tensor([1]), avssl.Embeddings(torch.ones(1, 4), torch.ones(1, 4))
        >>> _ = bank.update(clip, BatchIndex(row, row, row))
        >>> bank.rows("video", row)  # the unit embedding, as nothing of the old row is kept
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """

    row_buffers: ClassVar[Mapping[str, int]] = {"video": 0, "audio": 0}

    video: Tensor
    """(N, D), or (S + 1, D) of it if the memory is divided."""
    audio: Tensor
    """(N, D), divided as ``video``."""
    id_key: Tensor
    """(N,) int64."""

    def __init__(
        self,
        rows: MemoryRows,
        embedding_size: int,
        *,
        momentum: float = 0.5,
        dtype: MemoryDtype = "fp32",
        seed: int = 0,
        remap: bool = False,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise InputError(f"momentum ({momentum}) must be in [0, 1); 0.5 is usual.")
        if dtype not in get_args(MemoryDtype):
            raise InputError(f'dtype ({dtype!r}) must be "fp32", "fp16" or "bf16".')
        self.momentum, self.remap = momentum, remap
        self.division = Division(len(rows), sharded)
        for modality in _MODALITIES:
            arguments = f"memory_{modality}", embedding_size, seed, _DTYPES[dtype]
            if self.division.is_divided:
                drawn = self.division.padded(_drawn_rows(rows.id_key[self.division.own], *arguments))
            else:
                drawn = _random_rows(rows.id_key, *arguments)
            self.register_buffer(modality, drawn)
        self.register_buffer("id_key", rows.id_key.clone())

    def __len__(self) -> int:
        return len(self.id_key)

    def extra_repr(self) -> str:
        return f"{len(self)} rows of {self.video.shape[1]} in {self.video.dtype}, momentum={self.momentum}"

    def unit(self, online: Embeddings, index: BatchIndex) -> tuple[Tensor, Tensor]:
        """Return the (B, D) unit video and audio embeddings of a batch, float32.

        Raises:
            ValueError: If there is more than one view of a clip, or D is not the memory's.
        """
        expected = (len(index), self.video.shape[1])
        if tuple(online.video.shape) != expected:
            raise InputError(
                f"a memory takes one view of each of {expected[0]} clips and {expected[1]} features, "
                f"got embeddings {tuple(online.video.shape)}."
            )
        return F.normalize(online.video.float(), dim=1), F.normalize(online.audio.float(), dim=1)

    def rows(self, modality: Modality, rows: Tensor) -> Tensor:
        """Return the (..., D) float32 rows of one modality for (...) row numbers."""
        return self.division.fetch(getattr(self, modality), rows).float()

    def shares(self, division: Division) -> list[Tensor]:
        """Return this rank's rows of video and of audio by a division, also of a memory that every rank has whole."""
        memories: list[Tensor] = [getattr(self, modality) for modality in _MODALITIES]
        if self.division.is_divided:
            return [self.division.mine(memory) for memory in memories]
        return [memory[division.own] for memory in memories]

    def cosines(self, embedding: Tensor, modality: Modality, rows: Tensor) -> Tensor:
        """Return the (B, K) cosines of (B, D) unit embeddings with (B, K) rows of a modality."""
        return torch.einsum("bd,bkd->bk", embedding, self.rows(modality, rows))

    @torch.no_grad()
    def update(self, online: Embeddings, index: BatchIndex) -> Tensor:
        """Move the rows of the global batch; every rank must call it, with equally many clips.

        Returns:
            (W * B,) int64 rows of the global batch.
        """
        row, *embeddings = gather_together(index.row, *self.unit(online, index))
        mean_of_equal, place = _Repeats(row), self.division.places(row)
        for modality, embedding in zip(_MODALITIES, embeddings, strict=True):
            memory = getattr(self, modality)
            moved = self.momentum * memory[place].float() + (1 - self.momentum) * mean_of_equal(embedding)
            # Clips of one id write the same bits, so their order does not matter.
            memory[place] = F.normalize(moved, dim=1).to(memory)
        return row

    def agreements(self) -> Tensor:
        """Return the (N,) cosines of the video and the audio row of every id; every rank must call it."""
        video, audio = self.shares(self.division)
        return self.division.gathered(F.cosine_similarity(video.float(), audio.float(), dim=1))

    def holds(self, state_dict: Mapping[str, Any], prefix: str) -> bool:
        """Return whether a state has exactly this memory's ids, in this order."""
        saved = state_dict.get(prefix + "id_key")
        return saved is not None and torch.equal(saved.to(self.id_key), self.id_key)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "id_key" in state_dict and not self.holds(state_dict, prefix):
            state_dict = self._in_order(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def source_rows(self, state_dict: Mapping[str, Any], prefix: str) -> tuple[Tensor, Tensor]:
        """Return the (N,) row of a state that has each id of this memory, and the (N,) bool whether it has the id."""
        saved = state_dict[prefix + "id_key"].to(self.id_key)
        order = saved.argsort()
        place = torch.searchsorted(saved[order], self.id_key).clamp(max=len(saved) - 1)
        source = order[place]
        return source, saved[source] == self.id_key

    def _in_order(self, state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Return the state with its rows in the order of this memory's ids."""
        saved = state_dict[prefix + "id_key"]
        source, found = self.source_rows(state_dict, prefix)
        known = int(found.sum())
        if not self.remap and not known == len(saved) == len(self):
            raise InputError(
                f"the memory is of another corpus: {known} of its {len(saved)} ids are among the {len(self)} rows "
                "here. Train on the same rows, or take the rows whose ids are known with remap=True "
                "(--objective.remap true)."
            )
        reordered = {
            prefix + name: self.division.reordered(state_dict[prefix + name], source, found, getattr(self, name))
            for name in _MODALITIES
        }
        return dict(state_dict) | {prefix + "id_key": self.id_key} | reordered


class _Repeats:
    """Means over the clips that have one row, each summed in the order of the batch.

    Clips are sorted by row, so that those of one row form a segment. Unlike index_add_, whose order of summation on a
    GPU varies, this leaves the same bits on every rank; it needs no memory beyond that of the clips, and the number of
    segments, which only the device knows, nowhere. Segments are as many as clips; the last ones are empty::

        row        4 2 4 9        order    1 0 2 3
        sorted     2 4 4 9        segment  0 1 1 2        lengths 1 2 1 0

    Args:
        row: (N,) int64.
    """

    def __init__(self, row: Tensor) -> None:
        ordered = row.sort(stable=True)
        self._order = ordered.indices
        is_first = F.pad(ordered.values.diff() != 0, (1, 0), value=True)
        segment = is_first.cumsum(0) - 1
        self._lengths = torch.zeros_like(row).scatter_add_(0, segment, torch.ones_like(row))
        self._place = torch.empty_like(row).scatter_(0, self._order, segment)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the (N, D) mean of x over the clips of each clip's row."""
        # unsafe: the lengths are not checked, which would wait for the device.
        means = torch.segment_reduce(x.index_select(0, self._order), "mean", lengths=self._lengths, axis=0, unsafe=True)
        return means.index_select(0, self._place)


def _random_rows(id_key: Tensor, purpose: str, embedding_size: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Return (N, D) normalized Gaussians, a function of the seed and each id only; each rank draws its share."""
    share = -(-len(id_key) // world_size())
    own = id_key[rank() * share :][:share]
    memory = _drawn_rows(F.pad(own, (0, share - len(own))), purpose, embedding_size, seed, dtype)
    return gather_together(memory)[0][: len(id_key)]


def _drawn_rows(id_key: Tensor, purpose: str, embedding_size: int, seed: int, dtype: torch.dtype) -> Tensor:
    memory = torch.empty(len(id_key), embedding_size, dtype=dtype, device=id_key.device)
    for start in range(0, len(id_key), _ROWS_AT_ONCE):
        keys = clip_key(seed, 0, id_key[start : start + _ROWS_AT_ONCE])
        normal = torch.special.ndtri(uniform(keys, purpose, embedding_size).clamp_min(2.0**-54))
        memory[start : start + _ROWS_AT_ONCE] = F.normalize(normal, dim=1)
    return memory
