"""Compare the rows that a model is trained on with the clips that it is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from avssl.core.checkpoint_names import local_checkpoint
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.core.user_files import read_text
from avssl.data.official.published_list import read_list
from avssl.data.overlap import Overlap, clip_keys, find_overlap, named_in
from avssl.data.packed.sources import is_packed
from avssl.training.run_directory import RunDirectory

_MAX_CONFIG_BYTES = 1 << 20
_MAX_RUNS = 8  # a run that starts from a run that starts from ...


def training_rows(checkpoint: Path | str) -> list[Manifest]:
    """Return the rows that a model is trained on, also those of the runs it starts from; empty if they are unknown.

    Args:
        checkpoint: A run directory, or a folder in it; the rows of a release on the hub are unknown.
    """
    found: list[Manifest] = []
    place: Path | str | None = checkpoint
    while place and len(found) < _MAX_RUNS:
        path = local_checkpoint(place)
        candidates = [] if path is None else [path, path.parent]
        folder = next((each for each in candidates if RunDirectory(each).rows_file()), None)
        if folder is None or not (folder / "config.yaml").is_file():
            break
        try:
            settings = yaml.safe_load(read_text(folder / "config.yaml", _MAX_CONFIG_BYTES))
            found.append(RunDirectory(folder).read_rows(settings["data"]["source"])[0])
        except (InputError, OSError, KeyError, TypeError, yaml.YAMLError):
            break  # the folder is another one than a run
        place = settings.get("train", {}).get("init_from") or settings.get("checkpoint")
    return found


def overlap_with_training(checkpoint: Path | str, test: Manifest) -> Overlap | None:
    """Find the test rows that a model is trained on; None if its training rows are unknown."""
    overlaps = [find_overlap(train, test) for train in training_rows(checkpoint)]
    if not overlaps:
        return None
    return Overlap(
        len(test),
        list(dict.fromkeys(name for each in overlaps for name in each.by_name)),
        list(dict.fromkeys(name for each in overlaps for name in each.by_content)),
        all(each.contents_compared for each in overlaps),
    )


def overlaps_with_tests(train: Manifest, source: str, named: Sequence[Path | str]) -> dict[str, Overlap]:
    """Find the test clips that a run will be trained on.

    Args:
        train: Its rows.
        source: Where they come from; the other splits of a manifest are compared too.
        named: Manifests of test clips, or published lists.

    Returns:
        Name of the test set → its overlap.

    Raises:
        ManifestError: If a file of ``named`` is neither.
    """
    found = {str(path): _overlap_with_file(train, Path(path)) for path in named}
    if is_url(source) or is_packed(source) or not Path(source).is_file():
        return found
    rows = read_manifest(source)
    if "split" in rows:
        splits = rows["split"]
        trained = set(train["id"])
        others = np.array([row_id not in trained for row_id in rows["id"]])
        for split in sorted({str(name) for name in splits[others] if name} & {"test", "val"}):
            found[f"split {split}"] = find_overlap(train, rows.select(others & (splits == split)))
    return found


def _overlap_with_file(train: Manifest, path: Path) -> Overlap:
    try:
        return find_overlap(train, read_manifest(path))
    except ManifestError as error:
        if not path.is_file():
            raise
        try:
            clips = read_list(path)
        except ManifestError:
            raise error from None
    trained = set(filter(None, clip_keys(train)))
    same = named_in(trained, clips.keys)
    return Overlap(len(clips.keys), [key for key, found in zip(clips.keys, same, strict=True) if found], [], False)
