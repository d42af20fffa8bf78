"""From a YAML file and a command line to a :class:`Config`, or another root of settings, in two steps.

The names are read first (``objective.name``, ``model.video.name`` ...), from the file and then
from the command line, wherever they stand. Then the parser is built with each choice's own
dataclass. So an unknown or misspelt key, or an option of another choice, is an error that names
it, and ``--help`` shows the fields that count. The command line always wins over the file.

Inside this file settings are flat: ``{"optim.lr": 1e-3}``.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
import textwrap
from argparse import Action
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from avssl.config.settings import CHOICES, Config
from avssl.core.errors import ConfigError

_Root = TypeVar("_Root")
"""A dataclass of groups of settings: :class:`Config` for pretraining."""


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The line of doc under each field of a dataclass and of its bases."""
    docs: dict[str, str] = {}
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
    """Checked settings from nested mappings; what they leave out takes its default.

    Args:
        tree: As in a YAML file.
        source: Prefix of error messages, such as ``"configs/x.yaml: "``.
        root: What to make.
        base: Further settings, that ``tree`` overrides. Where it names another choice than ``base`` does, the
            options that ``base`` gives of its own are left out.

    Raises:
        ConfigError: For an unknown key, an option of another choice, or a value of the wrong type.
    """
    flat, below, defaults = flatten(tree), flatten(base or {}), root()
    names = _read_names([(source, below), (source, flat)], defaults)
    flat = _of_chosen(below, names) | flat
    _refuse_unknown(flat, _known_keys(names, defaults), names, source)
    parser = new_parser()
    _add_settings(parser, names, defaults)
    return _build(_typed(parser, flat, source), names, source, defaults)


def load_config(path: Path | str, root: type[_Root] = Config) -> _Root:  # type: ignore[assignment]
    """Read the settings in a YAML file and its bases. Raises as :func:`config_from_dict`."""
    return config_from_dict(read_yaml(path), _source(path), root)


def load_run_config(folder: Path, root: type[_Root] = Config) -> _Root:  # type: ignore[assignment]
    """Read the ``config.yaml`` of a run directory.

    Raises:
        ConfigError: If the settings are those of another version of avssl, or of another verb.
    """
    try:
        return load_config(folder / "config.yaml", root)
    except ConfigError as error:
        raise ConfigError(
            f"{error} This run was made by an older version of avssl, or by another verb, and cannot be continued. "
            f"Continue it with the version that made it (git_commit in {folder / 'environment.json'}), or start a new "
            f"run; avssl pretrain can start from its weights with --train.init_from {folder}."
        ) from error


def to_dict(config: Any) -> dict[str, Any]:
    """Nested mappings and lists, as they are written to YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return {name: plain(group) for name, group in dataclasses.asdict(config).items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as ``{"optim.lr": 1e-3}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


class _Dumper(yaml.SafeDumper):
    """One line a setting; lists stay on that line."""


_Dumper.add_representer(list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True))


def to_yaml(config: Any) -> str:
    """The resolved settings, in the order of the dataclasses."""
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, default_flow_style=False)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read the settings in a YAML file, on top of those of the file that its ``base`` names.

    ``base: other.yaml`` is relative to the file itself. Where the file names another choice than its base, such as
    another ``objective.name``, the options of the base's choice are dropped.

    Raises:
        ConfigError: If a file is missing or is not a YAML mapping, or if bases form a circle.
    """
    tree: dict[str, Any] = {}
    for file, differences in reversed(_chain(path)):
        tree = _merge(tree, differences, f"{file}: ")
    return tree


