"""The verb ``benchmark``: a suite of data sets and protocols for one or more checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avssl.core.ranges import Workers, checked
from avssl.recipes.benchmark.cells import How
from avssl.recipes.benchmark.measure import run_benchmark
from avssl.recipes.benchmark.table import Results


@checked
def benchmark(
    suite: Path | str,
    checkpoints: Sequence[Path | str],
    *,
    out: Path | str = "benchmark",
    data: Path | str = ".",
    only: Sequence[str] = (),
    dry_run: bool = False,
    overwrite: bool = False,
    num_workers: Workers | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Results | None:
    """Measure checkpoints by all protocols of a suite, in one table.

    A suite is a YAML file of data sets, and of protocols for each: linear, knn, svm, layers, attentive, retrieval,
    av_retrieval, finetune, few_labels, robustness, localization and sync. Each cell of the table is the number that
    the protocol's own verb prints for the same options; the command is listed. Beside the checkpoints stand chance, the
    same network with random weights and, if the suite asks for it, a supervised one.

    All names in the suite are checked before anything is measured, and features are extracted once for all protocols
    that use them. The same command again continues: cells that are there are kept. Writes table.md, table.tex,
    results.json and index.html.

    Args:
        suite: YAML file, such as configs/suites/soundingshapes.yaml.
        checkpoints: Run directories, weights folders, or hf-hub:OWNER/NAME.
        out: Folder of tables, cells, baselines and features.
        data: Folder that the manifests of the suite are relative to.
        only: Measure these data sets of the suite alone; the tables keep what was measured of others.
        dry_run: List the cells and their commands, and the time of the missing ones as far as cells there tell.
        overwrite: Measure again what other commands or weights left in the folder.
        num_workers: Decoding processes; default: one per core.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Returns:
        The scores of all cells; None after a dry run.

    Raises:
        ConfigError: If a key, an option or a type in the suite is wrong.
        SuiteError: If the suite names a manifest or a data set that is not there.
        ManifestError: If a column, a split or labels are missing.
        HubError: If there is no model at a checkpoint.
        OutputError: If ``out`` holds something else, or numbers of other commands.
        RunError: If cells could not be measured; the tables have the others.
    """
    how = How(Path(out), Path(data), device, num_workers)
    return run_benchmark(
        suite,
        list(map(str, checkpoints)),
        how,
        only=tuple(only),
        dry_run=dry_run,
        overwrite=overwrite,
        progress=progress,
    )
