"""The demo's report: one HTML file with its pictures inside, and links to the overlay videos."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.manifest import Manifest
from avssl.media import open_media
from avssl.reports import html_page

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
    """Writes the report.

    Args:
        path: The HTML file.
        results: Everything in metrics.json.
        training_log: The run's metrics.jsonl, for the curves.
        overlays: Folder of overlay videos and stills, beside the report.
        examples: Clips to show what the world looks like.
    """
    sections = [
        _head(results),
        _world(results, examples),
        _training(results, training_log),
        _localization(results, overlays),
        _videos(results, overlays),
        _probes(results),
        _retrieval(results),
        _costs(results),
    ]
    html_page.write_page(path, "avssl demo", sections)


def summary(results: dict[str, Any]) -> str:
    """The figures as text: what the report's tables hold, in few columns."""
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


def _head(results: dict[str, Any]) -> str:
    settings = results["settings"]
    tiny = (
        "<p><b>This was --tiny: it shows that everything runs. Its numbers mean nothing.</b></p>"
        if settings["tiny"]
        else ""
    )
    return (
        f"<h1>avssl demo, seed {settings['seed']}</h1><p>A video encoder and an audio encoder learned from "
        f"{results['pretrain']['samples_seen']:,} clips of video with sound, without one label: low energy for a picture and its "
        f"own sound, high for others. Everything below is measured on clips they never saw.</p>{tiny}"
    )


def _world(results: dict[str, Any], examples: Sequence[tuple[Manifest, int]]) -> str:
    strips = [
        html_page.figure(html_page.encode_picture(_film_strip(manifest, row)), str(manifest.value(row, "id")))
        for manifest, row in examples
    ]
    counts = ", ".join(f"{name} {split['num_clips']}" for name, split in results["synthesize"]["splits"].items())
    return (
        "<h2>The world</h2><p>SoundingShapes: twelve kinds of objects, told apart by shape and texture, move in eight ways. One "
        "of them sounds: its kind decides the timbre, its motion the moments. The silent ones move too.</p>"
        f"<p class='note'>Clips: {counts}; list {results['synthesize']['clip_list']}.</p><div>{''.join(strips)}</div>"
    )


def _film_strip(manifest: Manifest, row: int) -> np.ndarray:
    with open_media(manifest.file(row)) as reader:
        stop = reader.info.video_stop_seconds or 1.0
        frames = reader.read_frames(np.linspace(0, stop * 0.95, 7).tolist())
    return np.concatenate(list(frames.movedim(1, -1).numpy()), axis=1)


def _training(results: dict[str, Any], training_log: Path) -> str:
    lines = [json.loads(line) for line in training_log.read_text(encoding="utf-8").splitlines() if line]
    wanted = {"loss": "loss (nats)", "accuracy_v2a": "accuracy in the batch", "cosine": "cosine"}
    from avssl.reports.figures import new_figure

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
    about = results["pretrain"]
    return (
        f"<h2>Pretraining</h2><p>{about['steps']} steps, {about['epochs']} epochs, {about['samples_seen']:,} clips "
        f"seen, {about['loop_seconds'] / 60:.1f} minutes in the loop.</p>{html_page.image(html_page.encode_figure(figure))}"
    )


def _localization(results: dict[str, Any], overlays: Path) -> str:
    parts = [
        "<h2>Where is the sound?</h2><p>Each clip is seen through one window whose middle is a sound event; truth is the visible "
        "part of the sounding object at that instant. <i>Pointing</i>: the peak of the map lies on it. <i>cIoU success</i>: "
        "intersection over union of at least 0.5, the map being cut at the object's area (adaptive) or at its median. "
        "<i>IIoU</i>: the same picture with either of two sounds, and the map right both times. Cut at the median, a map covers half "
        "the frame: no object smaller than a quarter of it can reach 0.5, and none here is larger.</p>"
    ]
    titles = {"several": "Scenes of two or three objects", "pairs": "Interactive pairs"}
    for split, title in titles.items():
        table = results["measure"]["localization"][split]
        parts.append(f"<h3>{title}</h3>{_localization_table(table)}")
        stills = results["overlays"]["stills"][split]
        figures = (html_page.figure((overlays / s["file"]).read_bytes(), f"{s['kind']}, {s['action']}") for s in stills)
        parts.append(f"<div class='grid'>{''.join(figures)}</div>")
    parts.append(
        "<p class='note'>The first clips of each set, not the best; the line is the sounding object's outline.</p>"
    )
    return "".join(parts)


