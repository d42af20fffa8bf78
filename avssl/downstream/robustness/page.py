"""HTML page of a robustness report, with examples of the disturbed clips."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Batch
from avssl.downstream.robustness.disturbances import CLEAN
from avssl.downstream.robustness.tables import accuracy_table, disturbance_table, group_table
from avssl.reports.figures import color_table, contact_sheet
from avssl.reports.html_page import encode_picture, image, table, write_page
from avssl.reports.text_table import percent

_FRAMES = 6
_WIDTH = 110
_STYLE = ".examples td { vertical-align: middle; } .examples td:first-child { width: 12rem; }"


@dataclass(frozen=True, eq=False)
class Example:
    """The first clips under one disturbance."""

    name: str
    """Name of the disturbance."""
    clips: Batch
    """Raw batch."""
    spectrograms: Tensor
    """(B, time, freq) float, decibels or standardized."""


def write_robustness_page(path: Path, report: dict[str, Any], examples: Sequence[Example]) -> None:
    """Write the page of a report of :func:`avssl.recipes.robustness.robustness`."""
    about = report["protocol"]
    head = (
        f"<h1>Robustness of {html.escape(str(about['checkpoint']))}</h1>"
        f"<p>{html.escape(about['name'])}; {about['n_test']} clips disturbed, "
        f"{about['num_classes']} classes of {html.escape(about['label_column'])}; clip list {about['clip_list']}, "
        f"seed {about['seed']}. Chance {percent(about['chance'])} %, largest class {percent(about['largest_class'])} %."
        "</p>"
    )
    write_page(path, "robustness", [head, _disturbances(report), _groups(report), _examples(examples)], _STYLE)


def _disturbances(report: dict[str, Any]) -> str:
    about, modalities = report["protocol"], dict.fromkeys(row["modality"] for row in report["rows"])
    tables = [
        f"<h3>Predictions from {html.escape(modality)}</h3>"
        f"{table(*disturbance_table(report['rows'], modality), ours=CLEAN)}"
        for modality in modalities
    ]
    accuracies = f"<h3>Accuracy</h3>{table(*accuracy_table(report['rows']), ours=CLEAN)}"
    return (
        "<h2>Disturbances</h2><p class='note'>In %. Change: difference to clean clips, with its 95 % interval by the "
        "paired bootstrap over clips. Changed prediction: clips that are predicted as another class than before. "
        "Partner's class: clips whose prediction became the class of the clip that the audio, video or object was "
        f"taken from. Pasted object: {html.escape(about['pasted'])} It is visible in {about['n_pasted']} of "
        f"{about['n_test']} clips.</p>"
        f"{accuracies}{''.join(tables)}"
    )


def _groups(report: dict[str, Any]) -> str:
    tables = [
        f"<h3>{html.escape(column)}</h3>{table(*group_table(groups), ours='gap')}"
        for column, groups in report["groups"].items()
    ]
    note = "<p class='note'>Accuracy on clean clips in %, with Wilson's 95 % intervals.</p>"
    return f"<h2>Groups of clips</h2>{note}{''.join(tables)}" if tables else ""


def _examples(examples: Sequence[Example]) -> str:
    lines = []
    for example in examples:
        strips = [_strip(example, i, examples[0].spectrograms[i]) for i in range(len(example.clips))]
        cells = "".join(f"<td>{image(strip, example.name)}</td>" for strip in strips)
        lines.append(f"<tr><td>{html.escape(example.name)}</td>{cells}</tr>")
    return (
        "<h2>Inputs of the encoders</h2><p class='note'>The first clips: frames over time and the spectrogram, low "
        f"frequencies at the bottom.</p><table class='examples'><tbody>{''.join(lines)}</tbody></table>"
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
