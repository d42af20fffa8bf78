"""Compare a training step with the same step written the ordinary way, in turns in one process, in every format.

    python benchmarks/reference_step.py             about 3 minutes on one CPU core
    python benchmarks/reference_step.py --device cuda --clips 64 --rounds 20

The ordinary way: torchvision's R(2+1)D-18 and four convolutions for the spectrogram, torchvision's v2 transforms clip
by clip, torchaudio's mel spectrogram, InfoNCE by two cross-entropies and AdamW; torch.autocast and channels_last where
the format says so (channels_last_2d, views of 2-D operations, is ours alone: the ordinary step beside it is that of
channels_last). Ours has the same networks, augmentations, loss and optimizer. Both get the same raw batch in
memory. The shortest of the rounds counts, as other programs slow some steps down and make none faster. On a CPU that
other programs use too, compare the seconds of the processor, all threads together. The last line is the choice of
``train.precision auto``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchaudio
import torchvision
from precision import made_up_batch, made_up_task
from rows import bf16_units, machine
from torch import Tensor, nn
from torchvision.transforms import v2

from avssl.config import Config, config_from_dict
from avssl.core.batch import Batch
from avssl.engine import Precision, all_precisions, choose_device
from avssl.training.build import build_optimizer
from avssl.training.setup import choose_precision
from avssl.transforms.video import IMAGENET_MEAN, IMAGENET_STD

Step = Callable[[], float]
ORDINARY, OURS = "ordinary", "avssl"
BASE = Precision("fp32", "contiguous")
TARGET = 2.0
NOISE = 0.03
"""Relative difference of two measurements of the same step."""


def step_config(clips: int, size: int, num_frames: int) -> Config:
    """Return the settings of our step."""
    sampling = {"num_frames": num_frames, "audio_seconds": 2.0, "sample_rate_hz": 24_000}
    model = {
        "video": {"name": "r2plus1d_18"},
        "audio": {"name": "small_audio"},
        "head": {"name": "mlp", "out_features": 128, "hidden": 512},
    }
    return config_from_dict(
        {
            "sampling": sampling,
            "model": model,
            "transform": {"video": {"size": size}, "spectrogram": {"name": "log_mel", "num_mels": 64}},
            "objective": {"name": "info_nce", "temperature": 0.07, "pooling": "pooled"},
            "optim": {"name": "adamw", "batch_size": clips},
            "train": {"precision": "auto", "memory_format": "auto"},
        }
    )


# ---------------------------------------------------------------- the ordinary way


class OrdinaryPair(nn.Module):
    """Two networks with projections, and the transforms of their inputs."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        video, sampling = config.transform.video, config.sampling
        self.frames = v2.Compose(
            [
                v2.RandomResizedCrop(video.size, scale=video.scale, ratio=video.ratio, antialias=True),
                v2.RandomHorizontalFlip(video.flip_probability),
                v2.ColorJitter(video.brightness, video.contrast, video.saturation, video.hue),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )
        self.spectrogram = nn.Sequential(
            torchaudio.transforms.MelSpectrogram(sampling.sample_rate_hz, n_fft=1024, hop_length=240, n_mels=64),
            torchaudio.transforms.AmplitudeToDB(),
        )
        self.video = torchvision.models.video.r2plus1d_18(weights=None)
        self.video.fc = _projection(512)
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 16, 2), (16, 32, 2), (32, 64, 2), (64, 128, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
        self.audio = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), _projection(128))

    def forward(self, clips: Tensor, waveforms: Tensor, precision: Precision) -> Tensor:
        """Return the loss of (B, T, 3, H, W) uint8 clips and (B, S) waveforms."""
        with torch.no_grad():
            frames = torch.stack([self.frames(clip) for clip in clips]).transpose(1, 2)
            spectrogram = self.spectrogram(waveforms).transpose(1, 2)[:, None]
            spectrogram = (spectrogram - spectrogram.mean()) / spectrogram.std()
        if precision.memory_format != "contiguous":
            frames = frames.contiguous(memory_format=torch.channels_last_3d)
            spectrogram = spectrogram.contiguous(memory_format=torch.channels_last)
        else:
            frames = frames.contiguous()
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=precision.name == "bf16"):
            video, audio = self.video(frames), self.audio(spectrogram)
        video, audio = (F.normalize(x.float(), dim=1) for x in (video, audio))
        scores, positive = video @ audio.T / 0.07, torch.arange(len(clips), device=clips.device)
        return (F.cross_entropy(scores, positive) + F.cross_entropy(scores.T, positive)) / 2


def _projection(features: int) -> nn.Module:
    hidden = [nn.Linear(features, 512), nn.ReLU(True), nn.Linear(512, 512), nn.ReLU(True)]
    return nn.Sequential(*hidden, nn.Linear(512, 128))


