"""Checks of a suite before anything is measured: manifests, columns, splits, and what each protocol needs of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from avssl.config.command import Verb
from avssl.core.errors import AvsslError, InputError
from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.data.splits import Division, divide, label_subset, split_rows
from avssl.downstream.probing import MULTI_LABEL_PROTOCOLS, ProbeSettings
from avssl.downstream.probing import PROTOCOLS as PROBES
from avssl.recipes.benchmark.cells import How, protocol_words
from avssl.recipes.benchmark.protocols import PROTOCOLS
from avssl.recipes.benchmark.suite import DataSet, Entry, Suite


class SuiteError(InputError):
    """A suite names something that is not there."""


def check_suite(suite: Suite, checkpoint: str, how: How) -> None:
    """Check all data sets and protocols.

    Raises:
        SuiteError: If manifests are missing; the message has the commands that make them.
        ManifestError: If a column, a split or the labels are missing.
        ConfigError: If an option is wrong.
    """
    _check_manifests(suite, how)
    for data in suite.data:
        rows = read_manifest(how.root / data.fields.manifest)
        for entry in data.entries:
            words = protocol_words(suite, data, entry, checkpoint, how)
            verb = PROTOCOLS[entry.protocol].verb
            try:
                _check_entry(rows, data, entry, Verb(verb.name, verb.path).parse(words))
            except AvsslError as error:
                raise type(error)(f"{entry.place}: {how.root / data.fields.manifest}: {error}") from error
    if suite.supervised is not None:
        _check_supervised(suite, how)


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


def _check_entry(rows: Manifest, data: DataSet, entry: Entry, given: dict[str, Any]) -> None:
    """Check the rows of a protocol."""
    verb = PROTOCOLS[entry.protocol].verb.name
    if verb in ("localize-eval", "sync-eval"):
        _check_split(rows, given)
        if verb == "localize-eval" and "truth" not in rows:
            raise ManifestError("there is no column truth with the annotated sources, which localization needs.")
        return
    divisions = divisions_of(rows, data)
    if verb == "probe":
        _check_probe(rows, data, entry, given, divisions)
    elif verb == "robustness":
        if given.get("measure", "classification") != "classification":
            raise InputError("the protocol robustness of a suite measures classification; leave out measure.")
        tested = len(divisions[0].test)
        if tested < 10:
            raise ManifestError(f"robustness needs 10 labeled test rows at least, and there are {tested}.")
    elif (labels := given["config"].labels).per_class is not None:
        for each in divisions:
            names = rows[data.fields.label_column][each.train]
            label_subset(rows["id"][each.train], names, per_class=labels.per_class, seed=given["config"].train.seed)


def divisions_of(rows: Manifest, data: DataSet) -> list[Division]:
    """Return the splits or folds of a data set."""
    fields = data.fields
    return divide(
        rows,
        fields.label_column,
        split_columns=fields.split_column,
        train_split=fields.train_split,
        test_split=fields.test_split,
        fold_column=fields.fold_column or None,
        multi_label=fields.multi_label,
    )


def _check_probe(rows: Manifest, data: DataSet, entry: Entry, given: dict[str, Any], divisions: list[Division]) -> None:
    settings, probe = given.get("settings") or ProbeSettings(), PROBES[entry.protocol]
    if data.fields.multi_label and entry.protocol not in MULTI_LABEL_PROTOCOLS:
        names = " or ".join(MULTI_LABEL_PROTOCOLS)
        raise ManifestError(f"{entry.protocol} takes one label per row; with multi_label use {names}.")
    if probe.choose is not None:
        if len(divisions) > 1:
            raise ManifestError(f"{entry.protocol} needs one split column, and no folds.")
        test = divisions[0].test
        probe.choose(rows["id"][test], rows[data.fields.label_column][test], settings)


def _check_split(rows: Manifest, given: dict[str, Any]) -> None:
    """Check the option ``--split``."""
    if given.get("split") is not None:
        split_rows(rows, "split", given["split"])


def _check_supervised(suite: Suite, how: How) -> None:
    assert suite.supervised is not None
    place, data = suite.supervised.entry.place, suite.data_set(suite.supervised.data)
    divisions = divisions_of(read_manifest(how.root / data.fields.manifest), data)
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
