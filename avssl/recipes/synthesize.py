"""The verb ``synthesize``: a SoundingShapes corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avssl.core.cpus import decoding_workers
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.output_records import Command
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.core.ranges import CountOrZero, Seed, Workers, checked
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

_CORPUS = FolderKind(
    "a corpus",
    (
        "manifest.csv",
        *(f"{split}/[0-9]*.mp4" for split in ("train", "test")),
        *(f"truth/{split}/[0-9]*.npz" for split in ("train", "test")),
    ),
    complete="manifest.csv",
)
FIRST = (
    "num_clips",
    "num_test_clips",
    "seed",
    "num_workers",
    "overwrite",
    "width",
    "height",
    "duration_seconds",
    "object_weights",
    "num_sounding",
)


@checked
def synthesize(
    out: Path | str,
    *,
    num_clips: CountOrZero = 1000,
    num_test_clips: CountOrZero | None = None,
    seed: Seed = 0,
    num_workers: Workers | None = None,
    overwrite: bool = False,
    scene: SceneSettings | None = None,
    progress: bool = True,
) -> Manifest:
    """Make a SoundingShapes corpus: mp4 files whose sounding objects are known exactly.

    Objects of twelve kinds move in eight ways, and one of them sounds. The ground truth of every clip is in
    ``truth/``; the manifest has labels and splits.

    Args:
        out: Folder to write to, created if missing.
        num_clips: Clips of the split "train".
        num_test_clips: Clips of the split "test"; default: a fifth of ``--num-clips``.
        seed: Random seed of the scenes.
        num_workers: Processes that render and encode; default: one per core.
        overwrite: Replace a corpus that exists.
        scene: Contents of the scenes.
        progress: Show a progress bar.

    Raises:
        OutputError: If a corpus exists and ``overwrite`` is not set, or the folder holds other files.
        ValueError: If there is no clip to make, or a setting is out of range.
    """
    counts = {"train": num_clips, "test": max(1, num_clips // 5) if num_test_clips is None else num_test_clips}
    if min(counts.values()) < 0 or not any(counts.values()):
        raise InputError(
            f"num_clips ({num_clips}) and num_test_clips ({num_test_clips}) must be >= 0, and one of them > 0."
        )
    scene = scene or SceneSettings()
    splits: dict[str, Any] = {name: Split(count, scene) for name, count in counts.items() if count}
    with claimed_folder(out, Command.of("synthesize"), _CORPUS, overwrite=overwrite) as claim:
        claim.begin()  # while the clips change, there is no manifest
        made = synthesize_corpus(out, splits, seed, decoding_workers(num_workers), progress)
    print(f"{len(made)} clips: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    print(f"manifest: {Path(out) / 'manifest.csv'}")
    return made
