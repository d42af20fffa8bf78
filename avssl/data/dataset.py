"""Decode clips from the rows of a manifest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core import draws
from avssl.core.batch import BatchIndex, Clip, Modality
from avssl.core.manifest import Manifest
from avssl.core.needs import TemporalWindows
from avssl.data.file_stamps import check_unchanged
from avssl.data.row_errors import row_errors
from avssl.data.row_files import open_row, row_limits
from avssl.data.sampling import (
    SLACK_SECONDS,
    ClipSampling,
    Span,
    even_windows,
    missing_for_windows,
    missing_seconds,
    sample_other_windows,
    sample_windows,
    spaced_windows,
)
from avssl.data.shards.storage import RangeReader
from avssl.media import MediaError, MediaInfo, MediaReader, read_audio_windows
from avssl.media.backends import BackendName, resolve_backend
from avssl.media.errors import Reason
from avssl.media.limits import MediaLimits
from avssl.media.prepared.reader import Decoders, PreparedReader

_INSIDE_SECONDS = 1e-4
"""Offset before the end of a span at which its last frame is still shown, at up to 10 000 fps."""


class ClipDataset:
    """Reads clips of one shape from the files of a manifest.

    Each call opens the file of a row, or its image and its audio, and closes it again, so any number of rows needs few
    handles; a few shards of a prepared corpus stay open. Reading changes no state that matters, so worker processes
    share the dataset.

    Args:
        manifest: The rows: media files, or a prepared corpus, whose clips come as luma and chroma planes at the
            size they were prepared in.
        sampling: The shape of a clip and the rule for its window.
        seed: Random seed for windows and, through the batch's keys, for the transforms.
        backend: Decoder of media files; "auto" is the fastest that loads.
        limits: Limits on media files; see :func:`~avssl.data.row_files.open_row`.
        windows: Windows of each training clip at several times, one after another in ``video`` and ``audio``; None for
            one window. Evaluation clips have one.

    Example:
        >>> sampling = ClipSampling(num_frames=4, audio_seconds=1.0, sample_rate_hz=16_000)
        >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), sampling, seed=0)
        >>> clip = dataset.read(row=3, epoch=0)
        >>> clip.id, tuple(clip.video.shape), tuple(clip.audio.shape)
        ('train/000003', (4, 3, 48, 48), (16000,))
    """

    stream: Modality | None = None
    """The only stream that is read; None for both."""

    def __init__(
        self,
        manifest: Manifest,
        sampling: ClipSampling,
        seed: int = 0,
        *,
        backend: BackendName = "auto",
        limits: MediaLimits | None = None,
        windows: TemporalWindows | None = None,
    ) -> None:
        self.manifest = manifest
        self.sampling = sampling
        self.windows = windows
        self._placing = sampling  # decides where windows lie and which rows are too short
        self.seed = seed
        self.backend = resolve_backend(backend)
        self.limits = limits or MediaLimits()
        self.id_keys = torch.from_numpy(manifest.keys.ids())
        """(N,) int64: a stable key of each row's id."""
        self.is_prepared = "shard_header_bytes" in manifest
        """True if rows are clips in shards."""
        self._shards, self._decoders = RangeReader(), Decoders()

    def __len__(self) -> int:
        return len(self.manifest)

    @cached_property
    def groups(self) -> Tensor:
        """(N,) int64: equal for rows of the same file."""
        return torch.from_numpy(self.manifest.keys.files())

    def read(self, row: int, epoch: int, clip_number: int = 0) -> Clip:
        """Read the training clip of a row: a random window that depends only on the seed and the arguments.

        Args:
            row: Position in the manifest.
            epoch: Number of the epoch, >= 0.
            clip_number: Number of the clip of this row in this epoch, >= 0.

        Raises:
            MediaError: If the file cannot be read, lacks a stream, or is too short (reason
                "too_short", unless ``sampling.short_clips`` is "repeat").
        """
        return self.read_clips(row, epoch, [clip_number])[0]

    def read_clips(self, row: int, epoch: int, clip_numbers: Sequence[int]) -> list[Clip]:
        """Read several training clips of a row, decoded together; results and errors are those of :meth:`read`."""
        id_key = int(self.id_keys[row])
        keys = [draws.clip_key_int(self.seed, epoch, id_key, number) for number in clip_numbers]
        with self._open(row) as reader:
            spans = self._spans(reader.info, row)
            if self.windows is None:
                return self._cut(reader, row, clip_numbers, _single(*sample_windows(keys, self._placing, *spans)))
            missing = missing_for_windows(self.windows, self._placing, *spans)
            if missing > 0:
                raise self._too_short_for_windows(reader.info, spans, missing)
            starts = sample_other_windows(keys, self.windows, self._placing, *spans)
            return self._cut(reader, row, clip_numbers, starts)

    def read_even(self, row: int, count: int) -> list[Clip]:
        """Read ``count`` evenly spaced evaluation clips of a row; see :func:`~avssl.data.even_windows`."""
        with self._open(row) as reader:
            starts = even_windows(count, self._placing, *self._spans(reader.info, row))
            return self._cut(reader, row, range(count), _single(*starts))

    def read_windows(
        self, row: int, video_starts: Sequence[float], audio_starts: Sequence[float], first_number: int = 0
    ) -> list[Clip]:
        """Read clips at given times, decoded together.

        Args:
            row: Position in the manifest.
            video_starts: Presentation times of the first frames, in seconds.
            audio_starts: Presentation times of the first samples, in seconds.
            first_number: Number of the first clip in this row.

        Raises:
            MediaError: See :meth:`read`; also if a clip leaves the file (reason "out_of_range"), as it is not moved.
        """
        numbers = range(first_number, first_number + len(video_starts))
        with self._open(row) as reader:
            self._spans(reader.info, row)
            return self._cut(reader, row, numbers, _single(audio_starts, video_starts))

    def place_windows(self, row: int, every_seconds: float) -> tuple[list[float], list[float]]:
        """Return the starts of :func:`~avssl.data.spaced_windows` over the whole row; reads only the header."""
        with self._open(row) as reader:
            audio_starts, video_starts = spaced_windows(every_seconds, self._placing, *self._spans(reader.info, row))
        return video_starts, audio_starts

    def span(self, clip: Clip) -> Span:
        """Return (start, stop) in seconds of the frames and the audio of a clip, or of the only stream that is read."""
        spans = {
            "video": (clip.video_start_seconds, clip.video_start_seconds + self.sampling.video_seconds),
            "audio": (clip.audio_start_seconds, clip.audio_start_seconds + self.sampling.audio_seconds),
        }
        starts, stops = zip(*(spans.values() if self.stream is None else [spans[self.stream]]), strict=True)
        return min(starts), max(stops)

    def read_thumbnails(self, row: int, count: int, short_side: int) -> Tensor:
        """Read frames of a row to look at, each from the middle of one of ``count`` equal parts.

        Args:
            row: Position in the manifest.
            count: Number of frames, >= 1.
            short_side: Size of the shorter side in pixels; frames are never enlarged.

        Returns:
            (count, 3, H, W) uint8 RGB.

        Raises:
            MediaError: If the file cannot be read, or the row holds no video.
        """
        with self._open(row) as reader:
            info, (first, last) = reader.info, self._row_span(row)
            start, stop = stream_span(info, "video", info.video_start_seconds, info.video_stop_seconds)
            start, stop = max(start, first), min(stop, last)
            if start >= stop:
                found, advice = "the row holds no video.", "Correct its start_seconds and stop_seconds."
                raise MediaError(info.path, "video", "too_short", found, advice, first)
            times = [start + (i + 0.5) / count * (stop - start) for i in range(count)]
            # Enlarging a frame one pixel high would need too much memory.
            return reader.read_frames(times, min(short_side, info.width or 1, info.height or 1))

    def index(self, rows: Sequence[int], epoch: int, clip_numbers: Sequence[int]) -> BatchIndex:
        """Return the BatchIndex (rows, groups, random keys) of these clips."""
        row = torch.tensor(rows, dtype=torch.int64)
        number = torch.tensor(clip_numbers, dtype=torch.int64)
        return BatchIndex(
            row,
            torch.from_numpy(self.manifest.keys.files_of(rows)),
            draws.clip_key(self.seed, epoch, self.id_keys[row], number),
        )

    @contextmanager
    def _open(self, row: int) -> Iterator[MediaReader]:
        """Open the file of a row; whatever is raised while it is open becomes a MediaError."""
        with row_errors(self.manifest.name(row)), self._reader(row) as reader:
            yield reader

    def _reader(self, row: int) -> MediaReader:
        if self.is_prepared:
            check_unchanged(self.manifest, row)
            shard = self.manifest.location(row)
            offset, header_bytes = (
                int(self.manifest.value(row, name) or 0) for name in ("shard_offset", "shard_header_bytes")
            )
            name = f"{shard}: {self.manifest.value(row, 'id')}"
            limits = row_limits(self.manifest, row, self.limits)
            return PreparedReader(partial(self._shards.read, shard), name, offset, header_bytes, self._decoders, limits)
        return open_row(
            self.manifest,
            row,
            self.backend,
            stream=self.stream,
            image_seconds=self._placing.video_seconds,
            limits=self.limits,
            ranges=self._shards,
        )

    def _spans(self, info: MediaInfo, row: int) -> tuple[Span, Span, Span]:
        """Return (start, stop) of video, audio and row, after checking that they hold a window."""
        video, audio = self._stream_spans(info)
        span = self._row_span(row)
        self._check_length(info, video, audio, span)
        return video, audio, span

    def _stream_spans(self, info: MediaInfo) -> tuple[Span, Span]:
        """Return (start, stop) of video and audio."""
        video = stream_span(info, "video", info.video_start_seconds, info.video_stop_seconds)
        return video, stream_span(info, "audio", info.audio_start_seconds, info.audio_stop_seconds)

    def _row_span(self, row: int) -> tuple[float, float]:
        return self._number(row, "start_seconds", -math.inf), self._number(row, "stop_seconds", math.inf)

    def _number(self, row: int, name: str, empty: float) -> float:
        """Return a number of a row, or ``empty`` if its cell is."""
        value = self.manifest.value(row, name)
        return empty if value is None else float(value)

    def _check_length(
        self, info: MediaInfo, video: tuple[float, float], audio: tuple[float, float], span: tuple[float, float]
    ) -> None:
        needed = {"video": self._placing.video_seconds, "audio": self._placing.audio_seconds}
        missing = dict(zip(needed, missing_seconds(self._placing, video, audio, span), strict=True))
        for stream, (start, stop) in (("video", video), ("audio", audio)):
            length = max(0.0, min(stop, span[1]) - max(start, span[0]))
            if length == 0.0 or (missing[stream] > 0 and self.sampling.short_clips == "error"):
                raise MediaError(
                    info.path,
                    stream,
                    "too_short",
                    f"the row holds {length:.3f} s, and a clip needs {needed[stream]:g} s.",
                    'Leave it out, or train with shorter clips or short_clips="repeat".',
                    max(start, span[0]),
                )

    def _too_short_for_windows(self, info: MediaInfo, spans: tuple[Span, Span, Span], missing: float) -> MediaError:
        assert self.windows is not None
        needed = self._placing.audio_seconds + 2 * self.windows.near_seconds[1]
        return MediaError(
            info.path,
            "audio",
            "too_short",
            f"the row holds {needed - missing:.3f} s of video and audio, and windows at other times up to "
            f"{self.windows.near_seconds[1]:g} s away need {needed:g} s.",
            "Use longer rows, lower objective.temporal_near_seconds, or leave temporal negatives and views out.",
            max(spans[1][0], spans[2][0]),
        )

    def _cut(
        self,
        reader: MediaReader,
        row: int,
        clip_numbers: Sequence[int],
        starts: Sequence[tuple[Sequence[float], Sequence[float]]],
    ) -> list[Clip]:
        """Read clips from the starts of each one's windows of audio and of video; all are decoded together."""
        row_stop = self._row_span(row)[1]
        planes = self._read_video(reader, [start for _, videos in starts for start in videos], row_stop)
        audio = iter(self._read_audio(reader, [start for audios, _ in starts for start in audios], row_stop))
        name, clips, first = str(self.manifest.value(row, "id")), [], 0
        for number, (audios, videos) in zip(clip_numbers, starts, strict=True):
            part = slice(first, first := first + len(videos) * self.sampling.num_frames)
            video, chroma = (None if plane is None else plane[part] for plane in planes)
            assert video is not None, "video always has a first plane"
            sound = torch.cat([next(audio) for _ in audios])
            clips.append(Clip(name, row, number, video, videos[0], sound, audios[0], chroma))
        return clips

    def _read_video(
        self, reader: MediaReader, starts: Sequence[float], row_stop: float
    ) -> tuple[Tensor, Tensor | None]:
        """Read the frames of all windows: RGB, or luma and chroma of a prepared clip."""
        times = [time for start in starts for time in self._frame_times(reader.info, start, row_stop)]
        if isinstance(reader, PreparedReader):
            return reader.read_planes(times)
        return reader.read_frames(times, self.sampling.short_side), None

    def _frame_times(self, info: MediaInfo, start: float, row_stop: float) -> list[float]:
        """Return the times of a window's frames; the last frame is repeated if the row ends early."""
        sampling, stop = self.sampling, info.video_stop_seconds
        assert stop is not None, "a file without video raised an error before"
        last = min(stop, row_stop) - _INSIDE_SECONDS
        times = [start + i / sampling.frames_per_second for i in range(sampling.num_frames)]
        if self._may_fill(times[-1] - last):
            times = [min(time, max(last, start)) for time in times]
        return times

    def _read_audio(self, reader: MediaReader, starts: Sequence[float], row_stop: float) -> list[Tensor]:
        """Read (S,) samples per window, padded with silence if the row ends early."""
        sampling, track_stop = self.sampling, reader.info.audio_stop_seconds
        assert track_stop is not None, "a file without audio raised an error before"
        last = min(track_stop, row_stop)
        spans = []
        for start in starts:
            stop = start + sampling.audio_seconds
            spans.append((start, last if start < last < stop and self._may_fill(stop - last) else stop))
        audio = []
        for samples in read_audio_windows(reader, spans, sampling.sample_rate_hz):
            audio.append(F.pad(samples, (0, sampling.num_samples - len(samples))))
        return audio

    def _may_fill(self, seconds: float) -> bool:
        return self.sampling.short_clips == "repeat" or seconds <= SLACK_SECONDS + 1e-6


_WITHOUT = {
    "no_video": "Leave the file out of the manifest, or read audio alone: --modality audio (avssl probe, embed), "
    "--classifier.inputs audio (avssl finetune).",
    "no_audio": "Leave the file out of the manifest, name its audio in the column audio_path, or read video alone: "
    "--modality video (avssl probe, embed), --classifier.inputs video (avssl finetune).",
}
"""Advice for rows without a stream."""


def stream_span(info: MediaInfo, stream: str, start: float | None, stop: float | None) -> Span:
    """Return (start, stop) of a stream, or raise if there is none."""
    if start is None or stop is None:
        reason: Reason = "no_video" if stream == "video" else "no_audio"
        raise MediaError(info.path, stream, reason, f"there is no {stream} stream.", _WITHOUT[reason])
    return start, stop


def _single(
    audio_starts: Sequence[float], video_starts: Sequence[float]
) -> list[tuple[Sequence[float], Sequence[float]]]:
    """Return the starts of clips of one window each."""
    return [([audio], [video]) for audio, video in zip(audio_starts, video_starts, strict=True)]
