"""The verb ``index``: the media files of a folder as a manifest."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa

from avssl.core.engines import EngineName, working_on
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.core.output_records import Command, place
from avssl.core.outputs import claimed_file, claimed_files, origin
from avssl.core.ranges import Seconds, Seed, SegmentSeconds, Share, Workers, checked
from avssl.core.tables import write_table
from avssl.data.health.indexing import FolderIndex, index_folder, path_below
from avssl.data.health.report import HealthSettings
from avssl.data.own_columns import merge_own_columns, with_own_cells
from avssl.data.packed.sources import is_named, is_packed, packed_root, read_packed
from avssl.data.splits import ClassFolders, choose_shares, class_table, find_class_folders, with_folder_labels

FIRST = (
    "out",
    "overwrite",
    "labels",
    "split",
    "seed",
    "segment_seconds",
    "segment_over_seconds",
    "num_workers",
    "engine",
    "address",
    "strict",
    "depth",
    "min_seconds",
)


@checked
def index(
    folder: Path | str,
    *,
    out: Path | str | None = None,
    labels: Literal["none", "folders"] = "none",
    split: tuple[Share, Share, Share] | None = None,
    seed: Seed = 0,
    segment_seconds: SegmentSeconds = 10.0,
    segment_over_seconds: Seconds = 30.0,
    num_workers: Workers | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    strict: bool = False,
    overwrite: bool = False,
    health: HealthSettings | None = None,
) -> FolderIndex:
    """List the usable media files of a folder in a manifest, and the others with the reason.

    Every file is checked in a separate process with limits on time and memory. Results are kept in the user's cache
    folder, so unchanged files are not checked again and an interrupted run continues where it stopped.

    Columns that you added to the manifest (label, split ...) are kept by id when it is made again. Rows whose files are
    gone move to NAME.removed.csv with them, and come back with their files.

    With ``--labels folders`` the folders directly below are classes: ``FOLDER/dog/1.mp4`` gets the label "dog", and
    each class is divided into train, val and test at random. Segments, copies and links of one recording are in one
    split. Split folders above the class folders (``FOLDER/train/dog/1.mp4``) are taken as they are.

    WebDataset tars and saved Hugging Face datasets are listed too, with their labels and other fields as columns; what
    lies in them is not checked, and what cannot be read later is counted there.

    Args:
        folder: Folder that is searched at any depth; or tars, such as "shards/{000..010}.tar"; or a folder of
            save_to_disk.
        out: Manifest to write, in the folder or in one above it; default: FOLDER/manifest.csv. A name that ends in
            .parquet gives a Parquet file, for very many rows. Failures go into NAME.failures.csv beside it.
        labels: "folders" writes the columns label and split from the class folders.
        split: Shares of train, val and test of each class, with labels; default: 0.8 0.1 0.1.
        seed: Random seed of the splits.
        segment_seconds: Length of the rows that long files are cut into.
        segment_over_seconds: Files longer than this are cut.
        num_workers: Files checked at a time; default: one per core.
        engine: Where files are checked: in processes of this machine, or "ray": on all cores of a Ray cluster (pip
            install 'avssl[ray]'), which read the folder under the same path on shared storage.
        address: Address of the Ray cluster: "auto" on one of its machines, or HOST:PORT of its head; default: Ray on
            this machine alone.
        strict: Fail if any file cannot be used.
        overwrite: Replace a manifest without keeping anything of it, also one that avssl index did not make.
        health: How files are checked.

    Raises:
        ManifestError: If the folder has no usable media file, ``out`` is elsewhere or another manifest, ``strict``
            is set and a file cannot be used, or there are no class folders for ``labels``.
        InputError: If ``split`` does not sum to 1, or is given without labels or for folders that are splits.
        OutputError: If another process writes the manifest, or avssl did not make the list of failures.
    """
    if is_packed(folder):
        if labels != "none" or split is not None:
            raise InputError(f"{folder}: --labels and --split are for folders; archives have labels of their own.")
        return _index_archives(str(folder), out, strict=strict, overwrite=overwrite)
    folder = Path(folder)
    out = Path(out) if out else folder / "manifest.csv"
    _check_place(folder, out)
    classes = _class_folders(folder, labels, split, health or HealthSettings())
    failures, removed = out.with_suffix(".failures.csv"), out.with_suffix(".removed.csv")
    command = Command.of("index", folder=place(folder))
    with (
        working_on(engine, address, num_workers),
        claimed_file(out, command, overwrite=True),  # what is there is merged, see _merged
        claimed_file(failures, command, overwrite=overwrite),
        claimed_file(removed, command, overwrite=True),
    ):
        earlier = [] if overwrite else [_earlier(path, command) for path in (out, removed) if path.is_file()]
        found = index_folder(
            folder,
            root=out.parent,
            segment_seconds=segment_seconds,
            segment_over_seconds=segment_over_seconds,
            health=health,
            num_workers=num_workers,
            progress=True,
        )
        print(found.summary())
        if not len(found.manifest):
            _write_failures(found, failures)
            raise ManifestError(f"{folder}: none of its {len(found.failures)} media files can be used.")
        manifest = _merged(found.manifest, earlier, out, removed, command) if earlier else found.manifest
        if classes is not None:
            manifest = _labeled(manifest, classes, path_below(folder, out.parent) or Path(), split, seed)
        _write_failures(found, failures)
        manifest.write(out)
        print(f"manifest: {out}")
    if strict and found.failures:
        raise ManifestError(f"{len(found.failures)} files cannot be used (--strict): {failures}")
    return replace(found, manifest=manifest)


def _index_archives(source: str, out: Path | str | None, *, strict: bool, overwrite: bool) -> FolderIndex:
    """Write the manifest of tars, or of a saved dataset, beside them."""
    root = packed_root(source)
    if is_named(source) or is_url(root):
        save = " Or save it with save_to_disk(FOLDER), and name that folder." if is_named(source) else ""
        raise ManifestError(
            f"{source}: a manifest lies beside its files, which are in no folder of yours. Name it directly: "
            f"avssl pretrain {source}.{save}"
        )
    out = Path(out) if out else Path(root) / "manifest.csv"
    if out.resolve().parent != Path(root).resolve():
        raise ManifestError(f"{out}: a manifest's paths are relative to it. Write it into {root}.")
    failures = out.with_suffix(".failures.csv")
    with claimed_files([out, failures], Command.of("index", folder=source), overwrite=overwrite):
        found = read_packed(source, progress=True)
        num_archives = len(set(found.manifest["path"]))
        print(f"{len(found.manifest)} rows in {num_archives} archives, {len(found.errors)} samples cannot be used")
        print("listed, not checked: rows that cannot be read are counted where they are read")
        found.manifest.write(out)
        print(f"manifest: {out}")
        failures.unlink(missing_ok=True)
        if found.errors:
            write_table(found.failures, failures)
            print(f"failures: {failures}")
    if strict and found.errors:
        raise ManifestError(f"{len(found.errors)} samples cannot be used (--strict): {failures}")
    return FolderIndex(found.manifest, found.errors)


def _class_folders(
    folder: Path,
    labels: Literal["none", "folders"],
    split: tuple[float, float, float] | None,
    health: HealthSettings,
) -> ClassFolders | None:
    """Return the class folders if they give the labels; raise an error before any file is checked."""
    if labels == "none":
        if split is not None:
            raise InputError("split divides the rows of each class: give --labels folders too.")
        return None
    classes = find_class_folders(folder, health.stream)
    choose_shares(classes, split)
    return classes


def _labeled(
    manifest: Manifest, classes: ClassFolders, below: Path, split: tuple[float, float, float] | None, seed: int
) -> Manifest:
    """Return the manifest with labels and splits; print the classes, and what may be meant otherwise."""
    if "split" in manifest and any(manifest["split"]):
        print("labels and splits that rows have already are kept; divide anew with --overwrite")
    labeled = with_folder_labels(manifest, classes, below, choose_shares(classes, split), seed)
    print(class_table(labeled))
    for remark in classes.remarks():
        print(f"note: {remark}")
    return labeled


def _write_failures(found: FolderIndex, failures: Path) -> None:
    if found.failures or found.left_out:
        write_table(pa.concat_tables([found.failures_table(), found.left_out_table()]), failures)
        print(f"failures: {failures}")
    else:
        failures.unlink(missing_ok=True)  # of an earlier look


def _check_place(folder: Path, out: Path) -> None:
    """Raise an error if a manifest cannot be written at ``out`` or cannot name the files, before any work."""
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder.")
    link = shlex.join(["ln", "-s", str(folder.resolve()), "DIR/videos"])
    beside = f"mkdir DIR; {link}; avssl index DIR/videos -o DIR/manifest.csv"
    if not out.parent.is_dir() or path_below(folder, out.parent) is None:
        raise ManifestError(
            f"{out}: a manifest's paths are relative to it. Write it into {folder} or a folder above, or beside a "
            f"link to the folder: {beside}"
        )
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise ManifestError(
            f"{out.parent}: cannot be written (read-only, or no permission). Name another place with -o: a folder "
            f"above, or one with a link to the videos: {beside}"
        )


def _earlier(path: Path, command: Command) -> Manifest:
    """Read what is there; raise an error before any file is checked if that is no manifest of this folder."""
    if origin(path, command) == "other":
        raise ManifestError(
            f"{path}: exists already, made by another command. Replace it with --overwrite, or write elsewhere with "
            "--out."
        )
    try:
        return read_manifest(path)
    except ManifestError as error:
        raise ManifestError(
            f"{error} It would be replaced: correct it, replace it with --overwrite, or write elsewhere with --out."
        ) from error


def _merged(made: Manifest, earlier: list[Manifest], out: Path, removed: Path, command: Command) -> Manifest:
    """Return the new manifest with the columns that users added to the earlier one; keep their cells of rows gone."""
    merged = merge_own_columns(made, *earlier)
    is_ours = origin(out, command) == "this"
    if not merged.num_kept and out.is_file() and not is_ours:
        raise ManifestError(
            f"{out}: none of its {len(earlier[0])} rows is one of the {len(made)} found now (by id), so it is not the "
            "manifest of this index. Replace it with --overwrite, or write elsewhere with --out."
        )
    if merged.own_columns:
        columns, num_new = ", ".join(merged.own_columns), len(made) - merged.num_kept
        print(f"kept: {columns} of {merged.num_kept} rows; {num_new} new rows have none yet")
    # Rows that index made and nobody changed can be made again.
    gone = with_own_cells(merged.gone, merged.own_columns) if is_ours else merged.gone
    if len(merged.gone):
        print(f"gone: {len(merged.gone)} rows, the first is {merged.gone.value(0, 'id')}")
    if len(gone):
        write_table(gone.table, removed)
        print(f"kept for their return: {len(gone)} of these rows, with their own columns: {removed}")
    else:
        removed.unlink(missing_ok=True)
    return merged.manifest
