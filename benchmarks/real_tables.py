"""Markdown tables of `benchmarks/real.py`, every number with its baselines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from localization_tables import spread
from real_stamps import POOLS

Rows = list[dict[str, Any]]

BASELINES = "baselines"
LAST = ("random-init", "whole frame: random-init", BASELINES)
"""Methods at the end of a table."""
PRIORS = {"object_": "random object", "center_": "center blob", "mean_": "mean of other clips' truths"}
MAPS = {
    "pointing": "pointing",
    "ciou": "cIoU",
    "swapped_ciou": "cIoU, other audio",
    "iiou": "IIoU",
    "swapped_iiou": "IIoU, other audio",
    "ap_off_screen": "AP, off screen",
    "ap_silent": "AP, silent",
}
RECOGNIZED = {"object_video": "object, video", "object_audio": "object, audio", "R@10": "R@10"}
RETRIEVED = {
    "pooled_R@10": "R@10, pooled",
    "pooled_R@10_shuffled": "other audio",
    "moments_R@1": "R@1, moments",
    "moments_R@10": "R@10, moments",
    "moments_shuffled_R@10": "other audio",
}
WORDS = ("digit", "letter", "color")


def tables(rows: Rows) -> str:
    """Return all tables of the measurements so far."""
    of_stamps = by_method([row for row in rows if row["world"] == "stamps"])
    of_grid = by_method([row for row in rows if row["world"] == "grid"])
    parts = []
    if of_stamps:
        parts += [pointing_table(of_stamps), *(maps_table(of_stamps, pool) for pool in ("test", "unseen"))]
        parts.append(recognition_table(of_stamps))
    if of_grid:
        parts += [retrieval_table(of_grid), sync_table(of_grid), words_table(of_grid), lips_table(of_grid)]
    return "\n\n".join(part for part in parts if part) or "nothing is measured yet"


def pointing_table(found: dict[str, Rows]) -> str:
    """Return pointing by pool, each beside that of another clip's audio."""
    titles = [f"{title} (other audio)" for title in POOLS.values()]
    lines = header(["pointing, 2 or 3 objects", "epochs", "seeds", *titles])
    for method, rows in models(found):
        cells = [f"{mean(rows, 'pools', p, 'pointing')} ({mean(rows, 'pools', p, 'swapped_pointing')})" for p in POOLS]
        lines.append(line([method, rows[0]["epochs"], len(rows), *cells]))
    priors = found.get(BASELINES, [])
    for prefix, title in PRIORS.items() if priors else []:
        lines.append(line([title, "", len(priors), *(mean(priors, "pools", p, f"{prefix}pointing") for p in POOLS)]))
    counts = [str(next(iter(found.values()))[0]["pools"][pool]["n"]) for pool in POOLS]
    return "\n".join([*lines, "", f"n = {', '.join(counts)} clips."])


def maps_table(found: dict[str, Rows], pool: str) -> str:
    """Return the other scores of maps on a pool."""
    lines = header([POOLS[pool], "seeds", *MAPS.values()])
    for method, rows in models(found):
        lines.append(line([method, len(rows), *(mean(rows, "pools", pool, name) for name in MAPS)]))
    priors = found.get(BASELINES, [])
    for prefix, title in PRIORS.items() if priors else []:
        cells = [mean(priors, "pools", pool, f"{prefix}{name}") for name in MAPS]
        lines.append(line([title, len(priors), *cells]))
    if priors:
        first = priors[0]["pools"][pool]
        chance = [f"{first[f'chance_ap_{name}']:.3f}" for name in ("off_screen", "silent")]
        lines.append(line(["random confidence", "", *[""] * 5, *chance]))
        negatives = f"{first['n_off_screen']} clips with a sound from off screen and {first['n_silent']} silent ones"
        lines += ["", f"n = {first['n']} clips, {first['n_pairs']} pairs; AP against {negatives}."]
    return "\n".join(lines)


def recognition_table(found: dict[str, Rows]) -> str:
    """Return object probes and retrieval on clips of one object."""
    titles = [f"{title}, {pool}" for pool in POOLS.values() for title in RECOGNIZED.values()]
    lines = header(["one object", "seeds", *titles])
    for method, rows in models(found):
        cells = [mean(rows, "pools", pool, name) for pool in POOLS for name in RECOGNIZED]
        lines.append(line([method, len(rows), *cells]))
    pools = next((rows[0]["pools"] for _, rows in models(found)), {})
    cells = [f"{of[name]:.3f}" for of in pools.values() for name in ("object_chance", "object_chance", "R@10_chance")]
    lines.append(line(["chance", "", *cells]))
    counts = [f"{of['n_single']} of {of['kinds']} classes" for of in pools.values()]
    return "\n".join([*lines, "", f"n = {', '.join(counts)}."])


