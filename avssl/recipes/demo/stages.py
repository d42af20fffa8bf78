"""Run the stages of the demo in order. A stage with a record of the same settings is skipped."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avssl.config import to_dict
from avssl.core.data_files import read_json
from avssl.core.errors import RunError
from avssl.core.manifest import Manifest, read_manifest
from avssl.core.output_records import Command
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.core.version import __version__
from avssl.core.whole_file import write_json
from avssl.engine import Checkpointer
from avssl.recipes.demo.measure import measure
from avssl.recipes.demo.overlays import OVERLAYS, draw_overlays
from avssl.recipes.demo.plan import make_plan
from avssl.recipes.demo.report import summary, write_report
from avssl.recipes.demo.settings import SPLITS, DemoPlan, DemoSettings
from avssl.recipes.index import index
from avssl.recipes.pretrain import pretrain
from avssl.synthetic import read_truth, synthesize_corpus
from avssl.synthetic.corpus import describe
from avssl.training.run_directory import FILES as RUN_FILES
from avssl.training.run_directory import RunDirectory

_FORMAT = 2
"""Increase when the output of a stage changes its meaning: older records are then ignored."""

_DEMO = FolderKind(
    "a demo",
    (
        *(
            f"stages/{name}.json"
            for name in ("plan", "synthesize", "index", "pretrain", "pretrain_begun", "measure", "overlays")
        ),
        "report.html",
        "metrics.json",
        *(f"index.{ending}" for ending in ("csv", "failures.csv", "removed.csv")),
        "corpus/manifest.csv",
        *(f"corpus/{name}/[0-9]*.mp4" for name in SPLITS),
        *(f"corpus/truth/{name}/[0-9]*.npz" for name in SPLITS),
        *(f"run/{name}" for name in RUN_FILES),
        *(f"overlays/{name}" for name in OVERLAYS),
        "cache/features-*.npz",
    ),
    advice="Start over with --overwrite, or name another folder.",
)


@dataclass(frozen=True)
class DemoFolder:
    """Paths inside the demo's folder."""

    path: Path

    @property
    def corpus(self) -> Path:
        return self.path / "corpus"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def overlays(self) -> Path:
        return self.path / "overlays"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def record(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"


def run_demo(path: Path, settings: DemoSettings, overwrite: bool = False) -> Path:
    """Run every stage that is not finished yet.

    Args:
        path: Folder of the demo.
        settings: Options.
        overwrite: Replace a demo of other settings, and repeat finished stages.

    Returns:
        Path of the report.

    Raises:
        OutputError: If the folder holds files that the demo did not make, a demo of other settings without
            ``overwrite``, or another process writes it.
    """
    folder = DemoFolder(path)
    with claimed_folder(path, Command.of("demo", **asdict(settings)), _DEMO, overwrite=overwrite) as claim:
        claim.begin()
        return _run_stages(folder, settings)


def _run_stages(folder: DemoFolder, settings: DemoSettings) -> Path:
    stages: dict[str, Callable[[], Any]] = {
        "plan": lambda: asdict(make_plan(settings)),
        "synthesize": lambda: _synthesize(folder, settings, DemoPlan(**results["plan"])),
        "index": lambda: _index(folder),
        "pretrain": lambda: _pretrain(folder, settings, DemoPlan(**results["plan"])),
        "measure": lambda: measure(folder.run, read_manifest(folder.corpus / "manifest.csv"), settings),
        "overlays": lambda: draw_overlays(folder.run, folder.corpus, folder.overlays, settings),
    }
    results: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    is_stale = False  # all stages after one that ran must run again
    for number, (name, run) in enumerate(stages.items(), start=1):
        record = _read_record(folder.record(name), settings)
        if record is None or is_stale:
            print(f"[{number}/{len(stages) + 1}] {name}", flush=True)
            start = time.monotonic()
            result = run()
            record = {"result": result, "seconds": round(time.monotonic() - start, 1), **_fingerprint(settings)}
            write_json(folder.record(name), record)
            is_stale = True
        else:
            print(f"[{number}/{len(stages) + 1}] {name}: done before, reused", flush=True)
        results[name], seconds[name] = record["result"], record["seconds"]
    print(f"[{len(stages) + 1}/{len(stages) + 1}] report", flush=True)
    return _report(folder, settings, results, seconds)


def _synthesize(folder: DemoFolder, settings: DemoSettings, plan: DemoPlan) -> dict[str, Any]:
    splits = settings.splits(plan)
    manifest = synthesize_corpus(folder.corpus, splits, settings.seed)
    return {"clips": len(manifest), "clip_list": manifest.hash(), "splits": describe(splits)}


def _index(folder: DemoFolder) -> dict[str, Any]:
    """Index the files like any others, and compare the count with the manifest of the data set."""
    found = index(folder.corpus, out=folder.path / "index.csv", overwrite=True)
    manifest = read_manifest(folder.corpus / "manifest.csv")
    # A faint spinning disc looks like a still image, in at most three of a thousand clips.
    num_still = sum(error.reason == "still_picture" for error in found.failures.values())
    if len(found.manifest) + num_still != len(manifest):
        raise RunError(f"{folder.corpus}: {len(manifest)} clips were rendered, but {len(found.manifest)} are usable.")
    return {"files": len(found.manifest), "hours": found.hours}


def _pretrain(folder: DemoFolder, settings: DemoSettings, plan: DemoPlan) -> dict[str, Any]:
    """Train, or continue an interrupted run of the same settings."""
    config = settings.config(folder.corpus, plan)
    begun = folder.record("pretrain_begun")
    run = RunDirectory(folder.run)
    if _read_record(begun, settings) and Checkpointer(run.checkpoints).files():
        _, result = pretrain(run.read_config(), resume=run.path)
    else:
        begun.unlink(missing_ok=True)
        with run.claimed("pretrain", overwrite=True) as claim:
            assert claim is not None, "the demo is one process"
            claim.begin()  # the checkpoints of an earlier training are gone before this one counts as begun
        write_json(begun, _fingerprint(settings))
        _, result = pretrain(config, out=run.path)
    begun.unlink()
    return {
        "steps": result.step,
        "samples_seen": result.samples_seen,
        "epochs": config.optim.epochs,
        "loop_seconds": round(result.wall_seconds, 1),
        "final": result.metrics,
        "config": to_dict(config),
    }


def _report(folder: DemoFolder, settings: DemoSettings, results: dict[str, Any], seconds: dict[str, float]) -> Path:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    results["seconds"] = {**seconds, "total": round(sum(seconds.values()), 1)}
    results["memory_gib"] = {"main process": round(peak, 2), "largest child process": round(children, 2)}
    results["settings"] = asdict(settings)
    results["version"] = __version__
    write_json(folder.metrics, results)
    print(summary(results), flush=True)
    write_report(folder.report, results, folder.run / "metrics.jsonl", folder.overlays, _examples(folder))
    return folder.report


def _examples(folder: DemoFolder) -> list[tuple[Manifest, int]]:
    """Return one clip for each number of objects."""
    manifest = read_manifest(folder.corpus / "manifest.csv")
    found: dict[int, tuple[Manifest, int]] = {}
    for row in np.flatnonzero(manifest["split"] == "train")[:64].tolist():
        path = manifest.truth_file(row)
        if path is not None:
            found.setdefault(len(read_truth(path).kinds), (manifest, row))
    return [found[count] for count in sorted(found)]


def _fingerprint(settings: DemoSettings) -> dict[str, Any]:
    return {"format": _FORMAT, "version": __version__, "settings": asdict(settings)}


def _read_record(path: Path, settings: DemoSettings) -> dict[str, Any] | None:
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    fits = isinstance(record, dict) and all(record.get(key) == value for key, value in _fingerprint(settings).items())
    return record if fits else None
