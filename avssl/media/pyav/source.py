"""The container under the PyAV reader: safe opening, spans from the header, seeking, packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

import av
from av.stream import Discard
from av.video.frame import PictureType

from avssl.core.user_files import open_regular
from avssl.media.errors import MediaError, Reason, media_errors
from avssl.media.limits import Deadline, MediaLimits
from avssl.media.pyav.declared_size import missing_bytes
from avssl.media.pyav.recordings import ByteRange

# Demuxers that read one file and nothing else. Left out on purpose are those that open other files or
# the network at the file's request: hls, dash, concat, image2, sdp, rtsp, tedcaptions ...
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,asf,ogg,wav,w64,aiff,caf,flac,mp3,aac,nut,mxf,rm,dv"
)
_ATTACHED_PICTURE = 0x400
# Decoders of these codecs show no frame before one that they can decode whole; others predict it from gray.
_STARTS_WHOLE = ("h264", "hevc")
_PREDICTED = (PictureType.P, PictureType.B, PictureType.S, PictureType.SP)
_TAIL_SECONDS = 3.0
_END_OR_LENGTH = ("matroska,webm", "flv")  # containers whose writers do not agree on what a duration is
_DECLARE_STARTS = ("mov,mp4", "avi", "wav", "aac", "mp3")
_MAX_SEARCHED = 20_000  # packets that are searched for the first of a stream
_MAX_LEARNED = 64  # packets that are decoded until a B-frame comes
_UNCLEAR_SECONDS = 0.1  # a start below this makes no difference to it
_CUT_SECONDS = 1.0  # a file in which every stream ends this much before the declared duration was cut off


class Source:
    """An open container whose streams can be sought and demuxed.

    Args:
        path: A local regular file.
        limits: Decoders reject larger frames before they allocate them, and reading ends at its deadline.
        part: Bytes of the file to open; default: all.

    Raises:
        MediaError: If no known container is found, or its index is missing.
    """

    def __init__(self, path: Path, limits: MediaLimits, part: ByteRange | None = None) -> None:
        self.path = path
        self._part = part
        self._options = {
            "protocol_whitelist": "file" if part is None else "file,subfile",
            "format_whitelist": _FORMATS,
            "max_pixels": str(limits.max_pixels),
        }
        self.deadline = Deadline(limits)
        """Time limit of the current read; whoever begins a read starts it."""
        self.last_dts: int | None = None
        """Decoding time of the newest packet, in its stream's ticks."""
        self.reads = 0
        """Number of reads so far: another number than at one's own last read means that the position was moved."""
        self.repeated_until: int | None = None
        """Tick until which empty packets of the latest read repeat the frame before them; None if there were none."""
        self._open()

    def _open(self) -> None:
        # "file:" and an absolute path: no name can be taken for another protocol.
        url = f"file:{os.path.abspath(self.path)}"
        if self._part is not None:
            url = f"subfile,,start,{self._part.start},end,{self._part.stop},,:{url}"
        try:
            self.container = av.open(url, options=self._options, metadata_errors="replace")
        except av.FFmpegError as error:
            raise _not_media(self.path, error) from error
        self._fresh = True
        self._knows_fields = False
        self._chosen: list[int] | None = None

    def close(self) -> None:
        """Release the file."""
        self.container.close()

    def best(self, kind: str) -> Any | None:
        """Return the stream FFmpeg would choose, or None; cover art is not a video stream."""
        stream = self.container.streams.best(kind)
        if stream is None or int(stream.disposition) & _ATTACHED_PICTURE:
            return None
        if stream.codec_context is None:
            found = "this FFmpeg has no decoder for its codec."
            raise MediaError(str(self.path), kind, "unreadable", found, "Convert the file, for example to H.264 + AAC.")
        return stream

    def num_streams(self, kind: str) -> int:
        """Return the number of ``"video"`` or ``"audio"`` streams, cover art included."""
        return sum(stream.type == kind for stream in self.container.streams)

    def stream(self, index: int) -> Any:
        """Return a stream of the container as it is open now, decoding in one thread."""
        stream = self.container.streams[index]
        context = stream.codec_context
        if not context.is_open and stream.type == "video":
            context.thread_type = "NONE"  # starting threads costs more than they save on small frames
            context.thread_count = 1
        return stream

    def packets(self, index: int, from_tick: int | None) -> Iterator[Any]:
        """Yield packets of one stream, from the keyframe at or before a tick or from the first; the last flushes.

        Empty packets, which repeat the frame before them, are left out: a decoder would take them for the end.
        """
        if from_tick is None:
            self._rewind(index)
        else:
            self._learn_field_clock(index)
            self._seek(index, from_tick)
        self._fresh = False
        self.reads += 1
        self.repeated_until = None
        stream = self.stream(index)
        if stream.type == "video":
            stream.codec_context.skip_frame = "DEFAULT"
        for packet in self.demuxed([index]):
            if packet.size or packet.dts is None:
                yield packet
            elif packet.pts is not None:
                self.repeated_until = packet.pts + (packet.duration or 0)

    def _learn_field_clock(self, index: int) -> None:
        """Decode the first frames of interlaced MPEG-4 with B-frames before the first seek.

        The decoder measures the time between fields at the first B-frame after a header. After a seek, that one follows
        no frame, and by a wrong measure the decoder leaves out all later B-frames.
        """
        stream = self.stream(index)
        if self._knows_fields or stream.codec_context.name != "mpeg4":
            return
        self._knows_fields = True
        self._rewind(index)
        self._fresh = False
        with suppress(av.FFmpegError):
            for packet in islice(self.demuxed([index]), _MAX_LEARNED):
                for frame in packet.decode() if packet.size else []:
                    if not frame.interlaced_frame or frame.pict_type == PictureType.B:
                        return

    def frames(self, index: int, from_tick: int | None) -> Iterator[Any]:
        """Yield decoded frames of a stream, from the keyframe at or before a tick, or from the first."""
        frames = self.whole(index, self._decoded(index, from_tick))
        if from_tick is not None and self.stream(index).codec_context.name == "mpeg4":
            frames = _with_field_clock(frames)
        return frames

    def whole(self, index: int, frames: Iterator[Any]) -> Iterator[Any]:
        """Leave out the first frames if they are predicted from frames that were not read.

        That happens where a file begins between two keyframes, or its index calls a frame a keyframe that is none.
        """
        stream = self.container.streams[index]
        if stream.type != "video" or stream.codec_context.name in _STARTS_WHOLE:
            return frames
        return dropwhile(lambda frame: not frame.key_frame and frame.pict_type in _PREDICTED, frames)

    def _decoded(self, index: int, from_tick: int | None) -> Iterator[Any]:
        self.last_dts = None
        landed = from_tick is None
        begun = landed or self.container.streams[index].type != "video"
        for packet in self.packets(index, from_tick):
            begun = begun or packet.is_keyframe or not packet.size
            if not begun:  # frames before a keyframe depend on ones that were not read
                continue
            if packet.dts is not None:
                self.last_dts = packet.dts
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if landed:
                    raise
                continue  # a seek may land inside a frame, as in MPEG program streams
            landed = landed or bool(frames)
            yield from frames

    def demuxed(self, indices: list[int]) -> Iterator[Any]:
        """Yield packets of some streams from here on in file order, then an empty one for each.

        Other streams' packets are not read: a megabyte of video may lie between two packets of audio.
        """
        if self._chosen != indices:
            for stream in self.container.streams:
                stream.discard = Discard.default if stream.index in indices else Discard.all
            self._chosen = indices
        # PyAV fails on a stream that begins in the middle of the file once all others are flushed.
        with suppress(IndexError):
            for packet in self.container.demux(indices):
                self.deadline.check()
                yield packet

    @property
    def seeks_exactly(self) -> bool:
        """True if timestamps after a seek are right.

        One pack of an MPEG program stream may hold many frames and stamps only the first; raw AAC stamps
        nothing. FFmpeg can only count from the start of such files.
        """
        return self.container.format.name not in ("mpeg", "aac")

    def _seek(self, index: int, tick: int) -> None:
        if not self.seeks_exactly:
            self._rewind(index)
            return
        try:
            self.container.seek(tick, stream=self.stream(index))
        except av.FFmpegError:  # some containers cannot seek to every time: the caller decodes forward
            self._rewind(index)

    def _rewind(self, index: int) -> None:
        if self._fresh:
            return
        stream = self.stream(index)
        try:
            # Well before the first timestamp: the encoder's priming lies before the start.
            self.container.seek((stream.start_time or 0) - int(1 / stream.time_base), stream=stream)
        except av.FFmpegError:
            self.container.close()
            self._open()

    def keyframe_before(self, index: int, tick: int) -> int | None:
        """Return the decoding time of the last indexed keyframe at or before a tick; None if unknown."""
        entries = self.container.streams[index].index_entries
        index = entries.search_timestamp(tick) if len(entries) > 1 else -1
        return entries[index].timestamp if index >= 0 else None

    def counts_frames(self, index: int) -> bool:
        """Return True if the container numbers frames in decoding order and stores no presentation times.

        In AVI, FFmpeg's guesses are late by the decoder's delay where frames are reordered, and out of order for H.264.
        For H.264 and H.265 they are late without reordering too.
        """
        codec = self.stream(index).codec_context
        return self.container.format.name == "avi" and (bool(codec.reorder_depth) or codec.name in ("h264", "hevc"))

    @property
    def repeats_at_end(self) -> bool:
        """True if the last frame stands until the declared end: FFmpeg hides the empty packets that say so in AVI."""
        return self.container.format.name == "avi" and not missing_bytes(self.path)

    @property
    def num_bytes(self) -> int:
        """Size of the file, or of the part that is open."""
        return self.path.stat().st_size if self._part is None else self._part.stop - self._part.start

    def is_cut(self) -> bool:
        """Return True if the container's index points past the end of the file."""
        size = self.num_bytes
        entries = (s.index_entries[-1] for s in self.container.streams if len(s.index_entries))
        return any(entry.pos + entry.size > size for entry in entries)

    def error(self, stream: str, found: str, second: float | None = None, cut: bool = False) -> MediaError:
        """Return the error for data that cannot be decoded: truncated if the file was cut, else unreadable."""
        reason: Reason = "truncated" if cut or self.is_cut() else "unreadable"
        advice = "The file was cut off: fetch it again." if reason == "truncated" else "The file is damaged there."
        return MediaError(str(self.path), stream, reason, found, advice, second)

    @contextmanager
    def reporting(self, stream: str, second: float) -> Iterator[None]:
        """Turn FFmpeg's errors, and all others, into :class:`MediaError`."""
        with media_errors(str(self.path), stream, second):
            try:
                yield
            except MemoryError:
                raise
            except av.FFmpegError as error:
                raise self.error(stream, f"decoding failed ({error.strerror}).", second) from error

    def spans(self, streams: list[Any]) -> list[tuple[float, float]]:
        """Return (start, stop) of each stream in seconds, from the header; measured if it declares none.

        The file may be opened anew: stream objects from before are void then.
        """
        indices = [s.index for s in streams]
        starts = self._starts(streams)
        streams = [self.container.streams[index] for index in indices]  # those from before may be void
        if self.container.format.name == "aac":  # its length is guessed from the first packets' sizes
            return list(zip(starts, self._measured_stops(indices), strict=True))
        last = self.least_stop
        stops = [_declared_stop(s, start, last) for s, start in zip(streams, starts, strict=True)]
        if any(stop is None for stop in stops):
            measured = self._measured_stops(indices)
            stops = [m if stop is None else stop for stop, m in zip(stops, measured, strict=True)]
        return [(start, max(start, stop or start)) for start, stop in zip(starts, stops, strict=True)]

    def _starts(self, streams: list[Any]) -> list[float]:
        """Return the start of each stream: the header's, or its first packet's if that comes much later.

        FFmpeg looks at the first seconds of a file, and takes a stream that begins later for one that begins at once.
        """
        starts = {s.index: _seconds(s, s.start_time) if s.start_time is not None else 0.0 for s in streams}
        if len(streams) > 1 and not self.container.format.name.startswith(_DECLARE_STARTS):
            waiting, self._fresh = set(starts), False
            with suppress(av.FFmpegError):  # a damaged packet: reading it raises
                for packet in islice(self.demuxed(sorted(waiting)), _MAX_SEARCHED):
                    if packet.pts is not None and packet.stream_index in waiting:
                        waiting.remove(packet.stream_index)
                        second = _seconds(packet.stream, packet.pts)
                        if second > starts[packet.stream_index] + _UNCLEAR_SECONDS:
                            starts[packet.stream_index] = second
                    if not waiting:
                        break
        return list(starts.values())

    @property
    def least_stop(self) -> float | None:
        """Time at which the file ends, or after it, by its header; None if the header does not say.

        The duration in Matroska and Flash Video is the end on the file's clock (FFmpeg) or the length (mkvmerge).
        """
        if self.container.duration is None:
            return None
        begin, duration = (self.container.start_time or 0) / av.time_base, self.container.duration / av.time_base
        return duration + begin - self._clock_start

    @property
    def _clock_start(self) -> float:
        """Start of the clock in seconds, where it is unclear whether the header's duration includes it; else 0."""
        begin = (self.container.start_time or 0) / av.time_base
        return begin if begin > _UNCLEAR_SECONDS and self.container.format.name in _END_OR_LENGTH else 0.0

    def _measured_stops(self, indices: list[int]) -> list[float]:
        """Return the end of each stream's last packet, from the file's tail, or from all of it if necessary.

        The file may be opened anew: stream objects from before are void then.
        """
        found: dict[int, float] = {}
        least = self.least_stop
        if least is not None and self.seeks_exactly:
            # A seek beyond the end ends on the last keyframe.
            found = self._last_packets(indices, least + self._clock_start - _TAIL_SECONDS)
            if not found or max(found.values()) < least - _CUT_SECONDS:
                return [least for _ in indices]  # cut off: reading past the cut raises
        if len(found) < len(indices):
            found = self._last_packets(indices, None)
        return [found.get(index, 0.0) for index in indices]

    def _last_packets(self, indices: list[int], from_seconds: float | None) -> dict[int, float]:
        try:
            self.container.seek(int((from_seconds or 0.0) * av.time_base))
        except (av.FFmpegError, OverflowError):
            self.container.close()
            self._open()
        self._fresh = False
        stops: dict[int, float] = {}
        try:
            for packet in self.demuxed(indices):
                if packet.pts is not None:
                    stop = _seconds(packet.stream, packet.pts + (packet.duration or 0))
                    stops[packet.stream_index] = max(stop, stops.get(packet.stream_index, stop))
        except av.FFmpegError:  # a torn last packet: what was found before it stands
            return stops
        return stops


