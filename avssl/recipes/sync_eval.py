"""The verb ``sync-eval``: how often a model finds a known offset between audio and frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avssl.core.claimed_verb import writes_files
from avssl.core.manifest import read_manifest
from avssl.core.ranges import Seconds, Seed, Step, checked
from avssl.core.whole_file import write_json
from avssl.data.splits import split_rows
from avssl.downstream.synchronization import measure_sync, table_cells
from avssl.engine import choose_device
from avssl.hub.pretrained import from_pretrained
from avssl.reports.text_table import text_table


@checked
@writes_files(lambda given: [given["out"]], reads=("manifest", "checkpoint"))
def sync_eval(
    manifest: Path | str,
    *,
    checkpoint: Path | str,
    split: str | None = None,
    max_offset_seconds: Seconds = 1.0,
    step_seconds: Step = 0.1,
    seed: Seed = 0,
    out: Path | str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Measure how often a model finds by how much the audio of a clip was moved.

    The audio of each clip is moved by a random offset, and scanned as by ``avssl sync``, two steps beyond the largest
    offset. Reported are the share of clips that are decided, and the share whose lowest energy lies within a tenth of a
    second of the offset, of all clips and of those decided, beside another clip's audio and a random offset.

    A clip must be long enough for the model's window, the scan in both directions and the largest offset: with a
    window of 1.5 s and offsets of 1 s, 1.5 + 2.4 + 1 = 4.9 s. Shorter clips are left out and counted; lower
    ``--max-offset-seconds`` for them.

    Args:
        manifest: Rows of whole files.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        split: Use only the rows of this split.
        max_offset_seconds: Largest offset of the audio, in either direction.
        step_seconds: Difference between two offsets of the scan, > 0.
        seed: Random seed of the offsets.
        out: JSON file to write the numbers to.
        overwrite: Replace a file that another command or program made.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Returns:
        The report of :func:`avssl.downstream.synchronization.measure_sync`.

    Raises:
        OutputError: If another command or program made ``out``, or another process writes it.
        ManifestError: If there is no such split, or fewer than two clips can be measured.
        HubError: If there is no model at ``checkpoint``.
    """
    rows = read_manifest(manifest)
    if split is not None:
        rows = rows.select(split_rows(rows, "split", split))
    pretrained = from_pretrained(checkpoint, choose_device(device))
    report = measure_sync(
        pretrained,
        rows,
        max_offset_seconds=max_offset_seconds,
        step_seconds=step_seconds,
        seed=seed,
        progress=progress,
    )
    about = report["about"]
    print(text_table(*table_cells(report)))
    print(
        f"{about['n']} clips, offsets in ±{max_offset_seconds:g} s, scan of ±{about['scanned_seconds']:g} s, "
        f"clip list {about['clip_list']}"
    )
    if about["left_out"]:
        print(f"{about['left_out']} clips are left out; the first: {about['first_left_out']}")
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_json(out, report)
        print(f"numbers: {out}")
    return report
