"""Measure how many clips a second one core reads with each reader, side by side in one run.

It makes a corpus of ordinary mp4 files (H.264 with B-frames, keyframes every 250 or 48 frames, 10 s, AAC 44.1 kHz
stereo) and a prepared copy, and reads random clips: PyAV on the whole file, decord, torchcodec, avssl on the files,
avssl on the copy. Everything runs in one thread, and processor time is measured.

    python benchmarks/loader.py                  about 10 minutes; prints the table in docs/data.md
    python benchmarks/loader.py --clips 4        quicker and noisier
    python benchmarks/loader.py --codecs         the cost of a copy's codecs and keyframes
    python benchmarks/loader.py --feeding        what the training process takes in, apart from decoding
    python benchmarks/loader.py --shape "8 x 112" --cores 10900
                                                 also the cores that a GPU needs for as many clips a second
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from feeding import measure_feeding

from avssl.core.manifest import Manifest, read_manifest
from avssl.core.progress import Bar
from avssl.data import ClipDataset, ClipSampling
from avssl.media import available_backends, open_media
from avssl.media.prepared.clip import CopySettings
from avssl.recipes.prepare import prepare

SECONDS, FPS = 10, 30
SIZES = {"340x256": (340, 256), "640x360": (640, 360), "1280x720": (1280, 720)}
KEYFRAMES = (250, 48)
SHAPES = {  # name: frames, frames a second, decoded short side
    "8 x 112": (8, 16.0, 128),
    "16 x 112": (16, 16.0, 128),
    "32 x 224": (32, 16.0, 256),
}
RATE, SOUND_SECONDS = 24_000, 2.0
Window = tuple[Path, int, list[float], float]
"""File, its row, times of the frames, start of the audio."""


def make_file(path: Path, width: int, height: int, keyframes: int, seed: int) -> None:
    """Write a panning texture with moving discs and grain, about as hard to encode as a hand-held video."""
    rng = np.random.default_rng(seed)
    world = np.zeros((height * 2, width * 2, 3))
    for octave in (8, 16, 32, 64):
        coarse = rng.normal(0, 110 / octave**0.5, (octave, octave, 3))
        world += np.stack([_enlarge(coarse[..., c], world.shape[:2]) for c in range(3)], -1)
    world = np.clip(world + 128, 0, 255)
    y, x = np.mgrid[:height, :width]
    discs = rng.uniform(0, 1, (6, 8))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "medium"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size = keyframes
        audio = container.add_stream("aac", rate=44_100, layout="stereo")
        audio.bit_rate = 128_000
        for number in range(SECONDS * FPS):
            t = number / FPS
            top = int(height / 2 * (1 + np.sin(0.9 * t + seed)) * 0.9)
            left = int(width / 2 * (1 + np.cos(0.7 * t + seed)) * 0.9)
            canvas = world[top : top + height, left : left + width].copy()
            for a, b, c, d, e, *color in discs:
                cy = height * (0.5 + 0.4 * np.sin(2 * t * a + 6 * b))
                cx = width * (0.5 + 0.4 * np.sin(2 * t * c + 6 * d))
                canvas[(y - cy) ** 2 + (x - cx) ** 2 < (height * (0.05 + 0.1 * e)) ** 2] = np.array(color) * 255
            canvas += rng.normal(0, 2.5, canvas.shape)
            frame = av.VideoFrame.from_ndarray(np.clip(canvas, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        times = np.arange(SECONDS * 44_100) / 44_100
        tone = 0.2 * np.sin(2 * np.pi * (300 + 100 * seed) * times) + rng.normal(0, 0.03, len(times))
        both = np.stack([tone, tone[::-1]]).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
        sound.sample_rate, sound.pts, sound.time_base = 44_100, 0, Fraction(1, 44_100)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def _enlarge(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    tensor = torch.from_numpy(grid)[None, None]
    return torch.nn.functional.interpolate(tensor, size=shape, mode="bicubic")[0, 0].numpy()


def make_corpus(folder: Path) -> Manifest:
    """Write two files of every size and keyframe distance."""
    cases = [(name, keyframes, number) for name in SIZES for keyframes in KEYFRAMES for number in range(2)]
    paths = []
    for name, keyframes, number in Bar(cases, "corpus", unit="file"):
        paths.append(f"{name}_gop{keyframes}_{number}.mp4")
        make_file(folder / paths[-1], *SIZES[name], keyframes, number)
    manifest = Manifest.from_columns({"id": paths, "path": paths}, folder)
    manifest.write(folder / "manifest.csv")
    return manifest


# ---------------------------------------------------------------- ways of reading one clip


def full_decode(window: Window, short_side: int) -> None:
    """Decode the whole file and cut the clip out of it."""
    path, _, times, start = window
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        shown = sorted({min(int(t * FPS + 1e-6), SECONDS * FPS - 1) for t in times})
        frames = [frame for frame in container.decode(video=0)]  # noqa: C416
        width, height = scaled(frames[0].width, frames[0].height, short_side)
        images = [frames[n].to_ndarray(format="rgb24", width=width, height=height) for n in shown]
        container.seek(0)
        resampler = av.AudioResampler("fltp", "mono", RATE)
        samples = [f.to_ndarray() for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        sound = np.concatenate(samples, 1)[:, int(start * RATE) :][:, : int(SOUND_SECONDS * RATE)]
    assert len(images) == len(shown), "every frame of the window is there"
    assert sound.shape[1] > 0, "the audio reaches the window"


def with_decord(window: Window, short_side: int) -> None:
    import decord

    path, _, times, start = window
    info = decord.VideoReader(str(path), num_threads=1)
    height, width = info[0].shape[:2]
    width, height = scaled(width, height, short_side)
    reader = decord.VideoReader(str(path), num_threads=1, width=width, height=height)
    reader.get_batch([min(int(t * FPS + 1e-6), SECONDS * FPS - 1) for t in times]).asnumpy()
    sound = decord.AudioReader(str(path), sample_rate=RATE, mono=True)
    sound[int(start * RATE) : int((start + SOUND_SECONDS) * RATE)].asnumpy()


def with_torchcodec(mode: str) -> Callable[[Window, int], None]:
    def read(window: Window, short_side: int) -> None:
        from torchcodec.decoders import AudioDecoder, VideoDecoder
        from torchcodec.transforms import Resize

        path, _, times, start = window
        width, height = scaled(*SIZES[path.name.split("_")[0]], short_side)
        decoder = VideoDecoder(path, seek_mode=mode, num_ffmpeg_threads=1, transforms=[Resize((height, width))])
        decoder.get_frames_played_at(times)
        sound = AudioDecoder(path, sample_rate=RATE, num_channels=1)
        sound.get_samples_played_in_range(start, start + SOUND_SECONDS)

    return read


def scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


# ---------------------------------------------------------------- the table


def measure(manifest: Manifest, copies: dict[int, Manifest], shape: str, num_clips: int) -> dict[str, list[float]]:
    """Return seconds of processor time a clip by method and file; methods take turns on the same windows."""
    num_frames, fps, short_side = SHAPES[shape]
    sampling = ClipSampling(num_frames, fps, SOUND_SECONDS, RATE, max_offset_seconds=0.5, short_side=short_side)
    raw = ClipDataset(manifest, sampling, seed=0, backend="pyav")
    shards = ClipDataset(copies[short_side], sampling, seed=0)
    chooser = random.Random(0)
    simple: dict[str, Callable[[Window, int], None]] = {"PyAV, whole file": full_decode}
    loads = available_backends()
    if loads["decord"] is None:
        simple["decord"] = with_decord
    if loads["torchcodec"] is None:
        simple |= {f"torchcodec, {mode}": with_torchcodec(mode) for mode in ("exact", "approximate")}
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in Bar(range(num_clips), shape, unit="round"):
        for row in range(len(manifest)):
            start = chooser.uniform(0, SECONDS - max(num_frames / fps, SOUND_SECONDS) - 0.1)
            window = manifest.file(row), row, [start + i / fps for i in range(num_frames)], start
            for name, read in simple.items():
                seconds[name].append(timed(lambda read=read, window=window: read(window, short_side)))
            seconds["avssl, raw, 1 clip a read"].append(timed(lambda row=row, n=number: raw.read(row, n)))
            if number % 4 == 0:
                eight = timed(lambda row=row, n=number: raw.read_clips(row, n, range(8)))
                seconds["avssl, raw, 8 clips a read"].append(eight / 8)
            prepared = timed(lambda row=row, n=number: [shards.read(row, 16 * n + i) for i in range(16)])
            seconds["avssl, prepared"].append(prepared / 16)
    return seconds


def timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def print_table(shape: str, seconds: dict[str, list[float]], manifest: Manifest) -> None:
    """Print clips a second and core by kind of file, and the ratio to torchcodec."""
    kinds = [manifest.value(row, "id").rpartition("_")[0] for row in range(len(manifest))]
    groups = {kind: [row for row, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)}
    print(f"\n{shape} frames + {SOUND_SECONDS:g} s of audio, clips a second and core (times torchcodec, exact)\n")
    print(f"| | {' | '.join(kind.replace('_', ', ') for kind in groups)} | all |")
    print(f"| --- |{' ---: |' * (len(groups) + 1)}")
    by_file = {name: np.array(values).reshape(-1, len(manifest)) for name, values in seconds.items()}
    for name, values in by_file.items():
        cells = []
        for rows in [*groups.values(), list(range(len(manifest)))]:
            rate = 1 / values[:, rows].mean()
            base = 1 / by_file["torchcodec, exact"][:, rows].mean() if "torchcodec, exact" in by_file else float("nan")
            cells.append(f"{rate:.3g} ({rate / base:.{0 if rate >= 10 * base else 1}f})")
        print(f"| {name} | {' | '.join(cells)} |")
    num_raw, num_prepared = len(seconds["avssl, raw, 1 clip a read"]), len(seconds["avssl, prepared"]) * 16
    print(f"\nn = {num_raw} clips, {num_prepared} prepared ones.")


def print_cores(seconds: dict[str, list[float]], manifest: Manifest, clips_per_second: float) -> None:
    """Print the cores that decode as many clips a second, by way of reading and size of the files."""
    print(f"\nCores that decode {clips_per_second:,.0f} clips of 8 x 112 a second, what one GPU takes\n")
    print(f"| | ms a clip | cores | {' | '.join(f'cores, {size}' for size in SIZES)} |")
    print(f"| --- |{' ---: |' * (len(SIZES) + 2)}")
    for name, values in seconds.items():
        if not name.startswith(("avssl", "torchcodec")):
            continue
        by_row = np.array(values).reshape(-1, len(manifest)).mean(0)
        groups = [[row for row in range(len(manifest)) if manifest.value(row, "id").startswith(f"{s}_")] for s in SIZES]
        cores = [clips_per_second * by_row[rows].mean() for rows in groups]
        cells = [f"{each:.0f}" for each in (clips_per_second * by_row.mean(), *cores)]
        print(f"| {name} | {by_row.mean() * 1000:.2f} | {' | '.join(cells)} |")


def print_bytes(manifest: Manifest, copies: dict[int, Manifest]) -> None:
    """Print sizes on disk, quality of the copies, and bytes moved to the device."""
    hours = len(manifest) * SECONDS / 3600
    print("\n| | MiB an hour | PSNR of RGB, dB |\n| --- | ---: | ---: |")
    for kind in SIZES:
        files = [manifest.file(row) for row in range(len(manifest)) if manifest.value(row, "id").startswith(kind)]
        size = sum(file.stat().st_size for file in files) / 2**20 / (len(files) * SECONDS / 3600)
        print(f"| files, {kind} | {size:.0f} | |")
    for short_side, copy in copies.items():
        size = sum(file.stat().st_size for file in copy.root.glob("shards/*.tar")) / 2**20 / hours
        print(f"| copy, short side {short_side} | {size:.0f} | {psnr(manifest, copy, short_side):.1f} |")
    print("\n| | KiB a clip to the device: RGB | planes |\n| --- | ---: | ---: |")
    for shape, (num_frames, _, side) in SHAPES.items():
        pixels, sound = num_frames * side * side * 4 / 3 / 1024, SOUND_SECONDS * RATE * 4 / 1024
        print(f"| {shape}, 4:3 | {3 * pixels + sound:.0f} | {1.5 * pixels + sound:.0f} |")


def psnr(manifest: Manifest, copy: Manifest, short_side: int) -> float:
    """Return the PSNR of the copy's RGB against the source's at the copy's size, over every 16th frame."""
    sampling = ClipSampling(16, 8.0, sample_rate_hz=RATE, max_offset_seconds=0.5, short_side=short_side)
    shards = ClipDataset(copy, sampling)
    errors = []
    for row in range(len(copy)):
        times = [(k + 0.5) / 16 for k in range(0, SECONDS * 16, 16)]
        with shards._open(row) as ours, open_media(manifest.file(row), "pyav") as source:
            a, b = ours.read_frames(times), source.read_frames(times, short_side)
        height, width = a.shape[2:]
        errors.append((a.float() - b[:, :, :height, :width].float()).square().mean().item())
    return float(10 * np.log10(255**2 / np.mean(errors)))


