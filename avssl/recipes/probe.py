"""``avssl probe MANIFEST --checkpoint RUN``: what frozen features know, by a published protocol.

A protocol is ``linear`` (logistic regression on picture, sound and both), ``knn`` (nearest neighbors, weighted),
``svm`` (linear SVM on four stages, several windows a file, as for ESC-50 and DCASE), ``retrieval`` (test clips query
training clips; a hit if any of the k nearest has the label), ``av_retrieval`` (sounds query pictures among five clips
of each class, and back), ``layers`` (a linear layer on each of the last four stages, trained by gradient) or
``attentive`` (one learned query that attends to the last map, trained by gradient).

Each is fitted on the rows of one split and scored on another, or over several splits or folds, beside the same
network with fresh weights, beside shuffled labels or sound, and beside chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.config.parsing import field_docs
from avssl.core.manifest import read_manifest
from avssl.core.whole_file import write_json
from avssl.data.splits import divide, num_unlabeled
from avssl.downstream.probing import PROTOCOLS, ProbeSettings, protocol_table, run_protocol
from avssl.engine import choose_device
from avssl.hub.pretrained import from_pretrained, random_init
from avssl.training.build import default_workers
from avssl.training.tasks.probes import ProbeSchedule


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`probe`."""
    parser = new_parser("avssl probe", __doc__)
    parser.add_argument("manifest", help="Rows with labels and splits.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="linear", help="What is measured, and how.")
    _add_columns(parser)
    _add_settings(parser)
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
        protocol=options.protocol,
        **{name: options[name] for name in _COLUMNS},
        settings=_settings(options),
        num_workers=options.num_workers,
        cache_folder=options.cache,
        device=options.device,
    )
    print(protocol_table(PROTOCOLS[options.protocol], report))
    if options.out:
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, report)
        print(f"numbers: {options.out}")
    return 0


def probe(
    manifest: Path | str,
    checkpoint: Path | str,
    *,
    protocol: str = "linear",
    label_column: str = "label",
    split_column: str = "split",
    train_split: str = "train",
    test_split: str = "test",
    fold_column: str | None = None,
    settings: ProbeSettings | None = None,
    num_workers: int | None = None,
    cache_folder: Path | str | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Measures a model and its random twin.

    Args:
        manifest: The CSV.
        checkpoint: As for :func:`avssl.hub.pretrained.from_pretrained`.
        protocol: A name of :data:`avssl.downstream.probing.PROTOCOLS`.
        label_column: Column of the class. Rows without a label, or with several joined by `|`, are left out.
        split_column: Column of the splits. Several columns, joined by commas, are official splits: each is run, and
            the mean is reported.
        train_split: Split to train on.
        test_split: Split to test on.
        fold_column: Column of folds, used instead of splits: each fold is tested once, and the others are trained on.
        settings: Of the protocol.
        num_workers: Decoding processes; one for each core by default.
        cache_folder: Where features are kept.
        device: Where the models run.
        progress: Show bars.

    Returns:
        As :func:`avssl.downstream.probing.run_protocol`, with what was measured.

    Raises:
        ManifestError: If a column, a split, a fold or the labels are not there.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If a scored class has no fitted clip, or a feature is not finite.
    """
    settings, rows = settings or ProbeSettings(), read_manifest(manifest)
    divisions = divide(
        rows,
        label_column,
        split_columns=[name.strip() for name in split_column.split(",")],
        train_split=train_split,
        test_split=test_split,
        fold_column=fold_column,
    )
    pretrained = from_pretrained(checkpoint, choose_device(device))
    report = run_protocol(
        PROTOCOLS[protocol],
        {"trained": pretrained, "random init": random_init(pretrained, settings.seed + 1)},
        rows,
        divisions,
        label_column,
        settings,
        num_workers=default_workers() if num_workers is None else num_workers,
        cache_folder=cache_folder,
        progress=progress,
    )
    report["protocol"] |= {
        "protocol": protocol,
        "checkpoint": str(checkpoint),
        "weights": pretrained.weights_hash(),
        "unlabeled": num_unlabeled(divisions),
    }
    return report


_COLUMNS = {
    "label_column": ("label", "Column of the class. Rows without exactly one label are left out."),
    "split_column": ("split", "Column of the splits; several, joined by commas, are run one by one."),
    "train_split": ("train", "Split to train on."),
    "test_split": ("test", "Split to test on."),
    "fold_column": (None, "Column of folds, used instead of splits."),
}


def _add_columns(parser: ArgumentParser) -> None:
    for name, (default, text) in _COLUMNS.items():
        parser.add_argument(f"--{name}", type=str, default=default, help=text)


_NUMBERS = {
    "windows_per_clip": int,
    "seed": int,
    "neighbors": int,
    "temperature": float,
    "svm_c": float,
    "svm_iterations": int,
    "clips_per_class": int,
}
"""Fields of :class:`ProbeSettings` that are options of the same name."""

_SCHEDULE = {"epochs": int, "batch_size": int, "learning_rate": float}
"""Fields of :class:`ProbeSchedule` that are options of the same name."""


def _add_settings(parser: ArgumentParser) -> None:
    docs, defaults = field_docs(ProbeSettings), ProbeSettings()
    for name, choices in (("modality", ("video", "audio", "all")), ("pooling", ("max", "average"))):
        parser.add_argument(f"--{name}", choices=choices, default=getattr(defaults, name), help=docs[name])
    for name, kind in _NUMBERS.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(defaults, name), help=docs[name])
    docs = field_docs(ProbeSchedule)
    for name, kind in _SCHEDULE.items():
        default = getattr(defaults.schedule, name)
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"For layers and attentive: {docs[name]}")


def _settings(options: Namespace) -> ProbeSettings:
    chosen = {name: options[name] for name in ("modality", "pooling", *_NUMBERS)}
    return ProbeSettings(**chosen, schedule=ProbeSchedule(**{name: options[name] for name in _SCHEDULE}))
