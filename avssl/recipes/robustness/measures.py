"""Measures of the verb ``robustness``: classification, retrieval and localization of the test clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from avssl.core.cpus import decoding_workers
from avssl.core.draws import clip_key
from avssl.core.manifest import Manifest, ManifestError
from avssl.data.dataset import ClipDataset
from avssl.data.splits import Division, divide, labeled_rows, split_rows
from avssl.downstream.finetuning import predict
from avssl.downstream.localization import HeatmapClips, heatmap_clips
from avssl.downstream.probing import PROTOCOLS, ProbeSettings, ProtocolClips, protocol_clips
from avssl.downstream.robustness import (
    Classification,
    RobustnessModel,
    encode_disturbed,
    find_cutouts,
    finetuned_model,
    linear_probe_model,
)
from avssl.engine import choose_device
from avssl.features.extract import extract_features
from avssl.hub.classifier import load_classifier
from avssl.hub.pretrained import RANDOM, PretrainedModel, from_pretrained_or_random
from avssl.hub.release import CLASSIFIER, release_kind
from avssl.recipes.robustness.settings import Settings, check_count, check_groups
from avssl.transforms.partners import draw_partners

DEFAULT_LABELS = "label"
_Setup = tuple[RobustnessModel, Manifest, str, int, int]
"""Model, readable test rows, their label column, number of unreadable rows and of test rows without one label."""


def localization(whole: Manifest, checkpoint: Path | str, settings: Settings) -> HeatmapClips:
    """Score heat maps of the test rows."""
    if "truth" not in whole:
        raise ManifestError(
            f"{whole.root}: there is no column truth with the annotated sources. "
            "Make a manifest with ground truth with avssl synthesize, or with a script of datasets/ such as vggss.py."
        )
    rows = whole
    if settings.split_column in whole:
        rows = whole.select(split_rows(whole, settings.split_column, settings.test_split))
    check_groups(rows, settings)
    measure = heatmap_clips(
        _pretrained(checkpoint, settings, full=True), rows, seed=settings.seed, progress=settings.progress
    )
    check_count(measure.rows, settings)
    return measure


def retrieval(name: str, whole: Manifest, checkpoint: Path | str, settings: Settings) -> ProtocolClips:
    """Score the protocol ``retrieval`` or ``av_retrieval`` of ``avssl probe``."""
    column = settings.label_column or DEFAULT_LABELS
    division = _divide(whole, column, settings, settings.train_split)
    protocol = ProbeSettings(
        windows_per_clip=settings.windows_per_clip, seed=settings.seed, clips_per_class=settings.clips_per_class
    )
    measure = protocol_clips(
        PROTOCOLS[name],
        _pretrained(checkpoint, settings),
        whole,
        division,
        column,
        protocol,
        num_workers=decoding_workers(settings.num_workers),
        cache_folder=settings.cache_folder,
        progress=settings.progress,
    )
    check_count(measure.rows, settings)
    return measure


def classification(whole: Manifest, checkpoint: Path | str, settings: Settings) -> tuple[Classification, np.ndarray]:
    """Classify clean and disturbed test clips; return the positions of their partners too."""
    prepare = _probes if _is_pretrained(checkpoint) else _classifier
    model, tested, column, num_unreadable, num_unlabeled = prepare(whole, checkpoint, settings)
    truth = tested[column].astype(str)
    labels = _class_numbers(model, truth)
    dataset = ClipDataset(tested, model.sampling, settings.seed)
    cutouts = find_cutouts(tested, truth.tolist(), model.sampling.frames_per_second)
    partners = draw_partners(clip_key(settings.seed, 0, dataset.id_keys), truth, cutouts.objects, cutouts.scenes)
    workers = decoding_workers(settings.num_workers)
    disturbed = encode_disturbed(
        model.encode,
        dataset,
        partners,
        cutouts,
        windows_per_clip=model.windows_per_clip,
        num_workers=workers,
        device=model.device,
        progress=settings.progress,
    )
    about = {
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
    }
    predictions = model.predict(disturbed)
    measure = Classification(model, dataset, labels, disturbed, predictions, about, workers, settings.progress)
    return measure, partners


def _is_pretrained(checkpoint: Path | str) -> bool:
    return str(checkpoint).startswith(RANDOM) or release_kind(checkpoint) != CLASSIFIER


def _pretrained(checkpoint: Path | str, settings: Settings, full: bool = False) -> PretrainedModel:
    device = choose_device(settings.device)
    return from_pretrained_or_random(checkpoint, device, "full" if full else None, settings.seed + 1)


def _divide(whole: Manifest, label_column: str, settings: Settings, train_split: str | None) -> Division:
    (division,) = divide(
        whole,
        label_column,
        split_columns=[settings.split_column],
        train_split=train_split,
        test_split=settings.test_split,
    )
    check_groups(whole.select(division.test), settings)
    return division


def _probes(whole: Manifest, checkpoint: Path | str, settings: Settings) -> _Setup:
    """Fit linear probes on the training rows."""
    column = settings.label_column or DEFAULT_LABELS
    division = _divide(whole, column, settings, settings.train_split)
    used = labeled_rows([division])
    pretrained = _pretrained(checkpoint, settings)
    windows = 1 if settings.windows_per_clip is None else settings.windows_per_clip
    found = extract_features(
        pretrained,
        whole.select(used),
        windows_per_clip=windows,
        num_workers=decoding_workers(settings.num_workers),
        cache_folder=settings.cache_folder,
        progress=settings.progress,
    )
    readable = used[found.rows]
    is_train = np.isin(readable, division.train)
    labels = whole[column][readable[is_train]].astype(str)
    features = (found.video[is_train], found.audio[is_train])
    model = linear_probe_model(pretrained, features, labels, windows, settings.seed)
    check_count(readable[~is_train], settings)
    return model, whole.select(readable[~is_train]), column, len(found.failures), len(division.unlabeled_test)


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
    data = replace(classifier.config.data, num_workers=decoding_workers(settings.num_workers))
    found = predict(
        classifier.model,
        classifier.transform,
        rows,
        replace(classifier.config, test=test, data=data),
        device=model.device,
        progress=settings.progress,
    )
    check_count(found.rows, settings)
    return model, rows.select(found.rows), column, len(found.failures), len(division.unlabeled_test)


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
