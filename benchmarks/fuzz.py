"""Run damaged media files through the health check and the readers: does every file end with a status?

Small files of many containers and codecs are made, and damaged in ways that depend on the number of the file alone:
flipped bits, overwritten, removed, repeated and moved ranges, cut ends, false sizes, extreme values in header fields,
headers of one format before the data of another; and, in every other round, changes that know the structure of the
file (``benchmarks/structures.py``). Each goes through ``probe_file`` and the reader itself, and what is healthy through
windows of training too, in processes that can be killed, as in ``avssl index``.

    python benchmarks/fuzz.py --files 5000               one process for each core; about 10 minutes on 2
    python benchmarks/fuzz.py --files 5000 --train       then index the folder and pretrain on it, as a user would

It prints the outcomes. "bug" is an exception other than MediaError: there should be none. A file that is "ok" at
``--depth full`` must give every window of training.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from structures import EXTREMES, changed

from avssl.core.manifest import Manifest
from avssl.data.dataset import ClipDataset
from avssl.data.health.killable import Outcome, run_killable
from avssl.data.health.report import HealthSettings, probe_file
from avssl.data.sampling import ClipSampling
from avssl.media import MediaError, open_media
from avssl.media.backends import BACKENDS

SETTINGS = HealthSettings(min_seconds=0.5, timeout_seconds=20.0, memory_gib=1.0, backend="pyav")
FPS, SECONDS, RATE_HZ = 10, 2, 16_000
_RATES_HZ = {"libopus": 48_000, "ac3": 48_000, "mp2": 48_000, "wmav2": 44_100, "libmp3lame": 22_050}
_FASTSTART = {"movflags": "+faststart"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
SEEDS: dict[str, tuple[str | None, str | None, dict[str, str]]] = {
    "first.mp4": ("libx264", "aac", _FASTSTART),
    "last.mp4": ("libx264", "aac", {}),
    "fragments.mp4": ("libx264", "aac", _FRAGMENTS),
    "pcm.mov": ("libx264", "pcm_s16le", {}),
    "motion.mov": ("mjpeg", "alac", {}),
    "h264.mkv": ("libx264", "aac", {}),
    "vp9.webm": ("libvpx-vp9", "libopus", {}),
    "vp8.webm": ("libvpx", "libopus", {}),
    "hevc.mkv": ("libx265", "flac", {}),
    "av1.mkv": ("libsvtav1", "ac3", {}),
    "mpeg4.avi": ("mpeg4", "libmp3lame", {}),
    "motion.avi": ("mjpeg", "pcm_s16le", {}),
    "h264.ts": ("libx264", "aac", {}),
    "mpeg2.mpg": ("mpeg2video", "mp2", {}),
    "sorenson.flv": ("flv", "libmp3lame", {}),
    "h264.flv": ("libx264", "aac", {}),
    "wmv.asf": ("wmv2", "wmav2", {}),
    "mpeg4.nut": ("mpeg4", "pcm_s16le", {}),
    "ffv1.mkv": ("ffv1", "pcm_s16le", {}),
    "opus.ogg": (None, "libopus", {}),
    "pcm.wav": (None, "pcm_s16le", {}),
    "sound.flac": (None, "flac", {}),
    "sound.mp3": (None, "libmp3lame", {}),
}
"""Name → video encoder, audio encoder and options of the container."""

# Names of header parts whose sizes and fields are falsified: ISO media, RIFF, FLV and Ogg.
_MARKS = (
    *(b"moov mvhd trak tkhd edts elst mdia mdhd hdlr minf stbl stsd avc1 avcC mp4a esds stts ctts stsc stsz").split(),
    *(b"stco co64 sgpd moof traf tfhd tfdt trun mdat RIFF avih strh strf idx1 movi data onMetaData OggS").split(),
    b"fmt ",
    b"\x1a\x45\xdf\xa3",  # EBML, Segment, Info, Tracks, Duration, Cluster of Matroska
    b"\x18\x53\x80\x67",
    b"\x15\x49\xa9\x66",
    b"\x16\x54\xae\x6b",
    b"\x44\x89",
    b"\x1f\x43\xb6\x75",
)
WINDOW = ClipSampling(num_frames=8, frames_per_second=16.0, audio_seconds=0.5, short_side=112)
"""A window of training, as long as the shortest healthy file."""
NUM_PASSES = 4


# ---------------------------------------------------------------- intact files


def make_seeds(folder: Path) -> dict[str, bytes]:
    """Make the intact files, by name; leave out those whose encoder is missing."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    seeds = {}
    for name, (video, audio, options) in SEEDS.items():
        with suppress(av.FFmpegError, ValueError):  # UnknownCodecError is a ValueError
            _encode(folder / name, video, audio, options)
            seeds[name] = (folder / name).read_bytes()
    if sys.platform == "linux":  # SVT-AV1, run as root, leaves its caller with a real-time priority
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return seeds


