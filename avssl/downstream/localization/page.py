"""The page of a localization table: its numbers, success curves, and example maps.

Dimensions: N instants, h and w cells of a map, H and W pixels of a frame.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.downstream.localization.baselines import CENTER, MEAN_BOX
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.maps import NOISE, OWN_PRIOR, SHUFFLED, SILENCE, TRAINED, UNTRAINED
from avssl.downstream.localization.measure import LocalizationTable
from avssl.downstream.localization.report import conditions, sections
from avssl.evaluation.localization import THRESHOLDS
from avssl.localization.drawing.blend import overlay_image
from avssl.reports.figures import contact_sheet, new_figure
from avssl.reports.html_page import encode_figure, encode_picture, write_page

_SHOWN = (TRAINED, SHUFFLED, SILENCE, NOISE)
_CURVES = (TRAINED, SHUFFLED, SILENCE, UNTRAINED, OWN_PRIOR, CENTER, MEAN_BOX)
_SHORT_SIDE = 200


def write_localization_page(path: Path, table: LocalizationTable, clips: InstantClips, num_examples: int) -> None:
    """Write the page; the examples are the first instants, not the best."""
    write_page(
        path,
        "localization.html",
        title="localization",
        checkpoint=table.about["checkpoint"],
        conditions=conditions(table),
        tables=sections(table, intervals=True),
        ours=TRAINED,
        curves=_curves(table),
        examples=[
            (_example(table, clips, i), _caption(table, clips, i))
            for i in range(min(num_examples, len(table.instants)))
        ],
    )


def _curves(table: LocalizationTable) -> bytes:
    """Draw a panel for each rule: the share of samples over the cIoU that they reach."""
    rules = list(table.about["rules"])
    figure = new_figure(520 * len(rules), 380, dpi=100)
    for number, (rule, axes) in enumerate(zip(rules, figure.subplots(1, len(rules), squeeze=False)[0], strict=True)):
        for name in (name for name in _CURVES if name in table.curves):
            style = {"linewidth": 2.5, "color": "black"} if name == TRAINED else {"linewidth": 1.2}
            axes.plot(THRESHOLDS, table.curves[name][rule], label=name, **style)
        axes.axvline(0.5, color="gray", linewidth=0.8, linestyle=":")
        axes.set_xlabel(f"cIoU, {rule}")
        axes.set_ylabel("share of samples that reach it" if number == 0 else "")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return encode_figure(figure)


def _example(table: LocalizationTable, clips: InstantClips, i: int) -> bytes:
    """Return a PNG of the frame, with the maps under several kinds of audio beside it."""
    instant = table.instants[i]
    picture = _sized(clips.picture(instant))
    truth = F.interpolate(instant.truth()[None, None], size=picture.shape[1:], mode="nearest-exact")[0, 0] > 0
    own = table.maps[TRAINED][i]
    scale = (own.min().item(), own.max().item())
    tiles = [overlay_image(picture, torch.zeros_like(own), scale=(0.0, 1.0), truth=truth)]
    tiles += [overlay_image(picture, table.maps[name][i], scale=scale, truth=truth) for name in _SHOWN]
    peaks = (f"{name} {table.maps[name][i].max().item():+.2f}" for name in _SHOWN)
    sheet = contact_sheet(tiles, len(tiles), captions=["image", *peaks])
    return encode_picture(sheet.movedim(0, -1).numpy())


def _sized(picture: Tensor) -> Tensor:
    """Return (3, H, W) uint8 at the size of the page."""
    scale = _SHORT_SIDE / min(picture.shape[1:])
    height, width = (round(side * scale) for side in picture.shape[1:])
    return F.interpolate(picture[None], size=(height, width), mode="bicubic", antialias=True)[0]


def _caption(table: LocalizationTable, clips: InstantClips, i: int) -> str:
    instant, manifest = table.instants[i], clips.manifest
    second = "" if instant.seconds is None else f" at {instant.seconds:.2f} s"
    label = manifest.value(instant.row, "label")
    return f"{manifest.value(instant.row, 'id')}{second}{f': {label}' if label else ''}. Numbers: the peak of each map."
