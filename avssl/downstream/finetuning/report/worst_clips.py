"""The clips with the highest loss, with a few of their frames."""

from __future__ import annotations

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
from avssl.reports.html_page import encode_picture

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


def contact_sheets(
    clips: list[dict[str, Any]], rows: np.ndarray, manifest: Manifest, folder: Path
) -> list[dict[str, Any]]:
    """Add to each clip ``frames``, a JPEG, or the ``problem`` why it cannot be read, and the ``link`` to its file.

    Links are relative to ``folder``, the directory of the page, so that both can be moved together.
    """
    dataset = ClipDataset(manifest, ClipSampling())
    return [_with_frames(clip, int(row), dataset, folder) for clip, row in zip(clips, rows, strict=True)]


def _with_frames(clip: dict[str, Any], row: int, dataset: ClipDataset, folder: Path) -> dict[str, Any]:
    link = _link(row, dataset, folder)
    try:
        frames = dataset.read_thumbnails(row, _FRAMES, _SHORT_SIDE)
    except MediaError as error:
        return {**clip, "link": link, "problem": str(error)}
    sheet = contact_sheet(list(frames), _FRAMES, gap=2)
    return {**clip, "link": link, "problem": "", "frames": encode_picture(sheet.movedim(0, -1).numpy(), "jpeg")}


def _link(row: int, dataset: ClipDataset, folder: Path) -> str:
    """Return the link to a clip that is a file of its own on this machine, else an empty string."""
    location = dataset.manifest.location(row)
    if dataset.is_prepared or is_url(location):
        return ""
    return quote(os.fsencode(os.path.relpath(location, folder)))
