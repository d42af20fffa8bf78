"""The verb ``probe``: frozen features on labeled rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from avssl.core.claimed_verb import writes_files
from avssl.core.cpus import decoding_workers
from avssl.core.errors import InputError
from avssl.core.ranges import Workers, checked
from avssl.core.registry import entry
from avssl.core.whole_file import write_json
from avssl.data.splits import divide, num_several, num_unlabeled
from avssl.downstream.probing import MULTI_LABEL_PROTOCOLS, PROTOCOLS, ProbeSettings, protocol_table, run_protocol
from avssl.engine import choose_device
from avssl.hub.pretrained import from_pretrained, random_init
from avssl.training.labeled_source import read_labeled_source

FIRST = (
    "checkpoint",
    "protocol",
    "label_column",
    "multi_label",
    "split_column",
    "fold_column",
    "modality",
    "windows_per_clip",
    "seed",
    "out",
    "overwrite",
    "cache_folder",
    "device",
)


@checked
@writes_files(lambda given: [given["out"]], reads=("manifest", "checkpoint"))
def probe(
    manifest: Path | str,
    *,
    checkpoint: Path | str,
    protocol: Literal["linear", "svm", "knn", "retrieval", "av_retrieval", "moments", "layers", "attentive"] = "linear",
    label_column: str = "label",
    multi_label: bool = False,
    split_column: Sequence[str] = ("split",),
    train_split: str = "train",
    test_split: str = "test",
    fold_column: str | None = None,
    settings: ProbeSettings | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    num_workers: Workers | None = None,
    cache_folder: Path | str | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate frozen features on labeled rows by a published protocol.

    The protocols are:

    - "linear": logistic regression on frames, audio and both;
    - "knn": weighted nearest neighbors;
    - "svm": linear SVM on four stages, several windows per file, as for ESC-50 and DCASE;
    - "retrieval": test clips query training clips; a hit if any of the k nearest has the same label;
    - "av_retrieval": audio queries frames among five clips of each class, and the reverse;
    - "moments": each test clip's audio is to find its own frames, by the similarities of their moments;
    - "layers": a linear layer on each of the last four stages, trained by gradient descent;
    - "attentive": one learned query that attends to the last map, trained by gradient descent.

    The probe is trained on one split and tested on another, or on several splits or folds in turn. The results stand
    beside those of the same network with random weights, of shuffled labels or audio, and of chance. ``avssl
    robustness --measure`` compares groups of clips, and corrupted clips.

    Args:
        manifest: Rows with labels and splits, or a folder of class folders, divided as by ``avssl index --labels
            folders``.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        protocol: Name of the protocol.
        label_column: Column of the labels. Rows without a label are left out, and those with several, joined by "|",
            without ``multi_label``.
        multi_label: Allow several labels per row and measure by mAP, over all classes and for each; "linear" and "knn".
        split_column: Columns of the splits. Several are official splits: each is run and the mean reported.
        train_split: Rows to train on.
        test_split: Rows to test on.
        fold_column: Column of folds, instead of splits: each fold is tested once, after training on the others.
        settings: Numbers of the protocol.
        out: JSON file to write the numbers to.
        overwrite: Replace a file that another command or program made.
        num_workers: Decoding processes; default: one per core.
        cache_folder: Folder where features are kept for later runs.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Returns:
        The report of :func:`avssl.downstream.probing.run_protocol`.

    Raises:
        OutputError: If another command or program made ``out``, or another process writes it.
        ManifestError: If a column, a split, a fold or the labels are missing.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If a test class has no training clip, or a feature is not finite.
    """
    chosen = entry("protocol", PROTOCOLS, protocol)
    settings = settings or ProbeSettings()
    if multi_label:
        if protocol not in MULTI_LABEL_PROTOCOLS:
            names = " or ".join(MULTI_LABEL_PROTOCOLS)
            raise InputError(f"protocol {protocol} takes one label per row; with multi_label use {names}.")
        chosen = MULTI_LABEL_PROTOCOLS[protocol]
    found = read_labeled_source(manifest, inputs=settings.modality, progress=progress)
    rows = found.manifest
    divisions = divide(
        rows,
        label_column,
        split_columns=split_column,
        train_split=train_split,
        test_split=test_split,
        fold_column=fold_column,
        multi_label=multi_label,
    )
    pretrained = from_pretrained(checkpoint, choose_device(device))
    report = run_protocol(
        chosen,
        {"trained": pretrained, "random init": random_init(pretrained, settings.seed + 1)},
        rows,
        divisions,
        label_column,
        settings,
        num_workers=decoding_workers(num_workers),
        cache_folder=cache_folder,
        progress=progress,
    )
    report["protocol"] |= {
        "protocol": protocol,
        "checkpoint": str(checkpoint),
        "weights": pretrained.weights_hash(),
        "unlabeled": num_unlabeled(divisions),
        "unusable_files": len(found.unusable),
        "several_labels": 0 if multi_label else num_several(rows, label_column, divisions),
    }
    print(protocol_table(chosen, report))
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_json(out, report)
        print(f"numbers: {out}")
    return report
