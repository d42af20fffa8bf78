"""The rows of ``benchmarks/recognition.py`` as Markdown tables and as a plot."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from avssl.synthetic import ACTIONS

Rows = list[dict[str, Any]]
NUM_TEST = 400
"""Clips of the test split, which is also the retrieval gallery."""
CHANCE = 1 / len(ACTIONS)
WAYS = ("pretrained", "scratch")


def tables(rows: Rows) -> str:
    """Return every Markdown table that has a row."""
    parts = [_labels(rows), _frozen(rows), _distilled(rows), _active(rows), _similarity(rows)]
    found = "\n\n".join(part for part in parts if part)
    return f"{found}\n\nn = {NUM_TEST} test clips in every table." if found else "no row yet"


def _of(rows: Rows, job: str, **wanted: Any) -> Rows:
    return [row for row in rows if row["job"] == job and all(row[name] == value for name, value in wanted.items())]


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _accuracies(rows: Rows, job: str, **wanted: Any) -> list[float]:
    return [row["accuracy"] for row in _of(rows, job, **wanted)]


def _labels(rows: Rows) -> str:
    """Return the accuracy of fine-tuning over the share of labels."""
    shares = sorted({row["value"] for row in _of(rows, "finetune")})
    if not shares:
        return ""
    lines = [
        f"| fine-tuned from | {' | '.join(f'{100 * share:g} % of labels' for share in shares)} |",
        f"| --- |{' ---: |' * len(shares)}",
    ]
    for how in WAYS:
        cells = [_cell(_accuracies(rows, "finetune", how=how, value=share)) for share in shares]
        lines.append(f"| {how} | {' | '.join(cells)} |")
    cells = [_cell(_accuracies(rows, "probe", value=share)) for share in shares]
    lines.append(f"| linear probe of frozen features | {' | '.join(cells)} |")
    lines.append(f"| chance | {' | '.join([f'{CHANCE:.3f}'] * len(shares))} |")
    few, more = (_of(rows, "finetune", how=h, value=v) for h, v in (("pretrained", 0.05), ("scratch", 0.25)))
    other = {row["seed"]: row["accuracy"] for row in more}
    pairs = [(row["accuracy"], other[row["seed"]]) for row in few if row["seed"] in other]
    if pairs:
        held = sum(a >= b for a, b in pairs)
        lines += ["", f"Pretrained with 5 % at least as good as scratch with 25 %: in {held} of {len(pairs)} seeds."]
    return "\n".join(lines)


def _frozen(rows: Rows) -> str:
    """Return linear probes beside the supervised model, and the gain from audio."""
    made = _of(rows, "pretrain")
    if not made:
        return ""
    names = ("probe_video", "probe_audio", "probe_both", "R@10")
    lines = ["| frozen features | video | audio | video + audio | R@10 |", "| --- | ---: | ---: | ---: | ---: |"]
    for title, prefix in (("pretrained", ""), ("random-init", "random_")):
        cells = [_cell([row[prefix + name] for row in made]) for name in names]
        lines.append(f"| linear probe, {title} | {' | '.join(cells)} |")
    lines.append(f"| chance | {' | '.join([f'{CHANCE:.3f}'] * 3)} | {10 / NUM_TEST:.3f} |")
    supervised = _accuracies(rows, "finetune", how="scratch", value=1.0)
    if supervised:
        lines.append(f"| supervised: from scratch on all labels | {_cell(supervised)} | | | |")
        ratio = statistics.mean(row["probe_video"] for row in made) / statistics.mean(supervised)
        lines += ["", f"Linear probe / supervised model, video: {ratio:.2f} (target: at least 0.9)."]
    better = sum(row["probe_both"] >= max(row["probe_video"], row["probe_audio"]) for row in made)
    lines += ["", f"Video + audio at least as good as the better of the two: in {better} of {len(made)} seeds."]
    return "\n".join(lines)


def _distilled(rows: Rows) -> str:
    made = _of(rows, "distill")
    if not made:
        return ""
    teachers = _of(rows, "finetune", how="pretrained", value=1.0)
    lines = ["| model | parameters | accuracy |", "| --- | ---: | ---: |"]
    for title, group in (
        ("teacher: pretrained, fine-tuned on all labels", teachers),
        ("student, distilled on unlabeled clips", _of(rows, "distill", how="taught")),
        ("the same network on the labels alone", _of(rows, "distill", how="labels")),
    ):
        if group:
            accuracies = [row["accuracy"] for row in group]
            lines.append(f"| {title} | {group[0]['parameters']} | {_cell(accuracies)} |")
    taught = {row["seed"]: row["accuracy"] for row in _of(rows, "distill", how="taught")}
    gaps = [row["accuracy"] - taught[row["seed"]] for row in teachers if row["seed"] in taught]
    if gaps:
        share = made[0]["parameters"] / teachers[0]["parameters"]
        lines += [
            "",
            f"The student has {share:.2f} of the parameters and is {100 * statistics.mean(gaps):.1f} points below its "
            f"teacher (seed by seed: {', '.join(f'{100 * gap:.1f}' for gap in gaps)}).",
        ]
    return "\n".join(lines)


def _active(rows: Rows) -> str:
    made = _of(rows, "active")
    if not made:
        return ""
    counts = made[0]["labels"]
    shown = [i for i in (0, 1, 3, 6, len(counts) - 1) if i < len(counts)]
    lines = [
        f"| labels chosen by | {' | '.join(str(counts[i]) for i in shown)} | mean of all rounds |",
        f"| --- |{' ---: |' * (len(shown) + 1)}",
    ]
    base = {row["seed"]: row["mean_accuracy"] for row in _of(rows, "active", how="random")}
    for how in dict.fromkeys(row["how"] for row in made):
        group = _of(rows, "active", how=how)
        cells = [_cell([row["accuracies"][i] for row in group]) for i in shown]
        wins = sum(row["mean_accuracy"] > base.get(row["seed"], 1.0) for row in group)
        beside = "" if how == "random" else f" (above random in {wins} of {len(group)})"
        lines.append(f"| {how} | {' | '.join(cells)} | {_cell([row['mean_accuracy'] for row in group])}{beside} |")
    return "\n".join(lines)


def _similarity(rows: Rows) -> str:
    made = _of(rows, "similarity")
    if not made:
        return ""
    names = ("video_linear", "video_rbf", "audio_linear", "audio_rbf")
    chance = {name: 1 / made[0][f"{name.split('_')[0]}_stages"] for name in names}
    lines = [
        "| corresponding stages most alike in | video, linear | video, RBF | audio, linear | audio, RBF |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for how in ("pretrained", "untrained"):
        group = _of(rows, "similarity", how=how)
        if group:
            cells = [_cell([row[name] for row in group]) for name in names]
            lines.append(f"| two seeds, {how} | {' | '.join(cells)} |")
    lines.append(f"| chance | {' | '.join(f'{chance[name]:.3f}' for name in names)} |")
    return "\n".join(lines)


def draw(rows: Rows, file: Path) -> None:
    """Plot accuracy over the share of labels, every seed as a dot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    curves = {
        "pretrained, fine-tuned": _of(rows, "finetune", how="pretrained"),
        "pretrained, linear probe": _of(rows, "probe"),
        "from scratch": _of(rows, "finetune", how="scratch"),
    }
    for (title, made), color in zip(curves.items(), ("tab:blue", "tab:green", "tab:orange"), strict=True):
        shares = sorted({row["value"] for row in made})
        means = [statistics.mean(row["accuracy"] for row in made if row["value"] == share) for share in shares]
        axes.plot([100 * share for share in shares], means, color=color, label=title)
        axes.scatter([100 * row["value"] for row in made], [row["accuracy"] for row in made], s=12, color=color)
    axes.axhline(CHANCE, color="gray", ls=":", lw=1, label="chance")
    axes.set(xscale="log", xlabel="labels used, %", ylabel="accuracy on unseen clips", ylim=(0, 1))
    ticks = sorted({100 * row["value"] for row in _of(rows, "finetune")})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file)
