"""Encode a prepared clip: an mp4 in memory and the table of its packets."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from einops import rearrange
from torch import Tensor

from avssl.core.errors import InputError
from avssl.media.prepared.clip import AUDIO, AUDIO_CODECS, VIDEO, VIDEO_CODECS, CopySettings

_QUANTIZER = 118  # FFmpeg's lambda of one quantizer step, FF_QP2LAMBDA
_AAC_BITS_PER_SAMPLE = 4
_PCM_BYTES = 16384
_MAX_BYTES = 2**31 - 1  # the table stores positions as int32


@dataclass(frozen=True)
class PreparedClip:
    """The parts of a clip that a shard stores."""

    mp4: bytes
    """An ordinary mp4 file."""
    packets: np.ndarray
    """(P, 5) int32; see :mod:`avssl.media.prepared.clip`."""
    about: dict[str, Any]
    """``video`` and ``audio``: codec, sizes, rates, lengths, and the codec's own header in base64."""


def encode_clip(video: Iterable[Tensor], audio: Tensor, settings: CopySettings) -> PreparedClip:
    """Encode a clip for random access.

    Colors are full-range BT.601 in 4:2:0, as in JPEG, for every codec. An odd last row or column of pixels is dropped.

    Args:
        video: Consecutive (T, 3, H, W) uint8 RGB parts at ``settings.frames_per_second``.
        audio: (S,) float32 mono in [-1, 1] at ``settings.sample_rate_hz``; louder values are clipped.
        settings: Codecs and rates.

    Raises:
        ValueError: If there is no frame, a frame is smaller than 2 x 2, the clip takes more than 2 GiB, or a codec
            rejects the settings.
    """
    parts = iter(video)
    first = next(parts, None)
    if first is None or min(first.shape[2:]) < 2:
        raise InputError("a prepared clip needs at least one frame of 2 x 2 pixels.")
    try:
        return _encode(itertools.chain([first], parts), first, audio, settings)
    except av.FFmpegError as error:
        raise InputError(f"FFmpeg cannot encode a clip with {settings} ({error.strerror}).") from error


def check_encoders(settings: CopySettings) -> None:
    """Encode a second of silence and two black frames, to test the settings.

    Raises:
        ValueError: If a codec rejects the settings.
    """
    encode_clip([torch.zeros(2, 3, 16, 16, dtype=torch.uint8)], torch.zeros(settings.sample_rate_hz), settings)


def _encode(video: Iterator[Tensor], first: Tensor, audio: Tensor, settings: CopySettings) -> PreparedClip:
    height, width = (side - side % 2 for side in first.shape[2:])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video_stream = _video_stream(container, settings, height, width)
        audio_stream = _audio_stream(container, settings)
        num_frames = 0
        for frame in _video_frames(video, height, width, settings):
            num_frames += 1
            container.mux(video_stream.encode(frame))
        container.mux(video_stream.encode(None))
        container.mux(audio_stream.encode(_audio_frame(audio, audio_stream)))
        container.mux(audio_stream.encode(None))
    about = {
        "video": {
            "codec": settings.video_codec,
            "width": width,
            "height": height,
            "frames_per_second": settings.frames_per_second,
            "frames": num_frames,
        },
        "audio": {"codec": settings.audio_codec, "rate": settings.sample_rate_hz, "samples": len(audio)},
    }
    if file.tell() > _MAX_BYTES:
        raise InputError(
            f"a prepared clip of {num_frames} frames takes more than 2 GiB. Cut the row into shorter ones."
        )
    return PreparedClip(file.getvalue(), _packets(file, about), about)


def _rate(settings: CopySettings) -> Fraction:
    return Fraction(settings.frames_per_second).limit_denominator(100_000)


