"""Frames found by decoding only what they need equal, bit for bit, those found by decoding everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from torch import Tensor

from avssl.media import open_media
from avssl.media.pyav.selective_decoder import PacketSelector, TimestampMismatch
from avssl.media.pyav.video_track import VideoTrack

COUNT = 60
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {  # suffix, encoder, its options
    "h264 pyramid": ("mp4", "libx264", {"g": "40", "bf": "5", "x264-params": "b-pyramid=normal:scenecut=0:ref=4"}),
    "h264 open gop": ("mp4", "libx264", {"g": "15", "bf": "3", "x264-params": "open-gop=1:b-pyramid=strict"}),
    "h264 defaults": ("mkv", "libx264", {"g": "250"}),
    "h264 ts": ("ts", "libx264", {"g": "20", "bf": "2"}),
    "h264 intra refresh": ("mp4", "libx264", {"g": "20", "x264-params": "intra-refresh=1"}),
    "hevc": ("mp4", "libx265", {"g": "30", "x265-params": "log-level=none:bframes=4:b-pyramid=1:pools=1"}),
    "hevc layers": ("mkv", "libx265", {"x265-params": "log-level=none:temporal-layers=3:bframes=4:pools=1"}),
    "hevc open gop": ("mov", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=12:pools=1"}),
    "mpeg4": ("mp4", "mpeg4", {"g": "30", "bf": "2", "q": "4"}),
    "mpeg4 quarter": ("mkv", "mpeg4", {"g": "30", "bf": "2", "flags": "+qpel"}),
    "mpeg2": ("ts", "mpeg2video", {"g": "18", "bf": "2"}),
    "mpeg1": ("mkv", "mpeg1video", {"g": "18", "bf": "2"}),
    "vp9": ("webm", "libvpx-vp9", {"g": "40", "auto-alt-ref": "1", "lag-in-frames": "20", "cpu-used": "8"}),
    "vp8": ("webm", "libvpx", {"g": "40", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}),
    "av1": ("webm", "libsvtav1", {"g": "40", "preset": "12"}),
}
SEQUENTIAL = {"h264 intra refresh"}  # pictures become whole only some time after the point that is sought


def scenery(count: int, height: int = 72, width: int = 104) -> Tensor:
    """(T, 3, H, W) pictures that move and do not compress away."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 40, generator=generator) * 255
    wide = torch.nn.functional.interpolate(coarse, (height, width + 3 * count), mode="bicubic").clamp(0, 255)
    grain = torch.rand(count, 1, height, width, generator=generator) * 16 - 8
    return torch.stack([wide[0, :, :, 3 * n : 3 * n + width] for n in range(count)]).add(grain).clamp(0, 255).byte()


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Callable[[str], Path]:
    pictures, folder = scenery(COUNT), tmp_path_factory.mktemp("coded")

    def make(name: str) -> Path:
        suffix, codec, options = CODECS[name]
        path = folder / f"{name}.{suffix}"
        if not path.exists():
            tools.encode(path, pictures, range(COUNT), fps=25, codec=codec, options=options)
        return path

    return make


def sequential(path: Path, times: list[float]) -> Tensor:
    with open_media(path, "pyav") as reader:
        reader.video._selective.usable = False  # type: ignore[attr-defined]
        return reader.read_frames(times)


@pytest.mark.parametrize("name", CODECS)
def test_selective_decoding_equals_sequential_decoding(name: str, coded: Callable[[str], Path]) -> None:
    path = coded(name)
    with open_media(path, "pyav") as reader:
        start = reader.info.video_start_seconds or 0.0
        stop = reader.info.video_stop_seconds or 0.0
        times = [start + (n + 0.5) / 25 for n in range(COUNT) if start + (n + 0.5) / 25 < stop]
        every = sequential(path, times)
        assert len({frame.sum().item() for frame in every}) == len(every)  # no two frames alike
        assert torch.equal(reader.read_frames(times), every)
        generator = torch.Generator().manual_seed(1)
        for size in (1, 1, 1, 2, 3, 8, 20):
            chosen = torch.randperm(len(times), generator=generator)[:size]
            assert torch.equal(reader.read_frames([times[i] for i in chosen]), every[chosen])
        assert reader.video._selective.usable == (name not in SEQUENTIAL)  # type: ignore[attr-defined]


def test_pictures_nobody_refers_to_or_asks_for_are_not_decoded(coded: Callable[[str], Path]) -> None:
    with open_media(coded("h264 pyramid"), "pyav") as reader:
        decoded = _counting(reader)
        reader.read_frames([35.5 / 25])
        assert 1 <= decoded[0] <= 20  # of 36
        decoded[0] = 0
        reader.read_frames([(n + 0.5) / 25 for n in range(36)])
        assert 36 <= decoded[0] <= 40


