"""Size, input, map, tests and CPU time of backbones with random weights: the table of ``backbones.py --table``.

Times are of the processor, in one thread, and so hardly depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from backbone_tests import collected, words_of

from avssl.models import create_encoder
from avssl.models.foreign.contract import VideoContract
from avssl.transforms import create_spectrogram

FRAMES = 8
"""Frames of a clip of an image network."""
ROWS = (
    ("timm", "video", "vit_tiny_patch16_224", "Apache-2.0"),
    ("timm", "video", "vit_small_patch16_224", "Apache-2.0"),
    ("timm", "video", "vit_small_patch16_dinov3", "DINOv3 license"),
    ("timm", "video", "vit_base_patch16_siglip_224", "Apache-2.0"),
    ("timm", "video", "eva02_tiny_patch14_224", "MIT"),
    ("timm", "video", "convnext_tiny", "Apache-2.0"),
    ("timm", "video", "regnety_008", "MIT"),
    ("timm", "video", "swin_tiny_patch4_window7_224", "MIT"),
    ("torchvision", "video", "s3d", "BSD-3-Clause"),
    ("torchvision", "video", "mvit_v2_s", "BSD-3-Clause"),
    ("torchvision", "video", "swin3d_t", "BSD-3-Clause"),
    ("torchvision", "video", "regnet_y_400mf", "BSD-3-Clause"),
    ("hf", "video", "clip", "MIT"),
    ("hf", "video", "siglip", "Apache-2.0"),
    ("hf", "video", "dinov2", "Apache-2.0"),
    ("hf", "video", "dinov3_vit", "DINOv3 license"),
    ("hf", "video", "dinov2_with_registers", "Apache-2.0"),
    ("hf", "video", "videomae", "CC-BY-NC-4.0"),
    ("hf", "video", "vjepa2", "MIT"),
    ("hf", "audio", "ast", "BSD-3-Clause"),
    ("hf", "audio", "clap", "Apache-2.0"),
    ("hf", "audio", "hubert", "Apache-2.0"),
    ("hf", "audio", "wavlm", "by checkpoint"),
    ("hf", "audio", "wav2vec2", "Apache-2.0"),
    ("hf", "audio", "wav2vec2-bert", "MIT"),
    ("hf", "audio", "whisper", "Apache-2.0"),
    ("pe_audio", "audio", "", "Apache-2.0"),
)
"""Library, modality, backbone, and the usual license of its public weights: look at the card of those you load."""


COLUMNS = (
    "library",
    "backbone",
    "M parameters",
    "input",
    "map (C, cells)",
    "usual license",
    "tests",
    "s per step",
    "of r2plus1d_18",
)
_NUMBERS = ("M parameters", "s per step", "of r2plus1d_18")


def print_table(only: list[str], repeats: int) -> None:
    """Print the table, a row as soon as it is measured."""
    tested = collected()
    reference = step_seconds(create_encoder("r2plus1d_18"), torch.randn(1, 3, FRAMES, 112, 112), repeats)
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"| {' | '.join('---:' if name in _NUMBERS else '---' for name in COLUMNS)} |")
    for cells in rows(only, repeats, reference, tested):
        print("| " + " | ".join(cells) + " |", flush=True)


def rows(only: list[str], repeats: int, reference: float, tested: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each row."""
    size = f"{FRAMES} x 112 x 112"
    yield ("torchvision", "`r2plus1d_18`", "31.3", size, "512, 1 x 7 x 7", "–", "own", f"{reference:.2f}", "1.0")
    for library, modality, name, license_id in ROWS:
        if only and (name or library) not in only:
            continue
        options = {"pool": "token"} if library.startswith("pe_") else {}
        encoder = create_encoder(library, modality=modality, backbone=name, **options)
        x, described = example(encoder, FRAMES)
        seconds = step_seconds(encoder, x, repeats)
        with torch.no_grad():
            shape = encoder.eval().forward_features(x).shape
        millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
        cells = f"{shape[1]}, {' x '.join(map(str, shape[2:]))}"
        yield (
            library,
            f"`{name}`" if name else "–",
            f"{millions:.1f}",
            described,
            cells,
            license_id,
            ", ".join(words_of(library, name or library, tested)),
            f"{seconds:.2f}",
            f"{seconds / reference:.1f}",
        )


def example(encoder: Any, num_frames: int) -> tuple[torch.Tensor, str]:
    """Return a random input of one clip as the contract of an encoder wants it, and its description."""
    contract = encoder.contract
    if isinstance(contract, VideoContract):
        frames = contract.num_frames if contract.is_fixed_length else num_frames
        return torch.randn(1, 3, frames, contract.size, contract.size), f"{frames} x {contract.size} x {contract.size}"
    prepare = create_spectrogram(contract.spectrogram, sample_rate_hz=contract.sample_rate_hz, **contract.options)
    waveform = torch.randn(1, round(contract.audio_seconds * contract.sample_rate_hz))
    rate = f"{contract.sample_rate_hz / 1000:g} kHz"
    return prepare(waveform), f"{contract.audio_seconds:g} s at {rate}, {contract.spectrogram}"


def step_seconds(encoder: Any, x: torch.Tensor, repeats: int) -> float:
    """Return the processor time of a forward and backward pass, the least of several."""
    encoder.train()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        encoder(x).square().mean().backward()
        times.append(time.process_time() - start)
    return min(times)