def _video_stream(container: Any, settings: CopySettings, height: int, width: int) -> Any:
    options = {"flags": "+qscale", "global_quality": str(settings.quality * _QUANTIZER)}
    if settings.video_codec == "h264":
        # Without CABAC and the loop filter, a frame decodes in half the time, for a tenth more bytes.
        options = {"crf": str(settings.quality), "preset": "medium", "tune": "fastdecode"}
    stream = container.add_stream(VIDEO_CODECS[settings.video_codec], rate=_rate(settings), options=options)
    stream.height, stream.width = height, width
    stream.pix_fmt = "yuvj420p" if settings.video_codec == "mjpeg" else "yuv420p"
    context = stream.codec_context
    context.gop_size, context.max_b_frames = settings.keyframe_interval, 0
    context.thread_count = 1
    context.colorspace, context.color_primaries, context.color_trc = 5, 1, 1  # BT.470BG, the matrix of BT.601
    context.color_range = 2  # full
    context.flags |= 1 << 23  # bit-exact: no encoder version in the stream
    return stream


def _audio_stream(container: Any, settings: CopySettings) -> Any:
    options = {"aac_pns": "0", "aac_coder": "fast"} if settings.audio_codec == "aac" else {}
    codec = AUDIO_CODECS[settings.audio_codec]
    stream = container.add_stream(codec, rate=settings.sample_rate_hz, layout="mono", options=options)
    if settings.audio_codec == "aac":
        stream.bit_rate = _AAC_BITS_PER_SAMPLE * settings.sample_rate_hz
    stream.codec_context.flags |= 1 << 23
    return stream


def _video_frames(parts: Iterator[Tensor], height: int, width: int, settings: CopySettings) -> Iterator[Any]:
    reformatter = VideoReformatter()
    images = itertools.chain.from_iterable(
        rearrange(part[:, :, :height, :width], "t c h w -> t h w c").contiguous().numpy() for part in parts
    )
    for number, image in enumerate(images):
        frame = reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgb24"),
            format="yuvj420p" if settings.video_codec == "mjpeg" else "yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        frame.pts, frame.time_base = number, 1 / _rate(settings)
        yield frame


def _audio_frame(audio: Tensor, stream: Any) -> Any:
    samples = audio.clamp(-1, 1).numpy()[None]
    kind = "fltp" if stream.codec_context.format.name == "fltp" else "s16"
    if kind == "s16":
        samples = np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=kind, layout="mono")
    frame.sample_rate = stream.codec_context.sample_rate
    frame.pts, frame.time_base = 0, Fraction(1, frame.sample_rate)
    return frame


def _packets(file: io.BytesIO, about: dict[str, Any]) -> np.ndarray:
    """Return the table of a finished mp4, and add the codecs' headers to ``about``."""
    file.seek(0)
    rows: list[tuple[int, ...]] = []
    with av.open(file, "r", format="mp4") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        ticks = {
            video.index: _ticks(video, about["video"]["frames_per_second"]),
            audio.index: _ticks(audio, audio.rate),
        }
        for packet in container.demux(video, audio):
            if packet.size:
                stream = VIDEO if packet.stream_index == video.index else AUDIO
                time = round(packet.pts / ticks[packet.stream_index])
                rows.append((stream, packet.pos, packet.size, time, int(packet.is_keyframe)))
        for name, stream in (("video", video), ("audio", audio)):
            about[name]["header"] = base64.b64encode(stream.codec_context.extradata or b"").decode()
    rows.sort(key=lambda row: (row[0], row[3]))
    return np.array(_joined(rows) if about["audio"]["codec"] == "pcm" else rows, dtype=np.int32)


def _joined(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Join neighboring packets of uncompressed samples, up to a limit, as any border between them will do."""
    joined: list[tuple[int, ...]] = []
    for stream, position, size, time, keyframe in rows:
        if stream == AUDIO and joined and joined[-1][0] == AUDIO:
            _, first, length, begin, _ = joined[-1]
            if first + length == position and length + size <= _PCM_BYTES:
                joined[-1] = (AUDIO, first, length + size, begin, keyframe)
                continue
        joined.append((stream, position, size, time, keyframe))
    return joined


def _ticks(stream: Any, rate: float) -> float:
    """Return the ticks of a stream's clock per frame or sample."""
    return float(1 / (stream.time_base * Fraction(rate).limit_denominator(100_000)))
