"""Heat maps of many files, one at a time and each on its own: resumable, and with a page of all.

::

    OUT/
    ├── index.html          the maps, with players, in the order of the files
    ├── results.csv         of each file its highest cosine with time and place, or why there is none
    ├── failures.csv        files that could not be localized; they are tried again by the next call
    └── maps/
        ├── 000000.mp4      the file under its heat map
        └── 000000.json     peaks and boxes over time, written last: a file that has it is done
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from avssl.core.cpus import decoding_workers
from avssl.core.data_files import read_json
from avssl.core.engines import EngineName, working_on
from avssl.core.errors import AvsslError, ConfigError, InputError
from avssl.core.manifest import Manifest, ManifestError, is_url, read_manifest
from avssl.core.output_records import Command, is_same, place, stamp_of
from avssl.core.outputs import FolderKind, claimed_folder
from avssl.core.progress import Bar
from avssl.core.tables import write_table
from avssl.core.user_files import FileError
from avssl.core.whole_file import write_json
from avssl.data.health.killable import Outcome, run_killable
from avssl.data.ledger import Failure, failures_table
from avssl.downstream.classifying import rows_to_classify
from avssl.engine import choose_device, threads_within
from avssl.features.localize import load_localizer
from avssl.features.search_page import Moment, MomentGroup, write_search_page
from avssl.hub.pretrained import DEMO_NOTE, PretrainedModel
from avssl.media import MediaError
from avssl.recipes.localize.one import Request, best_peak, localize_file

_KIND = FolderKind(
    "heat maps",
    ("index.html", "results.csv", "failures.csv", "maps/[0-9]*.mp4", "maps/[0-9]*.json"),
    advice="Replace them with --overwrite, or name another folder with --out.",
)
_MANIFESTS = (".csv", ".parquet")
_SHOWN = 200
"""Maps on the page; the table has all."""
_COLUMNS = ("id", "map", "cosine", "second", "x", "y", "is_foreign", "problem")


@dataclass(frozen=True)
class FileLimits:
    """Limits of one file on a CPU."""

    timeout_seconds: float = 3600.0
    memory_gib: float = 16.0


@dataclass(frozen=True)
class _Source:
    """A file to localize."""

    row: int
    """Row of the manifest that names it."""
    id: str
    file: str
    audio: str | None
    """File of its audio, if that is another one."""


def is_many(names: Sequence[Path | str]) -> bool:
    """Return True if names are more than one file."""
    return len(names) != 1 or os.path.isdir(names[0]) or str(names[0]).lower().endswith(_MANIFESTS)


def localize_many(
    names: Sequence[Path | str],
    out: Path | str | None,
    checkpoint: Path | str | None,
    request: Request,
    file_limits: FileLimits,
    *,
    num_workers: int | None,
    engine: EngineName,
    address: str | None,
    overwrite: bool,
    device: str,
    progress: bool,
) -> Path:
    """Localize every file, and return the page. Arguments are those of the verb."""
    if engine != "local" and device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device}: a Ray cluster localizes on its CPU cores. Leave it out.")
    with working_on(engine, address, num_workers), ExitStack() as held:
        on_gpu = engine == "local" and choose_device(device).type != "cpu"
        manifest = _rows(names)
        sources = list(_sources(manifest))
        folder = Path(out) if out else Path(f"{Path(names[0]).resolve().stem}_heatmaps")
        pretrained = load_localizer(checkpoint, device if on_gpu else "cpu")
        request.check(pretrained)
        if checkpoint is None:
            print(f"model: {DEMO_NOTE}")
        about = {**vars(request), "audio": place(request.audio), "weights": pretrained.weights_hash()}
        command = Command.of("localize", files=manifest.hash(), place=manifest.place, **about)
        reads = (*names, request.audio, checkpoint)
        claim = held.enter_context(claimed_folder(folder, command, _KIND, overwrite=overwrite, reads=reads))
        claim.begin() if overwrite else claim.adopt()
        task = _Task.of(folder, checkpoint, request, sources)
        missing = [source for source in sources if not _is_done(folder, source, task.request)]
        failures = []
        _loaded[str(task.checkpoint)] = pretrained  # processes that are forked have it
        held.callback(_loaded.clear)
        done, workers = len(sources) - len(missing), 0 if on_gpu else max(1, decoding_workers(num_workers))
        with Bar(total=len(sources), initial=done, desc="localize", unit="file", show=progress) as bar:
            for source, failure in _outcomes(task, missing, workers, file_limits):
                bar.update()
                if failure is not None:
                    failures.append(_as_failure(source, failure))
        return _write_results(folder, sources, failures, request)


def _rows(names: Sequence[Path | str]) -> Manifest:
    """Return the rows of files, folders or a manifest."""
    if len(names) == 1 and str(names[0]).lower().endswith(_MANIFESTS):
        manifest = read_manifest(names[0])
        if not len(manifest):
            raise ManifestError(f"{names[0]}: the manifest has no rows.")
        manifest.require_files("avssl localize")
        return manifest
    return rows_to_classify(names, "video")


def _sources(manifest: Manifest) -> Iterator[_Source]:
    """Yield each file of a manifest once, in the order of their first rows."""
    seen = set()
    for row in range(len(manifest)):
        file = manifest.location(row)
        file = file if is_url(file) else os.path.abspath(file)
        if file not in seen:
            seen.add(file)
            audio = None if is_url(manifest.place) else os.path.abspath(manifest.sound_file(row))
            yield _Source(row, str(manifest.value(row, "path")), file, None if audio == file else audio)


def _outcomes(
    task: _Task, missing: Sequence[_Source], num_workers: int, limits: FileLimits
) -> Iterator[tuple[_Source, dict[str, str] | None]]:
    """Localize files; yield each with None, or with what was wrong, as they end."""
    if num_workers == 0:
        for source in missing:
            yield source, task(source.file).get("failure")
        return
    for outcome in run_killable(
        task,
        [source.file for source in missing],
        num_workers=num_workers,
        timeout_seconds=limits.timeout_seconds,
        memory_gib=limits.memory_gib,
    ):
        source = missing[outcome.number]
        yield source, _told(source, outcome) if outcome.answer is None else outcome.answer.get("failure")


def _told(source: _Source, outcome: Outcome) -> dict[str, str]:
    """Return what was wrong with a file whose process did not answer."""
    advice = "Leave the file out, or raise --timeout-seconds or --memory-gib."
    message = f"{source.file}: localizing it failed: {outcome.detail}. {advice}"
    return {"stream": "container", "reason": outcome.failure, "message": message}


def _as_failure(source: _Source, failure: dict[str, str]) -> Failure:
    return Failure(source.row, source.id, source.id, failure["stream"], failure["reason"], failure["message"])


# ---------------------------------------------------------------- in the processes

_loaded: dict[str, PretrainedModel] = {}
"""The model of this process, by its checkpoint."""


@dataclass(frozen=True)
class _Task:
    """Localizes a file; runs in a process that can be killed, here or on a machine of a cluster."""

    folder: Path
    checkpoint: Path | str | None
    request: Request
    sources: dict[str, _Source]

    @classmethod
    def of(cls, folder: Path, checkpoint: Path | str | None, request: Request, sources: Sequence[_Source]) -> _Task:
        """Return the task with absolute paths: the processes of a cluster have working folders of their own."""
        if checkpoint is not None and os.path.exists(checkpoint):
            checkpoint = os.path.abspath(checkpoint)
        if request.audio is not None:
            request = replace(request, audio=os.path.abspath(request.audio))
        return cls(folder.absolute(), checkpoint, request, {source.file: source for source in sources})

    def __call__(self, file: str) -> dict[str, Any]:
        source, name = self.sources[file], str(self.checkpoint)
        if name not in _loaded:
            _loaded[name] = load_localizer(self.checkpoint, "cpu")
        request = self.request
        if source.audio is not None and request.wants_own_audio:
            request = replace(request, audio=source.audio)
        video, described = _outputs(self.folder, source)
        try:
            with threads_within(1):  # as many processes as cores; and the same numbers everywhere
                stamps = _stamps(source, self.request)
                _, numbers = localize_file(file, video, _loaded[name], request, progress=False)
                write_json(described, {"id": source.id, "stamps": stamps, **numbers})
        except MediaError as error:
            return {"failure": {"stream": error.stream, "reason": error.reason, "message": str(error)}}
        except AvsslError as error:
            return {"failure": {"stream": "container", "reason": "unusable", "message": str(error)}}
        return {}


def _outputs(folder: Path, source: _Source) -> tuple[Path, Path]:
    """Return the video and the JSON file of a source."""
    video = folder / "maps" / f"{source.row:06d}.mp4"
    return video, video.with_suffix(".json")


# ---------------------------------------------------------------- results


def _stamps(source: _Source, request: Request) -> list[Any]:
    """Return size and time of each file that a map depends on: the video, and its audio if that is another file."""
    files = (source.file, source.audio if request.wants_own_audio else None, request.audio)
    return [stamp_of(Path(file)) for file in files if file is not None]


def _is_done(folder: Path, source: _Source, request: Request) -> bool:
    """Return True if a file was localized, and neither it nor its audio has changed since."""
    video, described = _outputs(folder, source)
    if not (video.is_file() and described.is_file()):
        return False
    try:
        before, now = read_json(described)["stamps"], _stamps(source, request)
    except (FileError, KeyError, TypeError):
        return False
    # Files in an object store have no stamp.
    return len(before) == len(now) and all(
        old == new or is_same(old, new) for old, new in zip(before, now, strict=True)
    )


def _write_results(folder: Path, sources: Sequence[_Source], failures: Sequence[Failure], request: Request) -> Path:
    """Write the table, the failures and the page; raise InputError if no file was localized."""
    listed, page = folder / "failures.csv", folder / "index.html"
    problems = {failure.row: failure.message for failure in failures}
    listed.unlink(missing_ok=True)  # of an earlier call
    if failures:
        write_table(failures_table(failures), listed)
        print(f"{len(failures)} of {len(sources)} files could not be localized: {listed}")
    if len(failures) == len(sources):
        raise InputError(
            f"none of {len(sources)} files can be localized: {failures[0].message} See them all in {listed}"
        )
    moments, rows = [], []
    for source in sources:
        video, described = _outputs(folder, source)
        row: dict[str, Any] = dict.fromkeys(_COLUMNS) | {"id": source.id, "problem": problems.get(source.row, "")}
        if source.row not in problems:
            numbers = read_json(described)
            best, foreign = best_peak(numbers), numbers["familiarity"]["is_foreign"]
            row |= {"map": f"maps/{video.name}", "cosine": best["confidence"], "is_foreign": "yes" if foreign else "no"}
            row |= {name: best[name] for name in ("second", "x", "y")}
            moments.append(_moment(source, video, best, foreign))
        rows.append(row)
    write_table(pa.Table.from_pylist(rows), folder / "results.csv")
    shown = f"the first {_SHOWN} of {len(moments)} files; all are in results.csv" if len(moments) > _SHOWN else ""
    note = f"Each at the time of its highest cosine; faint: unlike the training clips. {shown}".strip()
    warning = f"{len(failures)} files could not be localized: failures.csv names them." if failures else ""
    group = MomentGroup("Heat maps", note, moments[:_SHOWN])
    write_search_page(page, "Sound sources", None, [group], request.limits, warning)
    print(f"{len(moments)} heat maps: {folder / 'maps'}")
    print(f"page: {page}")
    return page


def _moment(source: _Source, video: Path, best: dict[str, float], is_foreign: bool) -> Moment:
    second = best["second"]
    headline = f"cosine {best['confidence']:.2f} at {second:.2f} s"
    return Moment(video, source.id, max(0.0, second - 1), second + 1, headline, is_weak=is_foreign)
