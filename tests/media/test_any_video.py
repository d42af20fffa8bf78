"""One contract over any video stream and all backends; what a backend cannot do stands in the table.

Each file holds pictures whose brightness is their number and whose upper left corner is white, shown at known times.
Every backend must give the right one, upright and in square pixels, or refuse in the words of its entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

COUNT = 24
FPS = 25
VARYING = [0, 1, 2, 3, 10, 11, 40, 41, 42, 43, 70, 90, 91, 92, 93, 94, 95, 120, 121, 122, 130, 140, 141, 142]


@dataclass(frozen=True)
class Case:
    """A file and what is true of it."""

    name: str
    """With the suffix that chooses the container."""
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    size: tuple[int, int] = (96, 64)
    """Width and height as stored."""
    ticks: Sequence[int] = range(COUNT)
    """When each picture is shown, in 1 / FPS s."""
    aspect: str = "1"
    """Width to height of a pixel."""
    turn: int = 0
    """Degrees clockwise that the header says to turn the stored pictures by."""
    cut: int = 0
    """Pictures that the edit list leaves out at the beginning."""
    moved: bool = False
    """Whether the container, or FFmpeg's muxer, has the first picture elsewhere than asked: times count from there."""
    refuses: dict[str, str] = field(default_factory=dict)
    """Backend to the words it refuses with."""
    gives_way: str = ""
    """What torchcodec cannot do, in its words; PyAV does it instead."""