def _localization_table(table: dict[str, Any]) -> str:
    columns = {key: title for key, title in _LOCALIZATION_COLUMNS.items() if key in table["rows"]["trained model"]}
    body = []
    for name, row in table["rows"].items():
        low, high = table["intervals"][name]
        cells = [f"{row['pointing']:.3f} [{low:.2f}, {high:.2f}]", *(f"{row[key]:.3f}" for key in list(columns)[1:])]
        body.append((name, *cells))
    ours = table["rows"]["trained model"]
    pairs = f", {ours['num_groups']:.0f} pairs" if "num_groups" in ours else ""
    note = f"<p class='note'>n = {ours['n']:.0f} clips{pairs}; {table['skipped']} without a visible event left out.</p>"
    return html_page.table(("map", *columns.values()), body, ours="trained model") + note


def _videos(results: dict[str, Any], overlays: Path) -> str:
    items = []
    for video in results["overlays"]["videos"]:
        source = html.escape(f"{overlays.name}/{video['file']}")
        caption = html.escape(f"{video['id']}: {video['kind']}, {video['action']}")
        items.append(
            f"<figure><video controls preload='none' src='{source}'></video>"
            f"<figcaption><a href='{source}'>{caption}</a></figcaption></figure>"
        )
    return f"<h2>Overlay videos</h2><p>With their sound.</p><div class='grid'>{''.join(items)}</div>"


def _probes(results: dict[str, Any]) -> str:
    rows = results["measure"]["probes"]
    body = [
        (
            r["task"],
            r["modality"],
            *(f"{r[k]:.3f}" for k in ("trained", "random-init", "majority", "chance")),
            r["n_train"],
            r["n_test"],
        )
        for r in rows
    ]
    header = ("task", "features", "trained", "random-init", "majority class", "chance", "n train", "n test")
    matrices = [
        html_page.figure(_confusion_png(r), f"{r['task']}, {r['modality']}")
        for r in rows
        if r["modality"] != "video + audio"
    ]
    return (
        "<h2>What do the features know?</h2><p>Linear probes on frozen features (multinomial logistic regression; the strength "
        "of its regularization is chosen on a part of the training clips; video + audio is the late fusion of the two).</p>"
        f"{html_page.table(header, body)}<div class='grid'>{''.join(matrices)}</div>"
    )


def _confusion_png(row: dict[str, Any]) -> bytes:
    from avssl.reports.figures import new_figure

    figure = new_figure(440, 400, dpi=100)
    axes = figure.add_subplot()
    counts = np.asarray(row["confusion"], dtype=float)
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="magma", vmin=0, vmax=1)
    axes.set_xticks(range(len(row["classes"])), row["classes"], rotation=90, fontsize=7)
    axes.set_yticks(range(len(row["classes"])), row["classes"], fontsize=7)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    figure.tight_layout()
    return html_page.encode_figure(figure)


def _retrieval(results: dict[str, Any]) -> str:
    found = results["measure"]["retrieval"]
    body = []
    for direction, title in (("v2a", "video to audio"), ("a2v", "audio to video")):
        for k in (1, 5, 10):
            keys = f"{direction}_R@{k}"
            chance = found["trained"][f"chance_R@{k}"]
            body.append(
                (
                    f"{title}, R@{k}",
                    f"{found['trained'][keys]:.3f}",
                    f"{found['random-init'][keys]:.3f}",
                    f"{chance:.3f}",
                )
            )
    size = found["trained"]["gallery_size"]
    return (
        f"<h2>Which sound belongs to which picture?</h2><p>Retrieval among {size:.0f} unseen clips of one object.</p>"
        f"{html_page.table(('query', 'trained', 'random-init', 'chance'), body)}"
    )


def _costs(results: dict[str, Any]) -> str:
    body = [(name, f"{value:.1f}") for name, value in results["seconds"].items()]
    memory = ", ".join(f"{name} {value:.2f} GiB" for name, value in results["memory_gib"].items())
    settings = html.escape(json.dumps(results["pretrain"]["config"], indent=1))
    return (
        f"<h2>Cost and settings</h2>{html_page.table(('stage', 'seconds'), body)}<p class='note'>Peak memory: {memory}. "
        f"avssl {results['version']}.</p><details><summary>All settings of the run</summary><pre>{settings}</pre></details>"
    )
