"""The verb ``synthesize``: a SoundingShapes corpus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from avssl.core.cpus import decoding_workers
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, read_manifest
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
    ``truth/``; the manifest has labels and splits. The same command again keeps a complete corpus.

    Args:
        out: Folder to write to, created if missing.
        num_clips: Clips of the split "train".
        num_test_clips: Clips of the split "test"; default: a fifth of ``--num-clips``.
        seed: Random seed of the scenes.
        num_workers: Processes that render and encode; default: one per core.
        overwrite: Replace a corpus that exists, and make it again if it is the same.
        scene: Contents of the scenes.
        progress: Show a progress bar.

    Raises:
        OutputError: If another corpus exists and ``overwrite`` is not set, the folder holds other files, or another
            process writes it.
        ValueError: If there is no clip to make, or a setting is out of range.
    """
    counts = {"train": num_clips, "test": max(1, num_clips // 5) if num_test_clips is None else num_test_clips}
    if min(counts.values()) < 0 or not any(counts.values()):
        raise InputError(
            f"num_clips ({num_clips}) and num_test_clips ({num_test_clips}) must be >= 0, and one of them > 0."
        )
    scene = scene or SceneSettings()
    splits: dict[str, Any] = {name: Split(count, scene) for name, count in counts.items() if count}
    command = Command.of("synthesize", num_clips=num_clips, num_test_clips=counts["test"], seed=seed, **asdict(scene))
    with claimed_folder(out, command, _CORPUS, overwrite=overwrite) as claim:
        if claim.is_complete:
            print(f"corpus: {out}, complete already")
            return read_manifest(Path(out) / "manifest.csv")
        claim.begin()  # while the clips change, there is no manifest
        made = synthesize_corpus(out, splits, seed, decoding_workers(num_workers), progress)
    print(f"{len(made)} clips: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    print(f"manifest: {Path(out) / 'manifest.csv'}")
    return made
