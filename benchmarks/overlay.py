"""Measure the cost of a heat-map video: `avssl localize` of a synthesized video, in a separate process.

    python benchmarks/overlay.py                                # 60 s of 1280 x 720, the demo weights
    python benchmarks/overlay.py --seconds 600 --checkpoint RUN

The video is a moving texture under noise, which is harder to decode and to encode than camera footage. Wall time is
reliable on an idle machine only; CPU seconds (user and system, all threads, the start of Python included) and the peak
of memory always are.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from avssl.media import write_video

FPS, RATE_HZ = 25, 44_100


def moving_texture(seconds: float, width: int, height: int) -> Iterator[Tensor]:
    """Yield frames of a texture that moves by 3 pixels a frame."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, height // 16, width // 16)
    coarse = torch.rand(shape, generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2) * 200
    noise = torch.randint(0, 24, (8, 3, *coarse.shape[1:]), generator=generator)
    for number in range(round(seconds * FPS)):
        yield (coarse.roll(3 * number, dims=2) + noise[number % 8]).byte()[None]


def tone(seconds: float) -> Iterator[Tensor]:
    """Yield stereo audio, a second at a time: a tone that pauses every other second."""
    for second in range(round(seconds)):
        time_s = torch.arange(RATE_HZ) / RATE_HZ
        yield (0.3 * (second % 2) * torch.sin(2 * torch.pi * 440 * time_s)).expand(2, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--checkpoint", help="Default: the demo weights.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        frames = moving_texture(options.seconds, options.width, options.height)
        write_video(video, frames, FPS, tone(options.seconds), RATE_HZ, crf=23, keyframe_interval=250, threads=4)
        words = [sys.executable, "-m", "avssl", "localize", str(video), "-o", str(Path(folder) / "out.mp4")]
        words += ["--checkpoint", options.checkpoint] if options.checkpoint else []
        start = time.perf_counter()
        subprocess.run(words, check=True)
        wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    print(
        f"{options.seconds} s of {options.width} x {options.height} at {FPS} frames a second, {os.cpu_count()} cores:"
    )
    print(f"{wall:.1f} s wall ({options.seconds / wall:.2f} times real time), {cpu:.1f} s CPU, {peak:.2f} GiB at peak")


if __name__ == "__main__":
    main()
