"""The verb ``robustness``: scores of disturbed and corrupted clips, and of groups of clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avssl.core.batch import Batch
from avssl.core.claimed_verb import writes_folder
from avssl.core.errors import InputError
from avssl.core.manifest import read_manifest
from avssl.core.outputs import FolderKind, remove_files
from avssl.core.ranges import checked
from avssl.core.whole_file import whole_file, write_text
from avssl.data.splits import Recordings
from avssl.downstream.robustness import (
    CLEAN,
    CONDITIONS,
    Classification,
    Example,
    Measure,
    as_text,
    chosen_corruptions,
    draw_corruptions,
    draw_group_gaps,
    run_conditions,
    score_corruptions,
    score_disturbances,
    score_groups,
    write_robustness_page,
)
from avssl.recipes.robustness.measures import classification, localization, retrieval
from avssl.recipes.robustness.settings import Settings
from avssl.transforms.corruptions import CORRUPTIONS, Corruption

FIRST = (
    "checkpoint",
    "measure",
    "groups",
    "severities",
    "label_column",
    "split_column",
    "test_split",
    "seed",
    "out",
    "overwrite",
    "cache_folder",
    "device",
)
_PICTURES = {"groups": "groups.png", "corruptions": "corruptions.png"}
_FILES = ("robustness.json", "robustness.html", *_PICTURES.values(), CONDITIONS)


@checked
@writes_folder(FolderKind("a report", _FILES), reads=("manifest", "checkpoint"))
def robustness(
    manifest: Path | str,
    *,
    checkpoint: Path | str,
    measure: Literal["classification", "retrieval", "av_retrieval", "localization"] = "classification",
    out: Path | str = "robustness",
    overwrite: bool = False,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Measure for whom a model works worse, and which disturbances of its input it withstands.

    The measures are:

    - "classification": a fine-tuned classifier, or linear probes on the frozen features of a pretrained model, also
      under a standard set of disturbances: noise, silence, another clip's audio or frames, occluded frames, reversed
      time, and an object pasted into scenes where it never occurs;
    - "retrieval" and "av_retrieval": the protocols of ``avssl probe``, by query;
    - "localization": pointing and cIoU of heat maps, as in ``avssl localize-eval``, by annotated instant.

    ``--groups`` reports the scores for each value of columns of the manifest, with intervals and a permutation test of
    the gap. ``--severities 1 3 5`` corrupts the clips with blur, light, compression and noise of the frames, and noise
    and reverberation of the audio. Writes robustness.json and robustness.html, and groups.png and corruptions.png. An
    interrupted report continues when the same command comes again.

    Args:
        manifest: Rows with labels and splits, or with ground truth. The ground truth says what is pasted: an object by
            its mask (SoundingShapes) or a box; without it a patch, as the report says.
        checkpoint: A pretrained model or a fine-tuned classifier: a run directory, its weights folder, or
            hf-hub:OWNER/NAME; ``random:RUN`` is the same network with random weights.
        measure: What is scored, clip by clip.
        out: Folder of the page and the numbers.
        overwrite: Replace the results of another command.
        settings: Rows and numbers of the evaluation.

    Returns:
        ``protocol``; ``rows``, one per disturbance and modality (see :class:`avssl.evaluation.DisturbanceScores`;
        ``reached`` is true if the modality was disturbed); ``groups`` by column; and ``corruptions``.

    Raises:
        OutputError: If ``out`` holds something else, or another process writes it.
        ManifestError: If a column, a split, the labels or the ground truth are missing, a group column has too many
            values, the test split too few clips, or a class that the classifier does not know.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If a clip has no partner of another class, the classifier is a multi-label one, or there is nothing
            to report.
    """
    settings, whole = settings or Settings(), read_manifest(manifest)
    report: dict[str, Any] = {"measure": measure, "rows": []}
    examples: list[Example] = []
    subject: Measure
    if measure == "classification":
        subject, partners = classification(whole, checkpoint, settings)
        report["rows"] = score_disturbances(
            subject.predictions, subject.labels, partners, _recordings_of(subject), settings.seed
        )
        examples = [_example(subject, name, clips) for name, clips in subject.disturbed.examples.items()]
    else:
        if not settings.groups and not settings.severities:
            raise InputError(f"{measure}: nothing to report. Name columns with --groups, or --severities 1 3 5.")
        if measure == "localization":
            subject = localization(whole, checkpoint, settings)
        else:
            subject = retrieval(measure, whole, checkpoint, settings)
    corruptions = chosen_corruptions(subject, settings.corruptions, settings.severities, settings.seed)
    if isinstance(subject, Classification):
        examples += _corrupted_examples(subject, corruptions)
    scores = run_conditions(subject, corruptions, Path(out), progress=settings.progress)
    recordings = _recordings_of(subject)
    report |= {
        "protocol": subject.about | {"checkpoint": str(checkpoint)},
        "baselines": subject.baselines,
        "groups": {
            name: score_groups(subject.manifest[name][subject.rows], scores[None], recordings, settings.seed)
            for name in settings.groups
        },
    }
    if corruptions:
        used = {corruption.name: CORRUPTIONS[corruption.name] for corruption in corruptions}
        report["corruptions"] = {
            "about": {
                name: {"strengths": kind.strengths, "meaning": kind.meaning, "source": kind.source}
                for name, kind in used.items()
            },
            "rows": score_corruptions(scores, subject.streams, recordings, settings.seed),
        }
    _write(Path(out), report, examples)
    print(as_text(report))
    print(f"page and numbers: {out}")
    return report


def _recordings_of(subject: Measure) -> np.ndarray:
    """Return the (N,) recordings of the scored clips."""
    return Recordings(subject.manifest).groups[subject.rows]


def _example(subject: Classification, name: str, clips: Batch) -> Example:
    return Example(name, clips, subject.model.transform.audio_input(clips.audio)[:, 0].cpu())


def _corrupted_examples(subject: Classification, corruptions: list[Corruption]) -> list[Example]:
    """Return the first clips under each corruption at its highest severity."""
    worst = {corruption.name: corruption for corruption in corruptions}
    clean, rate = subject.disturbed.examples[CLEAN], subject.model.sampling.sample_rate_hz
    return [_example(subject, str(corruption), corruption(clean, rate)) for corruption in worst.values()]


def _write(out: Path, report: dict[str, Any], examples: list[Example]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pictures = {"groups": draw_group_gaps(report["groups"])}
    if "corruptions" in report:
        pictures["corruptions"] = draw_corruptions(report["corruptions"]["rows"], report["baselines"])
    for name, picture in pictures.items():
        if picture is not None:
            with whole_file(out / _PICTURES[name]) as temporary:
                temporary.write_bytes(picture)
    write_text(out / "robustness.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_robustness_page(out / "robustness.html", report, examples, pictures)
    remove_files(out, [CONDITIONS])
