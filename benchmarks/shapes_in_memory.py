"""Generated worlds without media files: scenes rendered once into plain arrays, and a loader of windows from them.

Comparisons of methods need many short trainings on the same clips. Decoding would take more time than these small
models, so the clips are pixels and samples in ``.npy`` files that several processes map and share.

Dimensions: N clips, T frames, S samples, B clips of a batch, O objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import clip_key, epoch_order, integers, text_keys
from avssl.core.progress import Bar
from avssl.data.sampling import ClipSampling
from avssl.downstream.localization import shapes_instant, visible_objects
from avssl.synthetic import SceneSettings, Split, draw_scene, render_audio, render_frames
from avssl.synthetic.scene import Scene
from avssl.synthetic.truth import scene_truth

MOST_OBJECTS = 3

Draw = Callable[[SceneSettings, int, str, int], Scene]
"""Returns the scene of (settings, seed, name of the split, number of the clip)."""


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of several splits, one after the other."""

    video: np.ndarray
    """(N, T, 3, H, W) uint8."""
    audio: np.ndarray
    """(N, S) int16."""
    settings: SceneSettings
    """Settings of the first split; all have the same size, rates and length."""
    ids: np.ndarray
    """(N,) strings such as train/000001."""
    split: np.ndarray
    """(N,) strings."""

    def rows(self, split: str) -> np.ndarray:
        """Return the (n,) int64 positions of a split."""
        return np.flatnonzero(self.split == split)


@dataclass(frozen=True, eq=False)
class Shapes(Clips):
    """Clips with their truth."""

    kind: np.ndarray
    """(N,) strings: kind of the visible sounding object, or "" without one."""
    action: np.ndarray
    """(N,) strings: action of that object, or ""."""
    num_objects: np.ndarray
    """(N,) int64."""
    nuisance: np.ndarray
    """(N,) strings."""
    point_start: np.ndarray
    """(N,) float64: start of the window around a visible sound event; NaN without one."""
    masks: np.ndarray
    """(N, O, H, W) bool: visible pixels of every object in the middle of that window, the sounding one first."""


def shapes(
    folder: Path, splits: Mapping[str, Split], seed: int, sampling: ClipSampling, draw: Draw = draw_scene
) -> Shapes:
    """Return the clips of ``splits``, rendered on the first call and mapped from ``folder`` afterwards.

    ``draw`` draws their scenes; the default draws those of SoundingShapes.

    Raises:
        ValueError: If the folder holds other clips.
    """
    about = {
        "splits": {name: asdict(split) for name, split in splits.items()},
        "seed": seed,
        "window": [sampling.num_frames, sampling.frames_per_second, sampling.audio_seconds],
    }
    about = json.loads(json.dumps(about))
    done = folder / "about.json"
    if done.exists() and json.loads(done.read_text()) != about:
        raise ValueError(f"{folder} holds other clips than are wanted; remove it, or name another folder.")
    if not done.exists():
        _render(folder, splits, seed, sampling, draw)
        done.write_text(json.dumps(about))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("video", "audio")}
    with np.load(folder / "table.npz", allow_pickle=False) as table:
        arrays |= {name: table[name] for name in table.files}
    return Shapes(settings=next(iter(splits.values())).settings, **arrays)


def _render(folder: Path, splits: Mapping[str, Split], seed: int, sampling: ClipSampling, draw: Draw) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(name, index, split.settings) for name, split in splits.items() for index in range(split.num_clips)]
    first = jobs[0][2]
    shape = (len(jobs), first.num_frames, 3, first.height, first.width)
    video = np.lib.format.open_memmap(folder / "video.npy", "w+", np.uint8, shape)
    audio = np.lib.format.open_memmap(folder / "audio.npy", "w+", np.int16, (len(jobs), first.num_samples))
    table: list[dict[str, Any]] = []
    for row, (name, index, settings) in enumerate(Bar(jobs, desc="render", unit="clip")):
        scene = draw(settings, seed, name, index)
        frames, masks = render_frames(scene)
        video[row] = frames.transpose(0, 3, 1, 2)
        audio[row] = np.round(render_audio(scene).clip(-1, 1) * 32767)
        truth = scene_truth(scene, masks)
        instant = shapes_instant(truth, row, sampling.video_seconds)
        at, start = np.zeros((MOST_OBJECTS, settings.height, settings.width), dtype=bool), np.nan
        if instant is not None and instant.is_positive:
            assert instant.seconds is not None, "a moving clip"
            start = instant.seconds - sampling.video_seconds / 2
            objects = visible_objects(truth, instant.seconds)
            at[: len(objects)] = objects
        sounding = scene.objects[scene.sounding[0]] if scene.sounding else None
        table.append(
            {
                "ids": f"{name}/{index:06d}",
                "split": name,
                "kind": sounding.kind if sounding else "",
                "action": sounding.action if sounding else "",
                "num_objects": len(scene.objects),
                "nuisance": scene.nuisance,
                "point_start": start,
                "masks": at,
            }
        )
    np.savez(folder / "table.npz", **{name: np.array([row[name] for row in table]) for name in table[0]})


