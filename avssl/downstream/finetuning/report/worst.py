"""The clips with the highest loss, with a few of their frames: where a classifier, or a label, is wrong."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from avssl.core.manifest import Manifest, is_url
from avssl.data.dataset import ClipDataset
from avssl.data.sampling import ClipSampling
from avssl.downstream.finetuning.report.scored import Scored
from avssl.media import MediaError
from avssl.reports.figures import contact_sheet
from avssl.reports.html_page import encode_picture, image

_FRAMES = 3
_SHORT_SIDE = 96
_GUESSES = 3


def worst_clips(clips: Scored, most: int) -> list[dict[str, Any]]:
    """Up to ``most`` clips by falling loss, as plain values.

    ``true`` and ``predicted`` are (class, probability) pairs: the true classes, and the three with
    the highest scores, or of single labels the highest alone.
    """
    losses = clips.losses()
    chosen = np.argsort(-losses, kind="stable")[:most]
    return [{"id": clips.ids[i], "loss": float(losses[i]), **_said(clips, int(i))} for i in chosen]


def _said(clips: Scored, i: int) -> dict[str, list[tuple[str, float]]]:
    true = np.flatnonzero(clips.labels[i]) if clips.multi_label else [clips.labels[i]]
    guesses = np.argsort(-clips.scores[i], kind="stable")[: _GUESSES if clips.multi_label else 1]
    named = {"true": true, "predicted": guesses}
    return {name: [(clips.classes[k], float(clips.scores[i, k])) for k in of] for name, of in named.items()}


def show_clips(clips: list[dict[str, Any]], rows: np.ndarray, manifest: Manifest, folder: Path) -> str:
    """Their frames in a sheet; a file that cannot be read is said to be so in its place.

    Args:
        clips: From :func:`worst_clips`.
        rows: Their rows.
        manifest: Where their files are.
        folder: Of the page, for links that stay right when both are moved.
    """
    dataset = ClipDataset(manifest, ClipSampling())
    figures = [_figure(clip, int(row), dataset, folder) for clip, row in zip(clips, rows, strict=True)]
    return f"<div class='grid'>{''.join(figures)}</div>"


def _figure(clip: dict[str, Any], row: int, dataset: ClipDataset, folder: Path) -> str:
    try:
        frames = dataset.read_pictures(row, _FRAMES, _SHORT_SIDE)
        sheet = contact_sheet(list(frames), _FRAMES, gap=2)
        picture = image(encode_picture(sheet.movedim(0, -1).numpy(), "jpeg"), f"frames of {clip['id']}")
    except MediaError as error:
        picture = f"<p class='note'>No frames: {html.escape(str(error))}</p>"
    lines = [
        _link(clip["id"], row, dataset, folder),
        f"true: {_listed(clip['true']) or 'none'}",
        f"predicted: {_listed(clip['predicted'])}",
        f"loss {clip['loss']:.2f}",
    ]
    return f"<figure class='clip'>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _listed(said: list[tuple[str, float]]) -> str:
    return ", ".join(f"<b>{html.escape(name)}</b> {100 * share:.1f} %" for name, share in said)


def _link(name: str, row: int, dataset: ClipDataset, folder: Path) -> str:
    """The id, which leads to the file where it is one of its own on this machine."""
    place = dataset.manifest.location(row)
    if dataset.is_prepared or is_url(place):
        return html.escape(name)
    relative = os.path.relpath(place, folder)
    return f"<a href='{quote(os.fsencode(relative))}'>{html.escape(name)}</a>"
