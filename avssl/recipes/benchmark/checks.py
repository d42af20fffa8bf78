"""Checks of a suite before anything is measured: manifests, columns, splits, and what each protocol needs of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from avssl.config.command import Verb
from avssl.core.errors import AvsslError, InputError
from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.data.splits import Division, divide, label_subset, split_rows
from avssl.downstream.probing import MULTI_LABEL_PROTOCOLS, ProbeSettings
from avssl.downstream.probing import PROTOCOLS as PROBES
from avssl.recipes.benchmark.cells import How, protocol_words
from avssl.recipes.benchmark.protocols import PROTOCOLS
from avssl.recipes.benchmark.suite import DataSet, Entry, Suite

_MOVED_FRAMES = 14
"""Disturbances of the robustness protocol, about."""


class SuiteError(InputError):
    """A suite names something that is not there."""


@dataclass(frozen=True)
class Work:
    """Windows that a protocol reads and encodes for one model, about, and the features that it shares."""

    windows: int
    shared: str = ""
    """Extractions of one name are computed once for a model and its rows; empty if they are not kept."""
    training: int = 0
    """Windows of training steps, forward and backward."""


def check_suite(suite: Suite, checkpoint: str, how: How) -> dict[tuple[str, str], Work]:
    """Check all data sets and protocols; return the work of each protocol by data set and name.

    Raises:
        SuiteError: If manifests are missing; the message has the commands that make them.
        ManifestError: If a column, a split or the labels are missing.
        ConfigError: If an option is wrong.
    """
    _check_manifests(suite, how)
    work = {}
    for data in suite.data:
        rows = read_manifest(how.root / data.fields.manifest)
        for entry in data.entries:
            words = protocol_words(suite, data, entry, checkpoint, how)
            verb = PROTOCOLS[entry.protocol].verb
            try:
                work[data.name, entry.name] = _check_entry(rows, data, entry, Verb(verb.name, verb.path).parse(words))
            except AvsslError as error:
                raise type(error)(f"{entry.place}: {how.root / data.fields.manifest}: {error}") from error
    if suite.supervised is not None:
        _check_supervised(suite, how)
    return work


def _check_manifests(suite: Suite, how: How) -> None:
    missing = [data for data in suite.data if not (how.root / data.fields.manifest).is_file()]
    if not missing:
        return
    there = [data.name for data in suite.data if data not in missing]
    lines = [f"{each.name}: {how.root / each.fields.manifest}" + _how_to_get(each) for each in missing]
    raise SuiteError(
        f"{suite.path}: {len(missing)} of {len(suite.data)} manifests are not there. {'; '.join(lines)}. "
        f"Found: {', '.join(there) or 'none'}. Make them, name their folder with --data FOLDER, or measure those that "
        "are there with --only NAME."
    )


def _how_to_get(data: DataSet) -> str:
    return f" (make it with: {' '.join(data.fields.get.split())})" if data.fields.get else ""


def _check_entry(rows: Manifest, data: DataSet, entry: Entry, given: dict[str, Any]) -> Work:
    """Check the rows of a protocol, and return its work."""
    verb = PROTOCOLS[entry.protocol].verb.name
    if verb == "localize-eval":
        return _localization_work(rows, given)
    if verb == "sync-eval":
        return Work(len(_of_split(rows, given)) * 60)
    divisions = _divisions(rows, data, needs_training=True)
    train, test = (sum(len(getattr(each, part)) for each in divisions) for part in ("train", "test"))
    if verb == "probe":
        return _probe_work(rows, data, entry, given, divisions)
    if verb == "robustness":
        if given.get("measure", "classification") != "classification":
            raise InputError("the protocol robustness of a suite measures classification; leave out measure.")
        if test < 10:
            raise ManifestError(f"robustness needs 10 labeled test rows at least, and there are {test}.")
        windows = getattr(given.get("settings"), "windows_per_clip", None) or 1
        return Work((train + _MOVED_FRAMES * test) * windows)
    config = given["config"]
    if config.labels.per_class is not None:
        for each in divisions:
            names = rows[data.fields.label_column][each.train]
            label_subset(rows["id"][each.train], names, per_class=config.labels.per_class, seed=config.train.seed)
            train = config.labels.per_class * len(np.unique(names.astype(str)))
    elif config.labels.fraction is not None:
        train = round(train * config.labels.fraction)
    epochs = config.optim.epochs + config.optim.head_epochs
    seen = max(epochs * train * config.data.clips_per_read, config.optim.min_steps * config.optim.batch_size)
    return Work(test * config.test.windows_per_clip, training=seen)


def _divisions(rows: Manifest, data: DataSet, *, needs_training: bool) -> list[Division]:
    fields = data.fields
    return divide(
        rows,
        fields.label_column,
        split_columns=fields.split_column,
        train_split=fields.train_split if needs_training else None,
        test_split=fields.test_split,
        fold_column=fields.fold_column or None,
        multi_label=fields.multi_label,
    )


def _probe_work(rows: Manifest, data: DataSet, entry: Entry, given: dict[str, Any], divisions: list[Division]) -> Work:
    settings, probe = given.get("settings") or ProbeSettings(), PROBES[entry.protocol]
    if data.fields.multi_label and entry.protocol not in MULTI_LABEL_PROTOCOLS:
        names = " or ".join(MULTI_LABEL_PROTOCOLS)
        raise ManifestError(f"{entry.protocol} takes one label per row; with multi_label use {names}.")
    windows = settings.windows_per_clip or probe.windows
    if probe.choose is not None:
        if len(divisions) > 1:
            raise ManifestError(f"{entry.protocol} needs one split column, and no folds.")
        test = divisions[0].test
        kept = probe.choose(rows["id"][test], rows[data.fields.label_column][test], settings)
        return Work(int(kept.sum()) * windows * 2)
    used = len(np.unique(np.concatenate([part for each in divisions for part in (each.train, each.test)])))
    how = f"{probe.extraction.__name__} {windows} {settings.stream} {settings.pooling}"
    return Work(used * windows * 2, how)  # the verb measures a random-init twin too


def _localization_work(rows: Manifest, given: dict[str, Any]) -> Work:
    if "truth" not in rows:
        raise ManifestError("there is no column truth with the annotated sources, which localization needs.")
    return Work(len(_of_split(rows, given)) * 10)


def _of_split(rows: Manifest, given: dict[str, Any]) -> Manifest:
    """Return the rows of the option ``--split``."""
    return rows if given.get("split") is None else rows.select(split_rows(rows, "split", given["split"]))


def _check_supervised(suite: Suite, how: How) -> None:
    assert suite.supervised is not None
    place, data = suite.supervised.entry.place, suite.data_set(suite.supervised.data)
    divisions = _divisions(read_manifest(how.root / data.fields.manifest), data, needs_training=True)
    if len(divisions) > 1:
        names = ", ".join(each.name for each in divisions)
        raise SuiteError(f"{place}.data: {data.name} has {len(divisions)} splits ({names}); name a data set of one.")


def only_named(suite: Suite, names: tuple[str, ...]) -> Suite:
    """Return the suite with the named data sets alone.

    Raises:
        SuiteError: If there is no such data set.
    """
    known = [each.name for each in suite.data]
    for name in names:
        if name not in known:
            raise SuiteError(f"--only {name}: the data sets of {suite.path} are {', '.join(known)}.")
    return replace(suite, data=tuple(each for each in suite.data if each.name in names)) if names else suite
