"""The verb ``classify``: classes of new files, with probabilities, by a fine-tuned classifier."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from avssl.core.cpus import decoding_workers
from avssl.core.engines import EngineName, working_on
from avssl.core.errors import ConfigError, InputError
from avssl.core.manifest import Manifest
from avssl.core.output_records import Command, place
from avssl.core.outputs import ClaimedFile, claimed_files
from avssl.core.progress import Bar
from avssl.core.ranges import Count, Share, Step, Threads, Workers, checked
from avssl.core.tables import write_parts, write_table
from avssl.core.whole_file import write_json
from avssl.data import ClipDataset, Failure
from avssl.data.file_stamps import stamped
from avssl.data.ledger import failures_table
from avssl.data.row_parts import RowParts, Span, expected_windows, plan_parts
from avssl.downstream.classifying import (
    PredictionFormat,
    PredictionResults,
    Truth,
    compute_logits,
    rows_to_classify,
    windows_over_time,
)
from avssl.engine import choose_device, threads_within
from avssl.features.extract import rows_key
from avssl.hub.classifier import load_classifier
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.media.limits import MediaLimits

CLIPS_PER_PART = 1024
"""Clips that an interruption loses at most, beside those of one file."""
_SHOWN = 10  # lines of predictions in the terminal
FIRST = (
    "out",
    "top_k",
    "every",
    "page",
    "all_classes",
    "threshold",
    "split",
    "overwrite",
    "num_workers",
    "engine",
    "address",
    "device",
)


@checked
def classify(
    run: Path | str,
    files: Sequence[Path | str],
    *,
    out: Path | str = "predictions.csv",
    top_k: Count = 5,
    every: Step | None = None,
    page: Path | str | None = None,
    page_files: Count = 200,
    all_classes: bool = False,
    threshold: Share = 0.5,
    split: str | None = None,
    num_workers: Workers | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    threads: Threads | None = None,
    limits: MediaLimits | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Predict the classes of files with a fine-tuned classifier.

    Each file gets its most probable classes, from the same clips and by the same arithmetic as the test of ``avssl
    finetune``: equal to the last bit. With ``--every`` there is also a prediction for each window over time. A
    calibrated classifier calls a file unknown that is like none of its classes. Files that cannot be read are listed
    with the reason in NAME.failures.csv beside the predictions. An interrupted run continues where it stopped when it
    is called again. If a manifest has labels, the predictions are evaluated on them.

    Args:
        run: A run directory of ``avssl finetune``, one of its folds, or hf-hub:OWNER/NAME.
        files: Files and folders, or one manifest (CSV).
        out: Predictions to write: a table (.csv), or everything in one document (.json).
        top_k: Classes of each file, the most probable first.
        every: Also predict a window every so many seconds; as a table, to NAME.windows.csv beside the predictions.
        page: HTML page to write, with players and a time line of classes for each file.
        page_files: Largest number of files on the page.
        all_classes: Also write the probability of every class.
        threshold: Lowest probability of a label of a multi-label classifier.
        split: Classify only the rows of a manifest with this value in their column split.
        num_workers: Decoding processes; default: one per core.
        engine: Where files are decoded: in processes of this machine, or "ray": on all cores of a Ray cluster (pip
            install 'avssl[ray]'), which read the files under the same path on shared storage.
        address: Address of the Ray cluster: "auto" on one of its machines, or HOST:PORT of its head; default: Ray on
            this machine alone.
        threads: CPU threads of the model; default: those of its run, on which last digits depend.
        limits: Limits on media files; where they are the defaults, those of the run and of a manifest count.
        overwrite: Replace earlier predictions and start over.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show a progress bar.

    Returns:
        ``out``.

    Raises:
        HubError: If there is no classifier at ``run``.
        ManifestError: If there is nothing to classify.
        FileError: If a file is missing.
        OutputError: If another command or program made ``out``, or another process writes it.
        InputError: If no file can be read, or the classifier or the files have changed since an earlier call.
    """
    out = Path(out)
    is_document = out.suffix.lower() == ".json"
    if not is_document and out.suffix.lower() != ".csv":
        raise ConfigError(f"--out {out}: predictions are written as .csv or .json; end the name with one of them.")
    kind = PredictionFormat(top_k, threshold, all_classes)
    command = Command.of(
        "classify",
        run=place(run),
        files=list(map(place, files)),
        every=every,
        split=split,
        page_files=page_files,
        **vars(kind),
    )
    listed, over_time = out.with_suffix(".failures.csv"), out.with_suffix(".windows.csv")
    outputs = [out, None if every is None or is_document else over_time, page, listed]
    with (
        working_on(engine, address, num_workers),
        claimed_files(outputs, command, overwrite=overwrite, reads=files) as claims,
    ):
        classifier = load_classifier(run, choose_device(device))
        manifest = stamped(rows_to_classify(files, classifier.model.inputs, split))
        if page is not None:
            manifest.require_files("--page of avssl classify")
        dataset = classifier.dataset(manifest, limits)
        parts = RowParts(out, ".npz", work="predictions", again="Classify again: finished parts are kept.")
        if overwrite:
            parts.discard()
        key = _content(classifier, manifest, dataset, every)
        if not overwrite and _is_complete(out, [path for path in outputs[:-1] if path is not None], claims[0], key):
            parts.discard()
            print(f"predictions: {out}, complete already")
            return out
        claims[0].note(content=key)
        with threads_within(threads or classifier.num_threads()):
            speed = _compute(classifier, dataset, parts, key, every, decoding_workers(num_workers), progress)
        results = PredictionResults(classifier, manifest, parts, kind, Truth(manifest, classifier))
        _write(results, out, over_time if every is not None else None, listed, is_document, every)
        if page is not None:
            results.write_page(page, page_files, results.summary(), limits)
        print("\n".join([*results.first_lines(), *results.summary(), speed]))
        print(f"predictions: {out}")
        if page is not None:
            print(f"page: {page}")
        if outputs[1] is None and over_time.exists():
            print(f"{over_time}: was there before, and is not of these predictions")
        parts.discard()
    return out