def _with_field_clock(frames: Iterator[Any]) -> Iterator[Any]:
    """Leave out interlaced frames before the second keyframe: its header lets the decoder measure fields anew."""
    num_keyframes = 0
    for frame in frames:
        num_keyframes += frame.key_frame
        if num_keyframes > 1 or not frame.interlaced_frame:
            yield frame


def _seconds(stream: Any, tick: int) -> float:
    return float(tick * stream.time_base)


def _declared_stop(stream: Any, start: float, last: float | None) -> float | None:
    """Return the end of a stream by its header; None if it says none, or what cannot be relied on."""
    if stream.duration is not None and stream.duration > 0:
        return _seconds(stream, (stream.start_time or 0) + stream.duration)
    text = stream.metadata.get("DURATION")  # Matroska: "00:00:05.000000000", the end on the file's clock or the length
    if text is None or start > _UNCLEAR_SECONDS:
        return None
    try:
        hours, minutes, seconds = text.split(":")
        stop = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:  # free text from another muxer
        return None
    # A copy of a part of a file may keep the tag of the whole.
    return None if last is not None and stop > last + _UNCLEAR_SECONDS else stop


def _not_media(path: Path, error: av.FFmpegError) -> MediaError:
    """Return the error for a file that FFmpeg could not open, judged by its first bytes."""
    with open_regular(path) as file:
        head = file.read(512)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide") or head[:4] == b"\x1a\x45\xdf\xa3":
        found = f"a video container whose index is missing or broken ({error.strerror})."
        return MediaError(str(path), "container", "truncated", found, "It was cut off or is still being written.")
    text = bool(head) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    kind = "text, a web page or a playlist" if text else "no container that is read here"
    found = f"the file is {kind}, it begins with {head[:16]!r}."
    return MediaError(str(path), "container", "not_media", found, "Fetch it again, or convert it to mp4.")
