"""``avssl probe MANIFEST --checkpoint RUN``: what a linear classifier reads from frozen features.

Three probes (video, audio, both) are fitted on the rows of one split and scored on another, beside
the same network with fresh weights, and beside chance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avssl.build import default_workers
from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.data.labelled_rows import labelled_rows
from avssl.engine import choose_device
from avssl.evaluation import bootstrap_interval, modality_probes
from avssl.extract import extract_features
from avssl.hub import from_pretrained, random_init
from avssl.manifest import read_manifest


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`probe`."""
    parser = new_parser("avssl probe", __doc__)
    parser.add_argument("manifest", help="Rows with labels and splits.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("--label_column", default="label", help="The column that is predicted.")
    parser.add_argument(
        "--split_column", default="split", help="The column that says which rows are fitted and scored."
    )
    parser.add_argument("--train_split", default="train", help="Rows the classifier is fitted on.")
    parser.add_argument("--test_split", default="test", help="Rows it is scored on, once.")
    parser.add_argument("--windows_per_clip", type=int, default=1, help="Evenly spaced windows that are averaged.")
    parser.add_argument("--seed", type=int, default=0, help="Of the fresh weights and the held-out part.")
    parser.add_argument(
        "--num_workers", type=int, default=None, help="Decoding processes; one for each core by default."
    )
    parser.add_argument("--cache", metavar="FOLDER", help="Keep features here, to be used again.")
    parser.add_argument("-o", "--out", metavar="FILE", help="Write the numbers as JSON.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    report = probe(
        options.manifest,
        options.checkpoint,
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
    print(table(report))
    if options.out:
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        Path(options.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"numbers: {options.out}")
    return 0


def probe(
    manifest: Path | str,
    checkpoint: Path | str,
    *,
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
    """Probes a model and its random twin.

    Args:
        manifest: The CSV.
        checkpoint: As for :func:`avssl.hub.from_pretrained`.
        label_column: Classes; rows without one, or with several joined by ``|``, are left out.
        split_column: Where the splits are.
        train_split: Rows the classifier is fitted on.
        test_split: Rows it is scored on; classes that the fitted rows lack are an error.
        windows_per_clip: Evenly spaced windows that are averaged.
        seed: Of the fresh weights and of the held-out part that sets the L2 strength.
        num_workers: Decoding processes; one for each core by default.
        cache_folder: Where features are kept.
        device: Where the models run.
        progress: Show bars.

    Returns:
        ``protocol`` (what was measured on what) and ``rows``: one a model and modality, with
        ``accuracy``, its 95 % ``interval`` over test clips and ``mean_per_class``, all in [0, 1].

    Raises:
        ManifestError: If a column, a split or the labels are not there.
        HubError: If there is no model at ``checkpoint``.
    """
    whole = read_manifest(manifest)
    rows = labelled_rows(whole, label_column, split_column, (train_split, test_split))
    pretrained = from_pretrained(checkpoint, choose_device(device))
    results: list[dict[str, Any]] = []
    labels, split = rows[label_column], rows[split_column]
    failed = 0
    for name, model in (("trained", pretrained), ("random init", random_init(pretrained, seed + 1))):
        found = extract_features(
            model,
            rows,
            windows_per_clip=windows_per_clip,
            num_workers=default_workers() if num_workers is None else num_workers,
            cache_folder=cache_folder,
            progress=progress,
        )
        failed = len(found.failures)
        fit, test = (np.flatnonzero(split[found.rows] == part) for part in (train_split, test_split))
        known = labels[found.rows]
        probes = modality_probes(found.video, found.audio, known, fit, test, seed=seed)
        for modality, result in probes.items():
            results.append(
                {
                    "model": name,
                    "modality": modality,
                    "accuracy": result.accuracy,
                    "interval": bootstrap_interval(result.correct.astype(float), seed=seed),
                    "mean_per_class": result.mean_per_class,
                    "l2": result.l2,
                }
            )
    classes, counts = np.unique(known[test].astype(str), return_counts=True)
    chance = {"model": "chance", "modality": "", "accuracy": 1 / len(np.unique(known[fit].astype(str)))}
    majority = {"model": "largest class", "modality": "", "accuracy": float(counts.max() / counts.sum())}
    return {
        "protocol": {
            "name": "linear probe on frozen features, multinomial logistic regression; both by late fusion",
            "label_column": label_column,
            "n_train": len(fit),
            "n_test": len(test),
            "num_classes": len(classes),
            "unreadable": failed,
            "windows_per_clip": windows_per_clip,
            "clip_list": rows.hash(),
            "seed": seed,
            "checkpoint": str(checkpoint),
            "weights": pretrained.weights_hash(),
        },
        "rows": [*results, majority, chance],
    }


def table(report: dict[str, Any]) -> str:
    """The rows as text, in percent."""
    about = report["protocol"]
    rows = f"{about['n_train']} rows fitted, {about['n_test']} scored"
    head = f"{about['label_column']}: {about['num_classes']} classes, {rows}"
    lines = [head, "", f"{'model':<14}{'modality':<15}{'accuracy':>9}{'95 %':>17}{'per class':>11}"]
    for row in report["rows"]:
        line = f"{row['model']:<14}{row['modality']:<15}{100 * row['accuracy']:>9.1f}"
        if "interval" in row:
            low, high = (100 * value for value in row["interval"])
            line += f"{f'{low:.1f} to {high:.1f}':>17}{100 * row['mean_per_class']:>11.1f}"
        lines.append(line)
    if about["unreadable"]:
        lines.append(f"{about['unreadable']} rows could not be read and are left out")
    return "\n".join(lines)