TS = {"decord": "decord seeks to wrong frames in MPEG transport streams"}
AHEAD = "torchcodec does not seek to keyframes in this container"
AVI_B = {"decord": "AVI does not say when frames of this kind are shown"}
PROGRAM = {"decord": "timestamps in an MPEG program stream are wrong after a seek"}
NO_TURN = {"decord": "decord does not turn frames upright"}
X265 = {"x265-params": "log-level=none:pools=1:bframes=3"}
CASES = [
    Case("h264.mp4"),
    Case("h264.mov", options={"g": "10", "bf": "3"}),
    Case("h264.mkv", options={"bf": "3"}),
    Case("h264.ts", options={"bf": "2", "g": "12"}, moved=True, refuses=TS, gives_way=AHEAD),
    Case("h264.flv", options={"bf": "2"}, moved=True),
    Case("h264.avi", options={"bf": "2"}, refuses=AVI_B, gives_way=AVI_B["decord"]),
    Case("fragments.mp4", muxer={"movflags": "frag_keyframe+empty_moov"}, options={"g": "8"}, moved=True),
    Case("negative_dts.mp4", muxer={"movflags": "negative_cts_offsets"}, options={"bf": "3"}),
    Case("no_edit_list.mp4", muxer={"use_editlist": "0"}, options={"bf": "3"}, moved=True),
    Case(
        "open_gop.mp4",
        options={"g": "8", "x264-params": "open-gop=1:bframes=3"},
        refuses={"decord": "decord seeks to wrong frames where frames refer across keyframes"},
    ),
    Case("interlaced.mp4", options={"x264-params": "tff=1", "flags": "+ildct+ilme"}),
    Case("varying.mp4", ticks=VARYING),
    Case("varying_b.mp4", ticks=VARYING, options={"bf": "3"}),
    Case("varying.mkv", ticks=VARYING, options={"bf": "3", "g": "6"}),
    Case("varying.webm", "libvpx-vp9", {"cpu-used": "8"}, ticks=VARYING),
    Case("late.mp4", ticks=range(10, 10 + COUNT), options={"bf": "3"}),
    Case("late.mkv", ticks=range(10, 10 + COUNT)),
    Case("late.ts", ticks=range(10, 10 + COUNT), moved=True, refuses=TS, gives_way=AHEAD),
    Case(
        "edit_list.mp4",
        cut=5,
        options={"bf": "2"},
        refuses={"decord": "its frames begin before the edit list lets them"},
    ),
    Case("edit_list_on_a_keyframe.mp4", cut=8, options={"g": "8", "bf": "0"}),
    Case("turned_90.mp4", turn=90, refuses=NO_TURN),
    Case("turned_180.mp4", turn=180, refuses=NO_TURN),
    Case("turned_270.mov", turn=270, refuses=NO_TURN),
    Case("wide_pixels.mp4", aspect="4/3"),
    Case("narrow_pixels.mkv", aspect="1/2"),
    Case("wide_pixels_turned.mp4", aspect="4/3", turn=90, refuses=NO_TURN),
    Case("odd.webm", "libvpx-vp9", {"cpu-used": "8"}, size=(95, 63)),
    Case("odd.avi", "mpeg4", {"qmax": "2"}, size=(95, 63)),
    Case("odd_444.mp4", pixels="yuv444p", size=(95, 63)),
    Case("h264_422.mp4", pixels="yuv422p"),
    Case("h264_10bit.mp4", pixels="yuv420p10le"),
    Case("h264_422_10bit.mkv", pixels="yuv422p10le"),
    Case("hevc.mp4", "libx265", X265),
    Case("hevc_10bit.mkv", "libx265", X265, pixels="yuv420p10le"),
    Case("hevc_444_12bit.mp4", "libx265", X265, pixels="yuv444p12le"),
    Case("vp8.webm", "libvpx", {"cpu-used": "8", "deadline": "realtime"}),
    Case("vp9.webm", "libvpx-vp9", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "12"}),
    Case("vp9.mp4", "libvpx-vp9", {"cpu-used": "8"}),
    Case("av1.mp4", "libsvtav1", {"preset": "12"}, refuses={"decord": "decord failed"}),
    Case("av1_10bit.webm", "libsvtav1", {"preset": "12"}, pixels="yuv420p10le", refuses={"decord": "decord failed"}),
    Case("mpeg4.avi", "mpeg4", {"qmax": "2", "g": "6"}),
    Case("mpeg4_b.avi", "mpeg4", {"qmax": "2", "bf": "2"}, refuses=AVI_B, gives_way=AVI_B["decord"]),
    Case(
        "mpeg4_b.mp4",
        "mpeg4",
        {"qmax": "2", "bf": "2"},
        refuses={"decord": "decord seeks to wrong frames in MPEG video with B-frames"},
    ),
    Case("mpeg2.mpg", "mpeg2video", {"qmax": "2", "bf": "2"}, moved=True, refuses=PROGRAM, gives_way=PROGRAM["decord"]),
    Case("mpeg2.ts", "mpeg2video", {"qmax": "2", "g": "6"}, moved=True, refuses=TS, gives_way=AHEAD),
    Case("mjpeg.avi", "mjpeg", {"qmax": "2"}, pixels="yuvj420p"),
    Case("prores.mov", "prores_ks", pixels="yuv422p10le"),
    Case("ffv1.mkv", "ffv1", pixels="yuv444p"),
    Case("rgb.mkv", "ffv1", pixels="bgr0"),
    Case("wmv.asf", "wmv2", {"qmax": "2"}, gives_way="torchcodec found frames up to 0.920 s"),
    Case("sorenson.flv", "flv", {"qmax": "2"}),
]


