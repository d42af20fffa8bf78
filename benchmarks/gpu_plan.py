"""Sizes of the measurements of ``benchmarks/gpu.py``: the full ones and a miniature."""

from __future__ import annotations

import os
from dataclasses import dataclass

import losses

from avssl.config import Choice, choose
from avssl.synthetic import SceneSettings, Split


@dataclass(frozen=True)
class Plan:
    """Sizes and numbers of all measurements."""

    pairs: dict[str, tuple[Choice, Choice]]
    """Name → video encoder and audio encoder."""
    shapes: tuple[tuple[int, int], ...]
    """Frames and pixels of a clip."""
    losses: tuple[tuple[str, int, int], ...]
    """Name, clips and embedding size."""
    scenes: Split
    """Settings of the corpus behind the shards."""
    most_clips: int = 256
    """Clips of a step."""
    matmul_size: int = 8192
    """Rows and columns of the product that measures the ceiling."""
    num_workers: int = len(os.sched_getaffinity(0))
    """Processes that make the corpus and read the shards; 0: the main process."""
    num_steps: int = 10
    """Timed steps, after three warm-up steps."""
    num_loaded_steps: int = 30
    """Timed steps on clips from shards, after ten warm-up steps."""
    compile_backend: str = "inductor"
    """Backend of torch.compile."""


def _pair(video: str, audio: str, **options: int) -> tuple[Choice, Choice]:
    return choose("model.video", video, **options), choose("model.audio", audio, **options)


FULL = Plan(
    pairs={
        "AVID's pair": _pair("avid_r2plus1d_18", "avid_audio_cnn_10"),
        "R(2+1)D-18 + ResNet-18": _pair("r2plus1d_18", "resnet18_audio"),
    },
    shapes=((8, 112), (32, 224)),
    losses=tuple(losses.wanted()),
    scenes=Split(64, SceneSettings(width=340, height=256, duration_seconds=10.0)),
)
SMALL = Plan(
    pairs={"small pair": _pair("small_video", "small_audio", width=4)},
    shapes=((2, 32),),
    losses=tuple((name, 1024, 16) for name in losses.LOSSES),
    scenes=Split(2, SceneSettings(width=64, height=64, duration_seconds=3.0)),
    num_workers=0,
    most_clips=2,
    matmul_size=256,
    num_steps=2,
    num_loaded_steps=2,
    compile_backend="aot_eager",  # a compiler would take a minute
)
