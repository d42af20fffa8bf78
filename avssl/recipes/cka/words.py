"""The report of a comparison as text."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from avssl.features.stage_reader import MODALITIES, Stage, places_of


def in_words(report: Mapping[str, Any]) -> str:
    """Return the protocol, the sanity check as a table, and the blocks."""
    about = report["protocol"]
    batches = f"{about['num_clips']} clips in {about['num_batches']} batches of {about['batch_size']}"
    lines = [f"unbiased CKA over {batches}; RBF bandwidth {about['rbf_bandwidth']}"]
    if about["not_used"]:
        lines.append(
            f"{about['not_used']} rows are left out: one of the runs cannot read them, or they are too few for a batch"
        )
    lines += [f"{name}: {source_of(report, name)}" for name in ("A", "B")]
    averaged = [s for s in report["stages"] if s["shape"] != s["kept"]]
    if averaged:
        lines.append(
            f"{len(averaged)} of {len(report['stages'])} stages are maps averaged over a grid (--max-features); "
            "cka.json has their shapes"
        )
    parts = [lines, _sanity_in_words(report), _pairs_in_words(report), _blocks_in_words(report)]
    if "svcca" in report:
        parts.append(_svcca_in_words(report))
    parts += [_deletions_in_words(run) for run in report.get("deletions", ())]
    return "\n\n".join("\n".join(part) for part in parts)


def _sanity_in_words(report: Mapping[str, Any]) -> list[str]:
    lines = ["sanity check: stages whose most similar stage of the other run is their counterpart, in percent"]
    if report["sanity_check"]:
        lines.append(f"{'modality':<10}{'kernel':<8}{'stages':>7}{'A to B':>8}{'B to A':>8}{'chance':>8}")
    for check in report["sanity_check"]:
        shares = "".join(f"{100 * check[name]:>8.0f}" for name in ("a_to_b", "b_to_a", "chance"))
        lines.append(f"{check['modality']:<10}{check['kernel']:<8}{check['stages']:>7}{shares}")
    for modality in MODALITIES:
        if modality not in {check["modality"] for check in report["sanity_check"]}:
            lines.append(f"{modality:<10}not measured: the two encoders have different stages")
    return lines


def _pairs_in_words(report: Mapping[str, Any]) -> list[str]:
    """Return the most similar stages of video and audio in each run."""
    stages = [Stage(s["model"], s["modality"], s["name"]) for s in report["stages"]]
    linear = np.array(report["cka"]["linear"], dtype=float)
    lines = ["most similar stages of video and audio, linear"]
    for model in ("A", "B"):
        video, audio = (places_of(stages, model, modality) for modality in MODALITIES)
        across = np.nan_to_num(linear[np.ix_(video, audio)], nan=-1)
        i, j = np.unravel_index(across.argmax(), across.shape)
        lines.append(f"  {model}: video {stages[video[i]].name}, audio {stages[audio[j]].name}: {across[i, j]:.2f}")
    return lines


def _blocks_in_words(report: Mapping[str, Any]) -> list[str]:
    threshold = report["protocol"]["block_threshold"]
    lines = [f"block structure: three or more consecutive stages, linear CKA of any two at least {threshold:g}"]
    for model, modality in product(("A", "B"), MODALITIES):
        blocks = [b for b in report["blocks"] if (b["model"], b["modality"]) == (model, modality)]
        spans = [f"{b['first']} to {b['last']} (at least {b['least_cka']:.2f})" for b in blocks]
        lines.append(f"  {model} {modality}: {'; '.join(spans) or 'none'}")
    return lines


def _svcca_in_words(report: Mapping[str, Any]) -> list[str]:
    """Return the mean SVCCA of different stages of one encoder, and of counterparts, beside shuffled clips."""
    about = report["svcca"]
    found, control = (np.array(about[name], dtype=float) for name in ("matrix", "shuffled_clips"))
    stages = [Stage(s["model"], s["modality"], s["name"]) for s in report["stages"]]
    pairs: dict[str, list[tuple[int, int]]] = {"stages of one encoder": [], "counterparts in A and B": []}
    for (i, a), (j, b) in product(enumerate(stages), repeat=2):
        if i < j and (a.model, a.modality) == (b.model, b.modality):
            pairs["stages of one encoder"].append((i, j))
        elif (a.model, b.model) == ("A", "B") and (a.modality, a.name) == (b.modality, b.name):
            pairs["counterparts in A and B"].append((i, j))
    lines = [f"SVCCA of channel means, {100 * about['variance']:g} % of the variance; beside it, with shuffled clips"]
    for name, places in pairs.items():
        values = [(found[at], control[at]) for at in places if found[at] == found[at]]
        if values:
            own, chance = np.mean(values, axis=0)
            lines.append(f"  {name}: {own:.2f} (shuffled {chance:.2f}), mean of {len(values)} pairs")
    if left_out := int(np.isnan(found).sum()):
        lines.append(
            f"  {left_out} of {found.size} pairs need more clips than these: together fewer directions than clips"
        )
    return lines


def _deletions_in_words(run: Mapping[str, Any]) -> list[str]:
    """Return the scores without each block of a run, and their mean changes inside and outside of its found blocks."""
    whole, chance = run["whole"], run["chance"]
    lines = [
        f"{run['model']}: one residual block deleted at a time, {run['num_clips']} clips: R@10 between video and audio "
        f"(whole network {whole['R@10']:.3f}, chance {chance['R@10']:.3f}, shuffled audio {run['shuffled_R@10']:.3f}),",
        f"and the share of a clip's ten nearest clips that stay (chance {chance['neighbors']:.3f})",
        f"  {'modality':<10}{'block':<14}{'structure':<11}{'R@10':>7}{'neighbors':>11}",
    ]
    for block in run["blocks"]:
        numbers = f"{block['R@10']:>7.3f}{block['neighbors']:>11.3f}"
        lines.append(f"  {block['modality']:<10}{block['block']:<14}{_side(block['inside']):<11}{numbers}")
    for effect in run["effects"]:
        if effect["num_blocks"]:
            change = f"R@10 {effect['change']['R@10']:+.3f}, neighbors {effect['change']['neighbors']:+.3f}"
            count = f"{effect['num_blocks']} of {effect['modality']}"
            lines.append(f"  mean change {effect['side']} of block structure ({count}): {change}")
    return lines if run["blocks"] else [f"{run['model']}: no residual block can be deleted"]


def _side(inside: bool) -> str:
    return "inside" if inside else "outside"


def source_of(report: Mapping[str, Any], name: str) -> str:
    """Return the source of run A or B."""
    return str(report["protocol"]["runs"][name]["source"])
