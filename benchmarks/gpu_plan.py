"""Cases that ``benchmarks/gpu.py`` measures and ``benchmarks/roofline.py`` counts: the full ones and a miniature."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import losses

from avssl.config import Choice, Config, choose, load_config
from avssl.engine.compilation import Compiled
from avssl.synthetic import SceneSettings, Split

CONFIG = Path(__file__).parents[1] / "configs" / "avid_kinetics.yaml"


@dataclass(frozen=True, eq=False)
class Case:
    """A pair of encoders and the clips that it trains on."""

    pair: str
    video: Choice
    audio: Choice
    num_frames: int
    size: int
    """Height and width of a frame, in pixels."""
    audio_seconds: float = 2.0
    spectrogram: Choice | None = None
    """Front end; None: AVID's, 257 bins and 100 columns a second."""

    @property
    def clip(self) -> str:
        """Name of the clip's shape."""
        return f"{self.num_frames} x {self.size}²"

    @property
    def name(self) -> str:
        """Name of the case."""
        return f"{self.pair}, {self.clip}"

    def config(self, clips: int) -> Config:
        """Return AVID's inputs, augmentation and optimizer with these encoders and InfoNCE."""
        base = load_config(CONFIG)
        transform = replace(base.transform, video=replace(base.transform.video, size=self.size))
        return replace(
            base,
            sampling=replace(
                base.sampling,
                num_frames=self.num_frames,
                short_side=round(self.size / 0.875),
                audio_seconds=self.audio_seconds,
            ),
            transform=replace(transform, spectrogram=self.spectrogram or transform.spectrogram),
            model=replace(base.model, video=self.video, audio=self.audio),
            objective=choose("objective", "info_nce", pooling="pooled"),
            optim=replace(base.optim, batch_size=clips),
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """Sizes and numbers of all measurements."""

    cases: tuple[Case, ...]
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
    compiled_parts: Compiled = "all"
    compile_backend: str = "inductor"
    """Backend of torch.compile."""


def _video(name: str, **options: object) -> Choice:
    return choose("model.video", name, **options)


def _audio(name: str, **options: object) -> Choice:
    return choose("model.audio", name, **options)


def vit_pair(name: str, width: int, num_blocks: int, num_heads: int) -> Case:
    """Return two vision transformers on 8 frames of 224 x 224 and on 9.6 s of 128 mel bins, patches of 16 x 16."""
    size = {"width": width, "num_blocks": num_blocks, "num_heads": num_heads}
    mels = choose("transform.spectrogram", "log_mel", num_mels=128)
    return Case(name, _video("vit_frames", **size), _audio("vit_spectrogram", **size), 8, 224, 9.6, mels)


AVID = Case("AVID's pair", _video("avid_r2plus1d_18"), _audio("avid_audio_cnn_10"), 8, 112)
FULL = Plan(
    cases=(
        AVID,
        replace(AVID, size=224),
        Case("R(2+1)D-18 + ResNet-18", _video("r2plus1d_18"), _audio("resnet18_audio"), 8, 112),
        vit_pair("ViT-B/16 pair", 768, 12, 12),
    ),
    losses=tuple(losses.wanted()),
    scenes=Split(64, SceneSettings(width=340, height=256, duration_seconds=10.0)),
)
SMALL = Plan(
    cases=(Case("small pair", _video("small_video", width=4), _audio("small_audio", width=4), 2, 32),),
    losses=tuple((name, 1024, 16) for name in losses.LOSSES),
    scenes=Split(2, SceneSettings(width=64, height=64, duration_seconds=3.0)),
    num_workers=0,
    most_clips=2,
    matmul_size=256,
    num_steps=2,
    num_loaded_steps=2,
    compiled_parts="model",  # tracing the transforms would take minutes
    compile_backend="aot_eager",  # a compiler would take a minute
)
