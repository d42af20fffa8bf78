"""Where in the picture is what is heard: cosine of a sound with every cell of the visual map.

A window slides over a whole video. At each instant the picture of the window and the sound around
its middle are embedded, and the map at that instant is kept::

    instants        .   .   .   .   .   .   .   .   .      every stride_seconds
    window of one           |=======:=======|              num_frames at frames_per_second
    sound of it             |=======:=======|              audio_seconds, the same middle
    visual cells            |   |   |   |   |              the two nearest in time, interpolated

Windows are shifted to lie inside the video, as in training; the map is then read at the instant's own
place in the window. Memory does not grow with the length of the video.

Dimensions: B windows, D embedding size, K heads of D / K channels, T' time cells, h and w cells, S steps
of the sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Batch, BatchIndex, Heatmap
from avssl.core.errors import InputError
from avssl.core.moments import matched_moments, mean_by_cell, unit_heads
from avssl.evaluation.localization import resize
from avssl.localization.windows import PictureWindows, Sampling, SoundSource, SoundWindows
from avssl.media import MediaReader


class SoundLocator(Protocol):
    """What a model must offer; :class:`avssl.models.AVModel` does."""

    @property
    def num_heads(self) -> int:
        """K: a cell fits a sound as well as the best of K groups of channels does."""

    def visual_cells(self, video: Tensor, /) -> Tensor:
        """(B, 3, T, H, W) to (B, D, T', h, w)."""

    def sound_queries(self, audio: Tensor, /) -> Tensor:
        """(B, 1, time, freq) to (B, D, S): of the sound as a whole (S = 1), or of its steps in time."""


def cosine_map(video_map: Tensor, audio: Tensor) -> Tensor:
    """Cosine similarity of each sound with every cell of its own video.

    Args:
        video_map: (B, D, T', h, w), of any scale and precision.
        audio: (B, D).

    Returns:
        (B, T', h, w) float32 in [-1, 1]; 0 where a cell or the sound is the zero vector.

    Raises:
        ValueError: If B or D differ.
    """
    if video_map.ndim != 5 or audio.ndim != 2 or video_map.shape[:2] != audio.shape:
        raise InputError(
            "video_map must be (B, D, T, h, w) and audio (B, D) of the same clips, "
            f"got {tuple(video_map.shape)} and {tuple(audio.shape)}."
        )
    return sound_map(F.normalize(video_map.float(), dim=1), audio[..., None])


def unit_cells(model: SoundLocator, video: Tensor) -> Tensor:
    """(B, D, T', h, w) float32: unit embeddings of the cells, averaged over the picture and its mirror image.

    They are of length 1 within each head. The average of two cosines is the cosine's sum with an
    averaged cell, so every sound can be compared with the result as with one map.

    Args:
        model: In evaluation mode.
        video: (B, 3, T, H, W) model input.
    """
    straight, mirrored = model.visual_cells(video), model.visual_cells(video.flip(-1)).flip(-1)
    both = unit_heads(straight, model.num_heads) + unit_heads(mirrored, model.num_heads)
    return (both / 2).flatten(1, 2)


def sound_map(cells: Tensor, queries: Tensor, num_heads: int = 1) -> Tensor:
    """How well each cell fits what is heard at its time: the highest cosine of any head.

    Args:
        cells: (B, D, T', h, w) from :func:`unit_cells`.
        queries: (B, D, S) sounds of the same clips and the same stretch of time, of any scale. One step
            (S = 1) is compared with every cell; more are matched to the cells at their time.
        num_heads: K, the model's.

    Returns:
        (B, T', h, w) float32 in [-1, 1]: the mean over the steps of a cell's time.

    Raises:
        ValueError: If B or D differ, or D is no multiple of K.
    """
    similarity, cell = _similarity(cells, queries, num_heads)
    return mean_by_cell(similarity.amax(dim=2), cell, cells.shape[2]).movedim(0, 1)


def head_maps(cells: Tensor, queries: Tensor, num_heads: int) -> Tensor:
    """As :func:`sound_map`, each head for itself: (B, K, T', h, w) float32 in [-1, 1].

    Heads learn to answer to different kinds of sounds, so the maps of two things that sound at once
    can lie in two heads.
    """
    similarity, cell = _similarity(cells, queries, num_heads)
    return mean_by_cell(similarity, cell, cells.shape[2]).movedim(0, 2)


def _similarity(cells: Tensor, queries: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    """(L, B, K, h, w) float32 cosines at L moments, and (L,) the time cell of each."""
    if cells.ndim != 5 or queries.ndim != 3 or cells.shape[:2] != queries.shape[:2]:
        raise InputError(
            "cells must be (B, D, T, h, w) and queries (B, D, S) of the same clips, "
            f"got {tuple(cells.shape)} and {tuple(queries.shape)}."
        )
    cell, step = matched_moments(cells.shape[2], queries.shape[2], cells.device)
    with torch.autocast(cells.device.type, enabled=False):  # bfloat16 would round cosines to 1/256
        sounds = unit_heads(queries, num_heads)
        places = cells.float().unflatten(1, (num_heads, -1))
        every = torch.einsum("bkdthw,bkds->bkthws", places, sounds).clamp(-1, 1)
    return every[:, :, cell, :, :, step], cell


def at_instant(cells: Tensor, queries: Tensor, frame: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """What is seen and what is heard at one instant of each window: little enough to be kept for every clip.

    Args:
        cells: (B, D, T', h, w) from :func:`unit_cells`.
        queries: (B, D, S) of the model.
        frame: (B,) instants as frame positions, as for :func:`maps_at`.
        num_frames: Frames in a window.

    Returns:
        Cells (B, D, 1, h, w) and queries (B, D, 1) for :func:`sound_map`, interpolated between the
        nearest time cells. A sound of one step stays as it is.
    """
    cell, step = matched_moments(cells.shape[2], queries.shape[2], cells.device)
    heard = mean_by_cell(queries[..., step].movedim(2, 0), cell, cells.shape[2])  # (T', B, D)
    seen_at = maps_at(cells.flatten(3).movedim(2, 1), frame, num_frames)  # (B, D, h * w)
    heard_at = maps_at(heard.movedim(0, 1)[..., None], frame, num_frames)  # (B, D, 1)
    return seen_at.unflatten(2, cells.shape[3:])[:, :, None], heard_at


def upsample(maps: Tensor, hw: tuple[int, int]) -> Tensor:
    """(..., h, w) to (..., H, W) float32: bilinear with half-pixel centers, as the metrics resize."""
    return resize(maps.reshape(-1, *maps.shape[-2:]), hw).view(*maps.shape[:-2], *hw)


SMOOTHING = 1
"""How often every map is smoothed; ``benchmarks/localization.py`` compares, on unseen clips."""


def smooth(maps: Tensor, times: int = SMOOTHING) -> Tensor:
    """(B, h, w): each cell averaged with its neighbors, by the binomial kernel (1, 2, 1) / 4 both ways.

    Training looks for the best cell and leaves its neighbors, whose views overlap with its own,
    uneven. The average covers an object as a whole; a single cell points at a detail of it.

    Args:
        maps: (B, h, w).
        times: How often.
    """
    kernel = torch.tensor([1.0, 2.0, 1.0], device=maps.device) / 4
    kernel = (kernel[:, None] * kernel)[None, None]
    for _ in range(times):
        # Edges are continued: with zeros, or with fewer cells, the map would sink or rise there.
        maps = F.conv2d(F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]
    return maps


def maps_at(maps: Tensor, frame: Tensor, num_frames: int) -> Tensor:
    """The map at one instant of each window, interpolated between the nearest time cells.

    Args:
        maps: (B, T', h, w) over windows of ``num_frames`` frames; a cell stands for the middle of its
            ``num_frames / T'`` frames.
        frame: (B,) instants as frame positions, 0 for the first; need not be whole.
        num_frames: Frames in a window.

    Returns:
        (B, h, w).
    """
    cells = maps.shape[1]
    place = ((frame.to(maps) + 0.5) * cells / num_frames - 0.5).clamp(0, cells - 1)
    before = place.floor().long()
    after = (before + 1).clamp(max=cells - 1)
    row = torch.arange(len(maps), device=maps.device)
    return torch.lerp(maps[row, before], maps[row, after], (place - before)[:, None, None])


def localize(
    reader: MediaReader,
    model: SoundLocator,
    transform: Callable[[Batch], Batch],
    sampling: Sampling,
    *,
    stride_seconds: float = 0.25,
    audio_from: SoundSource = None,
    stop_after_seconds: float | None = None,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> Heatmap:
    """The heat map of a whole video, of any length.

    Args:
        reader: The video.
        model: In evaluation mode, on ``device``.
        transform: Raw batch to model input, in evaluation mode and on ``device``; must keep the whole
            picture (``VideoEval(crop="full")``), because the map is drawn over all of it.
        sampling: The window the model was trained with.
        stride_seconds: Time from one map to the next, > 0.
        audio_from: Whose sound to look for: None for the video's own, another file's (from its start;
            silence once it has ended), ``"silence"``, or white ``"noise"``. A model that listens
            changes its map.
        stop_after_seconds: Stop this long after the first frame; None goes to the end.
        batch_size: Windows embedded at a time.
        device: Where the model is.
        on_progress: Called with (maps done, maps in all) after each batch.

    Returns:
        One map every ``stride_seconds``, the first half a stride after the first frame, on the CPU; also
        that of each head, which shows things that sound at once apart.

    Raises:
        MediaError: If there is no picture or no sound, or a stretch cannot be decoded.
        ValueError: If an option is out of range or ``model`` or ``transform`` is in training mode.
    """
    return localize_each(
        reader,
        model,
        transform,
        sampling,
        [audio_from],
        stride_seconds=stride_seconds,
        stop_after_seconds=stop_after_seconds,
        batch_size=batch_size,
        device=device,
        on_progress=on_progress,
    )[0]


@torch.inference_mode()
def localize_each(
    reader: MediaReader,
    model: SoundLocator,
    transform: Callable[[Batch], Batch],
    sampling: Sampling,
    sounds: Sequence[SoundSource],
    *,
    stride_seconds: float = 0.25,
    stop_after_seconds: float | None = None,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Heatmap]:
    """The heat maps of one video for several sounds; its pictures are looked at once.

    Args:
        sounds: Whose, at least one; each as ``audio_from`` of :func:`localize`. So are all other arguments.

    Returns:
        One map a sound.
    """
    check_evaluation(model, transform, stride_seconds, batch_size)
    pictures = PictureWindows(reader, sampling, stop_after_seconds)
    windows = [SoundWindows(reader, sound) for sound in sounds]
    instants = pictures.instants(stride_seconds)
    starts = pictures.starts(instants)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in sounds]
    batches = zip(instants.split(batch_size), starts.split(batch_size), pictures.read(starts, batch_size), strict=True)
    for part, begin, frames in batches:
        heard = [each.around(part, sampling.audio_seconds, sampling.sample_rate_hz) for each in windows]
        inputs = [transform(raw_batch(frames, sound).to(device)) for sound in heard]
        seen, place = unit_cells(model, inputs[0].video), (part - begin) * sampling.frames_per_second
        for batch, maps in zip(inputs, found, strict=True):
            maps.append(_maps_at(seen, model.sound_queries(batch.audio), model.num_heads, place, sampling.num_frames))
        if on_progress is not None:
            on_progress(sum(len(values) for values, _ in found[0]), len(instants))
    # Inference tensors refuse in-place work outside this mode; a clone made outside is an ordinary tensor.
    with torch.inference_mode(False):
        heats = [[torch.cat(parts).clone() for parts in zip(*maps, strict=True)] for maps in found]
        return [Heatmap(heat, instants.clone(), heat.amax(dim=(1, 2)), heads) for heat, heads in heats]


def _maps_at(seen: Tensor, heard: Tensor, num_heads: int, frame: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """(B, h, w) of the best head and (B, K, h, w) of each, at an instant of each window, on the CPU."""
    best = _smooth_at(sound_map(seen, heard, num_heads), frame, num_frames)
    by_head = head_maps(seen, heard, num_heads).unbind(dim=1)
    return best, torch.stack([_smooth_at(maps, frame, num_frames) for maps in by_head], dim=1)


def _smooth_at(maps: Tensor, frame: Tensor, num_frames: int) -> Tensor:
    """(B, T', h, w) to (B, h, w) at an instant of each, on the CPU."""
    return smooth(maps_at(maps.cpu(), frame, num_frames))


def heatmap_readout(heatmap: Heatmap, frame_hw: tuple[int, int]) -> list[dict[str, float]]:
    """The peak of every map, as plain numbers for JSON.

    Args:
        heatmap: T maps.
        frame_hw: Height and width of the upright frame in pixels.

    Returns:
        T dicts: ``second`` (presentation time), ``x`` and ``y`` (middle of the peak cell in pixels
        from the left and top edges) and ``confidence`` (its cosine). The mean place where peaks tie.
    """
    height, width = heatmap.values.shape[1:]
    peak = (heatmap.values == heatmap.confidence[:, None, None]).double()
    count = peak.sum(dim=(1, 2))
    y = (peak.sum(dim=2) * (torch.arange(height) + 0.5)).sum(dim=1) / count * (frame_hw[0] / height)
    x = (peak.sum(dim=1) * (torch.arange(width) + 0.5)).sum(dim=1) / count * (frame_hw[1] / width)
    columns = [v.tolist() for v in (heatmap.at_seconds, x, y, heatmap.confidence)]
    names = ("second", "x", "y", "confidence")
    return [dict(zip(names, (round(v, 4) for v in row), strict=True)) for row in zip(*columns, strict=True)]


def raw_batch(frames: Tensor, sound: Tensor) -> Batch:
    """(B, T, 3, H, W) frames of one video and (B, S) sounds as a batch that has no place in a manifest."""
    none = torch.zeros(len(frames), dtype=torch.int64)
    valid_hw = torch.tensor(frames.shape[-2:]).expand(len(frames), 2)
    return Batch(frames, sound, BatchIndex(none, none, none), valid_hw)


def check_evaluation(
    model: object, transform: Callable[[Batch], Batch], stride_seconds: float, batch_size: int = 1
) -> None:
    """Refuses what would give random or endless results.

    Raises:
        ValueError: If ``model`` or ``transform`` is in training mode, or a number is out of range.
    """
    for name, module in (("model", model), ("transform", transform)):
        if getattr(module, "training", False):
            raise InputError(
                f"{name} is in training mode, which is random and changes its statistics. Call {name}.eval()."
            )
    if not stride_seconds > 0:
        raise InputError(f"stride_seconds ({stride_seconds}) must be greater than 0.")
    if batch_size < 1:
        raise InputError(f"batch_size ({batch_size}) must be at least 1.")
