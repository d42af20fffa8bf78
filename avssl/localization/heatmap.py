"""Heat maps of a whole video: positions of the sounding objects.

A window slides over the video. At each point in time the frames of the window and the audio around its middle are
encoded, and the map at that point is kept::

    points in time          .   .   .   .   .   .   .   .   .      every stride_seconds
    window of one           |=======:=======|              num_frames at frames_per_second
    audio of it             |=======:=======|              audio_seconds, the same middle
    video cells             |   |   |   |   |              the two nearest in time, interpolated

Windows are shifted to lie inside the video, as in training; the map is then read at its own position in the window.
Memory does not grow with the length of the video.

Dimensions: B windows, D embedding size, K heads, T' time cells, h and w cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from avssl.core.batch import Heatmap
from avssl.core.errors import InputError
from avssl.localization.similarity import cell_similarity, maps_at, smooth
from avssl.localization.windows import AudioSource, AudioWindows, FrameWindows, Sampling
from avssl.media import MediaReader


class Locator(Protocol):
    """A model that compares audio with the cells of a video; :class:`avssl.models.ClipEncoder` implements it."""

    @property
    def num_heads(self) -> int:
        """K."""

    @property
    def frames_alone(self) -> bool:
        """True if the cells of a frame do not depend on the other frames of its clip."""

    def video_input(self, video: Tensor, /) -> Tensor:
        """(B, T, 3, H, W) uint8 frames to model input."""

    def audio_input(self, waveforms: Tensor, /) -> Tensor:
        """(B, S) waveforms to model input."""

    def cells(self, video: Tensor, /) -> Tensor:
        """Model input to (B, D, T', h, w)."""

    def queries(self, audio: Tensor, /) -> Tensor:
        """Model input to (B, D, steps)."""


@torch.no_grad()
def sliding_heatmaps(
    reader: MediaReader,
    encoder: Locator,
    sampling: Sampling,
    sounds: Sequence[AudioSource | Tensor] = (None,),
    *,
    stride_seconds: float,
    stop_after_seconds: float | None = None,
    batch_size: int = 8,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Heatmap]:
    """Compute the heat maps of a video of any length under one or several sounds; its frames are encoded once.

    Args:
        reader: The video.
        encoder: The model with its preprocessing, which must keep the whole frame (``crop="full"``), because the map is
            drawn over all of it.
        sampling: The window the model was trained with.
        sounds: At least one: None for the video's own audio, another file (from its start; silence once it has ended),
            ``"silence"`` or ``"noise"``; or in place of a sound a (D,) embedding, such as that of a text, which is
            compared with all frames. A model that uses the audio changes its map.
        stride_seconds: Time from one map to the next, > 0.
        stop_after_seconds: Stop this long after the first frame; None goes to the end.
        batch_size: Windows that pass the model at a time, >= 1.
        on_progress: Called with (maps done, maps in all) after each batch.

    Returns:
        For each sound one map every ``stride_seconds``, the first half a stride after the first frame, on the CPU; also
        the map of each head, which separates things that sound at once.

    Raises:
        MediaError: If there is no video or audio stream, or a part of it cannot be decoded.
        InputError: If an option is out of range.

    Example:
        >>> pretrained = avssl.from_pretrained("runs/first", crop="full")
        >>> with avssl.open_media("video.mp4") as reader:
        ...     own, silent = sliding_heatmaps(
        ...         reader, pretrained.encoder(), pretrained.sampling, (None, "silence"), stride_seconds=0.5
        ...     )
        >>> own.at_seconds.tolist()
        [0.25, 0.75, 1.25, 1.75]
    """
    if not stride_seconds > 0:
        raise InputError(f"stride_seconds ({stride_seconds}) must be greater than 0.")
    if batch_size < 1:
        raise InputError(f"batch_size ({batch_size}) must be at least 1.")
    frame_windows = FrameWindows(reader, sampling, stop_after_seconds)
    queries = [_Queries(reader, encoder, sampling, sound) for sound in sounds]
    instants = frame_windows.instants(stride_seconds)
    starts = frame_windows.starts(instants)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in sounds]
    every_cells = _every_cells(frame_windows, starts, encoder, batch_size, sampling.num_frames)
    for part, begin, cells in zip(instants.split(batch_size), starts.split(batch_size), every_cells, strict=True):
        position = (part - begin) * sampling.frames_per_second
        for asked, maps in zip(queries, found, strict=True):
            maps.append(_maps_at(cells, asked.around(part), encoder.num_heads, position, sampling.num_frames))
        if on_progress is not None:
            on_progress(sum(len(values) for values, _ in found[0]), len(instants))
    heats = [[torch.cat(parts) for parts in zip(*maps, strict=True)] for maps in found]
    return [Heatmap(heat, instants.clone(), heat.amax(dim=(1, 2)), heads) for heat, heads in heats]


