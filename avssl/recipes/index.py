"""``avssl index FOLDER``: the media files of a folder as a manifest, and a list of those that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avssl.config import DataConfig, field_docs, new_parser, parse_arguments
from avssl.data.indexing import FolderIndex, index_folder
from avssl.manifest import ManifestError, write_table


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`index`."""
    parser = new_parser("avssl index", __doc__)
    defaults, docs = DataConfig(), field_docs(DataConfig)
    parser.add_argument("folder", help="Searched for media files to any depth.")
    parser.add_argument("-o", "--out", help="The manifest to write; FOLDER/manifest.csv by default.")
    for name in ("segment_seconds", "segment_over_seconds"):
        parser.add_argument(f"--{name}", type=float, default=getattr(defaults, name), help=docs[name])
    parser.add_argument(
        "--backend", choices=["auto", "pyav", "torchcodec", "decord"], default="auto", help=docs["backend"]
    )
    options = parse_arguments(parser, argv)
    index(options.folder, options.out, options.segment_seconds, options.segment_over_seconds, options.backend)
    return 0


def index(
    folder: Path | str,
    out: Path | str | None = None,
    segment_seconds: float = 10.0,
    segment_over_seconds: float = 30.0,
    backend: str = "auto",
) -> FolderIndex:
    """Indexes a folder, writes the manifest and the failures, and prints a summary.

    Args:
        folder: Searched to any depth.
        out: The CSV to write, into ``folder`` or a folder above it, which its paths are relative to.
            Failures go beside it: ``manifest.failures.csv`` for ``manifest.csv``.
        segment_seconds: Length of the rows that a long file is cut into.
        segment_over_seconds: Files longer than this are cut.
        backend: Reader of media files.

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
        backend=backend,
        progress=True,
    )
    print(found.summary())
    if found.failures:
        failures = out.with_suffix(".failures.csv")
        write_table(found.failures_table(), failures)
        print(f"failures: {failures}")
    if not len(found.manifest):
        raise ManifestError(f"{folder}: none of its {len(found.failures)} media files has both picture and sound.")
    found.manifest.write(out)
    print(f"manifest: {out}")
    return found
