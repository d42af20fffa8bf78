"""Check the health of many files, several at a time, in processes that can be killed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from avssl.core.progress import Bar
from avssl.data.health.journal import HealthJournal, JournalUse
from avssl.data.health.killable import Outcome, run_killable
from avssl.data.health.report import HealthReport, HealthSettings, probe_file
from avssl.data.health.segments import Segments
from avssl.media import MediaError
from avssl.media.backends import resolve_backend


def check_files(
    root: Path | str,
    names: Sequence[str],
    settings: HealthSettings | None = None,
    segments: Segments | None = None,
    *,
    journal: JournalUse = "update",
    num_workers: int | None = None,
    progress: str | None = None,
) -> tuple[list[HealthReport], int]:
    """Check files.

    Args:
        root: Folder of the files.
        names: Paths relative to it, with forward slashes.
        settings: Depth and limits; default: those of :class:`HealthSettings`.
        segments: Rows of long files; default: those of :class:`~avssl.data.health.segments.Segments`.
        journal: Use of the journal; see :class:`~avssl.data.health.journal.HealthJournal`.
        num_workers: Files checked at a time; default: one per core.
        progress: Name of a progress bar on stderr; None for none.

    Returns:
        One report for each name, and the number of reports from the journal. A file whose process hung is reported as
        ``"timeout"``, one whose process died as ``"crashed"``.
    """
    root, settings, segments = Path(root), settings or HealthSettings(), segments or Segments()
    # The journal stores the concrete name; resolving it also loads the backend here, not in every worker.
    settings = replace(settings, backend=resolve_backend(settings.backend))
    with HealthJournal(journal, root, settings, segments) as kept:
        known = {name: report for name in names if (report := kept.known(name))}
        reports = dict(known)
        new = [name for name in names if name not in known]
        outcomes = run_killable(
            partial(_probe, settings, segments),
            [str(root / name) for name in new],
            num_workers=num_workers,
            timeout_seconds=settings.limit_of,
            memory_gib=settings.memory_gib,
        )
        with (
            closing(outcomes),
            Bar(total=len(new), desc=progress, unit="file", delay=1.0, show=progress is not None) as bar,
        ):
            for outcome in outcomes:
                name = new[outcome.number]
                reports[name] = _report(str(root / name), outcome)
                kept.add(name, reports[name])
                bar.update()
        kept.compact(names)
    return [reports[name] for name in names], len(known)


def _probe(settings: HealthSettings, segments: Segments, path: str) -> dict[str, Any]:
    return probe_file(path, settings, segments).to_dict()


def _report(path: str, outcome: Outcome) -> HealthReport:
    """Make a report from a worker's outcome; an invalid answer counts as a crash."""
    if outcome.answer is not None:
        try:
            return HealthReport.from_dict(outcome.answer, path)
        except (KeyError, TypeError) as error:
            outcome = Outcome(outcome.number, None, "crashed", f"its process sent no report ({error})")
    if outcome.failure == "timeout":
        found, advice = f"checking it was {outcome.detail}.", "Leave the file out, or raise timeout_seconds."
        return HealthReport(None, MediaError(path, "container", "timeout", found, advice))
    found = f"the decoder crashed: {outcome.detail}."
    if outcome.failure == "bug":
        found = f"the reader failed: {outcome.detail}."
    return HealthReport(None, MediaError(path, "container", "crashed", found, "Leave the file out, or convert it."))
