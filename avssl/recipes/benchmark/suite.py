"""A suite: data sets and the protocols that are run on each, read from a YAML file.

One data set, with two protocols::

    data:
      action:
        manifest: shapes/manifest.csv
        label_column: action
        protocols:
          linear: {}
          few labels: {protocol: few_labels, labels.per_class: 5}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avssl.config import ConfigError, config_from_dict, flatten, read_yaml
from avssl.config.parsing import did_you_mean
from avssl.core.ranges import Seed, checked
from avssl.recipes.benchmark.protocols import PROTOCOLS


@checked
@dataclass(frozen=True)
class DataFields:
    """Rows of a data set and their labels."""

    manifest: str = ""
    """Manifest, relative to the folder of ``--data``."""
    get: str = ""
    """Commands that make the manifest, printed where it is missing."""
    label_column: str = "label"
    """Column of the labels."""
    multi_label: bool = False
    """Allow several labels per row, joined by "|"."""
    split_column: tuple[str, ...] = ("split",)
    """Columns of the splits; several are official splits, and the mean over them is reported."""
    train_split: str = "train"
    """Rows to train on."""
    test_split: str = "test"
    """Rows to test on."""
    fold_column: str = ""
    """Column of folds, instead of splits."""


@checked
@dataclass(frozen=True)
class SuiteFields:
    """Fields of a suite that all data sets share."""

    title: str = ""
    """Title of the tables."""
    seed: Seed = 0
    """Random seed of every protocol."""
    random_init: bool = True
    """Measure the network of each checkpoint with random weights too, once where several have the same network."""


@dataclass(frozen=True)
class _DataRoot:
    data: DataFields = field(default_factory=DataFields)
    """Fields of a data set."""


@dataclass(frozen=True)
class _SuiteRoot:
    suite: SuiteFields = field(default_factory=SuiteFields)
    """Fields of the suite."""


@dataclass(frozen=True)
class Entry:
    """A protocol on a data set."""

    name: str
    """Name in the suite; that of the protocol unless the suite gives another one."""
    protocol: str
    """Name in :data:`PROTOCOLS`."""
    options: dict[str, Any]
    """Options of the protocol's verb, without the dashes."""
    place: str
    """File and keys, the beginning of error messages."""


@dataclass(frozen=True)
class DataSet:
    """A data set of a suite."""

    name: str
    fields: DataFields
    entries: tuple[Entry, ...]
    place: str
    """File and keys, the beginning of error messages."""


@dataclass(frozen=True)
class Supervised:
    """Two classifiers trained from random weights, one of video and one of audio, whose encoders are the baseline."""

    data: str
    """Name of the data set whose training rows and labels it is trained on."""
    entry: Entry


@dataclass(frozen=True)
class Suite:
    """Data sets and protocols."""

    path: Path
    fields: SuiteFields
    data: tuple[DataSet, ...]
    supervised: Supervised | None

    def data_set(self, name: str) -> DataSet:
        """Return a data set by name."""
        return next(each for each in self.data if each.name == name)


_OWN = ("data", "supervised")


def read_suite(path: Path | str) -> Suite:
    """Read a suite and check its keys, names and types.

    Raises:
        ConfigError: If a key, a protocol or a type is wrong; the message says what would be right.
    """
    path, tree = Path(path), read_yaml(path)
    shared = {key: value for key, value in tree.items() if key not in _OWN}
    known = [*(each.name for each in dataclasses.fields(SuiteFields)), *_OWN]
    _refuse_unknown(shared, known, f"{path}: ")
    fields = config_from_dict({"suite": shared}, f"{path}: ", _SuiteRoot).suite
    data = _mapping(tree.get("data"), f"{path}: data", "data sets by name")
    if not data:
        raise ConfigError(f"{path}: data: a suite needs one data set at least, with a manifest and protocols.")
    sets = tuple(_data_set(str(name), value, f"{path}: data.{name}") for name, value in data.items())
    return Suite(path, fields, sets, _supervised(tree.get("supervised"), [each.name for each in sets], path))


def _data_set(name: str, tree: Any, place: str) -> DataSet:
    tree = dict(_mapping(tree, place, "manifest, protocols and columns"))
    protocols = _mapping(tree.pop("protocols", None), f"{place}.protocols", "protocols by name")
    _refuse_unknown(tree, [*(each.name for each in dataclasses.fields(DataFields)), "protocols"], f"{place}.")
    if isinstance(tree.get("split_column"), str):
        tree["split_column"] = [tree["split_column"]]
    fields = config_from_dict({"data": tree}, f"{place}: ", _DataRoot).data
    if not fields.manifest:
        raise ConfigError(f"{place}.manifest: name the manifest, relative to the folder of --data.")
    if not protocols:
        raise ConfigError(f"{place}.protocols: name one protocol at least of {', '.join(PROTOCOLS)}.")
    entries = (_entry(str(key), value, f"{place}.protocols.{key}") for key, value in protocols.items())
    return DataSet(name, fields, tuple(entries), place)


def _entry(name: str, tree: Any, place: str) -> Entry:
    options = dict(_mapping(tree, place, "options of the protocol's verb"))
    protocol = str(options.pop("protocol", name))
    if protocol not in PROTOCOLS:
        hint = did_you_mean(protocol, PROTOCOLS)
        raise ConfigError(f"{place}: the protocol {protocol!r} must be one of {', '.join(PROTOCOLS)}.{hint}")
    options = flatten(options)
    fixed = PROTOCOLS[protocol].set_by_suite
    for key in options:
        if key.replace("-", "_") in fixed:
            raise ConfigError(f"{place}.{key}: is set by the suite itself; leave it out here.")
    return Entry(name, protocol, options, place)


def _supervised(tree: Any, data: list[str], path: Path) -> Supervised | None:
    if tree is None:
        return None
    place = f"{path}: supervised"
    options = dict(_mapping(tree, place, "data, and options of avssl finetune"))
    name = options.pop("data", None)
    if "classifier.inputs" in flatten(options):
        raise ConfigError(f"{place}.classifier.inputs: one classifier of each modality is trained; leave it out here.")
    if name not in data:
        hint = did_you_mean(str(name), data)
        raise ConfigError(f"{place}.data ({name}) must be a data set of this suite: {', '.join(data)}.{hint}")
    return Supervised(str(name), _entry("supervised", {"protocol": "finetune", **options}, place))


def _mapping(value: Any, place: str, content: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{place}: must be a mapping ({content}), not {value!r}.")
    return value or {}


def _refuse_unknown(keys: Mapping[str, Any], known: list[str], place: str) -> None:
    for key in keys:
        if key not in known:
            hint = did_you_mean(key, known) or f" The keys are {', '.join(known)}."
            raise ConfigError(f"{place}{key} is not a key of a suite.{hint}")