def _encode(path: Path, video: str | None, audio: str | None, options: dict[str, str]) -> None:
    with av.open(str(path), "w", options={"fflags": "+bitexact"} | options) as container:
        video_stream = audio_stream = None
        if video is not None:
            quiet = {"x265-params": "log-level=none"} if video == "libx265" else {}
            video_stream = container.add_stream(video, rate=25 if video == "mpeg2video" else FPS, options=quiet)
            video_stream.width, video_stream.height = 64, 48
            video_stream.pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
            video_stream.codec_context.gop_size = 5
            video_stream.codec_context.thread_count = 1
        if audio is not None:
            audio_stream = container.add_stream(audio, rate=_RATES_HZ.get(audio, RATE_HZ), layout="mono")
            audio_stream.bit_rate = 64_000
        for frame in _frames(video_stream):
            container.mux(video_stream.encode(frame))
        for frame in _audio_frames(audio_stream):
            container.mux(audio_stream.encode(frame))
        for stream in (video_stream, audio_stream):
            if stream is not None:
                container.mux(stream.encode(None))


def _frames(stream: Any) -> Iterator[Any]:
    if stream is None:
        return
    y, x = np.mgrid[:48, :64]
    rate = Fraction(stream.codec_context.framerate)
    for number in range(int(SECONDS * rate)):
        wave = 127 + 120 * np.sin((x + 3 * number) / 7) * np.cos((y - number) / 5)
        rgb = np.stack([wave, 255 - wave, np.roll(wave, number, 1)], axis=2).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = number, 1 / rate
        yield frame


def _audio_frames(stream: Any) -> Iterator[Any]:
    if stream is None:
        return
    context = stream.codec_context
    count = SECONDS * context.sample_rate
    tone = np.sin(2 * np.pi * 440 * np.arange(count) / context.sample_rate)[None].astype(np.float32) / 2
    frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    frame.sample_rate = context.sample_rate
    frame.pts, frame.time_base = 0, Fraction(1, context.sample_rate)
    resampler = av.AudioResampler(context.format.name, "mono", context.sample_rate, context.frame_size or 1024)
    yield from [*resampler.resample(frame), *resampler.resample(None)]


# ---------------------------------------------------------------- damage


def _place(draw: random.Random, data: bytearray) -> int:
    """Return any position; every other time one near the start or the end, where headers are."""
    near = min(len(data), 2048)
    return draw.choice([draw.randrange(len(data)), draw.randrange(near), len(data) - 1 - draw.randrange(near)])


