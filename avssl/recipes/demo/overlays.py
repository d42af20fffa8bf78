"""Overlay videos and stills of the demo; stills show the outline of the truth.

The clips are the first of their splits, not the best.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.manifest import Manifest, read_manifest
from avssl.core.outputs import remove_files
from avssl.downstream.localization import TRAINED, LocalizationTable, measure_localization
from avssl.engine import choose_device
from avssl.hub.pretrained import from_pretrained
from avssl.localization import overlay_image
from avssl.media import open_media, write_image
from avssl.recipes.demo.settings import DemoSettings
from avssl.recipes.localize import localize

OVERLAYS = ("pairs_[0-9]*.mp4", "several_[0-9]*.mp4", "pairs_[0-9]*.png", "several_[0-9]*.png")
"""Patterns of the files that are written."""
STILLS = 8
"""Number of stills of each test set."""


def draw_overlays(run: Path, corpus: Path, out_dir: Path, settings: DemoSettings) -> dict[str, Any]:
    """Write overlay videos and stills into ``out_dir``.

    Returns:
        ``videos``: dicts of file, clip id, sounding kind and action. ``stills``: the same by split.
    """
    remove_files(out_dir, OVERLAYS)
    out_dir.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(corpus / "manifest.csv")
    # Interactive pairs first, two thirds of all: the same frames twice, and the map must follow the audio.
    rows = [*_first(manifest, "pairs", settings.num_overlays // 3 * 2), *_first(manifest, "several", 99)]
    videos = []
    for row in rows[: settings.num_overlays]:
        name = f"{str(manifest.value(row, 'id')).replace('/', '_')}.mp4"
        localize([manifest.file(row)], checkpoint=run, out=out_dir / name, device=settings.device, overwrite=True)
        videos.append({"file": name, **_about(manifest, row)})
    pretrained = from_pretrained(run, choose_device(settings.device), crop="full")
    stills: dict[str, list[dict[str, Any]]] = {}
    for split in ("several", "pairs"):
        part = manifest.select(np.asarray(_first(manifest, split, STILLS)))
        table = measure_localization(pretrained, part, seed=settings.seed, progress=False)
        stills[split] = [_still(part, table, i, out_dir) for i in range(len(table.instants))]
    return {"videos": videos, "stills": stills}


def _first(manifest: Manifest, split: str, count: int) -> list[int]:
    return np.flatnonzero(manifest["split"] == split)[:count].tolist()


def _about(manifest: Manifest, row: int) -> dict[str, Any]:
    names = {"id": "id", "kind": "label", "action": "action"}
    return {name: manifest.value(row, column) for name, column in names.items()}


def _still(manifest: Manifest, table: LocalizationTable, i: int, out_dir: Path) -> dict[str, Any]:
    """Write the middle frame under its map, with the outline of the sounding object."""
    instant = table.instants[i]
    assert instant.seconds is not None, "clips of SoundingShapes move"
    with open_media(manifest.file(instant.row)) as reader:
        frame = reader.read_frames([instant.seconds])[0]
    image = overlay_image(frame, table.maps[TRAINED][i], truth=instant.truth(), upscale=2)
    name = f"{str(manifest.value(instant.row, 'id')).replace('/', '_')}.png"
    write_image(out_dir / name, image)
    return {"file": name, "second": round(instant.seconds, 3), **_about(manifest, instant.row)}
