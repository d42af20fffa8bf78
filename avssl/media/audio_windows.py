"""Read several windows of one audio stream, decoding each sample once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor

from avssl.media.reader import MediaReader


def read_audio_windows(
    reader: MediaReader, spans: Sequence[tuple[float, float]], sample_rate_hz: int
) -> Iterator[Tensor]:
    """Yield the mono audio of windows, each equal to the result of :meth:`MediaReader.read_audio`.

    Windows that overlap are cut from one read; up to a sample beyond the stream's end is silence.

    Args:
        reader: An open file with audio.
        spans: (start, stop) of each window in seconds, in any order.
        sample_rate_hz: Rate to resample to.

    Yields:
        (S,) float32 for each window, in the order given.

    Raises:
        MediaError: See :meth:`MediaReader.read_audio`.

    Example:
        >>> with open_media("video.mp4") as reader:
        ...     windows = list(read_audio_windows(reader, [(0.0, 1.0), (0.5, 1.0)], sample_rate_hz=16000))
        >>> len(windows[1]), torch.equal(windows[0][8000:], windows[1])
        (8000, True)
    """
    origin, end = reader.info.audio_start_seconds or 0.0, reader.info.audio_stop_seconds or 0.0
    # Positions on the stream's grid, so that rounding is the same as for each window alone.
    firsts = [max(0, round((start - origin) * sample_rate_hz)) for start, _ in spans]
    counts = [round((stop - start) * sample_rate_hz) for start, stop in spans]
    windows = [(first, first + count) for first, count in zip(firsts, counts, strict=True)]
    total = max(1, round((end - origin) * sample_rate_hz))
    runs: dict[tuple[int, int], Tensor] = {}
    for low, high in _runs(windows):
        start, stop = (origin + position / sample_rate_hz for position in (low, min(high, total)))
        runs[low, high] = reader.read_audio(start, stop, sample_rate_hz, num_channels=1)[0]
    for first, stop in windows:
        low, samples = next((low, run) for (low, high), run in runs.items() if low <= first and stop <= high)
        window = samples[first - low : stop - low]
        yield F.pad(window, (0, stop - first - len(window)))


def _runs(windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join overlapping windows, in ascending order."""
    runs: list[tuple[int, int]] = []
    for first, stop in sorted(windows):
        if runs and first <= runs[-1][1]:
            runs[-1] = runs[-1][0], max(runs[-1][1], stop)
        else:
            runs.append((first, stop))
    return runs
