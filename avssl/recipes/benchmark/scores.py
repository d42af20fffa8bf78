"""Scores of a cell, taken from the file of numbers that the verb wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avssl.core.data_files import read_json
from avssl.downstream.localization.baselines import CENTER, RANDOM
from avssl.downstream.localization.maps import SHUFFLED, TRAINED
from avssl.downstream.probing import MULTI_LABEL_PROTOCOLS, PROTOCOLS
from avssl.downstream.robustness.disturbances import CLEAN
from avssl.recipes.benchmark import protocols


@dataclass(frozen=True)
class Score:
    """One number of a cell."""

    measure: str
    """Name of the number, such as "accuracy, video"."""
    value: float
    n: int
    """Clips or instants that it was measured on; of one split or fold where there are several."""
    clip_list: str
    """Hash of the list of clips."""
    interval: tuple[float, float] | None = None
    """95 % interval."""
    sd: float | None = None
    """Standard deviation over splits or folds."""
    baselines: dict[str, float] = field(default_factory=dict)
    """Numbers that the verb prints beside it, "chance" first where there is one."""
    is_headline: bool = True
    """Stands in the tables; all numbers are in the JSON file."""

    def plain(self) -> dict[str, Any]:
        """Return the score for JSON."""
        return dict(vars(self))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Score:
        """Return the score of :meth:`plain`."""
        interval = plain["interval"]
        return cls(**{**plain, "interval": None if interval is None else tuple(interval)})


def read_scores(protocol: str, path: Path, seed: int) -> list[Score]:
    """Return the scores in a verb's file of numbers."""
    verb = protocols.PROTOCOLS[protocol].verb.name
    return _READERS[verb](read_json(path), path, protocol, seed)


# ---------------------------------------------------------------- probe


def _probe_scores(report: Mapping[str, Any], path: Path, protocol: str, seed: int) -> list[Score]:
    about, rows = report["protocol"], report["rows"]
    headline = PROTOCOLS[protocol].headline
    if headline not in rows[0]:
        headline = MULTI_LABEL_PROTOCOLS[protocol].headline
    measured = [row for row in rows if row["model"] == "trained"]
    scores = []
    for row in measured:
        several = "best_layer" in row
        layers = [row["layer"]] if several else []
        for title in [*layers, *["best stage"] * row.get("best_layer", not several)]:
            baselines = {
                other["model"]: other[headline]
                for other in reversed(rows)
                if other["model"] != "trained" and _is_beside(other, row, title)
            }
            names = [_TITLES.get(headline, headline), row["modality"], *([title] if several else [])]
            scores.append(
                Score(
                    ", ".join(names),
                    row[headline],
                    about["n_test"],
                    about["clip_list"],
                    row.get("interval"),
                    row.get(f"{headline}_sd"),
                    baselines,
                    title == "best stage",
                )
            )
    return scores


def _is_beside(other: Mapping[str, Any], row: Mapping[str, Any], title: str) -> bool:
    """Return True for the baseline of a row: of its modality and layer, or of the labels alone."""
    if other["modality"] not in ("", row["modality"]):
        return False
    if "layer" not in other:
        return True
    return other.get("best_layer", True) if title == "best stage" else other["layer"] == row["layer"]


# ---------------------------------------------------------------- finetune


def _finetune_scores(report: Mapping[str, Any], path: Path, protocol: str, seed: int) -> list[Score]:
    about, folds, mean = report["protocol"], report["folds"], report["mean"]
    headline = next(iter(mean))
    baselines = {name: mean[name] for name in ("chance", "largest_class") if name in mean}
    n, inputs = folds[0]["n_test"], about["inputs"].replace("both", "video + audio")
    return [
        Score(
            f"{_TITLES.get(headline, headline)}, {inputs}",
            mean[headline],
            n,
            about["clip_list"],
            folds[0].get("top1_interval") if len(folds) == 1 else None,
            report["sd"][headline],
            {name.replace("_", " "): value for name, value in baselines.items()},
        )
    ]


# ---------------------------------------------------------------- robustness, localization


def _robustness_scores(report: Mapping[str, Any], path: Path, protocol: str, seed: int) -> list[Score]:
    about, n = report["protocol"], report["protocol"]["n_test"]
    fused = report["rows"][-1]["modality"]
    baselines = {"chance": about["chance"], "largest class": about["largest_class"]}
    return [
        Score(
            f"accuracy, {row['modality']}, {row['disturbance']}",
            row["accuracy"],
            n,
            about["clip_list"],
            row.get("accuracy_interval"),
            None,
            baselines,
            row["modality"] == fused and (row["reached"] or row["disturbance"] == CLEAN),
        )
        for row in report["rows"]
        if row["reached"]
    ]


def _localization_scores(report: Mapping[str, Any], path: Path, protocol: str, seed: int) -> list[Score]:
    about, rows = report["about"], report["rows"]
    intervals = report["intervals"][TRAINED]
    scores = []
    for name, interval in intervals.items():
        others = {"chance": RANDOM, "center": CENTER, "shuffled audio": SHUFFLED}
        baselines = {title: rows[other][name] for title, other in others.items() if other in rows}
        n = about["num_pairs"] if name.startswith(("iiou", "iauc")) else about["n"]
        title = name.replace("ciou_success", "cIoU").replace("iiou", "IIoU").replace("iauc", "IAUC")
        scores.append(
            Score(
                title.replace("auc", "AUC").replace("_", " "),
                rows[TRAINED][name],
                n,
                about["clip_list"],
                interval,
                None,
                baselines,
            )
        )
    return scores


def _sync_scores(report: Mapping[str, Any], path: Path, protocol: str, seed: int) -> list[Score]:
    about, (own, shuffled) = report["about"], report["rows"]
    within, n, clip_list = f"offset within {about['tolerance_seconds']:g} s", about["n"], about["clip_list"]
    baselines = {**report["baselines"], "shuffled audio": shuffled["within"]}
    false = {"shuffled audio": shuffled["decided"]}
    return [
        Score(within, own["within"], n, clip_list, own["interval"], None, baselines),
        Score("offset decided", own["decided"], n, clip_list, own["decided_interval"], None, false),
    ]


_TITLES = {"top1": "accuracy"}
_Reader = Callable[[Mapping[str, Any], Path, str, int], list[Score]]
_READERS: dict[str, _Reader] = {
    "probe": _probe_scores,
    "finetune": _finetune_scores,
    "robustness": _robustness_scores,
    "localize-eval": _localization_scores,
    "sync-eval": _sync_scores,
}
"""Reader of a verb's numbers."""
