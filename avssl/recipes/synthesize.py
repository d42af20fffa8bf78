"""The verb ``synthesize``: a corpus of SoundingShapes or StampScenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from avssl.core.cpus import decoding_workers
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, read_manifest
from avssl.core.output_records import Command, place
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.core.ranges import CountOrZero, Seed, Workers, checked
from avssl.synthetic import SHAPES, SceneSettings, Split, World, synthesize_corpus
from avssl.synthetic.stamps import UNSEEN_SPLITS, StampSettings, StampWorld, package_folders

_SPLITS = ("train", "test", *UNSEEN_SPLITS)
_CORPUS = FolderKind(
    "a corpus",
    (
        "manifest.csv",
        *(f"{split}/[0-9]*.mp4" for split in _SPLITS),
        *(f"truth/{split}/[0-9]*.npz" for split in _SPLITS),
    ),
    complete="manifest.csv",
)
FIRST = (
    "world",
    "stamps",
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
    world: Literal["shapes", "stamps"] = "shapes",
    stamps: tuple[str, ...] | None = None,
    num_clips: CountOrZero = 1000,
    num_test_clips: CountOrZero | None = None,
    seed: Seed = 0,
    num_workers: Workers | None = None,
    overwrite: bool = False,
    scene: SceneSettings | None = None,
    stamp_scene: StampSettings | None = None,
    progress: bool = True,
) -> Manifest:
    """Make a corpus of generated mp4 files whose sounding objects are known exactly.

    SoundingShapes (``--world shapes``): drawn objects of twelve kinds move in eight ways, and one of them sounds.
    StampScenes (``--world stamps``): real photographs, cut out, move over photographs of places, and real recordings
    of some of them are heard. They come from Debian's packages tuxpaint-stamps-default (GPL-2) and gcompris-qt-data (a
    free license for each file), which must be installed or unpacked; nothing of them is part of avssl.

    The ground truth of every clip is in ``truth/``; the manifest has labels and splits. The same command again keeps a
    complete corpus.

    Args:
        out: Folder to write to, created if missing.
        world: SoundingShapes or StampScenes.
        stamps: Folders of the packages of StampScenes; default: /usr/share/tuxpaint/stamps and /usr/share/gcompris-qt.
        num_clips: Clips of the split "train".
        num_test_clips: Clips of the split "test"; default: a fifth of ``--num-clips``. With ``--world stamps`` also of
            each of the splits "unseen_photographs", "unseen_recordings" and "unseen", whose sounding objects have a
            photograph, a recording or both that "train" and "test" never have.
        seed: Random seed of the scenes.
        num_workers: Processes that render and encode; default: one per core.
        overwrite: Replace a corpus that exists, and make it again if it is the same.
        scene: Contents of the scenes.
        stamp_scene: Contents of the scenes of ``--world stamps``.
        progress: Show a progress bar.

    Raises:
        OutputError: If another corpus exists and ``overwrite`` is not set, the folder holds other files, or another
            process writes it.
        ValueError: If there is no clip to make, a setting is out of range or of the other world, or the packages are
            missing.
    """
    num_test_clips = max(1, num_clips // 5) if num_test_clips is None else num_test_clips
    if not (num_clips or num_test_clips):
        raise InputError(
            f"num_clips ({num_clips}) and num_test_clips ({num_test_clips}) must be >= 0, and one of them > 0."
        )
    scene = scene or SceneSettings()
    arguments = asdict(scene)
    if world == "stamps":
        folders = package_folders(stamps)
        arguments |= {"world": world, "stamps": [place(folder) for folder in folders]}
        arguments |= asdict(stamp_scene or StampSettings())
    elif stamps or stamp_scene:
        raise InputError("stamps, and the settings of their scenes, need --world stamps.")
    command = Command.of("synthesize", num_clips=num_clips, num_test_clips=num_test_clips, seed=seed, **arguments)
    with claimed_folder(out, command, _CORPUS, overwrite=overwrite) as claim:
        if claim.is_complete:
            print(f"corpus: {out}, complete already")
            return read_manifest(Path(out) / "manifest.csv")
        made_of = _load(folders, stamp_scene, progress) if world == "stamps" else SHAPES
        counts = {"train": num_clips} | dict.fromkeys(made_of.test_splits, num_test_clips)
        splits = {name: Split(count, scene) for name, count in counts.items() if count}
        claim.begin()  # while the clips change, there is no manifest
        made = synthesize_corpus(out, splits, seed, decoding_workers(num_workers), progress, made_of)
    print(f"{len(made)} clips: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    print(f"manifest: {Path(out) / 'manifest.csv'}")
    return made


def _load(folders: Sequence[Path], settings: StampSettings | None, progress: bool) -> World:
    """Read the packages of StampScenes, and print what is in them."""
    world = StampWorld.load(folders, settings, progress=progress)
    print(f"stamps: {world.library.summary()}")
    if missing := set(UNSEEN_SPLITS) - set(world.test_splits):
        print(f"no split {', '.join(sorted(missing))}: fewer than two classes have a second photograph or recording")
    return world
