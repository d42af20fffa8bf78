"""The demo's report: one HTML file with its images inside, and links to the overlay videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.manifest import Manifest
from avssl.core.user_files import read_bytes
from avssl.engine.trackers.json_lines import read_metrics
from avssl.media import open_media
from avssl.reports.figures import new_figure
from avssl.reports.html_page import encode_figure, encode_picture, write_page

_MAX_STILL_BYTES = 2**26
_LOCALIZATION_COLUMNS = {
    "pointing": "pointing",
    "ciou_success_adaptive": "cIoU success (adaptive)",
    "auc_adaptive": "AUC (adaptive)",
    "ciou_success_ezvsl": "cIoU success (median)",
    "auc_ezvsl": "AUC (median)",
    "iiou_adaptive": "IIoU (adaptive)",
    "iauc_adaptive": "IAUC (adaptive)",
}


def write_report(
    path: Path, results: dict[str, Any], training_log: Path, overlays: Path, examples: Sequence[tuple[Manifest, int]]
) -> None:
    """Write the report.

    Args:
        path: The HTML file.
        results: The contents of metrics.json.
        training_log: The run's metrics.jsonl, for the curves.
        overlays: Folder of overlay videos and stills, beside the report.
        examples: Rows of manifests whose clips illustrate the data set.
    """
    probes = results["measure"]["probes"]
    write_page(
        path,
        "demo.html",
        title="avssl demo",
        results=results,
        film_strips=[(_film_strip(manifest, row), str(manifest.value(row, "id"))) for manifest, row in examples],
        curves=_training_curves(training_log),
        localization=[
            _localization(results, split, title, overlays)
            for split, title in (("several", "Scenes of two or three objects"), ("pairs", "Interactive pairs"))
        ],
        overlays_name=overlays.name,
        probes=[_probe_row(row) for row in probes],
        confusions=[
            (_confusion_matrix(row), f"{row['task']}, {row['modality']}")
            for row in probes
            if row["modality"] != "video + audio"
        ],
        settings=json.dumps(results["pretrain"]["config"], indent=1),
    )


def summary(results: dict[str, Any]) -> str:
    """Return the main numbers of the report as plain text."""
    lines = []
    titles = {"several": "two or three objects", "pairs": "interactive pairs"}
    for split, title in titles.items():
        rows = results["measure"]["localization"][split]["rows"]
        keys = {
            "pointing": "pointing",
            "ciou_success_adaptive": "cIoU@0.5 (adaptive)",
            "iiou_adaptive": "IIoU (adaptive)",
        }
        keys = {key: name for key, name in keys.items() if key in rows["trained model"]}
        lines.append(f"localization, {title}, n = {rows['trained model']['n']:.0f}: {', '.join(keys.values())}")
        lines += [f"  {name:<20}" + "".join(f"{row[key]:8.3f}" for key in keys) for name, row in rows.items()]
    probes = results["measure"]["probes"]
    lines.append("linear probes: trained, random-init, largest class, n")
    for p in probes:
        scores = "".join(f"{p[key]:8.3f}" for key in ("trained", "random-init", "majority"))
        lines.append(f"  {p['task'] + ', ' + p['modality']:<46}{scores}{p['n_test']:6d}")
    found = results["measure"]["retrieval"]
    lines.append(f"retrieval among {found['trained']['gallery_size']:.0f}: trained, random-init, chance")
    for direction in ("v2a", "a2v"):
        scores = "".join(f"{found[name][f'{direction}_R@10']:8.3f}" for name in ("trained", "random-init"))
        lines.append(f"  R@10, {direction}{' ' * 37}{scores}{found['trained']['chance_R@10']:8.3f}")
    return "\n".join(lines)


def _film_strip(manifest: Manifest, row: int) -> bytes:
    """Draw seven frames of a clip side by side."""
    with open_media(manifest.file(row)) as reader:
        stop = reader.info.video_stop_seconds or 1.0
        frames = reader.read_frames(np.linspace(0, stop * 0.95, 7).tolist())
    return encode_picture(np.concatenate(list(frames.movedim(1, -1).numpy()), axis=1))


def _training_curves(training_log: Path) -> bytes:
    """Draw loss, accuracy and cosine over the steps, side by side."""
    lines = read_metrics(training_log)
    wanted = {"loss": "loss (nats)", "accuracy_v2a": "accuracy in the batch", "cosine": "cosine"}
    figure = new_figure(1100, 300, dpi=100)
    for place, (name, title) in enumerate(wanted.items(), start=1):
        axes = figure.add_subplot(1, 3, place)
        for key in [key for key in lines[-1] if key.startswith(name)] if lines else []:
            points = [(line["step"], line[key]) for line in lines if key in line]
            axes.plot(*zip(*points, strict=True), label=key)
        axes.set_xlabel("step")
        axes.set_title(title)
        if axes.lines:
            axes.legend(fontsize=7)
    figure.tight_layout()
    return encode_figure(figure)


def _localization(results: dict[str, Any], split: str, title: str, overlays: Path) -> dict[str, Any]:
    """Collect the table and the stills of one test set."""
    table = results["measure"]["localization"][split]
    ours = table["rows"]["trained model"]
    columns = {key: name for key, name in _LOCALIZATION_COLUMNS.items() if key in ours}
    rows = []
    for name, row in table["rows"].items():
        low, high = table["intervals"][name]
        pointing, *others = (f"{row[key]:.3f}" for key in columns)
        rows.append((name, f"{pointing} [{low:.2f}, {high:.2f}]", *others))
    return {
        "title": title,
        "header": ("map", *columns.values()),
        "rows": rows,
        "n": round(ours["n"]),
        "num_pairs": round(ours.get("num_groups", 0)),
        "skipped": table["skipped"],
        "stills": [
            (read_bytes(overlays / still["file"], _MAX_STILL_BYTES), f"{still['kind']}, {still['action']}")
            for still in results["overlays"]["stills"][split]
        ],
    }


def _probe_row(row: dict[str, Any]) -> tuple[object, ...]:
    scores = (f"{row[name]:.3f}" for name in ("trained", "random-init", "majority", "chance"))
    return (row["task"], row["modality"], *scores, row["n_train"], row["n_test"])


def _confusion_matrix(row: dict[str, Any]) -> bytes:
    figure = new_figure(440, 400, dpi=100)
    axes = figure.add_subplot()
    counts = np.asarray(row["confusion"], dtype=float)
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="magma", vmin=0, vmax=1)
    axes.set_xticks(range(len(row["classes"])), row["classes"], rotation=90, fontsize=7)
    axes.set_yticks(range(len(row["classes"])), row["classes"], fontsize=7)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    figure.tight_layout()
    return encode_figure(figure)
