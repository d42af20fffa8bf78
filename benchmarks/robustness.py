"""Measure groups and corruptions on SoundingShapes: packaged beside random weights, and columns without effect.

    avssl synthesize robust_shapes --num-clips 360 --num-test-clips 240 --width 96 --height 96 --video-fps 8 \
        --object-weights 2 1 1 --seed 71
    python benchmarks/robustness.py robust_shapes/manifest.csv -o robust_runs      # about 15 minutes of a core
    python benchmarks/robustness.py robust_shapes/manifest.csv -o robust_runs --table FILE.md

The first call writes a manifest with permuted copies of the columns `label`, `action` and `num_objects`, and runs
`avssl robustness` for three measures and two models; finished reports are kept. A permuted column says nothing about a
clip, so its gaps are chance, and 5 % of its p-values are expected to be at most 0.05.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avssl.core.data_files import read_json
from avssl.core.manifest import read_manifest, write_table
from avssl.hub.pretrained import RANDOM, demo_weights
from avssl.recipes.robustness import robustness
from avssl.recipes.robustness.settings import Settings
from avssl.reports.figures import new_figure, save_figure
from avssl.reports.text_table import markdown_table, percent

COLUMNS = ("label", "action", "num_objects")
COPIES = 10
MEASURES = ("classification", "av_retrieval", "localization")
SHOWN = {
    ("classification", "video"): "accuracy, video",
    ("classification", "audio"): "accuracy, audio",
    ("av_retrieval", "video -> audio"): "mAP, video -> audio",
    ("localization", "pointing"): "pointing",
}
Reports = dict[tuple[str, str], dict[str, Any]]
"""(measure, "trained" or "random init") -> report."""


def with_permuted(manifest: Path) -> Path:
    """Write the manifest with permuted copies of the columns of its test rows."""
    rows = read_manifest(manifest)
    test, table, rng = np.flatnonzero(rows["split"] == "test"), rows.table, np.random.default_rng(0)
    for column in COLUMNS:
        for copy in range(COPIES):
            values = rows[column].astype(str)
            values[test] = values[rng.permutation(test)]
            table = table.append_column(f"{column}_{copy}", [values.tolist()])
    out = manifest.with_name("permuted.csv")
    write_table(table, out)
    return out


def run(manifest: Path, folder: Path) -> Reports:
    """Make the reports that are missing, and return all."""
    groups = tuple(f"{column}{copy}" for column in COLUMNS for copy in ("", *(f"_{i}" for i in range(COPIES))))
    reports: Reports = {}
    for model, checkpoint in {"trained": str(demo_weights()), "random init": f"{RANDOM}{demo_weights()}"}.items():
        for measure in MEASURES:
            out = folder / f"{measure}-{model.replace(' ', '-')}"
            if not (out / "robustness.json").exists():
                settings = Settings(
                    groups=groups, severities=(1, 3, 5), clips_per_class=10, num_workers=0, device="cpu", seed=0
                )
                robustness(manifest, checkpoint=checkpoint, measure=measure, out=out, settings=settings)
            reports[measure, model] = read_json(out / "robustness.json")
    return reports


def corruption_rows(reports: Reports) -> list[list[str]]:
    """Return a line for each number, corruption and model."""
    body = []
    for measure, number in SHOWN:
        for model in ("trained", "random init"):
            report = reports[measure, model]
            rows = [row for row in report["corruptions"]["rows"] if row["number"] == number]
            for name in dict.fromkeys(row["corruption"] for row in rows[1:]):
                of_name = [row for row in rows if row["corruption"] == name]
                drop, interval = of_name[-1]["drop"], of_name[-1]["drop_interval"]
                ends = None if interval is None else " to ".join(map(percent, interval))
                lost = "–" if ends is None else f"{percent(drop)} [{ends}]"
                body.append(
                    [
                        SHOWN[measure, number],
                        name.replace("_", " "),
                        model,
                        str(report["protocol"]["n_test"]),
                        *(percent(row["mean"]) for row in (rows[0], *of_name)),
                        percent(report["baselines"]["chance"][number]),
                        lost,
                    ]
                )
    return body


def group_rows(reports: Reports) -> list[list[str]]:
    """Return a line for each number, column and model: the gap, and p-values of permuted copies."""
    body = []
    for measure, number in SHOWN:
        for model in ("trained", "random init"):
            groups = reports[measure, model]["groups"]
            for column in COLUMNS:
                gap = groups[column]["gap"][number]
                copies = [groups[f"{column}_{i}"]["gap"][number]["test"] for i in range(COPIES)]
                found = [SHOWN[measure, number], column, model, str(len(groups[column]["groups"]))]
                found.append(f"{percent(gap['gap'])} ({gap['best']} over {gap['worst']})")
                if gap["test"] is None or None in copies:
                    body.append([*found, "–", "no test: " + groups[column]["no_test"], "–", "–"])
                    continue
                low, high = map(percent, gap["test"]["interval"])
                p = [copy["p_value"] for copy in copies]
                gaps = [groups[f"{column}_{i}"]["gap"][number]["gap"] for i in range(COPIES)]
                shown = [f"{low} to {high}", f"{gap['test']['p_value']:.4f}", percent(float(np.mean(gaps)))]
                body.append([*found, *shown, f"{np.median(p):.2f} ({min(p):.2f} to {max(p):.2f})"])
    return body


def null_p_values(reports: Reports) -> list[float]:
    """Return the p-values of all permuted columns."""
    return [
        gap["test"]["p_value"]
        for report in reports.values()
        for column, groups in report["groups"].items()
        if column not in COLUMNS
        for gap in groups["gap"].values()
        if gap["test"]
    ]


def draw(reports: Reports, path: Path) -> None:
    """Draw a panel for each number: the trained model over the severity, and the random one dotted."""
    figure = new_figure(330 * len(SHOWN), 340, dpi=90)
    for axes, ((measure, number), title) in zip(figure.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
        for model, style in (("trained", "-"), ("random init", ":")):
            rows = [r for r in reports[measure, model]["corruptions"]["rows"] if r["number"] == number]
            for i, name in enumerate(dict.fromkeys(row["corruption"] for row in rows[1:])):
                points = [row for row in rows if row["corruption"] in (name, "clean")]
                label = name.replace("_", " ") if model == "trained" else None
                at = [row["severity"] for row in points]
                axes.plot(at, [100 * row["mean"] for row in points], style, color=f"C{i}", label=label, marker=".")
        axes.axhline(100 * reports[measure, "trained"]["baselines"]["chance"][number], color="black", linestyle="--")
        axes.set_title(f"{title}, n = {reports[measure, 'trained']['protocol']['n_test']}", fontsize=9)
        axes.set_xlabel("severity (0: clean)", fontsize=8)
        axes.set_xticks([0, 1, 3, 5])
        axes.set_ylim(0, 102)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    save_figure(figure, path)


def as_markdown(reports: Reports) -> str:
    """Return the tables."""
    corrupted = ["number", "corruption", "model", "n", "clean", "1", "3", "5", "chance", "drop at 5, % of clean [95 %]"]
    grouped = ["number", "column", "model", "groups", "gap (best over worst)", "95 %", "p", "mean gap, permuted"]
    p = null_p_values(reports)
    low = float(np.mean(np.array(p) <= 0.05))
    return "\n\n".join(
        [
            "## Severities, in %",
            markdown_table(corrupted, corruption_rows(reports)),
            "## Groups, in %",
            markdown_table([*grouped, "p of 10 permuted copies: median (range)"], group_rows(reports)),
            f"All {len(p)} p-values of permuted columns: {percent(low)} % at most 0.05 (5 % expected), median "
            f"{np.median(p):.2f}, smallest {min(p):.4f}.",
        ]
    )


def main() -> None:
    """Run the reports; print the tables, or replace what follows the line `<!-- tables -->` of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("robust_runs"), help="folder of the reports")
    parser.add_argument("--table", type=Path, help="Markdown file to update, with a PNG of its name beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reports = run(with_permuted(options.manifest), options.out)
    text = as_markdown(reports)
    print(text)
    if options.table:
        mark = "<!-- tables -->"
        before = options.table.read_text().partition(mark)[0] if options.table.exists() else ""
        options.table.write_text(f"{before}{mark}\n\n{text}\n")
        draw(reports, options.table.with_suffix(".png"))


if __name__ == "__main__":
    main()
