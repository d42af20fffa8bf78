"""Cut a long file into rows, without the time in which it holds nothing to learn from.

Where both streams pause (a camera that records on motion) there is no row, and the seconds are counted. What is
recorded of a short file is judged as a whole. The rows of a long one are judged one by one: there is none where the
frames stand still or the audio is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from avssl.core.errors import InputError
from avssl.media import MediaInfo
from avssl.media.errors import Reason

Span = tuple[float, float]
"""(start, stop) in presentation seconds."""


@dataclass(frozen=True)
class Segments:
    """Length of the rows that long files are cut into.

    Raises:
        ValueError: If a length is not positive.
    """

    seconds: float = 10.0
    """Length of the consecutive rows of a long file."""
    over_seconds: float = 30.0
    """Files longer than this are cut; infinity cuts none."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError(f"segment_seconds ({self.seconds}) must be greater than 0.")
        if not self.over_seconds > 0:
            raise InputError(f"segment_over_seconds ({self.over_seconds}) must be greater than 0.")

    def are_cut(self, info: MediaInfo) -> bool:
        """Return True if a file is long."""
        start, stop = common_span(info)
        return stop - start > self.over_seconds

    def rows(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Yield the rows of each span from its start on; the rest is a row if it is at least half as long as one."""
        for start, stop in spans:
            number = 0
            # 34 s in segments of 10 s: [0, 10) [10, 20) [20, 30), and 4 s are less than half a segment.
            while (left := stop - (begin := start + number * self.seconds)) >= self.seconds / 2:
                yield begin, begin + min(left, self.seconds)
                number += 1


@dataclass(frozen=True)
class LeftOut:
    """Time of a file without a row."""

    start_seconds: float
    """Its start."""
    stop_seconds: float
    """Its end."""
    reason: Reason
    """Its fault."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.stop_seconds - self.start_seconds


def common_span(info: MediaInfo) -> Span:
    """Return (start, stop) of the time in which all streams of a header play; one must exist."""
    starts = (info.video_start_seconds, info.audio_start_seconds)
    stops = (info.video_stop_seconds, info.audio_stop_seconds)
    return max(s for s in starts if s is not None), min(s for s in stops if s is not None)


def without(span: Span, holes: Iterable[Span]) -> list[Span]:
    """Return what is left of a span between ascending, disjoint holes."""
    edges = [span[0], *(edge for hole in holes for edge in hole), span[1]]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, stop) for start, stop in pairs if stop > start]


def split(spans: Iterable[Span], times: Sequence[float]) -> list[Span]:
    """Return spans none of which holds one of some ascending times, except as its start."""
    parts = []
    for start, stop in spans:
        edges = [start, *(time for time in times if start < time < stop), stop]
        parts += list(pairwise(edges))
    return parts


def long_parts(spans: Sequence[Span], min_seconds: float) -> tuple[list[Span], list[LeftOut]]:
    """Return the spans that are long enough for a row, and the others."""
    is_long = [stop - start >= min_seconds - 1e-3 for start, stop in spans]
    usable = [span for span, long in zip(spans, is_long, strict=True) if long]
    short = [span for span, long in zip(spans, is_long, strict=True) if not long and not _meet(*span)]
    return usable, [LeftOut(*span, "too_short") for span in short]


def judge_rows(
    spans: Sequence[Span], segments: Segments, fault: Callable[[float, float], Reason | None]
) -> tuple[list[Span], list[LeftOut]]:
    """Judge each row of some spans.

    Args:
        spans: Recorded time.
        segments: How it is cut.
        fault: The reason for which a row cannot be used, or None.

    Returns:
        The spans of usable rows, which are cut into these rows again, and the rest.
    """
    usable: list[Span] = []
    left_out: list[LeftOut] = []
    for start, stop in spans:
        reached = start
        for begin, end in segments.rows([(start, stop)]):
            reached = end
            reason = fault(begin, end)
            if reason is not None:
                _extend(left_out, LeftOut(begin, end, reason))
            elif usable and begin > start and _meet(usable[-1][1], begin):
                usable[-1] = usable[-1][0], end
            else:
                usable.append((begin, end))
        if not _meet(stop, reached):
            _extend(left_out, LeftOut(reached, stop, "too_short"))
    return usable, left_out


def _extend(left_out: list[LeftOut], more: LeftOut) -> None:
    last = left_out[-1] if left_out else None
    if last and last.reason == more.reason and _meet(last.stop_seconds, more.start_seconds):
        left_out[-1] = LeftOut(last.start_seconds, more.stop_seconds, more.reason)
    else:
        left_out.append(more)


def _meet(one: float, other: float) -> bool:
    """Return True for the same time but for rounding; holes are much longer."""
    return abs(one - other) < 1e-3