def window_batch(
    world: Clips, rows: np.ndarray, start_seconds: np.ndarray, sampling: ClipSampling, index: BatchIndex
) -> Batch:
    """Return the raw batch of one window per row; video and audio begin at the same time."""
    settings = world.settings
    at = start_seconds[:, None] + np.arange(sampling.num_frames) / sampling.frames_per_second
    frames = np.clip((at * settings.video_fps + 1e-6).astype(np.int64), 0, settings.num_frames - 1)
    count = round(sampling.audio_seconds * settings.sample_rate_hz)
    first = np.round(start_seconds * settings.sample_rate_hz).astype(np.int64)
    first = np.clip(first, 0, settings.num_samples - count)
    video = np.stack([world.video[row][frame] for row, frame in zip(rows, frames, strict=True)])
    audio = np.stack([world.audio[row, start : start + count] for row, start in zip(rows, first, strict=True)])
    valid_hw = torch.tensor([[settings.height, settings.width]]).expand(len(rows), 2)
    return Batch(torch.from_numpy(video), torch.from_numpy(audio).float() / 32767, index, valid_hw)


def _span(world: Clips, sampling: ClipSampling) -> float:
    """Return the range of window starts in seconds."""
    window = max(sampling.num_frames / sampling.frames_per_second, sampling.audio_seconds)
    return world.settings.num_frames / world.settings.video_fps - window


class MemoryLoader:
    """Endless stream of batches: every epoch has all rows in a new order, each with a new random window."""

    def __init__(self, world: Clips, rows: np.ndarray, batch_size: int, seed: int, sampling: ClipSampling) -> None:
        if len(rows) < batch_size:
            raise ValueError(f"batch_size ({batch_size}) is larger than the {len(rows)} rows.")
        self.world, self.rows, self.batch_size, self.seed, self.sampling = world, rows, batch_size, seed, sampling
        self.id_keys = text_keys(world.ids[rows])
        self.steps_per_epoch = len(rows) // batch_size
        self.step = 0

    def __iter__(self) -> Iterator[Batch]:
        while True:
            number, place = divmod(self.step, self.steps_per_epoch)
            order = epoch_order(self.seed, number, self.id_keys)
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
            key = clip_key(self.seed, number, self.id_keys[chosen])
            steps = int(_span(self.world, self.sampling) * self.world.settings.video_fps) + 1
            start = integers(key, "window", 1, steps)[:, 0].numpy() / self.world.settings.video_fps
            self.step += 1
            yield window_batch(
                self.world, self.rows[chosen.numpy()], start, self.sampling, BatchIndex(chosen, chosen, key)
            )

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def fixed_batches(
    world: Clips, rows: np.ndarray, sampling: ClipSampling, start_seconds: np.ndarray | None = None, batch: int = 50
) -> Iterator[Batch]:
    """Yield one window of each row, in order: the middle one, or the one at ``start_seconds``."""
    start = np.full(len(rows), _span(world, sampling) / 2) if start_seconds is None else start_seconds
    for first in range(0, len(rows), batch):
        part = slice(first, first + batch)
        place: Tensor = torch.arange(len(rows))[part]
        key = clip_key(0, 0, text_keys(world.ids[rows[part]]))
        yield window_batch(world, rows[part], start[part], sampling, BatchIndex(place, place, key))
