"""Print the table of docs/results_demo.md from finished demos: one column per seed, every number beside its baselines.

for seed in 0 1 2; do avssl demo demo_$seed --seed $seed; done
python benchmarks/demo_table.py demo_0 demo_1 demo_2
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAPS = (
    "trained model",
    "shuffled audio",
    "random-init model",
    "random object",
    "center blob",
    "whole frame",
    "random map",
)
SCORES = {
    ("several", "pointing"): "pointing, 2–3 objects",
    ("several", "ciou_success_adaptive"): "cIoU success (adaptive), 2–3 objects",
    ("several", "ciou_success_ezvsl"): "cIoU success (median), 2–3 objects",
    ("several", "auc_adaptive"): "AUC (adaptive), 2–3 objects",
    ("pairs", "iiou_adaptive"): "interactive IIoU (adaptive)",
}


def main(folders: list[str]) -> None:
    if not folders:
        raise SystemExit(__doc__)
    runs = [json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8")) for folder in folders]
    seeds = [str(run["settings"]["seed"]) for run in runs]
    print("| measure | row | " + " | ".join(f"seed {seed}" for seed in seeds) + " | n |")
    print("| --- | --- |" + " ---: |" * (len(runs) + 1))
    for (split, score), title in SCORES.items():
        for name in MAPS:
            row(
                runs,
                title,
                name,
                lambda run, s=split, n=name, k=score: run["measure"]["localization"][s]["rows"][n][k],
                _n(runs[0], split, score),
            )
    for i, probe in enumerate(runs[0]["measure"]["probes"]):
        title = f"probe: {probe['task']}, {probe['modality']}"
        for key in ("trained", "random-init", "majority", "chance"):
            row(runs, title, key, lambda run, i=i, k=key: run["measure"]["probes"][i][k], probe["n_test"])
    for direction in ("v2a", "a2v"):
        gallery = runs[0]["measure"]["retrieval"]["trained"]["gallery_size"]
        for name in ("trained", "random-init"):
            row(
                runs,
                f"R@10, {direction}",
                name,
                lambda run, d=direction, n=name: run["measure"]["retrieval"][n][f"{d}_R@10"],
                gallery,
            )
        row(
            runs,
            f"R@10, {direction}",
            "chance",
            lambda run: run["measure"]["retrieval"]["trained"]["chance_R@10"],
            gallery,
        )
    row(runs, "minutes in all", "", lambda run: run["seconds"]["total"] / 60, "", "{:.1f}")
    row(runs, "peak memory of a process, GiB", "", lambda run: max(run["memory_gib"].values()), "", "{:.2f}")


def _n(run: dict[str, Any], split: str, score: str) -> float:
    """Return the number of clips, or of pairs for the interactive scores."""
    return run["measure"]["localization"][split]["rows"]["trained model"][
        "num_groups" if score.startswith("i") else "n"
    ]


def row(
    runs: list[dict[str, Any]],
    title: str,
    name: str,
    value: Callable[[dict[str, Any]], float],
    n: Any,
    form: str = "{:.3f}",
) -> None:
    """Print one line of the table."""
    count = f"{n:.0f}" if n != "" else ""
    print(f"| {title} | {name} | " + " | ".join(form.format(value(run)) for run in runs) + f" | {count} |")


if __name__ == "__main__":
    main(sys.argv[1:])