def _chain(path: Path | str) -> list[tuple[Path, dict[str, Any]]]:
    """Return a config file with its settings, followed by its base, the base of that, and so on."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    file: Path | None = Path(path)
    while file is not None:
        if any(file.resolve() == earlier.resolve() for earlier, _ in chain):
            raise ConfigError(
                f"{path}: base: the files form a circle: {' -> '.join(str(f) for f, _ in chain)} -> {file}."
            )
        tree = _read_file(file, f"{chain[-1][0]}: base: " if chain else "")
        base = tree.pop("base", None)
        if base is not None and not isinstance(base, str):
            raise ConfigError(f"{file}: base ({base}) must be the name of a YAML file, relative to this file.")
        chain.append((file, tree))
        file = file.parent / base if base else None
    return chain


def _source(path: Path | str) -> str:
    """Return the prefix of error messages about a config file: its name and those of its bases."""
    first, *bases = [str(file) for file, _ in _chain(path)]
    return f"{first} (base {', '.join(bases)}): " if bases else f"{first}: "


def _read_file(path: Path, source: str) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{source}{path}: no such config file.")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: a config is a mapping of groups (data, model, optim ...), not a {type(tree).__name__}."
        )
    return tree or {}


def _merge(base: Mapping[str, Any], differences: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, Any]:
    """Return the settings of ``base`` as ``differences`` change them."""
    merged = dict(base)
    for key, value in differences.items():
        below, path = merged.get(key), prefix + key
        if not isinstance(below, Mapping) or not isinstance(value, Mapping):
            merged[key] = value
        elif path in CHOICES and "name" in value and below.get("name") != value["name"]:
            if "name" not in below and below:
                raise ConfigError(
                    f"{source}{path}.name ({value['name']}): the base sets {path}.{next(iter(below))} without a name. "
                    f"Add {path}.name to the base."
                )
            merged[key] = value
        else:
            merged[key] = _merge(below, value, source, path + ".")
    return merged


class _HelpFormatter(DefaultHelpFormatter):
    """Paragraphs stay paragraphs, and an option without a default says nothing of it."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        wrap = textwrap.TextWrapper(width, indent, indent, break_on_hyphens=False)
        return "\n\n".join(wrap.fill(" ".join(part.split())) for part in text.split("\n\n"))

    def _expand_help(self, action: Action) -> str:
        return re.sub(r" \(default: (null)?\)|, default: (null)?(?=\))", "", super()._expand_help(action))


