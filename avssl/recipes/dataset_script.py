"""Command line of the scripts in ``datasets/``: :func:`script_parser`, and :func:`run_script` with their ClipList."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from avssl.core.manifest import ManifestError
from avssl.core.tables import write_table
from avssl.data.official.clip_list import ClipList


def script_parser(
    doc: str | None, manifest_name: str = "manifest.csv", *, segments: bool = False
) -> argparse.ArgumentParser:
    """Return the argument parser that all scripts share.

    Args:
        doc: Docstring of the script.
        manifest_name: Default name of the manifest in root; options in braces are filled in.
        segments: True if clips are segments of videos that may exist as a whole.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="Folder of the files, searched to any depth.")
    parser.add_argument(
        "--annotations", type=Path, metavar="FOLDER", help="Folder of the official files, if outside root."
    )
    parser.add_argument("-o", "--out", type=Path, help=f"Manifest to write into root. Default: {manifest_name}.")
    parser.add_argument("--strict", action="store_true", help="Fail if a clip is missing.")
    if segments:
        parser.add_argument(
            "--untrimmed",
            action="store_true",
            help="Treat files named only by their video as whole videos, not as clips.",
        )
    parser.set_defaults(manifest_name=manifest_name)
    return parser


def annotation_folders(options: argparse.Namespace, *below: str) -> list[Path]:
    """Return the folders of the official files: ``--annotations`` if given, else root and these folders in it."""
    if options.annotations is not None:
        return [options.annotations]
    return [options.root, *(options.root / name for name in below)]


def run_script(
    parser: argparse.ArgumentParser,
    collect: Callable[[argparse.Namespace], ClipList],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a script: write ``manifest.csv`` and, for missing clips, ``manifest.missing.csv``; print the summary.

    Args:
        parser: Parser from :func:`script_parser`, with the script's own options.
        collect: Reads the official files and finds the clips.
        argv: Command line; default: that of the process.

    Returns:
        0, or 1 after an error and, with ``--strict``, if a clip is missing.
    """
    options = parser.parse_args(argv)
    try:
        out = options.out or Path(options.manifest_name.format_map(vars(options)))
        if out.name == str(out):
            out = options.root / out
        if out.resolve().parent != options.root.resolve():
            raise ManifestError(f"{out}: a manifest's paths are relative to its folder, so it must be {options.root}.")
        clips = collect(options)
        manifest = clips.finish()
        manifest.write(out)
        missing = out.with_suffix(".missing.csv")
        missing.unlink(missing_ok=True)
        print(clips.summary(manifest))
        print(f"manifest: {out}")
        if clips.missing:
            write_table(clips.missing_table(), missing)
            print(f"missing: {missing}")
    except (ManifestError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    if options.strict and clips.missing:
        print(f"{parser.prog}: error: {len(clips.missing)} clips are missing (--strict).", file=sys.stderr)
        return 1
    return 0
