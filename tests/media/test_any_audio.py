"""One contract over any audio stream and all backends; what a backend cannot do stands in the table.

Each file holds beeps at known instants, in every channel at a loudness of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from avssl.media import MediaError, open_media
from avssl.media.backends import BACKENDS

SECONDS = 3.0


@dataclass(frozen=True)
class Case:
    """A file and what is true of it."""

    name: str
    """With the suffix that chooses the container."""
    codec: str = "aac"
    rate_hz: int = 44_100
    layout: str = "stereo"
    sample_format: str = "fltp"
    late_seconds: float = 0.0
    """Written start of the sound; pictures, where there are any, start at 0."""
    pictures: bool = False
    muxer: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    delay: int | None = None
    """Where the container does not keep the written clock: samples from the track's first one to the first written
    (an encoder's priming that it cannot declare)."""
    lossless: bool = False
    refuses: dict[str, str] = field(default_factory=dict)
    """Backend to the words it refuses with."""
    gives_way: str = ""
    """What torchcodec cannot do, in its words; PyAV does it instead."""


MATROSKA = {"decord": "decord counts the encoder's priming as audio in Matroska"}
FINE = {"movie_timescale": "48000"}  # else the edit list rounds to milliseconds
CASES = [
    *(Case(f"aac_{rate}.mp4", rate_hz=rate, layout="mono") for rate in (8000, 11_025, 22_050, 44_100, 48_000, 96_000)),
    Case("aac_stereo.mov", rate_hz=48_000),
    Case("aac_5.1.mp4", rate_hz=48_000, layout="5.1"),
    Case("flac_7.1.mkv", "flac", 48_000, "7.1", "s16", lossless=True),
    Case("aac_7.1.mp4", rate_hz=48_000, layout="7.1"),
    Case("aac.mkv"),
    Case("aac.ts", delay=1024),
    Case("aac.flv", delay=1024),
    Case("aac.aac", layout="mono", delay=1024),
    Case("opus_mono.webm", "libopus", 48_000, "mono", "flt", refuses=MATROSKA),
    Case("opus_5.1.mkv", "libopus", 48_000, "5.1", "flt"),
    Case("opus.mp4", "libopus", 48_000, "stereo", "flt", gives_way="No audio frames were decoded"),
    Case("opus.ogg", "libopus", 48_000, "stereo", "flt", gives_way="another window"),
    Case("vorbis.webm", "vorbis", 44_100, options={"strict": "experimental"}),
    Case("mp3_mono.mp3", "libmp3lame", 44_100, "mono", delay=0),
    Case("mp3.mp4", "libmp3lame", 44_100, gives_way="No audio frames were decoded"),
    Case("mp3.avi", "libmp3lame", 48_000, pictures=True, delay=1105),
    Case("mp3.mkv", "libmp3lame", 22_050, "mono", refuses=MATROSKA),
    Case("mp2.mpg", "mp2", 48_000, "stereo", "s16", delay=481),
    Case("ac3_5.1.mkv", "ac3", 48_000, "5.1"),
    Case("eac3.mp4", "eac3", 48_000, gives_way="No audio frames were decoded"),
    Case("ac3.ts", "ac3", 48_000, "mono", delay=256),
    Case("flac.flac", "flac", 96_000, "stereo", "s16", lossless=True),
    Case("flac.mkv", "flac", 44_100, "mono", "s16", lossless=True, refuses=MATROSKA),
    Case("alac.mov", "alac", 44_100, "stereo", "s16p", lossless=True),
    Case("u8.wav", "pcm_u8", 8000, "mono", "u8"),
    Case("s16.wav", "pcm_s16le", 11_025, "mono", "s16", lossless=True),
    Case("s24.mov", "pcm_s24le", 48_000, "stereo", "s32", lossless=True),
    Case("f32.mkv", "pcm_f32le", 96_000, "stereo", "flt", lossless=True),
    Case("f64.wav", "pcm_f64le", 22_050, "mono", "dbl", lossless=True),
    Case("mulaw.wav", "pcm_mulaw", 8000, "mono", "s16"),
    Case("16_channels.wav", "pcm_s16le", 16_000, "16 channels", "s16", lossless=True),
    Case("wavpack.mkv", "wavpack", 44_100, "stereo", "s16p", lossless=True),
    Case("late.mp4", rate_hz=48_000, layout="mono", late_seconds=0.5, pictures=True, muxer=FINE),
    Case("late.mkv", rate_hz=48_000, layout="mono", late_seconds=0.5, pictures=True, refuses=MATROSKA),
    Case("late.ts", rate_hz=48_000, layout="mono", late_seconds=0.5, pictures=True),
    Case("late.avi", "pcm_s16le", 16_000, "mono", "s16", late_seconds=0.0, pictures=True, lossless=True),
    Case("fragments.mp4", layout="mono", muxer={"movflags": "frag_keyframe+empty_moov"}, pictures=True, delay=1024),
]


def gains(channels: int) -> np.ndarray:
    return np.linspace(1.0, 0.4, channels)


def written(case: Case, beeping: Callable[..., Tensor]) -> Tensor:
    """(C, S) float64 in [-1, 1]."""
    channels = av.AudioLayout(case.layout).nb_channels
    return beeping(case.rate_hz, 1, SECONDS).double() * torch.from_numpy(gains(channels))[:, None]


def make(case: Case, folder: Path, tools: Any) -> Path:
    sound = written(case, tools.beeping).numpy()
    path = folder / case.name
    with av.open(str(path), "w", options=case.muxer) as container:
        stream = container.add_stream(case.codec, rate=case.rate_hz, layout=case.layout, options=case.options)
        stream.codec_context.format = case.sample_format
        picture = container.add_stream("mpeg4", rate=10) if case.pictures else None
        packets = []
        if picture is not None:
            picture.height, picture.width, picture.pix_fmt = 32, 48, "yuv420p"
            for number, image in enumerate(tools.gray(30, 32, 48)):
                frame = av.VideoFrame.from_ndarray(image.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                packets += picture.encode(frame)
            packets += picture.encode(None)
        kind = case.sample_format.removesuffix("p")  # packed: PyAV 18 miscounts the planes of eight channels
        frame = av.AudioFrame.from_ndarray(_stored(sound, kind), kind, case.layout)
        frame.sample_rate = case.rate_hz
        frame.pts, frame.time_base = round(case.late_seconds * case.rate_hz), Fraction(1, case.rate_hz)
        packets += stream.encode(frame) + stream.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def _stored(sound: np.ndarray, kind: str) -> np.ndarray:
    if kind == "u8":
        stored = np.round(sound * 127 + 128).astype(np.uint8)
    elif kind in ("s16", "s32"):
        bits = 15 if kind == "s16" else 31
        stored = np.round(sound * (2**bits - 1)).astype(np.int16 if kind == "s16" else np.int32)
    else:
        stored = sound.astype(np.float32 if kind == "flt" else np.float64)
    return np.ascontiguousarray(stored.T.reshape(1, -1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Callable[[Case], Path]:
    folder, paths = tmp_path_factory.mktemp("any"), {}

    def get(case: Case) -> Path:
        if case.name not in paths:
            paths[case.name] = make(case, folder, tools)
        return paths[case.name]

    return get


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_sound(
    case: Case, backend: str, made: Callable[[Case], Path], tools: Any, require: Callable[[str], None]
) -> None:
    require(backend)
    path, truth = made(case), written(case, tools.beeping)
    with open_media(path, backend) as reader:
        info = reader.info
        assert (info.audio_sample_rate_hz, info.audio_num_channels) == (case.rate_hz, len(truth))
        first, stop = info.audio_start_seconds, info.audio_stop_seconds
        assert first is not None
        assert stop is not None
        assert stop - first == pytest.approx(SECONDS, abs=0.15)  # codecs without an edit list keep their padding
        words = case.refuses.get(backend) or (backend == "decord" and len(truth) > 1 and "garbles audio")
        if words:
            with pytest.raises(MediaError, match=words):
                reader.read_audio(first, stop)
            return
        whole = reader.read_audio(first, stop, num_channels=len(truth))
        origin = case.late_seconds if case.delay is None else first + case.delay / case.rate_hz
        expected = [(s + origin - first) * case.rate_hz for s in tools.BEEP_SECONDS]
        for number, (channel, gain) in enumerate(zip(whole, gains(len(truth)), strict=True)):
            if number == 3 and case.layout in ("5.1", "7.1"):
                continue  # for low frequencies only
            assert tools.beep_starts(channel[None], case.rate_hz, 4) == pytest.approx(expected, abs=1)
            assert float(channel.abs().max()) == pytest.approx(0.5 * gain, rel=0.35)
        if case.lossless:
            assert torch.allclose(whole.double(), truth[:, : whole.shape[1]], atol=1e-4)
        for rate_hz in (case.rate_hz, 16_000, 24_000):
            mono = reader.read_audio(first, stop, rate_hz)
            window = reader.read_audio(first + 1.0, first + 1.3, rate_hz)
            place = [(tools.BEEP_SECONDS[1] + origin - first - 1.0) * rate_hz]
            slack = 1 + rate_hz / case.rate_hz
            assert tools.beep_starts(window, rate_hz, 1) == pytest.approx(place, abs=slack)
            torch.testing.assert_close(window, mono[:, rate_hz : rate_hz + window.shape[1]], atol=1e-3, rtol=0)
        if backend == "torchcodec":
            found = reader.fallback.get("audio", "")  # type: ignore[attr-defined]
            assert case.gives_way in found
            assert bool(case.gives_way) == bool(found)
    if backend != "pyav":
        with open_media(path, "pyav") as reference:
            torch.testing.assert_close(
                whole, reference.read_audio(first, stop, num_channels=len(truth)), atol=2e-3, rtol=0
            )
