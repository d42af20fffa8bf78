"""The clips with the highest loss, with a few of their frames."""

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
from avssl.downstream.finetuning.report.clip_scores import ClipScores
from avssl.media import MediaError
from avssl.reports.figures import contact_sheet
from avssl.reports.html_page import encode_picture, image

_FRAMES = 3
_SHORT_SIDE = 96
_GUESSES = 3


def worst_clips(clips: ClipScores, max_clips: int) -> list[dict[str, Any]]:
    """Return up to ``max_clips`` clips by decreasing loss, as plain values.

    ``true`` and ``predicted`` are (class, probability) pairs: the true classes, and the class with the highest
    score, or the three highest for multi-label clips.
    """
    losses = clips.losses()
    chosen = np.argsort(-losses, kind="stable")[:max_clips]
    return [{"id": clips.ids[i], "loss": float(losses[i]), **_classes(clips, int(i))} for i in chosen]


def _classes(clips: ClipScores, i: int) -> dict[str, list[tuple[str, float]]]:
    true = np.flatnonzero(clips.labels[i]) if clips.multi_label else [clips.labels[i]]
    guesses = np.argsort(-clips.scores[i], kind="stable")[: _GUESSES if clips.multi_label else 1]
    named = {"true": true, "predicted": guesses}
    return {name: [(clips.classes[k], float(clips.scores[i, k])) for k in numbers] for name, numbers in named.items()}


def contact_sheets(clips: list[dict[str, Any]], rows: np.ndarray, manifest: Manifest, folder: Path) -> str:
    """Return the HTML of a figure with frames of each clip, or with the reason why it cannot be read.

    Args:
        clips: Return value of :func:`worst_clips`.
        rows: Rows of the clips.
        manifest: Locates the files.
        folder: Directory of the page; links are relative to it, so that both can be moved together.
    """
    dataset = ClipDataset(manifest, ClipSampling())
    figures = [_figure(clip, int(row), dataset, folder) for clip, row in zip(clips, rows, strict=True)]
    return f"<div class='grid'>{''.join(figures)}</div>"


def _figure(clip: dict[str, Any], row: int, dataset: ClipDataset, folder: Path) -> str:
    try:
        frames = dataset.read_pictures(row, _FRAMES, _SHORT_SIDE)
        sheet = contact_sheet(list(frames), _FRAMES, gap=2)
        frames_html = image(encode_picture(sheet.movedim(0, -1).numpy(), "jpeg"), f"frames of {clip['id']}")
    except MediaError as error:
        frames_html = f"<p class='note'>No frames: {html.escape(str(error))}</p>"
    lines = [
        _link(clip["id"], row, dataset, folder),
        f"true: {_class_list(clip['true']) or 'none'}",
        f"predicted: {_class_list(clip['predicted'])}",
        f"loss {clip['loss']:.2f}",
    ]
    return f"<figure class='clip'>{frames_html}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _class_list(classes: list[tuple[str, float]]) -> str:
    return ", ".join(f"<b>{html.escape(name)}</b> {100 * share:.1f} %" for name, share in classes)


def _link(name: str, row: int, dataset: ClipDataset, folder: Path) -> str:
    """Return the id, as a link if the clip is a file of its own on this machine."""
    location = dataset.manifest.location(row)
    if dataset.is_prepared or is_url(location):
        return html.escape(name)
    relative = os.path.relpath(location, folder)
    return f"<a href='{quote(os.fsencode(relative))}'>{html.escape(name)}</a>"
