"""The verb ``robustness``: predictions for disturbed clips."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.claimed_verb import writes_folder
from avssl.core.cpus import decoding_workers
from avssl.core.draws import clip_key
from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.core.outputs import FolderKind
from avssl.core.ranges import Count, Seed, Workers, checked
from avssl.core.whole_file import write_text
from avssl.data.dataset import ClipDataset
from avssl.data.splits import Division, Recordings, divide, labeled_rows
from avssl.downstream.finetuning import predict
from avssl.downstream.robustness import (
    DisturbedFeatures,
    Example,
    RobustnessModel,
    accuracy_table,
    disturbance_table,
    encode_disturbed,
    find_cutouts,
    finetuned_model,
    group_table,
    linear_probe_model,
    score_disturbances,
    score_groups,
    write_robustness_page,
)
from avssl.engine import choose_device
from avssl.features.extract import extract_features
from avssl.hub.classifier import load_classifier
from avssl.hub.pretrained import from_pretrained
from avssl.hub.release import CLASSIFIER, release_kind
from avssl.reports.text_table import text_table
from avssl.transforms.partners import draw_partners

_FEWEST_CLIPS = 10
"""Minimum number of test clips; intervals over fewer are meaningless."""
_MOST_GROUPS = 50


@checked
@dataclass(frozen=True)
class Settings:
    """Rows and numbers of the evaluation."""

    groups: tuple[str, ...] = ()
    """Columns of the manifest; the accuracy is reported for each of their values."""
    label_column: str | None = None
    """Column of the labels. Rows without a label, or with several joined by "|", are left out. Default: the
    classifier's column, or "label" for probes."""
    split_column: str = "split"
    """Column of the splits."""
    train_split: str = "train"
    """Rows that probes are trained on, undisturbed."""
    test_split: str = "test"
    """Rows that are disturbed."""
    windows_per_clip: Count | None = None
    """Evenly spaced windows that are averaged. Default: as in the classifier's test, or 1 for probes."""
    seed: Seed = 0
    """Random seed of noise, positions, partner clips and the held-out part of the training rows."""
    num_workers: Workers | None = None
    """Decoding processes; default: one per core."""
    cache_folder: Path | str | None = None
    """Folder where features of clean clips are kept for later runs, also of ``avssl probe``."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one."""
    progress: bool = True
    """Show progress bars."""


FIRST = (
    "checkpoint",
    "groups",
    "label_column",
    "split_column",
    "test_split",
    "seed",
    "out",
    "overwrite",
    "cache_folder",
    "device",
)


