"""Protocols of a suite. Each is a verb of ``avssl`` with options, so that a cell is what the verb prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SuiteVerb:
    """A verb that measures a checkpoint on a manifest."""

    name: str
    """The word after ``avssl``."""
    path: str
    """``module:function``."""
    result: str
    """File of its numbers, in the folder of the cell."""
    columns: Mapping[str, str]
    """Field of a data set -> option."""
    options: Mapping[str, str]
    """``seed``, ``device``, ``num_workers`` and ``cache_folder``, as far as the verb has them -> option."""
    writes_folder: bool = True
    """The output of the verb is a folder, not the file."""


@dataclass(frozen=True)
class Protocol:
    """A verb with fixed options."""

    verb: SuiteVerb
    fixed: tuple[str, ...] = ()
    """Words of the command line."""
    needs_joint_space: bool = False
    """Compares embeddings of audio and video, which a supervised model does not have."""
    needs_one_of: tuple[str, ...] = ()
    """Options of which the suite must give one."""
    set_by_suite: frozenset[str] = field(init=False)
    """Options that cells may not give."""

    def __post_init__(self) -> None:
        own = {"manifest", "source", "checkpoint", "out", "overwrite", "resume", "progress", "train.checkpoint"}
        own |= {"protocol", "data.source", *self.verb.columns.values(), *self.verb.options.values()}
        object.__setattr__(self, "set_by_suite", frozenset(own))


_COLUMNS = ("label_column", "multi_label", "split_column", "train_split", "test_split", "fold_column")
_HOW = {"seed": "seed", "device": "device", "num_workers": "num_workers", "cache_folder": "cache_folder"}

_PROBE = SuiteVerb(
    "probe", "avssl.recipes.probe:probe", "probe.json", {name: name for name in _COLUMNS}, _HOW, writes_folder=False
)
_FINETUNE = SuiteVerb(
    "finetune",
    "avssl.recipes.finetune:finetune",
    "results.json",
    {name: f"labels.{name}" for name in _COLUMNS},
    {"seed": "train.seed", "device": "train.device", "num_workers": "data.num_workers"},
)
_ROBUSTNESS = SuiteVerb(
    "robustness",
    "avssl.recipes.robustness:robustness",
    "robustness.json",
    {name: name for name in ("label_column", "split_column", "train_split", "test_split")},
    _HOW,
)
_LOCALIZATION = SuiteVerb(
    "localize-eval",
    "avssl.recipes.localize_eval:localize_eval",
    "results.json",
    {},
    {"seed": "seed", "device": "device"},
)
_SYNC = SuiteVerb(
    "sync-eval",
    "avssl.recipes.sync_eval:sync_eval",
    "sync.json",
    {},
    {"seed": "seed", "device": "device"},
    writes_folder=False,
)

PROTOCOLS: dict[str, Protocol] = {
    **{
        name: Protocol(_PROBE, ("--protocol", name), needs_joint_space=name == "av_retrieval")
        for name in ("linear", "knn", "svm", "layers", "attentive", "retrieval", "av_retrieval")
    },
    "finetune": Protocol(_FINETUNE),
    "few_labels": Protocol(_FINETUNE, needs_one_of=("labels.per_class", "labels.fraction")),
    "robustness": Protocol(_ROBUSTNESS),
    "localization": Protocol(_LOCALIZATION, needs_joint_space=True),
    "sync": Protocol(_SYNC, needs_joint_space=True),
}
"""Protocol by name."""


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line; those that are None or empty are left out."""
    words: list[str] = []
    for name, value in options.items():
        dashed = name.replace("_", "-")
        if value is None or value == "" or value == ():
            continue
        if isinstance(value, bool) and "." in name:  # a setting
            words += [f"--{dashed}", str(value).lower()]
        elif isinstance(value, bool):
            words.append(f"--{dashed}" if value else f"--no-{dashed}")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [f"--{dashed}", *map(str, value)]
        else:
            words += [f"--{dashed}", str(value)]
    return words
