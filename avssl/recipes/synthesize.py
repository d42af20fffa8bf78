"""``avssl synthesize OUT``: a SoundingShapes corpus, mp4 files with exact ground truth.

Objects of twelve kinds move in eight ways; one of them sounds. Every clip has its truth in
``truth/``, and the manifest has labels and splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from avssl.config import field_docs, new_parser, parse_arguments
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError
from avssl.synthetic import SceneSettings, Split, synthesize_corpus
from avssl.training.build import default_workers


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`synthesize`."""
    parser = new_parser("avssl synthesize", __doc__)
    parser.add_argument("out", help="Folder to write into; made if missing.")
    parser.add_argument("--num_clips", type=int, default=1000, help="Clips for training.")
    parser.add_argument(
        "--num_test_clips", type=int, default=None, help="Clips for testing; a fifth as many by default."
    )
    parser.add_argument("--seed", type=int, default=0, help="Another seed gives other scenes.")
    parser.add_argument("--num_workers", type=int, default=None, help="Processes; one for each core by default.")
    parser.add_argument("--overwrite", action="store_true", help="Replace a corpus that is there.")
    scene, docs, hints = SceneSettings(), field_docs(SceneSettings), get_type_hints(SceneSettings)
    group = parser.add_argument_group("scene", "What the scenes are like. Fractions are probabilities per clip.")
    for field in fields(SceneSettings):
        group.add_argument(
            f"--{field.name}", type=hints[field.name], default=getattr(scene, field.name), help=docs[field.name]
        )
    options = parse_arguments(parser, argv)
    settings = SceneSettings(**{field.name: options[field.name] for field in fields(SceneSettings)})
    num_test = max(1, options.num_clips // 5) if options.num_test_clips is None else options.num_test_clips
    synthesize(
        options.out,
        {"train": options.num_clips, "test": num_test},
        settings,
        seed=options.seed,
        num_workers=options.num_workers,
        overwrite=options.overwrite,
    )
    return 0


def synthesize(
    out: Path | str,
    num_clips: dict[str, int],
    settings: SceneSettings | None = None,
    *,
    seed: int = 0,
    num_workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """Writes a corpus.

    Args:
        out: Folder to write into.
        num_clips: Clips of each split; a split of 0 is left out.
        settings: What the scenes are like.
        seed: Another seed gives other scenes.
        num_workers: Processes that render and encode; one for each core by default.
        overwrite: Replace a corpus that is there.
        progress: Show a bar.

    Raises:
        ManifestError: If a corpus is there and ``overwrite`` is False.
        ValueError: If there is no clip to make, or a setting cannot be.
    """
    manifest = Path(out) / "manifest.csv"
    if manifest.exists() and not overwrite:
        raise ManifestError(f"{manifest}: a corpus is there already; replace it with --overwrite.")
    if min(num_clips.values()) < 0 or not any(num_clips.values()):
        raise InputError(f"num_clips ({num_clips}) must be >= 0, and above 0 in one split.")
    scene = settings or SceneSettings()
    splits: dict[str, Any] = {name: Split(count, scene) for name, count in num_clips.items() if count}
    manifest.unlink(missing_ok=True)  # while the clips change, there is no corpus
    made = synthesize_corpus(out, splits, seed, default_workers() if num_workers is None else num_workers, progress)
    print(f"{len(made)} clips: {', '.join(f'{count} {name}' for name, count in num_clips.items())}")
    print(f"manifest: {manifest}")
    return made