@writes_folder(FolderKind("a report", ("robustness.json", "robustness.html")), reads=("manifest", "checkpoint"))
def robustness(
    manifest: Path | str,
    *,
    checkpoint: Path | str,
    out: Path | str = "robustness",
    overwrite: bool = False,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Measure how much a classifier depends on disturbances of its input.

    A fine-tuned classifier, or linear probes on the frozen features of a pretrained model, classify the same test
    clips under a standard set of disturbances: noise, silence, another clip's audio or frames, occluded frames,
    reversed time, and an object pasted into scenes where it never occurs. ``--groups`` also reports the accuracy for
    each value of columns of the manifest. Writes robustness.json and robustness.html.

    Args:
        manifest: Rows with labels and splits. The ground truth says what is pasted: an object by its mask
            (SoundingShapes) or a box; without it a patch, as the report says.
        checkpoint: A pretrained model or a fine-tuned classifier: a run directory, its weights folder,
            or hf-hub:OWNER/NAME.
        out: Folder of the page and the numbers.
        overwrite: Replace the results of another command.
        settings: Rows and numbers of the evaluation.

    Returns:
        ``protocol``; ``rows``, one per disturbance and modality (see :class:`avssl.evaluation.DisturbanceScores`;
        ``reached`` is true if the modality was disturbed); and ``groups`` by column.

    Raises:
        OutputError: If ``out`` holds something else, or another process writes it.
        ManifestError: If a column, a split or the labels are missing, a group column has too many values, the test
            split too few clips, or a class that the classifier does not know.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If a clip has no partner of another class, or the classifier is a multi-label one.
    """
    settings, whole = settings or Settings(), read_manifest(manifest)
    prepare = _classifier if release_kind(checkpoint) == CLASSIFIER else _probes
    model, tested, column, num_unreadable, num_unlabeled = prepare(whole, checkpoint, settings)
    truth = tested[column].astype(str)
    labels = _class_numbers(model, truth)
    dataset = ClipDataset(tested, model.sampling, settings.seed)
    cutouts = find_cutouts(tested, truth.tolist(), model.sampling.frames_per_second)
    partners = draw_partners(clip_key(settings.seed, 0, dataset.id_keys), truth, cutouts.objects, cutouts.scenes)
    disturbed = encode_disturbed(
        model.encode,
        dataset,
        partners,
        cutouts,
        windows_per_clip=model.windows_per_clip,
        num_workers=_workers(settings),
        device=model.device,
        progress=settings.progress,
    )
    predictions = model.predict(disturbed)
    recordings = Recordings(tested).groups
    report = {
        "protocol": {
            "name": model.name,
            "label_column": column,
            "n_test": len(tested),
            "num_classes": len(model.classes),
            "chance": 1 / len(model.classes),
            "largest_class": float(np.bincount(labels).max() / len(labels)),
            "unreadable": num_unreadable,
            "unlabeled": num_unlabeled,
            "windows_per_clip": model.windows_per_clip,
            "clip_list": tested.hash(),
            "seed": settings.seed,
            "checkpoint": str(checkpoint),
            "weights": model.weights,
            "pasted": cutouts.description,
            "n_pasted": disturbed.num_pasted,
        },
        "rows": score_disturbances(predictions, labels, partners, settings.seed),
        "groups": {
            name: score_groups(tested[name], predictions, labels, recordings, settings.seed) for name in settings.groups
        },
    }
    _write(Path(out), report, disturbed, model)
    print(as_text(report))
    print(f"page and numbers: {out}")
    return report


def as_text(report: dict[str, Any]) -> str:
    """Format the tables, in percent."""
    about = report["protocol"]
    lines = [
        f"{about['name']}",
        f"{about['label_column']}: {about['num_classes']} classes, {about['n_test']} clips disturbed; "
        f"chance {100 * about['chance']:.1f}, largest class {100 * about['largest_class']:.1f}",
        "",
        "accuracy in %",
        text_table(*accuracy_table(report["rows"])),
    ]
    for modality in dict.fromkeys(row["modality"] for row in report["rows"]):
        lines += ["", f"predictions from {modality}, in %", text_table(*disturbance_table(report["rows"], modality))]
    for column, groups in report["groups"].items():
        lines += ["", f"by {column}, in %", text_table(*group_table(groups))]
    lines += ["", f"pasted into {about['n_pasted']} clips: {about['pasted']}"]
    if about["unreadable"]:
        lines.append(f"{about['unreadable']} rows could not be read and are left out")
    if about["unlabeled"]:
        lines.append(f"{about['unlabeled']} test rows have no label or several and are left out")
    return "\n".join(lines)


_Setup = tuple[RobustnessModel, Manifest, str, int, int]
"""Model, readable test rows, their label column, number of unreadable rows and of test rows without one label."""


def _divide(whole: Manifest, label_column: str, settings: Settings, train_split: str | None) -> Division:
    (division,) = divide(
        whole,
        label_column,
        split_columns=[settings.split_column],
        train_split=train_split,
        test_split=settings.test_split,
    )
    _check_groups(whole.select(division.test), settings)
    return division


def _probes(whole: Manifest, checkpoint: Path | str, settings: Settings) -> _Setup:
    """Fit linear probes on the training rows."""
    column = settings.label_column or "label"
    division = _divide(whole, column, settings, settings.train_split)
    used = labeled_rows([division])
    pretrained = from_pretrained(checkpoint, choose_device(settings.device))
    windows = 1 if settings.windows_per_clip is None else settings.windows_per_clip
    found = extract_features(
        pretrained,
        whole.select(used),
        windows_per_clip=windows,
        num_workers=_workers(settings),
        cache_folder=settings.cache_folder,
        progress=settings.progress,
    )
    readable = used[found.rows]
    is_train = np.isin(readable, division.train)
    labels = whole[column][readable[is_train]].astype(str)
    features = (found.video[is_train], found.audio[is_train])
    model = linear_probe_model(pretrained, features, labels, windows, settings.seed)
    tested = _check_count(whole.select(readable[~is_train]), settings)
    return model, tested, column, len(found.failures), len(division.unlabeled_test)


def _classifier(whole: Manifest, checkpoint: Path | str, settings: Settings) -> _Setup:
    """Load a fine-tuned classifier; its clean predictions find the readable rows."""
    classifier = load_classifier(checkpoint, choose_device(settings.device))
    windows = (
        classifier.config.test.windows_per_clip if settings.windows_per_clip is None else settings.windows_per_clip
    )
    model = finetuned_model(classifier, windows)
    column = settings.label_column or classifier.config.labels.label_column
    division = _divide(whole, column, settings, train_split=None)
    rows = whole.select(division.test)
    test = replace(classifier.config.test, windows_per_clip=windows)
    data = replace(classifier.config.data, num_workers=_workers(settings))
    found = predict(
        classifier.model,
        classifier.transform,
        rows,
        replace(classifier.config, test=test, data=data),
        device=model.device,
        progress=settings.progress,
    )
    tested = _check_count(rows.select(found.rows), settings)
    return model, tested, column, len(found.failures), len(division.unlabeled_test)


def _check_groups(tested: Manifest, settings: Settings) -> None:
    """Check the group columns before anything is computed."""
    for column in settings.groups:
        count = len({str(value) for value in tested[column]})
        if count > _MOST_GROUPS:
            raise ManifestError(
                f"the column {column!r} has {count} values in the test rows, but at most {_MOST_GROUPS} groups "
                "can be compared. Add a column with fewer, binned values."
            )


def _check_count(tested: Manifest, settings: Settings) -> Manifest:
    if len(tested) < _FEWEST_CLIPS:
        raise ManifestError(
            f"{len(tested)} readable rows of the split {settings.test_split!r} have one label; at least "
            f"{_FEWEST_CLIPS} are needed for meaningful confidence intervals."
        )
    return tested


def _class_numbers(model: RobustnessModel, truth: np.ndarray) -> np.ndarray:
    """Return (N,) int64 positions of the true classes among the model's classes."""
    number = {name: i for i, name in enumerate(model.classes)}
    unknown = sorted(set(truth.tolist()) - set(number))
    if unknown:
        raise ManifestError(
            f"{len(unknown)} classes of the test rows were not in the training set, the first is {unknown[0]!r}. "
            "Leave these rows out, or name the right --label-column."
        )
    return np.array([number[name] for name in truth.tolist()], dtype=np.int64)


def _workers(settings: Settings) -> int:
    return decoding_workers(settings.num_workers)


def _write(out: Path, report: dict[str, Any], disturbed: DisturbedFeatures, model: RobustnessModel) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "robustness.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    examples = [
        Example(name, clips, model.transform.audio_input(clips.audio)[:, 0].cpu())
        for name, clips in disturbed.examples.items()
    ]
    write_robustness_page(out / "robustness.html", report, examples)
