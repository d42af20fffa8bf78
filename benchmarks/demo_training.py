"""The training of the packaged weights on several worlds at once: batches of all of them, each with its own negatives.

Every batch has clips of every world, so that BatchNorm sees the mix that its running statistics describe afterwards.
The loss is the mean of the losses of the worlds: clips are told from others of their world, as colors would tell worlds
apart. Of a file with several windows at different times they are rows of their own, and told from each other alone:
face, light and voice are the same in all of them, and only the lips tell which audio belongs to which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from shapes_in_memory import Clips, MemoryLoader, window_batch
from torch import Tensor

from avssl.core.batch import Batch, BatchIndex, Embeddings, LossTerms
from avssl.core.draws import clip_key, epoch_order, integers
from avssl.data.sampling import ClipSampling
from avssl.objectives import Objective
from avssl.objectives.scores import average

FILES = 2**32
"""Numbers of files of a world: ``BatchIndex.group`` divided by it is the number of the world."""


@dataclass(frozen=True)
class Part:
    """The share of one world in a batch."""

    clips: Clips
    files: int
    """Clips of a batch."""
    windows: int = 1
    """Windows of each clip at different times, each a row of the batch."""


class WindowLoader(MemoryLoader):
    """A :class:`MemoryLoader` of several windows of each clip, equally far apart from a random first one."""

    def __init__(self, part: Part, seed: int, sampling: ClipSampling) -> None:
        super().__init__(part.clips, part.clips.rows("train"), part.files, seed, sampling)
        self.windows = part.windows

    def __iter__(self) -> Iterator[Batch]:
        look = self.world.settings
        seconds = max(self.sampling.num_frames / self.sampling.frames_per_second, self.sampling.audio_seconds)
        steps = int((look.num_frames / look.video_fps - seconds) * look.video_fps) + 1
        nth = torch.arange(self.windows).repeat(self.batch_size)
        while True:
            number, place = divmod(self.step, self.steps_per_epoch)
            order = epoch_order(self.seed, number, self.id_keys)
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size].repeat_interleave(self.windows)
            ids = self.id_keys[chosen]
            first = integers(clip_key(self.seed, number, ids), "window", 1, steps)[:, 0]
            start = (first + nth * steps // self.windows) % steps
            index = BatchIndex(chosen, chosen, clip_key(self.seed, number, ids, nth))
            self.step += 1
            at = start.numpy() / look.video_fps
            yield window_batch(self.world, self.rows[chosen.numpy()], at, self.sampling, index)


class WorldsLoader:
    """Endless stream of batches of several worlds; an epoch is one of the first."""

    def __init__(self, parts: Sequence[Part], seed: int, sampling: ClipSampling) -> None:
        self.loaders = [WindowLoader(part, seed, sampling) for part in parts]
        self.steps_per_epoch = self.loaders[0].steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        for batches in zip(*self.loaders, strict=True):
            group = torch.cat([batch.index.group + FILES * number for number, batch in enumerate(batches)])
            index = BatchIndex(group, group, torch.cat([batch.index.key for batch in batches]))
            video, audio, valid_hw = (
                torch.cat([getattr(batch, name) for batch in batches]) for name in ("video", "audio", "valid_hw")
            )
            yield Batch(video, audio, index, valid_hw)

    def state_dict(self) -> dict[str, Any]:
        return {"loaders": [loader.state_dict() for loader in self.loaders]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for loader, own in zip(self.loaders, state["loaders"], strict=True):
            loader.load_state_dict(own)


class EachWorld(Objective):
    """Mean of an objective's losses of the clips of each world, in batches of :class:`WorldsLoader`.

    Args:
        objective: The loss of the clips of one world, or of the windows of one file.
        parts: The worlds. One with several windows of each clip has the mean of the losses of its files.
    """

    def __init__(self, objective: Objective, parts: Sequence[Part]) -> None:
        super().__init__()
        self.objective, self.windows = objective, [part.windows for part in parts]
        self.needs = objective.needs

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss, and the terms of each world by its number."""
        found: list[LossTerms] = []
        for number, windows in enumerate(self.windows):
            rows = torch.nonzero(index.group // FILES == number)[:, 0]
            each = rows.split(windows) if windows > 1 else [rows]
            found.append(average([self.objective(_rows(online, part), None, _index(index, part)) for part in each]))
        total = torch.stack([each.total for each in found]).mean()
        terms = {f"{name}_{number}": value for number, each in enumerate(found) for name, value in each.terms.items()}
        return LossTerms(total, {"loss": total.detach(), **terms})


def _rows(online: Embeddings, rows: Tensor) -> Embeddings:
    """Return the embeddings of some clips, with all silence and noise."""
    each = {name: getattr(online, name) for name in ("video", "audio", "video_map", "audio_map")}
    return replace(online, **{name: None if x is None else x[rows] for name, x in each.items()})


def _index(index: BatchIndex, rows: Tensor) -> BatchIndex:
    return BatchIndex(index.row[rows], index.group[rows], index.key[rows])
