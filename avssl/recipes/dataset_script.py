"""Command line of the scripts in ``datasets/``: :func:`script_parser`, and :func:`run_script` with their ClipList."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError
from avssl.core.output_records import Command
from avssl.core.outputs import claimed_files
from avssl.core.ranges import SegmentSeconds, check_value
from avssl.core.stopping import Stopped, stop_signals_raised
from avssl.core.terminal import plain_output
from avssl.data.official.clip_list import ClipList
from avssl.data.official.published_list import PublishedList, read_lists


def script_parser(
    doc: str | None,
    manifest_name: str | Callable[[argparse.Namespace], str] = "manifest.csv",
    *,
    segments: bool = False,
) -> argparse.ArgumentParser:
    """Return the argument parser that all scripts share.

    Args:
        doc: Docstring of the script.
        manifest_name: Default name of the manifest in root; options in braces are filled in. Or a function of the
            options.
        segments: True if clips are segments of videos that may exist as a whole.
    """
    shown = manifest_name if isinstance(manifest_name, str) else "named after the options"
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="Folder of the files, searched to any depth.")
    parser.add_argument(
        "--annotations", type=Path, metavar="FOLDER", help="Folder of the official files, if outside root."
    )
    parser.add_argument("-o", "--out", type=Path, help=f"Manifest to write into root. Default: {shown}.")
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace a manifest that another command or program made."
    )
    parser.add_argument("--strict", action="store_true", help="Fail if a clip is missing.")
    parser.add_argument(
        "--list",
        nargs="+",
        default=[],
        metavar="[SPLIT=]FILE",
        help="Take only the clips of these published lists (an id in each line, or the first column of a table); "
        "with SPLIT=, they become that split.",
    )
    parser.add_argument(
        "--segment-seconds",
        type=float,
        metavar="SECONDS",
        help="Cut rows of whole files into rows of this length; reads the headers of the files.",
    )
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


def lists_of(options: argparse.Namespace, *below: str) -> list[PublishedList]:
    """Read the lists of ``--list``; relative ones are also looked for in the folders of the official files."""
    return read_lists(options.list, annotation_folders(options, *below))


@plain_output()
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
        0; 1 after an error and, with ``--strict``, if a clip is missing; 128 + the signal if it was stopped.
    """
    options = parser.parse_args(argv)
    try:
        name = options.manifest_name
        out = options.out or Path(name(options) if callable(name) else name.format_map(vars(options)))
        if out.name == str(out):
            out = options.root / out
        if out.resolve().parent != options.root.resolve():
            raise ManifestError(f"{out}: a manifest's paths are relative to its folder, so it must be {options.root}.")
        check_value("--segment-seconds", options.segment_seconds, SegmentSeconds | None)
        missing = out.with_suffix(".missing.csv")
        with (
            stop_signals_raised(),
            claimed_files([out, missing], Command.of(f"datasets/{parser.prog}"), overwrite=options.overwrite),
        ):
            clips = collect(options)
            manifest = clips.finish()
            summary = clips.summary(manifest)
            if options.segment_seconds is not None:
                manifest = _segmented(manifest, options.segment_seconds)
            manifest.write(out)
            missing.unlink(missing_ok=True)
            print(summary)
            print(f"manifest: {out}")
            if clips.num_missing:
                clips.write_missing(missing)
                print(f"missing: {missing}")
    except KeyboardInterrupt as stop:  # Ctrl-C, or another signal
        print(f"\n{parser.prog}: {str(stop) or 'interrupted'}.", file=sys.stderr)
        return stop.exit_status if isinstance(stop, Stopped) else 130
    except (InputError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    if options.strict and clips.num_missing:
        print(f"{parser.prog}: error: {clips.num_missing} clips are missing (--strict).", file=sys.stderr)
        return 1
    return 0


def _segmented(manifest: Manifest, seconds: float) -> Manifest:
    """Cut the rows of whole files, and print what came of it."""
    from avssl.data.row_segments import segment_rows  # opening files needs torch, which takes seconds to load

    rows, errors = segment_rows(manifest, seconds)
    print(f"cut into rows of {seconds:g} s: {len(rows)} rows of {len(manifest)} clips")
    if errors:
        print(f"{len(errors)} files could not be opened and stay whole rows, the first: {errors[0]}")
    return rows
