"""HTML page of a robustness report, with examples of the disturbed clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Batch
from avssl.downstream.robustness.disturbances import CLEAN
from avssl.downstream.robustness.tables import (
    accuracy_table,
    disturbance_table,
    group_note,
    group_table,
    strength_table,
)
from avssl.downstream.robustness.text import corruption_sections, summary
from avssl.reports.figures import color_table, contact_sheet
from avssl.reports.html_page import encode_picture, write_page

_FRAMES = 6
_WIDTH = 110


@dataclass(frozen=True, eq=False)
class Example:
    """The first clips under one disturbance."""

    name: str
    """Name of the disturbance."""
    clips: Batch
    """Raw batch."""
    spectrograms: Tensor
    """(B, time, freq) float, decibels or standardized."""


def write_robustness_page(
    path: Path, report: dict[str, Any], examples: Sequence[Example], pictures: Mapping[str, bytes | None]
) -> None:
    """Write the page of a report of :func:`avssl.recipes.robustness.robustness`; with figures by part of the report."""
    write_page(
        path,
        "robustness.html",
        title="robustness",
        about=report["protocol"],
        summary=summary(report),
        clean=CLEAN,
        accuracy=accuracy_table(report["rows"]) if report["rows"] else None,
        disturbances=[
            (modality, disturbance_table(report["rows"], modality))
            for modality in dict.fromkeys(row["modality"] for row in report["rows"])
        ],
        groups=[(column, group_table(groups), group_note(groups)) for column, groups in report["groups"].items()],
        corruptions=corruption_sections(report),
        strengths=strength_table(report["corruptions"]["about"]) if "corruptions" in report else None,
        pictures=pictures,
        examples=[
            (example.name, [_strip(example, i, examples[0].spectrograms[i]) for i in range(len(example.clips))])
            for example in examples
        ],
    )


def _strip(example: Example, i: int, clean: Tensor) -> bytes:
    """Draw a few frames of a clip side by side, above its spectrogram in the color scale of the clean one."""
    clips = example.clips
    assert clips.valid_hw is not None, "a raw batch has it"
    height, width = clips.valid_hw[i].tolist()
    video = clips.video[i, :, :, :height, :width]
    chosen = torch.linspace(0, len(video) - 1, min(_FRAMES, len(video))).round().long()
    frames = _resized(video[chosen], (max(1, round(_WIDTH * height / width)), _WIDTH))
    sheet = contact_sheet(list(frames), len(frames), gap=2)
    spectrogram = _resized(_spectrogram_image(example.spectrograms[i], clean)[None], (70, sheet.shape[2] - 4))[0]
    below = contact_sheet([spectrogram], 1, gap=2)
    return encode_picture(torch.cat((sheet, below), dim=1).movedim(0, -1).numpy(), "jpeg")


def _spectrogram_image(spectrogram: Tensor, clean: Tensor) -> Tensor:
    """Convert (time, freq) to a (3, freq, time) uint8 image, low frequencies at the bottom."""
    low, high = clean.min(), clean.max()
    level = ((spectrogram - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return color_table("magma")[(level * 255).round().long()].permute(2, 1, 0).flip(1).byte()


def _resized(images: Tensor, hw: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=hw, mode="bilinear", antialias=True)