CODECS = (
    CopySettings(),
    CopySettings(keyframe_interval=4),
    CopySettings(keyframe_interval=16),
    CopySettings(audio_codec="flac"),
    CopySettings(audio_codec="aac"),
    CopySettings(video_codec="h264", quality=20),
    CopySettings(video_codec="h264", quality=20, audio_codec="flac"),
    CopySettings(video_codec="mjpeg", quality=4, keyframe_interval=1),
)


def compare_codecs(manifest: Manifest, folder: Path, num_clips: int) -> None:
    """Print the cost of a copy's codecs and keyframes for 8 x 112; the first line is the default."""
    sampling = ClipSampling(8, 16.0, SOUND_SECONDS, RATE, max_offset_seconds=0.5, short_side=128)
    sets, sizes = {}, {}
    for number, settings in enumerate(CODECS):
        out = folder / f"codec{number}"
        prepare(folder / "manifest.csv", out, settings=settings, num_workers=0, backend="pyav", progress=False)
        sets[number] = ClipDataset(read_manifest(out / "manifest.csv"), sampling)
        hours = len(manifest) * SECONDS / 3600
        sizes[number] = sum(file.stat().st_size for file in out.glob("shards/*.tar")) / 2**20 / hours
    seconds: dict[int, list[float]] = defaultdict(list)
    for clip, row in itertools.product(range(16 * num_clips), range(len(manifest))):
        for number, dataset in sets.items():
            seconds[number].append(timed(lambda data=dataset, row=row, clip=clip: data.read(row, clip)))
    print("\n| video | quality | keyframe every | audio | MiB an hour | PSNR of RGB, dB | clips a second and core |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for number, copy in enumerate(CODECS):
        decibels = psnr(manifest, sets[number].manifest, 128)
        cells = [copy.video_codec, copy.quality, copy.keyframe_interval, copy.audio_codec, f"{sizes[number]:.0f}"]
        print(f"| {' | '.join(map(str, cells))} | {decibels:.1f} | {1 / np.mean(seconds[number]):.0f} |")


def main() -> None:
    """Make the corpus, read it with every reader, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16, help="Clips of each file and shape.")
    parser.add_argument("--shape", choices=SHAPES, help="Measure clips of this shape alone.")
    parser.add_argument("--folder", help="Folder that keeps the corpus for the next run.")
    parser.add_argument("--codecs", action="store_true", help="Compare the codecs of copies instead.")
    parser.add_argument("--feeding", action="store_true", help="Measure the loader without decoding instead.")
    parser.add_argument("--cores", type=float, default=10_900, help="Clips of 8 x 112 that a GPU takes a second.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.feeding:
        measure_feeding()
        return
    folder = Path(options.folder or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        there = folder / "manifest.csv"
        manifest = read_manifest(there) if there.is_file() else make_corpus(folder)
        if options.codecs:
            compare_codecs(manifest, folder, options.clips)
            return
        copies = {}
        for side in sorted({side for _, _, side in SHAPES.values()}):
            prepare(
                there, folder / f"copy{side}", settings=CopySettings(short_side=side), num_workers=0, backend="pyav"
            )
            copies[side] = read_manifest(folder / f"copy{side}" / "manifest.csv")
        for shape in [options.shape] if options.shape else SHAPES:
            seconds = measure(manifest, copies, shape, options.clips)
            print_table(shape, seconds, manifest)
            if shape == "8 x 112":
                print_cores(seconds, manifest, options.cores)
        print_bytes(manifest, copies)
    finally:
        if not options.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
