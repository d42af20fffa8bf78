"""The verb ``select``: active learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from avssl.core.errors import ConfigError
from avssl.core.manifest import read_manifest
from avssl.core.output_records import Command, place
from avssl.core.outputs import FolderKind, claimed_file, claimed_folder
from avssl.core.ranges import Count, Seed, Workers, checked
from avssl.core.tables import write_table
from avssl.downstream.labeling import FeatureSettings, Ranking, rank_rows, simulation_text, write_simulation
from avssl.downstream.labeling import simulate as run_simulation
from avssl.engine import choose_device
from avssl.evaluation import NEED_BOTH, STRATEGIES
from avssl.hub.pretrained import from_pretrained

_SIMULATION = FolderKind("a simulation", ("curve.json", "curve.csv", "curve.png"))
FIRST = (
    "checkpoint",
    "strategy",
    "budget",
    "out",
    "overwrite",
    "modality",
    "label_column",
    "simulate",
    "rounds",
    "num_seeds",
    "device",
)


@checked
def select(
    manifest: Path | str,
    *,
    checkpoint: Path | str,
    budget: Count,
    strategy: Sequence[str] = (),
    out: Path | str | None = None,
    overwrite: bool = False,
    modality: Literal["both", "video", "audio"] = "both",
    label_column: str = "label",
    split_column: str = "split",
    train_split: str = "train",
    test_split: str = "test",
    simulate: bool = False,
    rounds: Count = 8,
    num_seeds: Count = 3,
    seed: Seed = 0,
    windows_per_clip: Count = 1,
    num_workers: Workers | None = None,
    cache_folder: Path | str | None = None,
    device: str = "auto",
) -> None:
    """Active learning: rank unlabeled clips for annotation, or simulate strategies.

    A linear classifier of frozen features is trained on the rows with a label. The other rows are ranked, the most
    useful first, and written to a CSV for the annotator. The strategies are:

    - "random": the baseline;
    - "margin": clips whose two most probable classes are close (needs labels);
    - "entropy": clips whose class is uncertain (needs labels);
    - "k-center": leaves no clip far from a labeled one;
    - "typicality": the most typical clip of every large cluster without a label, for small budgets;
    - "disagreement": clips whose frames and audio predict different classes or, without labels, do not match.

    ``--simulate`` takes a manifest whose rows all have labels, hides them, and reports the accuracy on the test split
    against the number of labels, for several strategies beside random.

    Args:
        manifest: Rows, some with labels; with ``--simulate``, all of them.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        budget: Rows to select; with ``--simulate``, labels per round.
        strategy: Name of a strategy; with ``--simulate`` several, default: all.
        out: CSV to write, default: selected.csv; with ``--simulate`` a folder, default: selection.
        overwrite: Replace what another command or program made.
        modality: Input of the classifier.
        label_column: Column of the labels.
        split_column: Column of the splits.
        train_split: Rows that may be labeled, with ``--simulate``.
        test_split: Rows that are never selected nor trained on; with ``--simulate``, the test set.
        simulate: Simulate the annotator and compare strategies.
        rounds: Largest number of rounds of a simulation.
        num_seeds: Simulations per strategy.
        seed: Random seed of sampling and clustering; that of the first simulation.
        windows_per_clip: Evenly spaced windows whose features are averaged.
        num_workers: Decoding processes; default: one per core.
        cache_folder: Folder where features are kept for later runs.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.

    Raises:
        ConfigError: If a strategy is missing or unknown.
        OutputError: If another command or program made ``out``, it is the manifest, or another process writes it.
        ManifestError: If a column, a split or the labels are missing.
        HubError: If there is no model at ``checkpoint``.
    """
    names = _strategies(strategy, simulate, modality)
    out = Path(out or ("selection" if simulate else "selected.csv"))
    about = {"strategies": names, "budget": budget, "modality": modality, "seed": seed, "rounds": rounds}
    places = {"manifest": place(manifest), "checkpoint": place(checkpoint)}
    command = Command.of("select", **places, **about, simulate=simulate, num_seeds=num_seeds)
    settings = FeatureSettings(modality, windows_per_clip, num_workers, cache_folder)
    columns = {"label_column": label_column, "split_column": split_column, "test_split": test_split}
    reads = (manifest, checkpoint)
    if not simulate:
        with claimed_file(out, command, overwrite=overwrite, reads=reads):
            rows, pretrained = read_manifest(manifest), from_pretrained(checkpoint, choose_device(device))
            ranking = rank_rows(pretrained, rows, names[0], budget, **columns, seed=seed, settings=settings)
            write_table(ranking.table, out)
        print(_counts(ranking))
        print(f"{budget} rows to label next, by {names[0]}: {out}")
        return
    with claimed_folder(out, command, _SIMULATION, overwrite=overwrite, reads=reads) as claim:
        claim.adopt()
        report = run_simulation(
            from_pretrained(checkpoint, choose_device(device)),
            read_manifest(manifest),
            names,
            budget,
            **columns,
            train_split=train_split,
            rounds=rounds,
            seeds=range(seed, seed + num_seeds),
            settings=settings,
        )
        write_simulation(report, out)
    print(simulation_text(report))
    print(f"numbers and curve: {out}")


def _strategies(given: Sequence[str], is_simulation: bool, modality: str) -> list[str]:
    """Return the strategies to run; ``all`` means all that the modality allows."""
    if is_simulation and (not given or list(given) == ["all"]):
        return [name for name in STRATEGIES if modality == "both" or name not in NEED_BOTH]
    if not given:
        raise ConfigError(f"--strategy is required: one of {', '.join(STRATEGIES)}.")
    for name in given:
        if name not in STRATEGIES:
            raise ConfigError(f"--strategy ({name!r}) must be one of {', '.join(STRATEGIES)}.")
    if len(given) > 1 and not is_simulation:
        raise ConfigError("--strategy takes one name; several are compared with --simulate.")
    return list(given)


def _counts(ranking: Ranking) -> str:
    lines = [f"{ranking.num_rows} rows, {ranking.num_labeled} with a label, {ranking.num_classes} classes"]
    if ranking.num_test_rows:
        lines.append(f"{ranking.num_test_rows} test rows are left out")
    if ranking.num_failures:
        lines.append(f"{ranking.num_failures} rows could not be read and are left out")
    return "\n".join(lines)
