"""A localization table as plain values, and as cells in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avssl.downstream.localization.baselines import CENTER
from avssl.downstream.localization.maps import NOISE, SHUFFLED, SILENCE
from avssl.downstream.localization.measure import LocalizationTable
from avssl.downstream.localization.scores import Numbers
from avssl.reports.text_table import percent

Cells = tuple[list[str], list[list[str]]]
"""Header and body."""

_COMPARED = (SHUFFLED, SILENCE, NOISE, CENTER)
_REJECTION_TITLES = {
    "ap_peak": "AP peak",
    "ap_top_quarter": "AP top quarter",
    "slavc_ap": "AP (SLAVC)",
    "max_f1": "max-F1",
    "loc_acc": "LocAcc",
}

_MASK_TITLES = {"miou": "mIoU", "f": "F", "f_by_video": "F, a threshold a video"}
_PROMPTED_TITLES = {"map": "mAP", "miou": "mIoU"}

SELECTION = (
    "Weights: those of the checkpoint, trained and chosen without boxes (avssl pretrain never opens a truth file). "
    "To choose among checkpoints by this table would make it a training set."
)


def as_plain(table: LocalizationTable) -> dict[str, Any]:
    """Return everything except maps and instants, for JSON."""
    names = [
        "about",
        "rows",
        "intervals",
        "differences",
        "curves",
        "rejection",
        "rejection_intervals",
        "negative_audio",
        "masks",
        "prompted",
        "duets",
    ]
    return {name: getattr(table, name) for name in names} | {"selection": SELECTION}


def conditions(table: LocalizationTable) -> list[str]:
    """Return the conditions of the numbers as sentences."""
    about = table.about
    pairs = f", {about['num_pairs']} pairs" if about["num_pairs"] else ""
    without = f", {about['n_without_source']} without" if about["n_without_source"] else ""
    left_out = ", ".join(f"{count} x {reason}" for reason, count in about["left_out"].items())
    rules = ", ".join(f"{name} (resize {rule['resize']})" for name, rule in about["rules"].items())
    window, cells = about["window"], " x ".join(map(str, about["map"]["cells"]))
    return [
        f"{about['n']} instants with a visible source{without}{pairs}, of {about['num_rows']} rows{_splits(about)}; "
        f"left out: {left_out or 'none'}.",
        f"Rules: {rules}; truth at {' x '.join(map(str, about['truth_size']))} pixels. At "
        f"{percent(about['share_from_a_quarter'])} % of the instants it fills a quarter of the frame or more, without "
        "which rules of the median cannot succeed.",
        f"Map: {cells} cells, mean of the video and its mirror image, smoothed {about['map']['smoothing']} times.",
        f"Window: {window['num_frames']} frames at {window['frames_per_second']:g} per second and "
        f"{window['audio_seconds']:g} s of audio at {window['sample_rate_hz']} Hz, around the instant.",
        f"Checkpoint {about['checkpoint']}, weights {about['weights']}; clip list {about['clip_list']}; "
        f"seed {about['seed']}. Intervals: 95 %, bootstrap over instants (IIoU, IAUC: over pairs).",
        *([_overlap(about["overlap"])] if about.get("overlap") else []),
        SELECTION,
    ]


def _overlap(overlap: Mapping[str, Any]) -> str:
    return (
        f"Trained on: {overlap['num_trained_on']} of {overlap['num_test']} test clips ({percent(overlap['share'])} %), "
        f"{len(overlap['by_name'])} by name and {len(overlap['by_content'])} by content."
    )


def _splits(about: dict[str, Any]) -> str:
    return f" ({', '.join(f'{name}: {count}' for name, count in about['splits'].items())})" if about["splits"] else ""


def score_table(table: LocalizationTable, rule: str, *, intervals: bool) -> Cells:
    """Return every row under a rule: n, pointing, cIoU (success), its mean, AUC and, with pairs, IIoU and IAUC."""
    columns = {"pointing": "pointing", **{f"{key}_{rule}": title for key, title in _score_titles(table).items()}}
    body = []
    for name, row in table.rows.items():
        shown = table.intervals[name] if intervals else {}
        cells = [percent(row[key]) + _interval(shown.get(key)) for key in columns]
        body.append([name, f"{row['n']:.0f}", *cells])
    return ["map", "n", *columns.values()], body


def difference_table(table: LocalizationTable, rule: str) -> Cells:
    """Return the differences of the trained model to itself under other audio, and to a map without audio."""
    titles = {key: title for key, title in _score_titles(table).items() if key != "ciou_mean"}
    columns = {"pointing": "pointing", **{f"{key}_{rule}": title for key, title in titles.items()}}
    body = []
    for name in _COMPARED:
        found = table.differences[name]
        cells = [_signed(found[key]["difference"]) + _interval(found[key]["interval"]) for key in columns]
        body.append([f"above {name}", *cells])
    return ["trained model", *columns.values()], body


def _score_titles(table: LocalizationTable) -> dict[str, str]:
    titles = {"ciou_success": "cIoU", "ciou_mean": "mean cIoU", "auc": "AUC"}
    return titles | ({"iiou": "IIoU", "iauc": "IAUC"} if table.about["num_pairs"] else {})


def rejection_table(table: LocalizationTable, *, intervals: bool) -> Cells:
    """Return how well confidence separates instants with a visible source from those without."""
    keys = list(next(iter(table.rejection.values())))
    body = []
    for name, row in table.rejection.items():
        shown = table.rejection_intervals[name] if intervals else {}
        body.append([name, *(percent(row[key]) + _interval(shown.get(key)) for key in keys)])
    return ["map", *map(_title, keys)], body


def negative_audio_table(table: LocalizationTable) -> Cells:
    """Return the area marked under audio that belongs to nothing in the frame."""
    titles = {"pia": "pIA", "auc_n": "AUC_N", "f_loc": "F_LOC", "f_auc": "F_AUC"}
    found = table.negative_audio["by_sound"]
    return ["trained model under", *titles.values()], [
        [name, *(percent(row[key]) for key in titles)] for name, row in found.items()
    ]


def _plain_table(rows: Mapping[str, Numbers], titles: Mapping[str, str]) -> Cells:
    body = [[name, f"{row['n']:.0f}", *(percent(row[key]) for key in titles)] for name, row in rows.items()]
    return ["map", "n", *titles.values()], body


def sections(table: LocalizationTable, *, intervals: bool) -> list[tuple[str, Cells]]:
    """Return all tables that these clips allow, with their titles."""
    found = []
    for rule in table.about["rules"]:
        found.append((f"Rule {rule}, in %", score_table(table, rule, intervals=intervals)))
        found.append((f"Does it use the audio? Rule {rule}, differences in points", difference_table(table, rule)))
    if table.rejection:
        found.append(("Is a visible source sounding? By confidence, in %", rejection_table(table, intervals=intervals)))
    about = table.negative_audio
    title = f"Marked area under negative audio, in %; one threshold ({about['threshold']:.3f}), at which its mean "
    found.append((f"{title}cIoU is {percent(about['mean_ciou'])}", negative_audio_table(table)))
    if table.masks:
        found.append(("AVSBench, maps as masks, in %", _plain_table(table.masks, _MASK_TITLES)))
    if table.prompted:
        count = int(next(iter(table.prompted.values()))["num_classes"])
        title = f"Prompted segmentation, {count} classes, thresholds chosen on this set, in %"
        found.append((title, _plain_table(table.prompted, _PROMPTED_TITLES)))
    if table.duets:
        titles = {f"ciou30_{rule}": f"CIoU@0.3 {rule}" for rule in about_rules(table)}
        titles |= {f"auc_{rule}": f"AUC {rule}" for rule in about_rules(table)} | {"cap": "CAP", "piap": "PIAP"}
        found.append(("Mixtures, each source, in %; n sources", _plain_table(table.duets, titles)))
    return found


def about_rules(table: LocalizationTable) -> list[str]:
    """Return the names of the rules of a table."""
    return list(table.about["rules"])


def _title(key: str) -> str:
    """Return the title of a key: ``AP (SLAVC) adaptive`` for ``slavc_ap_adaptive``."""
    for name, title in _REJECTION_TITLES.items():
        if key == name:
            return title
        if key.startswith(f"{name}_"):
            return f"{title} {key.removeprefix(f'{name}_')}"
    return key.replace("_", " ")


def _interval(values: Sequence[float] | None) -> str:
    return "" if values is None else f" [{', '.join(map(percent, values))}]"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"