def retrieval_table(found: dict[str, Rows]) -> str:
    """Return retrieval among the test sentences of GRID, by embeddings of windows and by those of moments."""
    lines = header(["lips and voice", "epochs", "seeds", *RETRIEVED.values()])
    for method, rows in models(found):
        lines.append(line([method, rows[0]["epochs"], len(rows), *(mean(rows, name) for name in RETRIEVED)]))
    first = next(iter(found.values()))[0]
    few, many = f"{1 / first['n_test']:.3f}", f"{first['pooled_R@10_chance']:.3f}"
    lines.append(line(["chance", "", "", many, many, few, many, many]))
    return "\n".join([*lines, "", f"n = {first['n_test']} sentences; means of both directions."])


def sync_table(found: dict[str, Rows]) -> str:
    """Return how far the offset of lowest energy is from the true one."""
    titles = ["seeds", "median error, s", "within 0.1 s", "decided", "within 0.1 s, another clip's audio"]
    lines = header(["audio moved by up to 1 s", *titles])
    for method, rows in models(found):
        own = [mean(rows, "sync", "own", name) for name in ("median_error_seconds", "within", "decided")]
        lines.append(line([method, len(rows), *own, mean(rows, "sync", "shuffled", "within")]))
    sync = next(iter(found.values()))[0]["sync"]
    lines += [line([name, "", "", f"{sync[name]:.3f}", "", ""]) for name in ("chance", "no offset")]
    return "\n".join([*lines, "", f"n = {sync['n']} clips of two sentences."])


def words_table(found: dict[str, Rows]) -> str:
    """Return the probes of words from lips and voice."""
    lines = header(["from lips alone / from voice alone", "seeds", *WORDS])
    for method, rows in models(found):
        cells = [f"{mean(rows, f'{word}_video')} / {mean(rows, f'{word}_audio')}" for word in WORDS]
        lines.append(line([method, len(rows), *cells]))
    first = next(iter(found.values()))[0]
    lines.append(line(["chance", "", *(f"{first[f'{word}_chance']:.3f}" for word in WORDS)]))
    return "\n".join([*lines, "", f"n = {first['n_test']} sentences; probes are fitted on {first['n_train']}."])


def lips_table(found: dict[str, Rows]) -> str:
    """Return how often the peak of a map of the whole frame lies in the box of the lips."""
    lines = header(["peak in the box of the lips", "seeds", "own audio", "another clip's", "silence"])
    seen = [rows for rows in found.values() if "on_lips" in rows[0]]
    for rows in seen:
        cells = [mean(rows, f"{prefix}on_lips") for prefix in ("", "shuffled_", "silent_")]
        lines.append(line([rows[0]["method"], len(rows), *cells]))
    if not seen:
        return ""
    first = seen[0][0]
    lines += [line([name, "", f"{first[f'{name}_on_lips']:.3f}", "", ""]) for name in ("chance", "center")]
    return "\n".join([*lines, "", f"n = {first['n_test']} sentences, one instant each."])


def by_method(rows: Rows) -> dict[str, Rows]:
    """Return rows by method, the baselines last."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    order = [name for name in names if name not in LAST] + [name for name in LAST if name in names]
    return {name: [row for row in rows if row["method"] == name] for name in order}


def models(found: dict[str, Rows]) -> Iterable[tuple[str, Rows]]:
    """Return the rows of models."""
    return ((name, rows) for name, rows in found.items() if name != BASELINES)


def mean(rows: Rows, *keys: str) -> str:
    """Return the mean of a number over rows, with the deviation of several; nothing if they lack it."""
    values = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value.get(key) if value else None
        values.append(value)
    return "" if None in values else spread(values)


def header(titles: list[str]) -> list[str]:
    """Return the head of a table; numbers are on the right."""
    return [line(titles), f"| --- |{' ---: |' * (len(titles) - 1)}"]


def line(cells: Iterable[Any]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, cells))} |"
