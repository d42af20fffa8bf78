"""``avssl localize-eval MANIFEST --checkpoint RUN``: does the heat map lie on what sounds, and does it listen?

Scores the maps of a model on rows with truth: boxes or masks of a benchmark (manifests of datasets/vggss.py,
flickr_soundnet.py, is3.py, avsbench.py), or a SoundingShapes corpus. Every number stands beside those of the
same model under silence, noise and another clip's sound, an untrained model, the picture alone, a center blob,
the mean truth of other clips, a random map and the whole frame. Writes results.json, table.md and index.html.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.core.manifest import ManifestError, read_manifest
from avssl.core.whole_file import write_text
from avssl.downstream.localization import (
    InstantClips,
    LocalizationTable,
    as_plain,
    conditions,
    measure_localization,
    sections,
    write_localization_page,
)
from avssl.engine import choose_device
from avssl.evaluation.localization import RULES
from avssl.hub.pretrained import from_pretrained
from avssl.reports.text_table import markdown_table, text_table


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`localize_eval`."""
    parser = new_parser("avssl localize-eval", __doc__)
    parser.add_argument("manifest", help="Rows with truth.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("-o", "--out", metavar="FOLDER", default="localization", help="Where page and numbers go.")
    parser.add_argument("--split", help="Only the rows of this split; all by default.")
    parser.add_argument(
        "--rule", nargs="+", default=["adaptive", "ezvsl"], metavar="RULE", help=f"Of {', '.join(RULES)}."
    )
    parser.add_argument(
        "--object_prior", metavar="FILE", help='ResNet-18 weights, or "own": adds a row of the map fused with them.'
    )
    parser.add_argument("--alpha", type=float, default=0.4, help="Weight of the trained map in the fused one.")
    parser.add_argument("--examples", type=int, default=12, help="Clips to show on the page.")
    parser.add_argument("--seed", type=int, default=0, help="Of every draw: noise, partners, folds, resampling.")
    parser.add_argument("--batch_size", type=int, default=16, help="Instants embedded at a time.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    table = localize_eval(
        options.manifest,
        options.checkpoint,
        options.out,
        split=options.split,
        rules=options.rule,
        object_prior=options.object_prior,
        alpha=options.alpha,
        num_examples=options.examples,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device,
    )
    print(as_text(table))
    print(f"page and numbers: {options.out}")
    return 0


def localize_eval(
    manifest: Path | str,
    checkpoint: Path | str,
    out: Path | str,
    *,
    split: str | None = None,
    rules: Sequence[str] = ("adaptive", "ezvsl"),
    object_prior: Path | str | None = None,
    alpha: float = 0.4,
    num_examples: int = 12,
    seed: int = 0,
    batch_size: int = 16,
    device: str = "auto",
    progress: bool = True,
) -> LocalizationTable:
    """Measures, and writes results.json, table.md and index.html.

    Args:
        manifest: The CSV, with the column ``truth``.
        checkpoint: As for :func:`avssl.hub.pretrained.from_pretrained`.
        out: Folder for what is written.
        split: Only rows of this split; all by default.
        rules: As for :func:`avssl.downstream.localization.measure_localization`, with all that follows.
        object_prior: A file of ResNet-18 weights, or "own".
        alpha: Weight of the trained map in the fused one.
        num_examples: Clips on the page.
        seed: Of every draw.
        batch_size: Instants embedded at a time.
        device: Where the model runs.
        progress: Show bars.

    Raises:
        ManifestError: If there is no such split, no truth, or nothing to point at.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If a rule is unknown, or an option is out of range.
    """
    rows = read_manifest(manifest)
    if "truth" not in rows:
        raise ManifestError(
            f"{manifest}: there is no column truth, which localization is scored against. "
            "Make a manifest with truth with: avssl synthesize, or a script of datasets/ such as vggss.py."
        )
    if split is not None:
        names = sorted({str(name) for name in rows["split"]})
        rows = rows.where(split=split)
        if not len(rows):
            raise ManifestError(f"{manifest}: no row of the split {split!r}; there are {', '.join(names)}.")
    pretrained = from_pretrained(checkpoint, choose_device(device), crop="full")
    table = measure_localization(
        pretrained,
        rows,
        rules=rules,
        object_prior=object_prior,
        alpha=alpha,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(as_plain(table), indent=1, allow_nan=False)
    write_text(folder / "results.json", content + "\n")
    write_text(folder / "table.md", as_markdown(table))
    clips = InstantClips(rows, pretrained.sampling)
    write_localization_page(folder / "index.html", table, clips, num_examples)
    return table


def as_text(table: LocalizationTable) -> str:
    """The tables and their conditions, for a terminal."""
    parts = [f"{title}\n{text_table(*cells)}" for title, cells in sections(table, intervals=False)]
    return "\n\n".join([*parts, "\n".join(conditions(table))])


def as_markdown(table: LocalizationTable) -> str:
    """The same with intervals, for a README."""
    parts = [f"## {title}\n\n{markdown_table(*cells)}" for title, cells in sections(table, intervals=True)]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in conditions(table))]) + "\n"
