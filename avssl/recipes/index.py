"""``avssl index FOLDER``: the media files of a folder as a manifest, and a list of those that cannot be used.

Every file is looked at in a process of its own making, with limits of time and memory, and ends as ok or with a
reason. What is found is kept beside the manifest: an unchanged file is not looked at again, and a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from avssl.config import DataConfig, field_docs, new_parser, parse_arguments
from avssl.core.manifest import ManifestError, write_table
from avssl.data.health.indexing import FolderIndex, index_folder
from avssl.data.health.report import HealthSettings

_LIMITS = {"min_seconds": float, "max_pixels": int, "max_duration_seconds": float, "memory_gib": float}


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`index`."""
    parser = new_parser("avssl index", __doc__)
    defaults, docs = DataConfig(), field_docs(DataConfig)
    health, health_docs = HealthSettings(), field_docs(HealthSettings)
    parser.add_argument("folder", help="Searched for media files to any depth.")
    parser.add_argument("-o", "--out", help="The manifest to write; FOLDER/manifest.csv by default.")
    for name in ("segment_seconds", "segment_over_seconds"):
        parser.add_argument(f"--{name}", type=float, default=getattr(defaults, name), help=docs[name])
    parser.add_argument(
        "--backend", choices=["auto", "pyav", "torchcodec", "decord"], default=defaults.backend, help=docs["backend"]
    )
    parser.add_argument("--depth", choices=["quick", "normal", "full"], default=health.depth, help=health_docs["depth"])
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help=health_docs["timeout_seconds"])
    for name, kind in _LIMITS.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(health, name), help=health_docs[name])
    parser.add_argument("--workers", type=int, help="Files looked at a time; one a core by default.")
    parser.add_argument("--strict", action="store_true", help="End with status 1 if any file cannot be used.")
    options = parse_arguments(parser, argv)
    settings = HealthSettings(
        options.depth,
        options.backend,
        timeout_seconds=options.timeout,
        **{name: getattr(options, name) for name in _LIMITS},
    )
    found = index(
        options.folder,
        options.out,
        options.segment_seconds,
        options.segment_over_seconds,
        settings,
        num_workers=options.workers,
    )
    if options.strict and found.failures:
        print(f"avssl: error: {len(found.failures)} files cannot be used (--strict).", file=sys.stderr)
        return 1
    return 0


def index(
    folder: Path | str,
    out: Path | str | None = None,
    segment_seconds: float = 10.0,
    segment_over_seconds: float = 30.0,
    health: HealthSettings | None = None,
    *,
    num_workers: int | None = None,
) -> FolderIndex:
    """Indexes a folder, writes the manifest and the failures, and prints a summary.

    Args:
        folder: Searched to any depth.
        out: The CSV to write, into ``folder`` or a folder above it, which its paths are relative to.
            Beside ``manifest.csv`` go the failures, ``manifest.failures.csv``, and what is known of the
            files, ``manifest.health.jsonl``.
        segment_seconds: Length of the rows that a long file is cut into.
        segment_over_seconds: Files longer than this are cut.
        health: How files are looked at; the defaults if None.
        num_workers: Files looked at a time; one a core by default.

    Raises:
        ManifestError: If the folder has no usable media file, or ``out`` is elsewhere.
    """
    folder = Path(folder)
    out = Path(out) if out else folder / "manifest.csv"
    if not folder.resolve().is_relative_to(out.resolve().parent):
        raise ManifestError(f"{out}: a manifest's paths are relative to it. Write it into {folder} or a folder above.")
    found = index_folder(
        folder,
        root=out.parent,
        segment_seconds=segment_seconds,
        segment_over_seconds=segment_over_seconds,
        health=health,
        journal=out.with_suffix(".health.jsonl"),
        num_workers=num_workers,
        progress=True,
    )
    print(found.summary())
    failures = out.with_suffix(".failures.csv")
    if found.failures:
        write_table(found.failures_table(), failures)
        print(f"failures: {failures}")
    else:
        failures.unlink(missing_ok=True)  # of an earlier look
    if not len(found.manifest):
        raise ManifestError(f"{folder}: none of its {len(found.failures)} media files can be used.")
    found.manifest.write(out)
    print(f"manifest: {out}")
    return found
