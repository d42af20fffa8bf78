"""From YAML files and a command line to a :class:`Config`, or another root of settings, in two steps.

The names of the choices are read first (``objective.name``, ``model.video.name`` ...), from the file and then from
the command line. They decide which settings exist, so an unknown or misspelled key, or an option of another choice,
is an error that names it. The command line always wins over the file.

Inside this module settings are flat: ``{"optim.lr": 1e-3}``. ``names`` holds the chosen name of each choice,
``defaults`` an instance of the root.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser

from avssl.config.files import flatten, read_yaml, source_of
from avssl.config.foreign import describe_tower, foreign_groups
from avssl.config.presets import PRESETS, preset_values, with_presets
from avssl.config.settings import CHOICES, Config
from avssl.core.errors import ConfigError

NONE = ("none", "None", "null")
"""Words for None on the command line."""
OF_OLD_RUNS = {"optim": {"decay_tokens": True}}
"""Nested settings of runs that began before these settings existed, and that go on as they began."""
_Root = TypeVar("_Root")
"""A dataclass of groups of settings: :class:`Config` for pretraining."""


@cache
def field_docs(cls: type) -> dict[str, str]:
    """Return the documentation of each field of a dataclass and of its bases.

    Example:
        >>> field_docs(OptimConfig)["grad_clip"]
        'Maximum gradient norm, above which gradients are scaled down; None for no limit.'
    """
    docs = {field.name: field.metadata["help"] for field in dataclasses.fields(cls) if "help" in field.metadata}
    for base in reversed(cls.__mro__[:-1]):
        for parameter in docstring_parser.parse_from_object(base).params:
            docs[parameter.arg_name] = " ".join((parameter.description or "").split())
    return docs


def config_from_dict(
    tree: Mapping[str, Any],
    source: str = "",
    root: type[_Root] = Config,  # type: ignore[assignment]
    base: Mapping[str, Any] | None = None,
) -> _Root:
    """Return checked settings from nested mappings; missing settings get their defaults.

    Args:
        tree: Nested settings, as in a YAML file.
        source: Prefix of error messages, such as ``"configs/x.yaml: "``.
        root: Dataclass to build.
        base: Settings that ``tree`` overrides. If ``tree`` names another choice, the options of the base's choice
            are dropped.

    Raises:
        ConfigError: If a key is unknown, belongs to another choice, or has a value of the wrong type.

    Example:
        >>> config = config_from_dict({"optim": {"lr": 0.01}, "objective": {"name": "vicreg"}})
        >>> config.optim.lr, config.optim.epochs, config.objective.name
        (0.01, 20, 'vicreg')
        >>> config_from_dict({"objective": {"temprature": 0.1}})
        Traceback (most recent call last):
            ...
        avssl.core.errors.ConfigError: objective.temprature is not a setting. Did you mean objective.temperature?
    """
    return _resolve({}, flatten(with_presets(tree)), source, root, base)


def load_config(
    path: Path | str,
    root: type[_Root] = Config,  # type: ignore[assignment]
    *,
    is_written: bool = False,
) -> _Root:
    """Read the settings in a YAML file and its bases. Raises as :func:`config_from_dict`.

    Args:
        path: The file.
        root: Class of the settings.
        is_written: avssl wrote the file, with every setting of its version: later settings have the value that keeps
            what the run was.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("fast.yaml").write_text("{optim: {epochs: 5}, transform: {video: {size: 64}}}")
        >>> config = load_config("fast.yaml")
        >>> config.optim.epochs, config.transform.video.size
        (5, 64)
    """
    return config_from_dict(read_yaml(path), source_of(path), root, OF_OLD_RUNS if is_written else None)


def load_run_config(folder: Path, root: type[_Root] = Config) -> _Root:  # type: ignore[assignment]
    """Read the ``config.yaml`` of a run directory.

    Raises:
        ConfigError: If the file is damaged, or its settings are those of another version of avssl, or of another verb.

    Example:
        >>> from pathlib import Path
        >>> folder = Path("runs/second")
        >>> folder.mkdir()
        >>> _ = (folder / "config.yaml").write_text(to_yaml(Config(optim=OptimConfig(epochs=5))))
        >>> load_run_config(folder).optim.epochs
        5
    """
    path = folder / "config.yaml"
    advice = "Copy it back from a backup, or start the run anew with --overwrite."
    try:
        tree = read_yaml(path)
    except ConfigError as error:
        raise ConfigError(f"{error} {advice}") from error
    if not tree:
        raise ConfigError(f"{path}: is empty. {advice}")
    try:
        return config_from_dict(tree, source_of(path), root, OF_OLD_RUNS)
    except ConfigError as error:
        raise ConfigError(
            f"{error} This run was made by an older version of avssl, or by another verb, and cannot be continued. "
            f"Continue it with the version that made it (git_commit in {folder / 'environment.json'}), or "
            "start a new run."
        ) from error


def parse_settings(
    given: Mapping[str, str | Sequence[str]],
    root: type[_Root] = Config,  # type: ignore[assignment]
    file: Path | str | None = None,
    base: Mapping[str, Any] | None = None,
) -> _Root:
    """Return checked settings from a command line.

    Args:
        given: Settings as written on the command line: ``{"optim.lr": "1e-4"}``; a list may be several words.
        root: Dataclass to build.
        file: YAML file that ``given`` overrides.
        base: Nested settings that both override, as for :func:`config_from_dict`.

    Raises:
        ConfigError: As :func:`config_from_dict`.

    Example:
        >>> config = parse_settings({"optim.lr": "1e-4", "optim.betas": ["0.9", "0.98"], "train.threads": "none"})
        >>> config.optim.lr, config.optim.betas, config.train.threads
        (0.0001, (0.9, 0.98), None)
    """
    source, flat = ("", {}) if file is None else (source_of(file), flatten(read_yaml(file)))
    return _resolve(given, flat, source, root, base)


def _resolve(
    given: Mapping[str, str | Sequence[str]],
    flat: Mapping[str, Any],
    source: str,
    root: type[_Root],
    base: Mapping[str, Any] | None,
) -> _Root:
    """Return the settings of the command line, over those of the file ``source``, over the base, over the defaults."""
    below, defaults = flatten(with_presets(base or {})), root()
    layers = [(source, below), (source, flat), ("--", given)]
    names = read_names(layers, defaults)
    implied: dict[str, Any] = {}
    for path in foreign_groups(names):
        with _locating(given, flat, source):
            size = (below | dict(flat) | dict(given)).get("transform.video.size")
            own, wanted = describe_tower(path, _options(path, below | dict(flat), given, names, defaults), size)
        implied |= wanted
        flat, given = dict(flat) | own, {key: value for key, value in given.items() if key not in own}
    names = read_names([("", implied), *layers], defaults) if implied else names
    known = known_keys(names, defaults)
    refuse_unknown(flat, known, names, source)
    refuse_unknown(given, known, names, "--")
    replaced = {path for path, name in names.items() if below.get(f"{path}.name", name) != name}
    kept = {key: value for key, value in below.items() if key.rpartition(".")[0] not in replaced}
    kept = {key: value for key, value in implied.items() if key in known} | kept
    with _locating({}, flat, source):
        values = _typed(kept | dict(flat), {}, names, defaults)
        if not given:
            return _build(values, names, defaults)
    for group in PRESETS:
        chosen = preset_values(group, given.get(f"{group}.preset"))
        values |= {f"{group}.{option}": value for option, value in chosen.items()}
    with _locating(given, flat, source):
        return _build(_typed(values, given, names, defaults), names, defaults)


def read_names(layers: Iterable[tuple[str, Mapping[str, Any]]], defaults: Any) -> dict[str, str]:
    """Return the name of each choice: that of the last layer that gives one, or that of ``defaults``, a root.

    Layers are (source for error messages, flat settings), lowest first.
    """
    names: dict[str, str] = {}
    for path in CHOICES:
        value = defaults
        for part in path.split("."):
            value = getattr(value, part, None)
        if value is not None:
            names[path] = value.name
    for source, flat in layers:
        for path in names:
            table = CHOICES[path]
            name = flat.get(f"{path}.name", names[path])
            if not isinstance(name, str) or name not in table:
                hint = did_you_mean(str(name), table)
                raise ConfigError(f"{source}{path}.name ({name}) must be one of {', '.join(table)}.{hint}")
            names[path] = name
    return names


def groups(names: Mapping[str, str], tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the default object of every group of settings, with the chosen dataclass for each choice."""
    for field in dataclasses.fields(tree):
        path, value = prefix + field.name, getattr(tree, field.name)
        if path in CHOICES:
            yield path, CHOICES[path][names[path]](name=names[path])
        elif any(dataclasses.is_dataclass(getattr(value, f.name)) for f in dataclasses.fields(value)):
            yield from groups(names, value, path + ".")
        else:
            yield path, value