def upright(count: int, width: int, height: int) -> Tensor:
    """(T, 3, H, W) uint8: brightness is the number; the upper left corner is white."""
    pictures = torch.stack([torch.full((3, height, width), 20 + 8 * n, dtype=torch.uint8) for n in range(count)])
    pictures[:, :, : height // 4, : width // 4] = 250
    return pictures


def numbers(frames: Tensor) -> list[int]:
    height, width = frames.shape[-2:]
    middle = frames[:, :, height // 3 : height * 2 // 3, width // 3 : width * 2 // 3].float()
    return [round((float(frame.mean()) - 20) / 8) for frame in middle]


def bright_corners(frame: Tensor) -> list[bool]:
    """Upper left, upper right, lower left, lower right."""
    height, width = frame.shape[-2:]
    y, x = height // 8, width // 8
    corners = (frame[:, :y, :x], frame[:, :y, -x:], frame[:, -y:, :x], frame[:, -y:, -x:])
    return [float(corner.float().mean()) > 235 for corner in corners]


def make(case: Case, folder: Path, encode: Callable[..., Path]) -> Path:
    def prepare(stream: Any) -> None:
        stream.pix_fmt = case.pixels
        stream.codec_context.sample_aspect_ratio = Fraction(case.aspect)

    width, height = case.size
    size = (height, width) if case.turn % 180 else (width, height)
    stored = torch.rot90(upright(len(case.ticks), *size), case.turn // 90, (-2, -1))
    path = folder / case.name
    encode(path, stored, case.ticks, FPS, case.codec, case.options, prepare, case.muxer)
    if case.turn:
        turn(path, case.turn)
    if case.cut:
        cut(path, case.cut)
    return path


def turn(path: Path, degrees: int) -> None:
    """Writes the display matrix into the track's header; it turns clockwise."""
    data = bytearray(path.read_bytes())
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    matrix = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], dtype=">i4")
    place = data.index(b"tkhd") + 4 + 40
    assert data[place : place + 4] == (1 << 16).to_bytes(4, "big")  # the identity so far
    data[place : place + 36] = matrix.tobytes()
    path.write_bytes(data)


def cut(path: Path, pictures: int) -> None:
    """Moves the edit list's beginning by some pictures."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        ticks = round(pictures / FPS / container.streams.video[0].time_base)
    place = data.index(b"elst") + 4 + 4 + 4 + 4  # version and flags, entries, duration of the first
    media_time = int.from_bytes(data[place : place + 4], "big")
    data[place : place + 4] = (media_time + ticks).to_bytes(4, "big")
    path.write_bytes(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Callable[[Case], Path]:
    folder, paths = tmp_path_factory.mktemp("any"), {}

    def get(case: Case) -> Path:
        if case.name not in paths:
            paths[case.name] = make(case, folder, tools.encode)
        return paths[case.name]

    return get


def square_size(case: Case) -> tuple[int, int]:
    """Upright (height, width) in square pixels."""
    width, height = round(case.size[0] * Fraction(case.aspect)), case.size[1]
    return (width, height) if case.turn % 180 else (height, width)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_picture(case: Case, backend: str, made: Callable[[Case], Path], require: Callable[[str], None]) -> None:
    require(backend)
    path = made(case)
    with open_media(path, backend) as reader:
        info = reader.info
        assert info.video_start_seconds is not None
        assert info.video_stop_seconds is not None
        assert (info.height, info.width) == square_size(case)
        first = info.video_start_seconds if case.moved else 0.0
        base = case.ticks[case.cut] if case.moved or case.cut else 0
        asked = [(n, first + (tick - base + 0.5) / FPS) for n, tick in enumerate(case.ticks) if n >= case.cut]
        asked = [(n, second) for n, second in asked if second < info.video_stop_seconds]
        assert len(asked) >= len(case.ticks) - case.cut - 4  # FFmpeg's muxers state too early an end with B-frames
        if words := case.refuses.get(backend):
            with pytest.raises(MediaError, match=words):
                reader.read_frames([asked[0][1]])
            return
        frames = reader.read_frames([second for _, second in asked])
        assert frames.shape == (len(asked), 3, *square_size(case))
        assert numbers(frames) == [n for n, _ in asked]
        assert all(bright_corners(frame) == [True, False, False, False] for frame in frames)
        for n, second in (asked[17 % len(asked)], asked[3], asked[11]):
            assert numbers(reader.read_frames([second], short_side=48)) == [n]
        if backend == "torchcodec":
            assert case.gives_way in reader.fallback.get("video", "")  # type: ignore[attr-defined]
            assert bool(case.gives_way) == ("video" in reader.fallback)  # type: ignore[attr-defined]
    if backend != "pyav":
        with open_media(path, "pyav") as reference:
            expected = reference.read_frames([second for _, second in asked])
        assert (frames.float() - expected.float()).abs().mean() < 1.0  # conversions of two FFmpegs
