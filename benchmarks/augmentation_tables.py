"""The rows of ``benchmarks/augmentation.py`` as Markdown tables and as a heat map, and views of a few clips."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shapes_in_memory import Shapes, fixed_batches
from torch import Tensor

from avssl.data.sampling import ClipSampling
from avssl.reports.figures import color_table, contact_sheet, new_figure, save_figure
from avssl.reports.html_page import encode_picture
from avssl.reports.text_table import markdown_table
from avssl.transforms import ClipTransform

Rows = list[dict[str, Any]]
WHOLE = ("random-init", "none", "default", "simclr")
MEASURES = {"probe": "linear probe", "knn": "20 nearest neighbors"}
NUM_CLIPS, NUM_VIEWS = 4, 6


def tables(rows: Rows) -> str:
    """Return the tables of each modality that has rows."""
    parts = [_whole(rows), *(_pairs(rows, modality, measure) for modality in modalities(rows) for measure in MEASURES)]
    return "\n\n".join(part for part in parts if part) or "no row yet"


def modalities(rows: Rows) -> list[str]:
    """Return the modalities that have rows, frames first."""
    return [name for name in ("video", "audio") if any(row["modality"] == name for row in rows)]


def operations(rows: Rows, modality: str) -> list[str]:
    """Return the single operations of a modality in the order of the rows."""
    names = [row["views"] for row in rows if row["modality"] == modality]
    return list(dict.fromkeys(name for name in names if name not in WHOLE and "+" not in name))


def pair_matrix(rows: Rows, modality: str, measure: str) -> np.ndarray:
    """Return (K, K): mean accuracy over seeds of each pair of operations, singles on the diagonal; NaN if missing."""
    names = operations(rows, modality)
    matrix = np.full((len(names), len(names)), np.nan)
    for i, one in enumerate(names):
        for j in range(len(names)):
            values = _values(rows, modality, one if i == j else "+".join(names[k] for k in sorted((i, j))), measure)
            if values:
                matrix[i, j] = statistics.mean(values)
    return matrix


def _values(rows: Rows, modality: str, views: str, measure: str) -> list[float]:
    return [row[measure] for row in rows if row["modality"] == modality and row["views"] == views]


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _whole(rows: Rows) -> str:
    if not rows:
        return ""
    body = []
    for name in WHOLE:
        cells = [_cell(_values(rows, m, name, measure)) for m in ("video", "audio") for measure in MEASURES]
        seeds = {row["seed"] for row in rows if row["views"] == name}
        body.append([name, str(len(seeds)), *cells])
    first = rows[0]
    header = ["views", "seeds", *(f"{m}, {text}" for m in ("video", "audio") for text in MEASURES.values())]
    steps = {row["modality"]: f"{row['steps']} steps" for row in rows if row["steps"]}
    half = 1.96 * 0.5 / first["n_test"] ** 0.5
    note = (
        f"Accuracy for the kind of the object on {first['n_test']} clips, chance {first['chance']:.3f}; the probe is "
        f"fitted on {first['n_probe']} clips, the neighbors are of {first['n_knn']}; "
        f"{', '.join(f'{m} {text}' for m, text in steps.items())}. The number of clips alone gives a cell a 95 % "
        f"interval of up to ± {half:.3f}; ± in the table is the standard deviation over seeds."
    )
    return f"{markdown_table(header, body)}\n\n{note}"


def _pairs(rows: Rows, modality: str, measure: str) -> str:
    names = operations(rows, modality)
    if not names:
        return ""
    body = [
        [name, *("–" if value != value else f"{value:.3f}" for value in line)]
        for name, line in zip(names, pair_matrix(rows, modality, measure), strict=True)
    ]
    seeds = [row["seed"] for row in rows if row["modality"] == modality and row["views"] == names[-1]]
    title = f"{modality}, {MEASURES[measure]}: operations alone (diagonal) and in pairs, seeds {sorted(seeds)}"
    return f"{title}\n\n{markdown_table([modality, *names], body)}"


def draw_pairs(rows: Rows, out_path: Path) -> None:
    """Write a PNG of the pair tables, the linear probe above the nearest neighbors, beside chance and random-init."""
    found = modalities(rows)
    figure = new_figure(520 * len(found), 980, dpi=100)
    axes = figure.subplots(len(MEASURES), len(found), squeeze=False)
    for line, (measure, text) in enumerate(MEASURES.items()):
        for column, modality in enumerate(found):
            axis, names = axes[line][column], operations(rows, modality)
            matrix = pair_matrix(rows, modality, measure)
            axis.imshow(matrix, cmap="magma", vmin=np.nanmin(matrix) - 0.02, vmax=np.nanmax(matrix))
            axis.set_xticks(range(len(names)), names, fontsize=9)
            axis.set_yticks(range(len(names)), names, fontsize=9)
            axis.tick_params(length=0)
            middle = (np.nanmin(matrix) + np.nanmax(matrix)) / 2
            for (i, j), value in np.ndenumerate(matrix):
                color = "black" if value > middle else "white"
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9, color=color)
            whole = {name: _values(rows, modality, name, measure) for name in WHOLE}
            beside = ", ".join(f"{name} {statistics.mean(values):.2f}" for name, values in whole.items() if values)
            axis.set_title(f"{modality}, {text}\n{beside}", fontsize=9)
    figure.suptitle(f"Accuracy for the kind of the object; chance {rows[0]['chance']:.2f}", fontsize=10)
    figure.tight_layout()
    save_figure(figure, out_path)


def draw_views(
    world: Shapes, sampling: ClipSampling, transforms: Mapping[str, Mapping[str, ClipTransform]], out_path: Path
) -> None:
    """Write a PNG of views of a few clips: frames and spectrograms under each named transform.

    Args:
        world: The clips.
        sampling: Window of a clip.
        transforms: Transforms by modality and name.
        out_path: The file.
    """
    batch = next(iter(fixed_batches(world, world.rows("train")[:NUM_CLIPS], sampling, batch=NUM_CLIPS)))
    images, captions = [], []
    for modality, named in transforms.items():
        for clip in range(NUM_CLIPS // 2):
            for name, transform in named.items():
                transform.num_views = NUM_VIEWS
                views = getattr(transform, f"{modality}_views")(batch)[clip::NUM_CLIPS]
                augment = transform.video_augment
                images += [
                    _frame(view, augment.mean, augment.std) if modality == "video" else _spectrogram(view)
                    for view in views
                ]
                captions += [f"{modality} {clip + 1}, {name}, view {number + 1}" for number in range(NUM_VIEWS)]
    sheet = contact_sheet(images, NUM_VIEWS, captions=captions)
    out_path.write_bytes(encode_picture(sheet.permute(1, 2, 0).numpy()))


def _frame(view: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    pixels = (view[:, 0] * std.view(3, 1, 1) + mean.view(3, 1, 1)).clamp(0, 1)
    return _large((255 * pixels).byte())


def _spectrogram(view: Tensor) -> Tensor:
    level = ((view[0].T.flip(0) + 2.5) / 5).clamp(0, 1)  # standard deviations
    return _large((color_table("magma")[(255 * level).long()]).permute(2, 0, 1).byte())


def _large(image: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(image[None].float(), size=(144, 144), mode="nearest")[0].byte()
