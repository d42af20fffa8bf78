"""``avssl robustness MANIFEST --checkpoint RUN``: how much a classifier depends on what should not matter.

A linear probe on the frozen features of clean clips is asked about the same test clips under a
standard table of disturbances: noise, silence, another clip's sound or picture, covered pictures,
reversed time, and an object pasted into scenes where it never was. ``--groups`` also says how
accurate it is for each value of columns of the manifest. Writes robustness.json and robustness.html.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from avssl.batch import Batch
from avssl.build import default_workers
from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.data.dataset import ClipDataset
from avssl.data.labelled_rows import labelled_rows
from avssl.draws import clip_key
from avssl.engine import choose_device
from avssl.extract import extract_features, run_precision
from avssl.hub import Pretrained, from_pretrained
from avssl.manifest import Manifest, ManifestError, read_manifest
from avssl.robustness import (
    Disturbed,
    Encode,
    Example,
    accuracy_table,
    disturbance_table,
    encode_disturbed,
    find_cutouts,
    group_table,
    probe_answers,
    score_disturbances,
    score_groups,
    text_table,
    write_robustness_page,
)
from avssl.transforms.partners import draw_partners

_FEWEST_CLIPS = 10
"""Intervals over fewer clips say nothing."""
_MOST_GROUPS = 50


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`robustness`."""
    parser = new_parser("avssl robustness", __doc__)
    parser.add_argument("manifest", help="Rows with labels and splits.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("--groups", default="", help="Columns of the manifest, joined by commas: num_objects,nuisance")
    parser.add_argument("--label_column", default="label", help="The column that is predicted.")
    parser.add_argument("--split_column", default="split", help="The column that says which rows are fitted.")
    parser.add_argument("--train_split", default="train", help="Rows the probe is fitted on, as they are.")
    parser.add_argument("--test_split", default="test", help="Rows that are disturbed.")
    parser.add_argument("--windows_per_clip", type=int, default=1, help="Evenly spaced windows that are averaged.")
    parser.add_argument("--seed", type=int, default=0, help="Of every draw: noise, places, partners, held-out part.")
    parser.add_argument("--num_workers", type=int, default=None, help="Decoding processes; one a core by default.")
    parser.add_argument("--cache", metavar="FOLDER", help="Keep features of clean clips here, to be used again.")
    parser.add_argument("-o", "--out", metavar="FOLDER", default="robustness", help="Where page and numbers go.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    report = robustness(
        options.manifest,
        options.checkpoint,
        options.out,
        groups=[name for name in options.groups.split(",") if name],
        label_column=options.label_column,
        split_column=options.split_column,
        train_split=options.train_split,
        test_split=options.test_split,
        windows_per_clip=options.windows_per_clip,
        seed=options.seed,
        num_workers=options.num_workers,
        cache_folder=options.cache,
        device=options.device,
    )
    print(as_text(report))
    print(f"page and numbers: {options.out}")
    return 0


def robustness(
    manifest: Path | str,
    checkpoint: Path | str,
    out: Path | str,
    *,
    groups: Sequence[str] = (),
    label_column: str = "label",
    split_column: str = "split",
    train_split: str = "train",
    test_split: str = "test",
    windows_per_clip: int = 1,
    seed: int = 0,
    num_workers: int | None = None,
    cache_folder: Path | str | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Fits linear probes on clean clips and asks them about disturbed ones.

    Args:
        manifest: The CSV. Its truth says what can be pasted: an object by its mask
            (SoundingShapes), a box; without truth a patch, as the report says.
        checkpoint: As for :func:`avssl.hub.from_pretrained`.
        out: Folder for robustness.html and robustness.json.
        groups: Columns whose values are the groups of clips that are compared.
        label_column: Classes; rows without one, or with several joined by ``|``, are left out.
        split_column: Where the splits are.
        train_split: Rows the probes are fitted on.
        test_split: Rows that are disturbed.
        windows_per_clip: Evenly spaced windows that are averaged.
        seed: Of every draw.
        num_workers: Decoding processes; one for each core by default.
        cache_folder: Where features of clean clips are kept; ``avssl probe`` reads the same.
        device: Where the model runs.
        progress: Show bars.

    Returns:
        ``protocol``; ``rows``, one a disturbance and modality (see
        :class:`avssl.evaluation.DisturbedScores`; ``reached`` tells whether the modality was disturbed);
        and ``groups`` by column.

    Raises:
        ManifestError: If a column, a split or the labels are not there, a group column holds too
            many values, or the test split too few clips.
        HubError: If there is no model at ``checkpoint``.
    """
    rows = labelled_rows(read_manifest(manifest), label_column, split_column, (train_split, test_split))
    _check_groups(rows, groups, rows[split_column] == test_split)
    pretrained = from_pretrained(checkpoint, choose_device(device))
    shared: dict[str, Any] = {
        "windows_per_clip": windows_per_clip,
        "num_workers": default_workers() if num_workers is None else num_workers,
        "progress": progress,
    }
    found = extract_features(pretrained, rows, cache_folder=cache_folder, **shared)
    labels, is_test = rows[label_column][found.rows].astype(str), rows[split_column][found.rows] == test_split
    tested, truth = rows.select(found.rows[is_test]), labels[is_test]
    if len(tested) < _FEWEST_CLIPS:
        raise ManifestError(
            f"{len(tested)} readable rows of the split {test_split!r} have one {label_column}; "
            f"at least {_FEWEST_CLIPS} are needed, or the intervals say nothing."
        )
    dataset = ClipDataset(tested, pretrained.sampling, seed)
    cutouts = find_cutouts(tested, truth, pretrained.sampling.frames_per_second)
    partners = draw_partners(clip_key(seed, 0, dataset.id_keys), truth, cutouts.lent, cutouts.scenes)
    disturbed = encode_disturbed(encoders(pretrained), dataset, partners, cutouts, device=pretrained.device, **shared)
    fitted = found.video[~is_test], found.audio[~is_test]
    answers, classes = probe_answers(fitted, labels[~is_test], disturbed, truth, seed)
    numbers = np.searchsorted(classes, truth)
    report = {
        "protocol": {
            "name": "linear probe on frozen features of clean clips, logistic regression; both by late fusion",
            "label_column": label_column,
            "n_train": len(fitted[0]),
            "n_test": len(tested),
            "num_classes": len(classes),
            "chance": 1 / len(classes),
            "largest_class": float(np.bincount(numbers).max() / len(numbers)),
            "unreadable": len(found.failures),
            "windows_per_clip": windows_per_clip,
            "clip_list": rows.hash(),
            "seed": seed,
            "checkpoint": str(checkpoint),
            "weights": pretrained.weights_hash(),
            "pasted": cutouts.said,
            "n_pasted": disturbed.num_pasted,
        },
        "rows": score_disturbances(answers, numbers, partners, seed),
        "groups": {column: score_groups(tested[column], answers, numbers) for column in groups},
    }
    _write(Path(out), report, disturbed, pretrained)
    return report


def encoders(pretrained: Pretrained) -> dict[str, Encode]:
    """How a model makes features of raw clips, in the precision it was trained in."""
    model, transform, precision = pretrained.model, pretrained.transform, run_precision(pretrained)
    if precision.memory_format == "channels_last":
        model.use_channels_last()

    def video(raw: Batch) -> Tensor:
        with precision.autocast(pretrained.device):
            return model.encode_video(precision.arrange(transform.video_eval(raw.video, raw.valid_hw)))

    def audio(raw: Batch) -> Tensor:
        with precision.autocast(pretrained.device):
            return model.encode_audio(precision.arrange(transform.audio_input(raw.audio)))

    return {"video": video, "audio": audio}


def as_text(report: dict[str, Any]) -> str:
    """The tables, in percent."""
    about = report["protocol"]
    lines = [
        f"{about['label_column']}: {about['num_classes']} classes, {about['n_train']} clips fitted, "
        f"{about['n_test']} disturbed; chance {100 * about['chance']:.1f}, "
        f"largest class {100 * about['largest_class']:.1f}",
        "",
        "accuracy in %",
        text_table(*accuracy_table(report["rows"])),
    ]
    for modality in dict.fromkeys(row["modality"] for row in report["rows"]):
        lines += ["", f"asked about {modality}, in %", text_table(*disturbance_table(report["rows"], modality))]
    for column, groups in report["groups"].items():
        lines += ["", f"by {column}, in %", text_table(*group_table(groups))]
    lines += ["", f"pasted: {about['pasted']}"]
    if about["unreadable"]:
        lines.append(f"{about['unreadable']} rows could not be read and are left out")
    return "\n".join(lines)


def _check_groups(rows: Manifest, groups: Sequence[str], tested: np.ndarray) -> None:
    """Before anything is computed."""
    for column in groups:
        count = len({str(value) for value in rows[column][tested]})
        if count > _MOST_GROUPS:
            raise ManifestError(
                f"the column {column!r} has {count} values in the tested rows, and groups are to be at most "
                f"{_MOST_GROUPS}. Bin it in a column of its own."
            )


def _write(out: Path, report: dict[str, Any], disturbed: Disturbed, pretrained: Pretrained) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "robustness.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    examples = [
        Example(name, clips, pretrained.transform.audio_input(clips.audio)[:, 0].cpu())
        for name, clips in disturbed.examples.items()
    ]
    write_robustness_page(out / "robustness.html", report, examples)