def known_keys(names: Mapping[str, str], defaults: Any) -> set[str]:
    """Return the keys of all settings that exist with these choices."""
    return {f"{path}.{field.name}" for path, group in groups(names, defaults) for field in dataclasses.fields(group)}


def keys_of_other_choices(names: Mapping[str, str]) -> set[str]:
    """Return the keys of all options of all choices of these groups."""
    return {f"{path}.{name}" for path in names for cls in CHOICES[path].values() for name in _field_names(cls)}


def _field_names(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def did_you_mean(wrong: str, known: Collection[str], prefix: str = "") -> str:
    """Return a sentence that names the nearest known word; empty if none is near."""
    near = difflib.get_close_matches(wrong, sorted(known), n=1)
    return f" Did you mean {_shown(near[0], prefix)}?" if near else ""


def refuse_unknown(keys: Iterable[str], known: Collection[str], names: Mapping[str, str], source: str) -> None:
    """Raise an error for the first unknown key; it says which choice the key belongs to or which key is near.

    ``source`` begins the message: ``"--"`` for the command line.
    """
    dashes = "--" if source == "--" else ""
    for key in keys:
        if key in known:
            continue
        group, _, option = key.rpartition(".")
        owners = [name for name, cls in CHOICES.get(group, {}).items() if option in _field_names(cls)]
        inside = sorted(k for k in known if k.startswith(key + "."))
        if owners and group in names:
            text = f"is a setting of {group}.name={' or '.join(owners)}, and {group}.name is {names[group]}."
        elif inside:
            text = f"is a group of settings; set {', '.join(_shown(k, dashes) for k in inside)}."
        else:
            kind = "an option" if dashes and not group else "a setting"
            text = f"is not {kind}.{did_you_mean(key, known, dashes)}"
        raise ConfigError(f"{_shown(key, dashes) if dashes else source + key} {text}")


def _shown(key: str, prefix: str) -> str:
    """Return a key as its user writes it: with hyphens on the command line."""
    return f"--{key.replace('_', '-')}" if prefix == "--" else key


def _options(
    path: str, flat: Mapping[str, Any], given: Mapping[str, Any], names: Mapping[str, str], defaults: Any
) -> dict[str, Any]:
    """Return the typed values of one group of settings by their names in it."""
    start = f"{path}."
    here, there = ({key: v for key, v in layer.items() if key.startswith(start)} for layer in (flat, given))
    known = {key for key in known_keys(names, defaults) if key.startswith(start)}
    refuse_unknown([*here, *there], known, names, "")
    values = _typed(here, there, names, defaults, only=path)
    return {key.removeprefix(start): value for key, value in values.items()}


def _typed(
    flat: Mapping[str, Any],
    given: Mapping[str, str | Sequence[str]],
    names: Mapping[str, str],
    defaults: Any,
    only: str = "",
) -> dict[str, Any]:
    """Return a value of the right type for every setting: those of ``given``, over ``flat``, over the defaults.

    ``only`` is the path of the one group to return; empty for all groups.
    """
    # Imported here because "--help" of a verb needs the rest of this module alone.
    from jsonargparse import ArgumentError, ArgumentParser

    parser, words = ArgumentParser(exit_on_error=False, allow_abbrev=False), []
    for path, default in groups(names, defaults):
        if only and path != only:
            continue
        hints = get_type_hints(type(default))
        for field in dataclasses.fields(default):
            key = f"{path}.{field.name}"
            kind: dict[str, Any] = {"type": hints[field.name]}
            if path in CHOICES and field.name == "name":
                kind = {"choices": list(CHOICES[path])}
            parser.add_argument(f"--{key}", default=getattr(default, field.name), **kind)
            if key in given:
                words.append(f"--{key}={_one_word(given[key], hints[field.name])}")
    try:
        if given:
            parser.set_defaults(dict(flat))
            namespace = parser.parse_args(words)
        else:
            namespace = parser.parse_object(_nested(flat))
    except ArgumentError as error:
        raise ConfigError(_one_line(error)) from error
    return dict(namespace.items())


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = value
    return tree


def _build(values: Mapping[str, Any], names: Mapping[str, str], defaults: _Root) -> _Root:
    """Return the dataclasses from flat values. Their own checks start with the field that is wrong."""
    built: dict[str, Any] = {}
    for path, default in groups(names, defaults):
        fields = {field.name: values[f"{path}.{field.name}"] for field in dataclasses.fields(default)}
        try:
            built[path] = type(default)(**fields)
        except ValueError as error:
            raise ConfigError(f"{path}.{error}") from error

    def assemble(tree: Any, prefix: str) -> Any:
        parts = {field.name: prefix + field.name for field in dataclasses.fields(tree)}
        return type(tree)(
            **{n: built[p] if p in built else assemble(getattr(tree, n), p + ".") for n, p in parts.items()}
        )

    try:
        config: _Root = assemble(defaults, "")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return config


def locate(message: str, given: Collection[str], flat: Collection[str], source: str) -> str:
    """Return a message with the place where the setting at its beginning was given.

    That is the command line, which gives ``given``, or the file ``source``, which gives ``flat``.
    """
    key = re.split(r"[^\w.]", message, maxsplit=1)[0]
    if key in given:
        return _shown(key, "--") + message[len(key) :]
    return source + message if key in flat or not given else message


@contextmanager
def _locating(given: Collection[str], flat: Collection[str], source: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(locate(str(error), given, flat, source)) from error


def _one_word(words: str | Sequence[str], kind: Any) -> str:
    """Return what was given for a setting as one word of YAML: a list in brackets, ``null`` for None."""
    kinds = (kind,) if get_origin(kind) is tuple else get_args(kind) or (kind,)
    may_be_none = type(None) in kinds and words in (*NONE, *([name] for name in NONE))
    kind = next((each for each in kinds if get_origin(each) is tuple and not may_be_none), kind)
    if get_origin(kind) is tuple and not (isinstance(words, str) and words.startswith("[")):
        words = [words] if isinstance(words, str) else words
        if words[0].startswith("["):
            return " ".join(words)
        items = [item for word in words for item in word.split(",") if item]
        return json.dumps(items) if get_args(kind)[0] is str else f"[{', '.join(items)}]"
    word = words if isinstance(words, str) else " ".join(words)
    if float in kinds and word.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        return f"{'-' * word.startswith('-')}.{word.lstrip('+-').lower()[:3]}"  # as YAML writes it
    return "null" if word in NONE and type(None) in kinds and str not in kinds else word


def _one_line(error: Exception) -> str:
    """Return jsonargparse's message without its type notation: ``optim.lr: Expected a float. ...``."""
    text = " ".join(str(error).split())
    text = re.sub(r"Does not validate against any of the Union subtypes .*? Errors:", "", text)
    text = re.sub(
        r" - (Expected an? .*?) - Expected an? <class 'NoneType'> .*?Given value: ", r"\1, or none. Got value: ", text
    )
    text = " ".join(text.split())
    for noise, instead in (("Parser key ", ""), ("<class '", ""), ("'>", ""), ("typing.Literal", "one of ")):
        text = text.replace(noise, instead)
    text = re.sub(r'^"([\w.]+)":', r"\1:", text)
    text = text.replace("Expected a one of", "Expected one of").replace("Expected a int", "Expected an int")
    return text.removesuffix(".") + "."