def ordinary_step(config: Config, batch: Batch, precision: Precision, device: torch.device) -> Step:
    """Return a function that trains the ordinary pair for a step and returns the loss."""
    torch.manual_seed(0)
    pair = OrdinaryPair(config).to(device).train()
    if precision.memory_format != "contiguous":
        pair.video.to(memory_format=torch.channels_last_3d)
        pair.audio.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(pair.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay)

    def step() -> float:
        optimizer.zero_grad()
        loss = pair(batch.video, batch.audio, precision)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---------------------------------------------------------------- ours


def our_step(config: Config, batch: Batch, precision: Precision, device: torch.device) -> Step:
    """Return a function that trains our pair for a step and returns the loss."""
    task = made_up_task(config).to(device).train()
    optimizer = build_optimizer(config, task)

    def step() -> float:
        with precision.applied_to(task, device):
            optimizer.zero_grad()
            loss = task(batch).total
            loss.backward()
            optimizer.step()
        return loss.item()

    return step


# ---------------------------------------------------------------- turns and table


Times = dict[tuple[str, Precision], float]
"""Seconds of a step, by way and format."""


def measure(config: Config, batch: Batch, device: torch.device, num_rounds: int) -> tuple[Times, Times]:
    """Return the shortest seconds of a step of both ways in every format, by the wall clock and of the processor."""
    ways = {ORDINARY: ordinary_step, OURS: our_step}
    steps = {
        (way, precision): build(config, batch, precision, device)
        for precision in all_precisions()
        for way, build in ways.items()
    }
    wall, cpu = dict.fromkeys(steps, float("inf")), dict.fromkeys(steps, float("inf"))
    for number in range(num_rounds + 1):
        for key, step in steps.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            step()  # reading the loss waits for a GPU
            if number > 0:  # kernels are chosen and memory is allocated in the first
                wall[key] = min(wall[key], time.perf_counter() - began)
                cpu[key] = min(cpu[key], time.process_time() - began_cpu)
    return wall, cpu


def table(wall: Times, cpu: Times, chosen: Precision, units: list[str]) -> str:
    """Return a Markdown table, and what the default reaches."""
    lines = [
        "| format | ordinary ms | avssl ms | ordinary / avssl | in CPU seconds | ordinary in fp32 contiguous / avssl | "
        "in CPU seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for precision in all_precisions():
        name = f"**{precision}**, the choice of `auto`" if precision == chosen else str(precision)
        times = " | ".join(f"{1000 * wall[way, precision]:.0f}" for way in (ORDINARY, OURS))
        ratios = [clock[ORDINARY, base] / clock[OURS, precision] for base in (precision, BASE) for clock in (wall, cpu)]
        lines.append(f"| {name} | {times} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    speeds = [clock[ORDINARY, BASE] / clock[OURS, chosen] for clock in (wall, cpu)]
    aim, least = f"not to lose by more than {NOISE:.0%}", 1 - NOISE
    if units:
        aim, least = f"at least {TARGET:g} times, as there are bf16 units ({', '.join(units)})", TARGET
    end = (
        f"The default is {speeds[0]:.2f} times as fast as the ordinary step in fp32 contiguous, {speeds[1]:.2f} times "
    )
    end += f"in CPU seconds. Aim: {aim}; {'met' if min(speeds) >= least else 'missed'}."
    fastest = min(value for (way, _), value in wall.items() if way == OURS)
    if (1 - NOISE) * wall[OURS, chosen] > fastest:
        end += f" Another format of ours takes {1000 * fastest:.0f} ms."
    return "\n".join([*lines, "", end])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help='"auto", "cpu", "cuda" or "cuda:N".')
    parser.add_argument("--clips", type=int, default=4, help="Clips of a step.")
    parser.add_argument("--rounds", type=int, default=3, help="Timed steps of each way in each format.")
    parser.add_argument("--size", type=int, default=112, help="Height and width of a frame, in pixels.")
    parser.add_argument("--frames", type=int, default=8, help="Frames of a clip.")
    options = parser.parse_args()
    device, config = choose_device(options.device), step_config(options.clips, options.size, options.frames)
    batch = made_up_batch(config, options.clips)
    choice = choose_precision(config, made_up_task(config), batch, device)
    wall, cpu = measure(config, batch.to(device), device, options.rounds)
    shape = f"{options.clips} clips of {options.frames} x {options.size}² and 2 s"
    print(f"{machine(device)}; {shape}, shortest of {options.rounds} steps.\n")
    print(table(wall, cpu, choice.precision, bf16_units(device)))
    print(f"\n`auto`: {choice}.")


if __name__ == "__main__":
    main()
