"""The verb ``localize-eval``: heat maps against annotated sound sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from avssl.core.claimed_verb import writes_folder
from avssl.core.manifest import ManifestError, read_manifest
from avssl.core.outputs import FolderKind
from avssl.core.ranges import Count, CountOrZero, Seed, Share, checked
from avssl.core.whole_file import write_text
from avssl.data.splits import split_rows
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
from avssl.hub.pretrained import from_pretrained
from avssl.reports.text_table import markdown_table, text_table
from avssl.training.overlap import overlap_with_training


@checked
@writes_folder(FolderKind("scores", ("results.json", "table.md", "index.html")), reads=("manifest", "checkpoint"))
def localize_eval(
    manifest: Path | str,
    *,
    checkpoint: Path | str,
    out: Path | str = "localization",
    split: str | None = None,
    rules: Sequence[str] = ("adaptive", "ezvsl"),
    object_prior: Path | str | None = None,
    overwrite: bool = False,
    map_weight: Share = 0.4,
    num_examples: CountOrZero = 12,
    seed: Seed = 0,
    batch_size: Count = 16,
    device: str = "auto",
    progress: bool = True,
) -> LocalizationTable:
    """Score heat maps against annotated sources, beside baselines that ignore the audio.

    The rows have boxes or masks of a benchmark (manifests of datasets/vggss.py, flickr_soundnet.py, is3.py,
    avsbench.py), or are a SoundingShapes corpus. Every score is shown beside the same model with silence, noise and
    another clip's audio, an untrained model, the frame alone, a center blob, the mean truth of other clips, a random
    map and the whole frame. Also counted are the test clips that the run was trained on. Writes results.json, table.md
    and index.html. ``avssl robustness --measure localization`` compares groups of clips, and corrupted clips.

    Args:
        manifest: Rows with ground truth, in the column ``truth``.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        out: Folder of the page and the numbers.
        split: Use only the rows of this split.
        rules: Rules that turn a map into a region: lvs, ezvsl, slavc, sslalign, adaptive, fixed0.5, jsa, acl.
        object_prior: ResNet-18 weights, or "own": adds a row with the map fused with an object prior.
        map_weight: Weight of the trained map in the fused map, in [0, 1].
        num_examples: Clips on the page.
        seed: Random seed of noise, partner clips, folds and resampling.
        batch_size: Windows per batch.
        overwrite: Replace the results of another command.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Raises:
        OutputError: If ``out`` holds something else, or another process writes it.
        ManifestError: If there is no such split, no ground truth, or no annotated source.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If a rule is unknown, or an option is out of range.
    """
    rows = read_manifest(manifest)
    if "truth" not in rows:
        raise ManifestError(
            f"{manifest}: there is no column truth with the annotated sources. "
            "Make a manifest with ground truth with avssl synthesize, or with a script of datasets/ such as vggss.py."
        )
    if split is not None:
        rows = rows.select(split_rows(rows, "split", split))
    pretrained = from_pretrained(checkpoint, choose_device(device), crop="full")
    table = measure_localization(
        pretrained,
        rows,
        rules=rules,
        object_prior=object_prior,
        map_weight=map_weight,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    overlap = overlap_with_training(checkpoint, rows)
    table.about["overlap"] = None if overlap is None else overlap.plain()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(as_plain(table), indent=1, allow_nan=False)
    write_text(folder / "results.json", content + "\n")
    write_text(folder / "table.md", as_markdown(table))
    clips = InstantClips(rows, pretrained.sampling)
    write_localization_page(folder / "index.html", table, clips, num_examples)
    print(as_text(table))
    print(f"overlap: {overlap or 'unknown, as no rows of its run (manifest.csv) are beside the weights'}")
    print(f"page and numbers: {out}")
    return table


def as_text(table: LocalizationTable) -> str:
    """Return the tables and their conditions for a terminal."""
    parts = [f"{title}\n{text_table(*cells)}" for title, cells in sections(table, intervals=False)]
    return "\n\n".join([*parts, "\n".join(conditions(table))])


def as_markdown(table: LocalizationTable) -> str:
    """Return the tables with confidence intervals as Markdown."""
    parts = [f"## {title}\n\n{markdown_table(*cells)}" for title, cells in sections(table, intervals=True)]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in conditions(table))]) + "\n"
