"""Prepared clips: what random access gives is what a player of the same mp4 shows and plays."""

from __future__ import annotations

import io
import json

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace

from avssl.media import MediaError, read_audio_windows
from avssl.media.prepared.clip import BLOCK, CopySettings, padded
from avssl.media.prepared.reader import Decoders, PreparedReader
from avssl.media.prepared.writer import encode_clip

FPS, RATE, SECONDS = 16, 24_000, 5
QUALITY = {"mpeg4": 3, "h264": 20, "mjpeg": 4}


def moving(height=64, width=90, count=FPS * SECONDS):
    """Smooth colored waves that move, so that every frame and place differs."""
    t, y, x = (torch.arange(n).float() for n in (count, height, width))
    waves = [
        torch.sin(x[None, None] / (7 + c) + t[:, None, None] / 3) + torch.cos(y[None, :, None] / (9 - c))
        for c in range(3)
    ]
    return ((torch.stack(waves, 1) + 2) * 63).to(torch.uint8)


def noise(seconds=SECONDS):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(seconds * RATE, generator=generator) * 0.1).clamp(-1, 1)


def shard_of(clip):
    """The bytes of one clip as in a tar, and the length of its header."""
    line = (json.dumps({"format": 1, "packets": len(clip.packets), **clip.about}) + "\n").encode()
    table = io.BytesIO()
    np.save(table, clip.packets)
    parts = [line, table.getvalue()]
    head = b"".join(part + bytes(padded(len(part)) - len(part) + BLOCK) for part in parts)
    return head + clip.mp4, len(head)


def reader_of(data, header_bytes):
    return PreparedReader(
        lambda offset, size: data[offset : offset + size], "shard: a.mp4", 0, header_bytes, Decoders()
    )


@pytest.fixture(scope="module", params=["mpeg4", "h264", "mjpeg"])
def clip(request):
    audio_codec = {"mpeg4": "pcm", "h264": "flac", "mjpeg": "aac"}[request.param]
    settings = CopySettings(video_codec=request.param, quality=QUALITY[request.param], audio_codec=audio_codec)
    return encode_clip([moving()[:30], moving()[30:]], noise(), settings)


