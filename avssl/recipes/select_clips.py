"""``avssl select MANIFEST --checkpoint RUN --strategy NAME --budget N``: which clips to label next.

Rows with a label train a linear classifier of the frozen features; the others are ranked, first the
one whose label is worth most, and written to a CSV for the annotator.

The strategies: "random", what the others have to beat; "margin", clips whose two most probable
classes are close, and "entropy", clips whose class is uncertain (both need labels); "k-center",
which leaves no clip far from a labeled one; "typicality", the most typical clip of every large
group without a label, for small budgets; "disagreement", clips whose picture says another class
than their sound or, while there are no labels, does not match it.

``--simulate`` takes a manifest whose rows all have labels, hides them, and reports accuracy on the
test split against labels spent, for several strategies beside random.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.core.manifest import read_manifest, write_table
from avssl.downstream.labeling import (
    MODALITIES,
    FeatureSettings,
    Ranking,
    rank_rows,
    simulate,
    simulation_text,
    write_simulation,
)
from avssl.engine import choose_device
from avssl.evaluation import NEED_BOTH, STRATEGIES
from avssl.hub.pretrained import from_pretrained


def main(argv: Sequence[str]) -> int:
    """Parses the command line and ranks rows or simulates."""
    parser = new_parser("avssl select", __doc__)
    parser.add_argument("manifest", help="Rows, some with labels; with --simulate, all of them.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("--strategy", help="One of these names; with --simulate several, joined by commas, or all.")
    parser.add_argument("--budget", type=int, help="Rows to name; with --simulate, labels a round.")
    parser.add_argument(
        "-o", "--out", help="The CSV, selected.csv by default; with --simulate a folder, selection by default."
    )
    parser.add_argument("--modality", choices=list(MODALITIES), default="both", help="What classifiers look at.")
    parser.add_argument("--label_column", default="label", help="The column that holds labels.")
    parser.add_argument("--split_column", default="split", help="The column that holds splits.")
    parser.add_argument("--train_split", default="train", help="With --simulate, rows that may be labeled.")
    parser.add_argument(
        "--test_split", default="test", help="Rows never ranked nor learned from; with --simulate, scored."
    )
    parser.add_argument("--simulate", action="store_true", help="Play the annotator and compare strategies.")
    parser.add_argument("--rounds", type=int, default=8, help="Most rounds of a simulation.")
    parser.add_argument("--num_seeds", type=int, default=3, help="Simulations of each strategy.")
    parser.add_argument("--seed", type=int, default=0, help="Of draws and clusters; the first of a simulation.")
    parser.add_argument("--windows_per_clip", type=int, default=1, help="Evenly spaced windows that are averaged.")
    parser.add_argument(
        "--num_workers", type=int, default=None, help="Decoding processes; one for each core by default."
    )
    parser.add_argument("--cache", metavar="FOLDER", help="Keep features here, to be used again.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    if not options.budget or options.budget < 1:
        raise ConfigError("--budget is needed: how many labels to spend, at least 1.")
    names = _strategies(options.strategy, options.simulate, options.modality)
    out = Path(options.out or ("selection" if options.simulate else "selected.csv"))
    if out.resolve() == Path(options.manifest).resolve():
        raise ConfigError(f"{out}: would overwrite the manifest it is chosen from. Choose another -o.")
    manifest = read_manifest(options.manifest)
    pretrained = from_pretrained(options.checkpoint, choose_device(options.device))
    settings = FeatureSettings(options.modality, options.windows_per_clip, options.num_workers, options.cache)
    columns = {name: getattr(options, name) for name in ("label_column", "split_column", "test_split")}
    if not options.simulate:
        ranking = rank_rows(
            pretrained, manifest, names[0], options.budget, **columns, seed=options.seed, settings=settings
        )
        write_table(ranking.table, out)
        print(_counts(ranking))
        print(f"{options.budget} rows to label next, by {names[0]}: {out}")
        return 0
    report = simulate(
        pretrained,
        manifest,
        names,
        options.budget,
        **columns,
        train_split=options.train_split,
        rounds=options.rounds,
        seeds=range(options.seed, options.seed + options.num_seeds),
        settings=settings,
    )
    write_simulation(report, out)
    print(simulation_text(report))
    print(f"numbers and curve: {out}")
    return 0


def _strategies(given: str | None, is_simulation: bool, modality: str) -> list[str]:
    """One name, or with a simulation several; all are those that the modality allows."""
    if is_simulation and given in (None, "all"):
        return [name for name in STRATEGIES if modality == "both" or name not in NEED_BOTH]
    if not given:
        raise ConfigError(f"--strategy is needed: one of {', '.join(STRATEGIES)}.")
    names = given.split(",")
    for name in names:
        if name not in STRATEGIES:
            raise ConfigError(f"--strategy ({name!r}) must be one of {', '.join(STRATEGIES)}.")
    if len(names) > 1 and not is_simulation:
        raise ConfigError("--strategy takes one name; several are compared with --simulate.")
    return names


def _counts(ranking: Ranking) -> str:
    lines = [f"{ranking.num_rows} rows, {ranking.num_labeled} with a label, {ranking.num_classes} classes"]
    if ranking.num_test_rows:
        lines.append(f"{ranking.num_test_rows} test rows are left out")
    if ranking.num_failures:
        lines.append(f"{ranking.num_failures} rows could not be read and are left out")
    return "\n".join(lines)