def new_parser(prog: str | None = None, description: str | None = None) -> ArgumentParser:
    """A parser that raises instead of exiting, and takes no abbreviated options.

    A description that opens with a command in double backquotes has its usage from there.
    """
    text = description or ""
    command = re.match(r"``(.+?)``", text)
    return ArgumentParser(
        prog=prog,
        usage=f"{command[1]} [options]" if command else None,
        description=text.replace("``", "`"),
        formatter_class=_HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def parse_arguments(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """``parser.parse_args`` with misspelt options and wrong values as :class:`ConfigError`."""
    _refuse_unknown(_given(argv), _own_options(parser), {}, "", "--")
    try:
        return parser.parse_args(list(argv))
    except ArgumentError as error:
        raise ConfigError(_one_line(error)) from error


def parse_command(
    parser: ArgumentParser,
    argv: Sequence[str],
    root: type[_Root] = Config,  # type: ignore[assignment]
    base: Mapping[str, Any] | None = None,
) -> tuple[Namespace, _Root]:
    """Parses a verb's own options together with the whole configuration.

    Adds ``--config FILE``, ``--print_config`` (prints the resolved YAML and exits) and an option
    for every setting to ``parser``, which holds the verb's own arguments.

    Args:
        parser: From :func:`new_parser`, with the verb's own arguments added.
        argv: The words after the verb.
        root: What the settings are of.
        base: As of :func:`config_from_dict`; file and command line override it.

    Returns:
        The verb's own arguments (among others), and the configuration.

    Raises:
        ConfigError: As :func:`config_from_dict`, for the command line too.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file of the settings below; options override it.")
    parser.add_argument("--print_config", action="store_true", help="Print the resolved settings as YAML and exit.")
    given = _given(argv)
    path = given.get("config")
    source, flat = (_source(path), flatten(read_yaml(path))) if path is not None else ("", {})
    below, defaults = flatten(base or {}), root()
    names = _read_names([("", below), (source, flat), ("--", given)], defaults)
    known = _known_keys(names, defaults)
    _refuse_unknown(flat, known, names, source)
    _refuse_unknown(given, known | _own_options(parser), names, "", "--")
    _add_settings(parser, names, defaults)
    flat = _of_chosen(below, names) | flat
    if flat:
        from_file = _typed(parser, flat, source)
        _build(from_file, names, source, defaults)  # the file's own faults are told under its name
        parser.set_defaults({key: from_file[key] for key in flat})
    # jsonargparse has an option of this name too, and would take the word for it.
    namespace = parse_arguments(parser, [word for word in argv if word != "--print_config"])
    config = _build({key: namespace[key] for key in known}, names, "--", defaults)
    if "print_config" in given:
        print(to_yaml(config), end="")
        raise SystemExit(0)
    return namespace, config


def _given(argv: Sequence[str]) -> dict[str, str]:
    """Each ``--option`` on the command line with the word after it."""
    given = {}
    for word, after in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        if word == "--":
            break
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            given[key] = value if equals else after
    return given


def _own_options(parser: ArgumentParser) -> set[str]:
    return {text.removeprefix("--") for action in parser._actions for text in action.option_strings}


def _read_names(layers: Iterable[tuple[str, Mapping[str, Any]]], defaults: Any) -> dict[str, str]:
    """Step one: the ``*.name`` settings of the last layer that gives each, or the default."""
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
                hint = _did_you_mean(str(name), table)
                raise ConfigError(f"{source}{path}.name ({name}) must be one of {', '.join(table)}.{hint}")
            names[path] = name
    return names


def _of_chosen(below: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a base, but for options of a choice that a later layer has replaced."""
    replaced = {path for path, name in names.items() if below.get(f"{path}.name", name) != name}
    return {key: value for key, value in below.items() if key.rpartition(".")[0] not in replaced}


def _groups(names: Mapping[str, str], tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, default object) of every group of settings, the chosen dataclass in its place."""
    for field in dataclasses.fields(tree):
        path, value = prefix + field.name, getattr(tree, field.name)
        if path in CHOICES:
            yield path, CHOICES[path][names[path]](name=names[path])
        elif any(dataclasses.is_dataclass(getattr(value, f.name)) for f in dataclasses.fields(value)):
            yield from _groups(names, value, path + ".")
        else:
            yield path, value


def _known_keys(names: Mapping[str, str], defaults: Any) -> set[str]:
    return {f"{path}.{field.name}" for path, group in _groups(names, defaults) for field in dataclasses.fields(group)}


def _field_names(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def _did_you_mean(wrong: str, known: Collection[str], dashes: str = "") -> str:
    near = difflib.get_close_matches(wrong, sorted(known), n=1)
    return f" Did you mean {dashes}{near[0]}?" if near else ""


def _refuse_unknown(
    keys: Iterable[str], known: set[str], names: Mapping[str, str], source: str, dashes: str = ""
) -> None:
    """Names the first key that is not known, and says whose setting it is or what is near."""
    for key in keys:
        if key in known:
            continue
        group, _, option = key.rpartition(".")
        owners = [name for name, cls in CHOICES.get(group, {}).items() if option in _field_names(cls)]
        inside = sorted(k for k in known if k.startswith(key + "."))
        if owners and group in names:
            text = f"is a setting of {group}.name={' or '.join(owners)}, and {group}.name is {names[group]}."
        elif inside:
            text = f"is a group of settings; set {', '.join(dashes + k for k in inside)}."
        else:
            kind = "an option" if dashes and not group else "a setting"
            text = f"is not {kind}.{_did_you_mean(key, known, dashes)}"
        raise ConfigError(f"{source}{dashes}{key} {text}")


def _add_settings(parser: ArgumentParser, names: Mapping[str, str], defaults: Any) -> None:
    """Step two: one option for each field of each group, with its doc."""
    for path, default in _groups(names, defaults):
        cls: Any = type(default)
        section = parser.add_argument_group(path, (cls.__doc__ or "").split("\n\n")[0])
        docs, hints = field_docs(cls), get_type_hints(cls)
        for field in dataclasses.fields(cls):
            is_choice = path in CHOICES and field.name == "name"
            kind: dict[str, Any] = {"choices": list(CHOICES[path])} if is_choice else {"type": hints[field.name]}
            value = getattr(default, field.name)
            section.add_argument(f"--{path}.{field.name}", default=value, help=docs.get(field.name), **kind)


def _typed(parser: ArgumentParser, flat: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Every setting in the type of its field: those given, and the defaults of the others."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = value
    try:
        namespace = parser.parse_object(tree)
    except ArgumentError as error:
        raise ConfigError(f"{source}{_one_line(error)}") from error
    return dict(namespace.items())


def _build(values: Mapping[str, Any], names: Mapping[str, str], source: str, defaults: _Root) -> _Root:
    """The dataclasses from flat values. Their own checks start with the field that is wrong."""
    built: dict[str, Any] = {}
    for path, default in _groups(names, defaults):
        fields = {field.name: values[f"{path}.{field.name}"] for field in dataclasses.fields(default)}
        try:
            built[path] = type(default)(**fields)
        except ValueError as error:
            raise ConfigError(f"{source}{path}.{error}") from error

    def assemble(tree: Any, prefix: str) -> Any:
        parts = {field.name: prefix + field.name for field in dataclasses.fields(tree)}
        return type(tree)(
            **{n: built[p] if p in built else assemble(getattr(tree, n), p + ".") for n, p in parts.items()}
        )

    try:
        config: _Root = assemble(defaults, "")
    except ValueError as error:
        raise ConfigError(f"{source}{error}") from error
    return config


def _one_line(error: Exception) -> str:
    """jsonargparse's message without its type notation: ``optim.lr: Expected a float. ...``."""
    text = " ".join(str(error).split())
    for noise, instead in (("Parser key ", ""), ("<class '", ""), ("'>", ""), ("typing.Literal", "one of ")):
        text = text.replace(noise, instead)
    text = re.sub(r'^"([\w.]+)":', r"\1:", text)
    return text.replace("Expected a one of", "Expected one of").removesuffix(".") + "."