def test_planes_at_random_places_are_those_of_the_whole_file_decoded_in_order(clip):
    with av.open(io.BytesIO(clip.mp4)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == FPS * SECONDS
    reader = reader_of(*shard_of(clip))
    for first in (0, 3, 7, 8, 41, FPS * SECONDS - 8):
        luma, chroma = reader.read_planes([(first + k + 0.3) / FPS for k in range(8)])
        for k in range(8):
            for plane, ours in zip(frames[first + k].planes, (luma[k, 0], chroma[k, 0], chroma[k, 1]), strict=True):
                lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                assert np.array_equal(lines[: len(ours), : ours.shape[1]], ours.numpy())


def test_one_read_of_many_windows_is_each_alone(clip):
    reader = reader_of(*shard_of(clip))
    times = [4.2, 0.1, 2.0, 0.1, 2.06, 4.9]
    luma, chroma = reader.read_planes(times)
    for i, time in enumerate(times):
        alone = reader.read_planes([time])
        assert torch.equal(alone[0][0], luma[i])
        assert torch.equal(alone[1][0], chroma[i])


def test_frames_are_near_what_went_in(clip):
    frames = reader_of(*shard_of(clip)).read_frames([(k + 0.5) / FPS for k in range(FPS * SECONDS)])
    error = (frames.double() - moving()).square().mean()
    assert 10 * torch.log10(255**2 / error) > 34
    assert reader_of(*shard_of(clip)).read_frames([0.0], short_side=32).shape == (1, 3, 32, 45)


def test_sound_at_random_places_is_the_whole_sound_and_near_what_went_in(clip):
    reader = reader_of(*shard_of(clip))
    whole = reader.read_audio(0, SECONDS)
    lossless = clip.about["audio"]["codec"] != "aac"
    assert (whole[0] - noise()).abs().max() < (2e-5 if lossless else 0.4)
    assert (whole[0] - noise()).square().mean().sqrt() < (1e-5 if lossless else 0.02)
    for start in (0.0, 0.777, 2.34567, 3.0):
        window = reader.read_audio(start, start + 2)
        assert torch.equal(window[0], whole[0, round(start * RATE) :][: 2 * RATE])
    slower = reader.read_audio(1.0, 3.0, sample_rate_hz=16_000)
    assert slower.shape == (1, 32_000)
    torch.testing.assert_close(slower, reader.read_audio(0, SECONDS, 16_000)[:, 16_000:48_000], atol=1e-5, rtol=0)


def test_windows_of_sound_together_are_each_alone(clip):
    reader = reader_of(*shard_of(clip))
    spans = [(2.5, 4.5), (0.00001, 2.00001), (1.7, 3.7), (1.70002, 3.70002)]
    for span, sound in zip(spans, read_audio_windows(reader, spans, RATE), strict=True):
        assert torch.equal(sound, reader.read_audio(*span, RATE)[0])


def test_the_mp4_says_its_colors(clip):
    with av.open(io.BytesIO(clip.mp4)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name in ("yuv420p", "yuvj420p")
        shown = frame.to_ndarray(format="rgb24")
    meant = frame.to_ndarray(format="rgb24", src_colorspace=Colorspace.ITU601, src_color_range=ColorRange.JPEG)
    assert np.abs(shown.astype(int) - meant.astype(int)).mean() < 8


def test_info_and_times_outside():
    clip = encode_clip([moving(33, 51)], noise(), CopySettings())
    reader = reader_of(*shard_of(clip))
    assert (reader.info.height, reader.info.width) == (32, 50)  # even sizes
    assert (reader.info.video_stop_seconds, reader.info.audio_stop_seconds) == (SECONDS, SECONDS)
    assert reader.info.video_codec == "mpeg4"
    with pytest.raises(MediaError, match="outside the video stream") as error:
        reader.read_planes([SECONDS + 1.0])
    assert error.value.reason == "out_of_range"
    with pytest.raises(MediaError, match="leaves the audio stream"):
        reader.read_audio(4.0, 6.0)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data, head: (data[: head - 10], head), "truncated"),
        (lambda data, head: (data[: head + 3000], head), "truncated"),
        (lambda data, head: (b"x" + data[1:], head), "unreadable"),
        (lambda data, head: (data.replace(b'"format": 1', b'"format": 7'), head), "unreadable"),
        (lambda data, head: (data.replace(b'"frames": 80', b'"frames": 99'), head), "unreadable"),
        (lambda data, head: (data.replace(b'"width": 90', b'"width": 98'), head), "unreadable"),
        (lambda data, head: (data.replace(b'"width": 90', b'"width":9e9'), head), "unreadable"),
        (lambda data, head: (data.replace(b'"rate": 24000', b'"rate": [2,1]'), head), "unreadable"),
        (lambda data, head: (data.replace(b'"codec": "mpeg4"', b'"codec": "rawvi"'), head), "unreadable"),
        (lambda data, head: (data, 1 << 40), "unreadable"),
        (lambda data, head: (data, -5), "unreadable"),
    ],
)
def test_damaged_shards_are_errors_that_name_the_clip(damage, reason):
    data, head = damage(*shard_of(encode_clip([moving()], noise(), CopySettings())))
    with pytest.raises(MediaError, match=r"shard: a.mp4.*call avssl prepare again") as error:
        reader_of(data, head).read_planes([2.0])
    assert error.value.reason == reason


def test_settings_and_input_that_cannot_be():
    for wrong in ({"quality": 40}, {"video_codec": "vp9"}, {"audio_codec": "mp3"}, {"short_side": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CopySettings(**wrong)
    with pytest.raises(ValueError, match="at least one frame"):
        encode_clip([], noise(), CopySettings())


def test_decoders_are_few_and_do_not_travel():
    import pickle

    decoders = Decoders(limit=2)
    for size in (b"a", b"b", b"c"):
        decoders.get("mjpeg", size)
    assert len(decoders._open) == 2
    assert len(pickle.loads(pickle.dumps(decoders))._open) == 0
