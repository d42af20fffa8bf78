"""Rows of the files, folders or manifest that a user names."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from avssl.core.errors import ConfigError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.data.file_rows import rows_of_files
from avssl.data.media_files import AUDIO_EXTENSIONS, MEDIA_EXTENSIONS, list_folder
from avssl.data.splits import split_rows
from avssl.models.classifier import Inputs

_LOGGER = logging.getLogger(__name__)


def rows_to_classify(names: Sequence[Path | str], inputs: Inputs, split: str | None = None) -> Manifest:
    """Return one row for each file, or the rows of a manifest.

    Args:
        names: Files and folders, or one manifest (CSV). Of folders, the media files below them are taken; those of
            audio alone only for a classifier of audio.
        inputs: The streams that the classifier reads.
        split: Rows of a manifest to keep, by their column ``split``.

    Raises:
        ConfigError: If a manifest stands beside other names, or a split is requested without one.
        ManifestError: If the manifest cannot be used, or there is no row.
        MissingFileError: If there is no such file.
    """
    manifests = [name for name in names if is_url(name) or str(name).lower().endswith(".csv")]
    if manifests and len(names) > 1:
        raise ConfigError(f"files: {manifests[0]} is a manifest; name it alone, or name files and folders.")
    if split is not None and not manifests:
        raise ConfigError(f"--split ({split}): only a manifest has splits; leave it out, or name a manifest.")
    if manifests:
        manifest = read_manifest(manifests[0])
        manifest = manifest if split is None else manifest.select(split_rows(manifest, "split", split))
        if not len(manifest):
            raise ManifestError(f"{manifests[0]}: the manifest has no rows.")
        return manifest
    extensions = MEDIA_EXTENSIONS | AUDIO_EXTENSIONS if inputs == "audio" else MEDIA_EXTENSIONS
    files: list[Path] = []
    for name in names:
        files += _files_below(Path(name), extensions, inputs) if os.path.isdir(name) else [Path(name)]
    return rows_of_files(files)


def _files_below(folder: Path, extensions: frozenset[str], inputs: Inputs) -> list[Path]:
    kind = "media" if inputs == "audio" else "video"
    listing = list_folder(folder, extensions)
    for error in listing.unreadable:
        _LOGGER.warning("a folder cannot be listed and is left out: %s", error)
    if not listing.media:
        others = f"; it holds {listing.passed_over()}" if listing.others else "; it is empty"
        raise ManifestError(f"{folder}: no {kind} files in this folder{others}. Name a folder of them, or files.")
    if listing.others:
        _LOGGER.info("left out of %s, as not named like %s files: %s", folder, kind, listing.passed_over())
    return [folder / path for path in listing.media]