def flip_bits(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    for _ in range(draw.choice([1, 4, 16, 64, 256])):
        data[_place(draw, data)] ^= 1 << draw.randrange(8)


def overwrite(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    place, length = _place(draw, data), draw.choice([4, 32, 256, 2048])
    fill = draw.choice([bytes(length), b"\xff" * length, draw.randbytes(length)])
    data[place : place + length] = fill[: len(data[place : place + length])]


def cut(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    del data[draw.randrange(1, len(data)) :]


def remove(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    place = _place(draw, data)
    del data[place : place + draw.choice([1, 3, 64, 1024, 8192])]


def repeat(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    place, length = _place(draw, data), draw.choice([1, 8, 512, 8192])
    data[place:place] = data[place : place + length] * draw.choice([1, 2, 16])


def move(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    place, length = _place(draw, data), draw.choice([16, 512, 4096])
    piece = bytes(data[place : place + length])
    del data[place : place + length]
    target = draw.randrange(len(data) + 1)
    data[target:target] = piece


def splice(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    other = draw.choice(others)
    head = draw.choice([16, 64, 512, 2048, len(data) // 2])
    data[:] = data[:head] + other[draw.choice([0, head, len(other) // 2]) :]


def false_size(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    """Write an extreme number into the four bytes before or after the name of a part."""
    marks = [m for m in _MARKS if m in data]
    if not marks:
        return extreme_field(draw, data, others)
    mark = draw.choice(marks)
    places = [i for i in range(len(data) - 8) if data.startswith(mark, i)][:200]
    place = draw.choice(places or [0])
    offset = draw.choice([-4, len(mark), len(mark) + 4, len(mark) + 8, len(mark) + 4 * draw.randrange(2, 24)])
    return _put(draw, data, place + offset)


def extreme_field(draw: random.Random, data: bytearray, others: list[bytes]) -> None:
    for _ in range(draw.choice([1, 1, 3])):
        _put(draw, data, _place(draw, data))


def _put(draw: random.Random, data: bytearray, place: int) -> None:
    place, width = max(0, place), draw.choice([2, 4, 4, 4, 8])
    number = draw.choice(EXTREMES) if draw.random() < 0.8 else draw.randrange(2**32)
    value = (number << 32 | number if width == 8 else number & (1 << 8 * width) - 1).to_bytes(
        width, draw.choice(["big", "little"])
    )
    data[place : place + width] = value[: len(data[place : place + width])]


DAMAGES: tuple[Callable[[random.Random, bytearray, list[bytes]], None], ...] = (
    flip_bits,
    overwrite,
    cut,
    remove,
    repeat,
    move,
    splice,
    false_size,
    false_size,
    extreme_field,
)


def damaged(seeds: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """Return the name and bytes of file ``number``, a function of the seeds and the number alone."""
    draw = random.Random(number)
    names = sorted(seeds)
    name = names[number % len(names)]
    if number // len(names) % 2:
        return f"{number:06d}_{name}", changed(draw, seeds[name])
    data = bytearray(seeds[name])
    for damage in draw.choices(DAMAGES, k=draw.choice([1, 1, 1, 2, 4])):
        if len(data) > 16:
            damage(draw, data, [seeds[other] for other in names])
    return f"{number:06d}_{name}", bytes(data)


# ---------------------------------------------------------------- outcomes


def look(settings: HealthSettings, path: str) -> dict[str, Any]:
    """Return the status of a file by way of looking at it.

    "health" and "full" are health checks at the depth of ``settings`` and at the greatest; "reader" reads frames and
    audio over the whole file; "training" and "training after full" read windows of training from a healthy file.
    """
    found = {"reader": _read(settings, path)}
    for which, depth in {"health": settings.depth, "full": "full"}.items():
        report = probe_file(path, replace(settings, depth=depth))
        found[which] = report.status
        if report.status == "ok":
            found[TRAINING[which]] = _train(settings, path, report.spans)
    return found


TRAINING = {"health": "training", "full": "training after full"}
"""Depth → the windows of the files that are healthy at it."""


def _train(settings: HealthSettings, path: str, spans: Sequence[tuple[float, float]]) -> str:
    """Return "ok" or the reason of the first window of training that cannot be read from the usable time."""
    starts, stops = zip(*spans, strict=True)
    columns = {"id": [str(i) for i in range(len(spans))], "path": [Path(path).name] * len(spans)}
    columns |= {"start_seconds": list(starts), "stop_seconds": list(stops)}
    dataset = ClipDataset(Manifest.from_columns(columns, Path(path).parent), WINDOW, 0, backend=settings.backend)
    try:
        for number in range(NUM_PASSES):
            dataset.read(number % len(spans), number)
    except MediaError as error:
        return error.reason
    return "ok"


def _read(settings: HealthSettings, path: str) -> str:
    try:
        with open_media(path, settings.backend) as reader:
            info = reader.info
            if info.video_start_seconds is not None and info.video_stop_seconds is not None:
                length = info.video_stop_seconds - info.video_start_seconds
                reader.read_frames([info.video_start_seconds + f * length for f in (0.0, 0.9, 0.4, 1.0)], 32)
            if info.audio_start_seconds is not None and info.audio_stop_seconds is not None:
                stop = info.audio_stop_seconds
                start = max(info.audio_start_seconds, stop - 1.0)
                if stop > start:
                    reader.read_audio(start, stop, RATE_HZ)
                    reader.read_audio(info.audio_start_seconds, info.audio_start_seconds + (stop - start) / 2)
    except MediaError as error:
        return error.reason
    return "ok"


def fuzz(
    folder: Path, num_files: int, settings: HealthSettings = SETTINGS, num_workers: int | None = None, first: int = 0
) -> dict[str, Outcome]:
    """Write damaged files ``first`` to ``first + num_files`` into ``folder``; return name → outcome."""
    (folder / "whole").mkdir()
    seeds = make_seeds(folder / "whole")
    paths = []
    for number in range(first, first + num_files):
        name, data = damaged(seeds, number)
        (folder / name).write_bytes(data)
        paths.append(str(folder / name))
    outcomes = run_killable(
        partial(look, settings),
        paths,
        num_workers=num_workers,
        timeout_seconds=settings.limit_seconds,
        memory_gib=settings.memory_gib,
    )
    return {Path(paths[outcome.number]).name: outcome for outcome in outcomes}


def status(outcome: Outcome, which: str) -> str:
    """Return the status of an outcome by way of looking, or why its process returned none; "" if not looked at so."""
    return outcome.failure or str((outcome.answer or {}).get(which, ""))


def train_on(folder: Path) -> tuple[int, str]:
    """Index a folder of files and pretrain on it, by the command line; return the last status and what was printed."""
    settings = shlex.split(
        "--sampling.num-frames 8 --sampling.frames-per-second 16 --sampling.audio-seconds 0.5 --monitor.every-steps 0 "
        "--transform.video.size 32 --model.video.width 4 --model.audio.width 4 --optim.epochs 2 --optim.batch-size 32 "
        "--train.device cpu --train.precision fp32 --data.max-bad-fraction 0.9 --train.log-every 1000 --no-progress"
    )
    printed = ""
    for words in (
        ["index", str(folder), "--min-seconds", "0.5"],
        ["pretrain", str(folder / "manifest.csv"), "-o", str(folder / "run"), *settings],
    ):
        done = subprocess.run([sys.executable, "-m", "avssl", *words], capture_output=True, text=True, timeout=3600)
        printed += done.stdout + done.stderr
        if done.returncode != 0:
            return done.returncode, printed
    return 0, printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first file: other numbers are damaged differently"
    )
    parser.add_argument("--backend", default="pyav", choices=list(BACKENDS))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--train", action="store_true", help="index and pretrain on the files too")
    parser.add_argument("--keep", type=Path, help="folder that keeps the files")
    options = parser.parse_args()
    settings = HealthSettings(
        min_seconds=0.5, timeout_seconds=20.0, memory_gib=1.0, backend=options.backend, depth="normal"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        start = time.perf_counter()
        outcomes = fuzz(folder, options.files, settings, options.workers, options.first)
        seconds = time.perf_counter() - start
        if options.train:
            shutil.rmtree(folder / "whole")
            code, printed = train_on(folder)
            print(f"{printed}status of index and pretrain on these files: {code}")
    print(f"{len(outcomes)} of {options.files} files ended with a status, in {seconds:.0f} s ({options.backend})")
    for which in ("health", "full", "reader", *TRAINING.values()):
        counts = Counter(status(outcome, which) for outcome in outcomes.values())
        counts.pop("", None)
        print(f"{which}: " + ", ".join(f"{count} {reason}" for reason, count in counts.most_common()))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"peak memory: {peak:.0f} MiB in a worker, {own:.0f} MiB here")
    for name, outcome in outcomes.items():
        if outcome.failure:
            print(f"  {name}: {outcome.failure}: {outcome.detail}")
        elif status(outcome, TRAINING["full"]) not in ("", "ok"):
            print(f"  {name}: ok at depth full, and a window of training is {status(outcome, TRAINING['full'])}")


if __name__ == "__main__":
    main()