@pytest.mark.parametrize("bframes", ["0", "3"])
def test_far_apart_times_cost_only_their_groups(tmp_path: Path, tools: Any, bframes: str) -> None:
    options = {"g": "10", "bf": bframes, "sc_threshold": "0"}
    path = tools.encode(tmp_path / "long.mp4", tools.gray(50), range(50), fps=10, options=options)
    with open_media(path, "pyav") as reader:
        decoded = _counting(reader)
        assert tools.numbers(reader.read_frames([0.1, 4.2])) == [1, 42]
        assert decoded[0] <= 12  # of 50
        assert tools.numbers(reader.read_frames([n / 10 for n in range(50)])) == list(range(50))


def _counting(reader: Any) -> list[int]:
    """[number of frames that come out of the decoder from now on]."""
    picture: VideoTrack = reader.video
    decoded, count = picture._selective._decoded, [0]

    def counting(selector: PacketSelector) -> Any:
        for frame in decoded(selector):
            count[0] += 1
            yield frame

    picture._selective._decoded = counting  # type: ignore[method-assign]
    return count


def test_interlaced_video_is_decoded_sequentially(tmp_path: Path, tools: Any) -> None:
    options = {"g": "20", "x264-params": "tff=1", "flags": "+ildct+ilme"}
    path = tools.encode(tmp_path / "a.mp4", tools.gray(40), range(40), fps=25, options=options)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    with open_media(path, "pyav") as reader:
        assert tools.numbers(reader.read_frames([n / 25 for n in (0, 7, 31)])) == [0, 7, 31]
        assert not reader.video._selective.usable  # type: ignore[attr-defined]


@pytest.mark.parametrize(("codec", "bframes"), [("libx264", "2"), ("mpeg4", "2"), ("mpeg4", "0")])
def test_frames_of_avi_are_counted(tmp_path: Path, tools: Any, codec: str, bframes: str) -> None:
    """AVI has no presentation times: frame n is the n-th to be shown."""
    options = {"bf": bframes, "g": "10", **({"crf": "4"} if codec == "libx264" else {"qmax": "2"})}
    path = tools.encode(tmp_path / "a.avi", tools.gray(40), range(40), codec=codec, options=options)
    with open_media(path, "pyav") as reader:
        assert tools.numbers(reader.read_frames([(n + 0.5) / 30 for n in range(39)])) == list(range(39))
        for order in ([3, 25, 4], [17], [31]):
            assert tools.numbers(reader.read_frames([(n + 0.5) / 30 for n in order])) == order


class _Packet:
    is_discard = False
    size = 1

    def __init__(self, dts: int | None, pts: int | None) -> None:
        self.dts, self.pts = dts, pts


def _plan(
    packets: list[tuple[int | None, int | None]], asked: list[int], trusts_dts: bool = True
) -> list[tuple[int | None, bool]]:
    plan = PacketSelector(iter([_Packet(*p) for p in packets]), asked, trusts_dts)
    return [(packet.pts, wanted) for packet, wanted in plan]


def test_a_plan_ends_with_the_last_packet_that_is_asked_for() -> None:
    ordinary = [(-2, 0), (-1, 3), (0, 1), (1, 2), (2, 6), (3, 4), (4, 5), (5, 9), (6, 7), (7, 8)]
    assert _plan(ordinary, [2]) == [(0, False), (3, False), (1, False), (2, True)]
    assert _plan(ordinary, [0, 4]) == [(0, True), (3, False), (1, False), (2, False), (6, False), (4, True)]
    assert _plan(ordinary, [3]) == [(0, False), (3, True)]
    assert _plan(ordinary, [100])[-1] == (9, True)
    guessed: list[tuple[int | None, int | None]] = [(None, pts) for _, pts in ordinary]
    for asked in ([2], [0, 4], [3], [100]):
        assert _plan(guessed, asked, trusts_dts=False) == _plan(ordinary, asked)
    assert len(_plan([(None, n) for n in range(100)], [2], trusts_dts=False)) == 3


def test_a_plan_goes_by_what_is_shown() -> None:
    """Frames at 0, 10, 11 and 50: at 9 the one at 0 is shown, at 49 the one at 11."""
    varying: list[tuple[int | None, int | None]] = [(0, 0), (10, 10), (11, 11), (50, 50), (51, 51)]
    assert _plan(varying, [9]) == [(0, True)]
    assert _plan(varying, [9, 49]) == [(0, True), (10, False), (11, True)]


@pytest.mark.parametrize("packets", [[(0, None)], [(3, 0)], [(0, 0), (0, 1)], [(5, 5), (4, 6)]])
def test_a_plan_needs_timestamps_in_order(packets: list[tuple[int | None, int | None]]) -> None:
    with pytest.raises(TimestampMismatch):
        _plan(packets, [100])


def test_a_plan_holds_few_packets() -> None:
    with pytest.raises(TimestampMismatch):
        _plan([(None, 1000), *((None, n) for n in range(1000))], [1500], trusts_dts=False)