class _Queries:
    """The queries of one sound, or of one embedding in its place, around points in time of a video."""

    def __init__(self, reader: MediaReader, encoder: Locator, sampling: Sampling, sound: AudioSource | Tensor) -> None:
        self._encoder, self._sampling = encoder, sampling
        self._sound = sound if isinstance(sound, Tensor) else AudioWindows(reader, sound)

    def around(self, instants: Tensor) -> Tensor:
        """Return the (B, D, S) queries at (B,) points in time."""
        if isinstance(self._sound, Tensor):
            return self._sound[None, :, None].expand(len(instants), -1, -1)
        waveform = self._sound.around(instants, self._sampling.audio_seconds, self._sampling.sample_rate_hz)
        # Near the ends of a file several windows are the same one.
        different, place = torch.unique_consecutive(waveform, dim=0, return_inverse=True)
        queries = self._encoder.queries(self._encoder.audio_input(different))
        return queries[place.to(queries.device)]


def _every_cells(
    windows: FrameWindows, starts: Tensor, encoder: Locator, batch_size: int, num_frames: int
) -> Iterator[Tensor]:
    """Yield the (B, D, T', h, w) cells of windows in batches; frames that are encoded alone are encoded once."""
    if num_frames == 1 or not encoder.frames_alone:
        for frames in windows.read(starts, batch_size):
            yield encoder.cells(encoder.video_input(frames))
        return
    known: dict[int, Tensor] = {}  # (D, 1, h, w) by the number of the frame
    for rows, held in windows.read_once(starts, batch_size):
        known = {number: cells for number, cells in known.items() if number in held}
        new = sorted({number for row in rows for number in row} - set(known))
        for start in range(0, len(new), batch_size):
            part = new[start : start + batch_size]
            cells = encoder.cells(encoder.video_input(torch.stack([held[number] for number in part])[:, None]))
            known.update(zip(part, cells, strict=True))
        yield torch.stack([torch.cat([known[number] for number in row], dim=1) for row in rows])


def _maps_at(cells: Tensor, queries: Tensor, num_heads: int, frame: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return (B, h, w) of the best head and (B, K, h, w) of each at one point in time of each window, on the CPU."""
    similarity = cell_similarity(cells, queries, num_heads)
    by_head = similarity.by_head().unbind(dim=1)
    best, *heads = (smooth(maps_at(maps.cpu(), frame, num_frames)) for maps in (similarity.best(), *by_head))
    return best, torch.stack(heads, dim=1)


def heatmap_readout(heatmap: Heatmap, frame_hw: tuple[int, int]) -> list[dict[str, float]]:
    """Return the peak of every map as plain numbers for JSON.

    Args:
        heatmap: T maps.
        frame_hw: Height and width of the upright frame in pixels.

    Returns:
        T dicts: ``second`` (presentation time), ``x`` and ``y`` (middle of the peak cell in pixels from the left and
        top edges; the mean of peaks that tie) and ``confidence`` (cosine of the peak).

    Example:
        >>> heatmap = Heatmap(torch.tensor([[[0.0, 0.5]]]), torch.tensor([1.5]).double(), torch.tensor([0.5]))
        >>> heatmap_readout(heatmap, frame_hw=(100, 200))
        [{'second': 1.5, 'x': 150.0, 'y': 50.0, 'confidence': 0.5}]
    """
    height, width = heatmap.values.shape[1:]
    peak = (heatmap.values == heatmap.confidence[:, None, None]).double()  # (T, h, w)
    count = peak.sum(dim=(1, 2))
    y = (peak.sum(dim=2) * (torch.arange(height) + 0.5)).sum(dim=1) / count * (frame_hw[0] / height)
    x = (peak.sum(dim=1) * (torch.arange(width) + 0.5)).sum(dim=1) / count * (frame_hw[1] / width)
    columns = [v.tolist() for v in (heatmap.at_seconds, x, y, heatmap.confidence)]
    names = ("second", "x", "y", "confidence")
    return [dict(zip(names, (round(v, 4) for v in row), strict=True)) for row in zip(*columns, strict=True)]