def _content(classifier: TrainedClassifier, manifest: Manifest, dataset: ClipDataset, every: float | None) -> str:
    """Return a hash of all that logits depend on."""
    about = {
        "weights": classifier.weights_hash(),
        "transform": str(classifier.transform),
        "sampling": str(classifier.sampling),
        "precision": str(classifier.clip_classifier().precision),
        "clips": classifier.config.test.windows_per_clip,
        "every_seconds": every,
        "backend": dataset.backend,
        "for": "classify",
    }
    return rows_key(manifest, about)


def _is_complete(out: Path, outputs: Sequence[Path | str], claim: ClaimedFile, key: str) -> bool:
    """Return True if everything was made from these files and weights; raise an error if from others."""
    if not out.is_file() or claim.known is None:
        return False
    if claim.known.get("content") != key:
        raise InputError(
            f"{out}: exists already, and its files or the classifier have changed since. Replace it with --overwrite, "
            "or name another file with --out."
        )
    return all(Path(path).is_file() for path in outputs)


def _compute(
    classifier: TrainedClassifier,
    dataset: ClipDataset,
    parts: RowParts,
    key: str,
    every: float | None,
    num_workers: int,
    progress: bool,
) -> str:
    """Compute the rows that are in no part yet; return how fast that was."""
    began, seconds = time.monotonic(), 0.0
    missing = parts.begin(key, _planned(dataset, classifier.config.test.windows_per_clip, every))
    done = len(dataset) - sum(stop - first for first, stop in missing)
    with Bar(total=len(dataset), initial=done, desc="classify", unit="row", show=progress) as bar:
        for span in missing:
            windows, failures = windows_over_time(dataset, span, every)
            found, unreadable = compute_logits(
                classifier,
                dataset,
                range(*span),
                windows,
                num_workers,
                partial(_move, bar, bar.n - span[0]),
            )
            failed = {failure.row: failure for failure in [*unreadable, *failures]}
            parts.add(*span, found.write, list(failed.values()))
            seconds += float((found.clip_spans[..., 1].max(axis=1) - found.clip_spans[..., 0].min(axis=1)).sum())
            done += span[1] - span[0]
            bar.update(done - bar.n)
    taken = time.monotonic() - began
    if not seconds:
        return "all files were computed by earlier calls"
    return f"{seconds:.1f} s of media in {taken:.1f} s: {seconds / taken:.3g} times real time"


def _planned(dataset: ClipDataset, clips_per_row: int, every: float | None) -> list[Span]:
    """Return the parts of the rows."""
    num_clips = np.full(len(dataset), clips_per_row)
    if every is not None:
        sampling = dataset.sampling
        clip_seconds = max(sampling.video_seconds, sampling.audio_seconds)
        num_clips = num_clips + expected_windows(dataset.manifest, clip_seconds, every)
    return plan_parts(num_clips, CLIPS_PER_PART)


def _move(bar: Bar, offset: int, row: int) -> None:
    """Move a bar to a row; rows that are read again for windows over time do not move it back."""
    bar.update(max(0, row + offset - bar.n))


def _write(
    results: PredictionResults, out: Path, over_time: Path | None, listed: Path, is_document: bool, every: float | None
) -> None:
    """Write the predictions, and before them the list of files that cannot be read, which may be all."""
    listed.unlink(missing_ok=True)  # of earlier predictions
    failures: list[Failure] = results.failures
    if failures:
        write_table(failures_table(failures), listed)
        print(f"files that cannot be read: {listed}")
    if not results.num_files:
        raise InputError(
            f"none of {len(results.manifest)} files can be read by a classifier of {_streams(results.classifier)}: "
            f"{failures[0].message} See them all in {listed}"
        )
    if is_document:
        write_json(out, results.document(every))
        return
    if over_time is not None:
        write_parts(results.window_tables(), over_time)
    write_parts(results.file_tables(), out)


def _streams(classifier: TrainedClassifier) -> str:
    return {"both": "video and audio"}.get(classifier.model.inputs, classifier.model.inputs)
