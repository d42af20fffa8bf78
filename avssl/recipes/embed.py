"""``avssl embed FOLDER_OR_MANIFEST --checkpoint RUN``: the embedding of every moment of many files, in one table.

A window of picture and sound begins every second (``--every``), from the start of each file to its end. The table is
a Parquet file with one row for each window: id, path, start and stop in seconds, and two vectors of unit length,
``video`` and ``audio``, that are comparable with each other; ``avssl search`` reads it, and so does anything else that
reads Parquet. Files that cannot be read are listed beside it, with the reason. An embedding that was stopped goes on
where it was when it is called again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pyarrow as pa
from tqdm import tqdm

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest, write_table
from avssl.data import ClipDataset, EvalLoader, Failure, index_folder
from avssl.data.eval_loader import Window
from avssl.data.health.report import MIN_SECONDS, HealthSettings
from avssl.data.ledger import failures_table
from avssl.data.sampling import ClipSampling
from avssl.engine import choose_device
from avssl.features.embed import embed_windows, relative_place, table_info, windows_of_row
from avssl.features.extract import content_key
from avssl.features.table import FeatureTableError, TableInfo, TableParts
from avssl.hub.pretrained import from_pretrained
from avssl.media import MediaError
from avssl.models import What
from avssl.training.build import default_workers

WINDOWS_PER_PART = 1024
"""What an interruption costs at most, beside the windows of one file: a minute or two on a CPU."""


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`embed`."""
    parser = new_parser("avssl embed", __doc__)
    parser.add_argument("source", metavar="FOLDER_OR_MANIFEST", help="Videos with sound, or a manifest of them.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("-o", "--out", default="features.parquet", help="The table to write.")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="From one window to the next.")
    parser.add_argument(
        "--what",
        choices=get_args(What),
        default="embeddings",
        help='"embeddings" after the heads, which are searched; "features" before them, which know more of each '
        "modality and are not comparable between the two.",
    )
    parser.add_argument("--batch_size", type=int, default=32, help="Windows embedded at a time.")
    parser.add_argument(
        "--num_workers", type=int, default=None, help="Decoding processes; one for each core by default."
    )
    parser.add_argument("--backend", choices=["auto", "pyav", "torchcodec", "decord"], default="pyav", help="Decoder.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an earlier table, and begin anew.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    embed(
        options.source,
        options.checkpoint,
        options.out,
        every_seconds=options.every,
        what=options.what,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        backend=options.backend,
        overwrite=options.overwrite,
        device=options.device,
    )
    return 0


def embed(
    source: Path | str,
    checkpoint: Path | str,
    out: Path | str = "features.parquet",
    *,
    every_seconds: float = 1.0,
    what: What = "embeddings",
    batch_size: int = 32,
    num_workers: int | None = None,
    backend: str = "pyav",
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Embeds every moment of every file, and prints how many there are.

    Args:
        source: A folder, whose files are looked at as by ``avssl index``, or a manifest.
        checkpoint: As for :func:`avssl.hub.pretrained.from_pretrained`.
        out: The table. Beside it go the unreadable files, ``NAME.failures.csv``, and, until all is
            done, the parts that an interrupted embedding goes on from, ``NAME.parquet.parts/``.
        every_seconds: From one window to the next, > 0.
        what: ``"embeddings"`` after the heads or ``"features"`` before them.
        batch_size: Windows embedded at a time.
        num_workers: Decoding processes; one for each core by default.
        backend: Reader of media files.
        overwrite: Replace a table that is there, and discard parts of an earlier embedding.
        device: Where the model runs.
        progress: Show bars.

    Returns:
        ``out``, for :func:`avssl.features.table.read_feature_table`.

    Raises:
        ManifestError: If the source has no usable row.
        HubError: If there is no model at ``checkpoint``.
        FeatureTableError: If the table is there, parts of another embedding are, or a vector is not finite.
        ValueError: If no file can be read, or a number is out of range.
    """
    if not 0 < every_seconds < math.inf:
        raise InputError(f"every_seconds ({every_seconds}) must be greater than 0.")
    out = Path(out)
    if out.exists() and not overwrite:
        raise FeatureTableError(f"{out}: is there already. Replace it with --overwrite, or name another with --out.")
    pretrained = from_pretrained(checkpoint, choose_device(device))
    parts = TableParts(out)
    if overwrite:
        parts.discard()
    manifest, unusable = _rows(source, parts, pretrained.sampling, backend, progress)
    dataset = ClipDataset(manifest, pretrained.sampling, backend=backend)
    workers = default_workers() if num_workers is None else num_workers
    root = manifest.location(0).removesuffix(f"/{manifest.value(0, 'path')}")
    places = {"checkpoint": relative_place(checkpoint, out.parent), "root": relative_place(root, out.parent)}
    info = table_info(pretrained, manifest.hash(), every_seconds, what, **places)
    settings = {"every_seconds": every_seconds, "what": what, "backend": backend, "for": "table"}
    first = parts.begin(content_key(pretrained, manifest, settings))
    with tqdm(total=len(manifest), initial=first, desc="embed", unit="row", disable=not progress) as bar:
        while first < len(manifest):
            windows, stop, failures = _place(dataset, first, every_seconds)
            loader = EvalLoader(dataset, batch_size, windows=windows, num_workers=workers)
            table = embed_windows(pretrained, loader, info, lambda row: bar.update(row - bar.n))
            parts.add(first, stop, table, [*failures, *loader.ledger])
            first = stop
            bar.update(first - bar.n)
    _finish(parts, info, unusable)
    return out


def _rows(
    source: Path | str, parts: TableParts, sampling: ClipSampling, backend: str, progress: bool
) -> tuple[Manifest, pa.Table]:
    """One row a file of a folder, or the rows of a manifest; and the files that gave none."""
    if not is_url(source) and not Path(source).exists():
        raise ManifestError(
            f"{source}: no such folder or manifest. Name a folder of videos, or a manifest of avssl index."
        )
    if is_url(source) or not Path(source).is_dir():
        manifest, unusable = read_manifest(source), failures_table([])
        if not len(manifest):
            raise ManifestError(f"{source}: the manifest has no rows.")
        return manifest, unusable
    parts.folder.mkdir(parents=True, exist_ok=True)
    found = index_folder(
        source,
        segment_over_seconds=math.inf,
        health=HealthSettings(backend=backend, min_seconds=min(MIN_SECONDS, sampling.audio_seconds)),
        journal=parts.folder / "health.jsonl",
        progress=progress,
    )
    if not len(found.manifest):
        parts.discard()
        first = next(iter(found.failures.values()))
        raise ManifestError(f"{source}: none of its {len(found.failures)} media files can be used: {first}")
    return found.manifest, found.failures_table()


def _place(dataset: ClipDataset, first: int, every_seconds: float) -> tuple[list[Window], int, list[Failure]]:
    """The windows of the next rows, enough for a part; the row after them; and those whose header tells that they
    cannot be read."""
    windows: list[Window] = []
    failures: list[Failure] = []
    row = first
    while row < len(dataset) and len(windows) < WINDOWS_PER_PART:
        try:
            windows += windows_of_row(dataset, row, every_seconds)
        except MediaError as error:
            failures.append(Failure.of(dataset.manifest, row, error))
        row += 1
    return windows, row, failures


def _finish(parts: TableParts, info: TableInfo, unusable: pa.Table) -> None:
    """Writes what could not be read, joins the parts, and says how much there is."""
    failures = pa.concat_tables([unusable, failures_table(parts.failures())])
    listed = parts.out.with_suffix(".failures.csv")
    listed.unlink(missing_ok=True)  # of an earlier embedding
    if len(failures):
        write_table(failures, listed)
    num_windows = parts.num_windows()
    if not num_windows:
        parts.discard()
        raise InputError(f"no file can be read: {failures['message'][0]}. See them all in {listed}")
    parts.join(info)
    print(f"{num_windows} windows, one every {info.every_seconds:g} s, of model {info.weights_hash}")
    print(f"features: {parts.out}")
    if len(failures):
        counts = Counter(failures["reason"].to_pylist()).most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
        print(f"{len(failures)} rows could not be read, or not to their end ({reasons}): {listed}")
