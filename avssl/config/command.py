"""The command line of a verb, read from the signature of the function that runs it.

A verb is one function. Its positional parameters are words, its keyword-only parameters are options, and their help
is the ``Args`` section of its docstring:

- ``bool = False`` is a flag, ``bool = True`` a flag with a ``--no-`` form;
- a parameter without a default is required; ``float | bool`` is an option whose value may be left out;
- a tuple or sequence takes several values, separated by spaces or commas;
- a dataclass brings an option for each of its fields;
- a root of settings (:class:`avssl.config.Config` ...) brings its groups, ``--config``, ``--print-config`` and, if the
  function has a parameter ``resume``, the settings of that run;
- a :class:`avssl.config.Grid` brings the same, and each setting may have several values: a run for each combination.

The module of the function is not imported until the command line is understood, so ``--help`` and errors are quick.
It may declare two constants and two functions for the command line:

- ``FIRST``: names of the options that ``--help`` shows; ``--help-all`` shows all of them;
- ``SHORT_NAMES``: words and options that stand for a setting, such as ``{"source": "data.source"}``;
- ``base_settings(given)``: nested settings that file and command line override, such as those of a checkpoint;
- ``check_settings(config)``: raises the errors of settings that a run would reject, before they are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Literal, get_type_hints

from avssl.config.arguments import LETTERS, HelpFormatter, Parser, add_option, add_setting, convert, takes_list
from avssl.config.declared import Option, has_function, read_constant, read_declaration
from avssl.config.files import flatten, read_yaml, source_of, to_yaml
from avssl.config.grid import Grid, make_grid
from avssl.config.parsing import (
    OF_OLD_RUNS,
    field_docs,
    groups,
    keys_of_other_choices,
    known_keys,
    load_run_config,
    locate,
    parse_settings,
    read_names,
    refuse_unknown,
)
from avssl.config.resumed import refuse_changes
from avssl.config.settings import CHOICES
from avssl.core.errors import ConfigError, InputError

_NAMES = {letter: name for name, letter in LETTERS.items()}


@dataclass(frozen=True)
class Verb:
    """The command line of one verb."""

    name: str
    """The word after ``avssl``."""
    path: str
    """``module:function``."""

    @cached_property
    def summary(self) -> str:
        """One line of help."""
        return read_declaration(self.path).summary

    def option_names(self) -> set[str]:
        """Return the names of all options with underscores; those of settings begin with their groups."""
        own = {option.name for _, option in self._options}
        return own | (_Settings(self, {})._known if self._root else set())

    def run(self, argv: Sequence[str]) -> Any:
        """Parse the command line, import the verb's module and call its function.

        Raises:
            ConfigError: If the command line cannot be understood.
            SystemExit: After help or the resolved settings were printed.
        """
        module, function = self.path.split(":")
        arguments = self.parse(argv)
        try:
            return getattr(importlib.import_module(module), function)(**arguments)
        except ConfigError as error:
            if self._root is None:
                raise
            raise _Settings(self, _given(_split(argv)[0])).located(error) from error

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return the keyword arguments of the verb's function. Raises as :meth:`run`."""
        words, files = _split(argv)
        if self.takes_grid and words and words[0].lower().endswith((".yaml", ".yml")):
            words = ["--config", *words]
        given = _given(words)
        settings = _Settings(self, given) if self._root else None
        parser = self._parser(settings, shows_all="help_all" in given)
        if {"help", "help_all"} & given.keys() or "-h" in words:
            print(parser.format_help(), end="")
            raise SystemExit(0)
        own = {_dest(text) for action in parser._actions for text in action.option_strings}
        for action in parser._actions:
            if not action.option_strings and action.dest in given.keys() - own:
                raise ConfigError(f"{action.metavar} is given without --{action.dest}: {parser.prog} {action.metavar}")
        refuse_unknown(given, own, settings.names if settings else {}, "--")
        values = vars(parser.parse_args([*parser.with_whole_lists(words), *files]))
        arguments = self._arguments(values)
        if settings and self._root:
            arguments[self._root[0]] = settings.resolve(values)
        return arguments

    # ---------------------------------------------------------------- what the module declares

    @cached_property
    def _options(self) -> list[tuple[str, Option]]:
        """The options in order; the prefix names the parameter whose dataclass has the option as a field."""
        return list(_leaves(self.path))

    @cached_property
    def _root(self) -> tuple[str, type] | None:
        """The parameter that takes the settings, and their class."""
        for option in read_declaration(self.path).options.values():
            if option.settings is not None and option.settings.startswith("avssl.config."):
                module, name = option.settings.split(":")
                kind = getattr(importlib.import_module(module), name)
                return option.name, getattr(kind, "ROOT", kind)
        return None

    @cached_property
    def takes_grid(self) -> bool:
        """True if each setting may have several values, for a run of each combination."""
        options = read_declaration(self.path).options.values()
        return any(str(option.settings).endswith(":Grid") for option in options)

    def declared(self, name: str, default: Any) -> Any:
        """Return a constant of the verb's module."""
        return read_constant(self.path.partition(":")[0], name, default)

    # ---------------------------------------------------------------- parser

    def _parser(self, settings: _Settings | None, *, shows_all: bool) -> Parser:
        about = read_declaration(self.path)
        parser = Parser(
            prog=f"avssl {self.name}",
            description=f"{about.summary}\n\n{about.description}".replace("``", "`"),
            formatter_class=HelpFormatter,
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        first = self.declared("FIRST", ())
        if settings is not None:
            settings.add_short_names_to(parser)
        for _, option in self._options:
            is_shown = shows_all or not first or option.is_positional or option.name in first
            add_option(parser, option, is_shown=is_shown)
        if settings is not None:
            settings.add_to(parser, first, shows_all)
        has_more = bool(first) or settings is not None
        what, more = (
            ("the options that are set most", "Show all options and exit.")
            if has_more
            else ("this help", argparse.SUPPRESS)
        )
        parser.add_argument("--help", "-h", action="store_true", help=f"Show {what} and exit.")
        parser.add_argument("--help-all", action="store_true", help=more)
        return parser

    def _arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the own options that were given, in their types; dataclasses are built from their fields."""
        arguments: dict[str, Any] = {}
        for prefix, option in self._options:
            if option.name not in values:
                continue
            inner = arguments
            for part in filter(None, prefix.split(".")):
                inner = inner.setdefault(part, {})
            inner[option.name] = convert(values[option.name], option)
        return _with_dataclasses(arguments, self.path)


class _Settings:
    """The settings of a verb, and how its command line gives them."""

    def __init__(self, verb: Verb, given: Mapping[str, str]) -> None:
        assert verb._root is not None
        self._module, self._root = verb.path.partition(":")[0], verb._root[1]
        self._short: dict[str, str] = verb.declared("SHORT_NAMES", {})
        self._resumed = given.get("resume")
        self._file = _config_of_run(self._resumed, given, self._root) if self._resumed else given.get("config")
        self._defaults = self._root()
        self._takes_grid = verb.takes_grid
        source, flat = (source_of(self._file), flatten(read_yaml(self._file))) if self._file else ("", {})
        self._source, self._flat, self._given = source, flat, given
        self.names = read_names([(source, flat), ("--", given)], self._defaults)
        self._known = known_keys(self.names, self._defaults)
        # The base is known once the module is imported, and its choices may have other options.
        self._has_base = not self._resumed and has_function(self._module, "base_settings")
        if self._has_base:
            self._known |= keys_of_other_choices(self.names)

    def located(self, error: ConfigError) -> ConfigError:
        """Return an error whose message begins with a setting with the place where that was given."""
        return ConfigError(locate(str(error), self._given, self._flat, self._source))

    def add_short_names_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the words and options that stand for a setting."""
        for short, key in self._short.items():
            is_positional = not short.startswith("--")
            is_known = {"resume", "print_config", key} & self._given.keys() or key in self._flat
            default = "" if is_positional or is_known else dataclasses.MISSING
            option = dataclasses.replace(
                self._option(key), name=_dest(short), default=default, is_positional=is_positional
            )
            add_option(parser, option, is_shown=True)

    def add_to(self, parser: argparse.ArgumentParser, first: Sequence[str], shows_all: bool) -> None:
        """Add ``--config``, ``--print-config`` and an option for every setting."""
        parser.add_argument("--config", metavar="FILE", help="YAML file of settings; options override it.")
        parser.add_argument("--print-config", action="store_true", help="Print all settings as YAML and exit.")
        found = {
            f"{path}.{field.name}": default
            for path, default in groups(self.names, self._defaults)
            for field in dataclasses.fields(default)
        }
        section, title = parser.add_argument_group("settings"), ""
        for key, default in found.items():
            group = key.rpartition(".")[0]
            if shows_all and group != title:
                section = parser.add_argument_group(group, (type(default).__doc__ or "").split("\n\n")[0])
                title = group
            option = self._option(key, default)
            add_setting(section, key, option, is_shown=shows_all or key in first, several=self._takes_grid)
        for key in sorted(self._known - found.keys()):
            path, _, name = key.rpartition(".")
            kinds = (get_type_hints(cls).get(name) for cls in CHOICES[path].values())
            option = Option(key, next(filter(None, kinds)), None, "")
            add_setting(section, key, option, is_shown=False, several=self._takes_grid)
        if not shows_all:
            parser.epilog = f"All {len(found)} settings: {parser.prog} --help-all"

    def _option(self, key: str, default: Any = None) -> Option:
        path, _, name = key.rpartition(".")
        if default is None:
            default = dict(groups(self.names, self._defaults))[path]
        cls: Any = type(default)
        kind, doc = get_type_hints(cls)[name], field_docs(cls).get(name, "")
        annotation = get_type_hints(cls, include_extras=True)[name]
        if path in CHOICES and name == "name":
            kind = Literal[tuple(CHOICES[path])]  # type: ignore[misc]
            *parents, last = path.split(".")
            parent: Any = type(reduce(getattr, parents, self._defaults))
            doc = field_docs(parent)[last]
        return Option(name, kind, getattr(default, name), doc, annotation=annotation)

    def resolve(self, values: Mapping[str, Any]) -> Any:
        """Return the settings; print them and exit if requested."""
        short = {key: values[dest] for word, key in self._short.items() if (dest := _dest(word)) in values}
        for word, key in self._short.items():
            if key in short and key in values:
                name = word if word.startswith("--") else word.upper()
                other = f"--{key.replace('_', '-')}"
                raise ConfigError(f"{name} ({short[key]}) and {other} ({values[key]}): one setting given twice.")
        if values.get("config") == "":
            raise ConfigError("--config is empty; name a YAML file, or leave it out.")
        given = {key: value for key, value in values.items() if key in self._known} | short
        base: Any = OF_OLD_RUNS if self._resumed else None
        if self._has_base:
            base = importlib.import_module(self._module).base_settings({**self._flat, **given})
        if self._takes_grid:
            return self._grid(given, "print_config" in values)
        config: Any = parse_settings(given, self._root, self._file, base)
        if self._resumed and self._file:
            refuse_changes(load_run_config(Path(self._resumed), self._root), config)
        if "print_config" in values:
            try:
                importlib.import_module(self._module).check_settings(config)
            except ConfigError as error:
                raise self.located(error) from error
            print(to_yaml(config), end="")
            raise SystemExit(0)
        return config

    def _grid(self, given: Mapping[str, Any], prints: bool) -> Grid:
        """Return the runs of all combinations of values; print their settings and exit if requested."""
        check = importlib.import_module(self._module).check_settings

        def parse(one: Mapping[str, Any]) -> Any:
            config: Any = parse_settings(one, self._root, self._file)
            try:
                check(config)
            except ConfigError as error:
                raise self.located(error) from error
            return config

        grid = make_grid(given, self._is_list, parse)
        if prints:
            print("---\n".join(to_yaml(run.config) for run in grid.runs), end="")
            raise SystemExit(0)
        return grid

    def _is_list(self, key: str) -> bool:
        known = dict(groups(self.names, self._defaults))
        path, _, name = key.rpartition(".")
        return path in known and name in get_type_hints(type(known[path])) and takes_list(self._option(key))


# ---------------------------------------------------------------- resumed runs


def _config_of_run(run: str, given: Mapping[str, str], root: type) -> Path:
    """Return the file with the settings of a run; raise ConfigError if options are given that come from the run."""
    if {"config", "out", "overwrite"} & given.keys():
        raise ConfigError("--resume takes everything from the run; leave out --config, --out and --overwrite.")
    file = Path(run) / "config.yaml"
    if not file.exists():
        raise InputError(
            f"{run}: no run to continue here (no config.yaml). If it was stopped while it started, start it again "
            "without --resume."
        )
    load_run_config(Path(run), root)
    return file


# ---------------------------------------------------------------- words


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first ``--``, options with hyphens, and the rest, which has no options."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    return [_with_hyphens(word) for word in argv[:end]], list(argv[end:])


def _with_hyphens(word: str) -> str:
    """Return an option with hyphens for underscores; its value stays."""
    if not re.match(r"--[A-Za-z]", word):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _dest(word: str) -> str:
    return word.removeprefix("--").replace("-", "_")


def _given(words: Sequence[str]) -> dict[str, str]:
    """Return each option on the command line with the word after it; keys have underscores."""
    given: dict[str, str] = {}
    for number, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            given[_dest(name)] = value if equals else "".join(words[number + 1 : number + 2])
        elif word[:2] in _NAMES:
            given[_NAMES[word[:2]]] = word[2:]
    return given


def _leaves(path: str, prefix: str = "") -> Iterator[tuple[str, Option]]:
    for option in read_declaration(path).options.values():
        if option.settings is None:
            yield prefix, dataclasses.replace(option, is_positional=option.is_positional and not prefix)
        elif not option.settings.startswith("avssl.config."):
            yield from _leaves(option.settings, f"{prefix}.{option.name}".removeprefix("."))


def _with_dataclasses(arguments: dict[str, Any], path: str) -> dict[str, Any]:
    """Build the dataclass of every parameter that has one."""
    for option in read_declaration(path).options.values():
        if option.settings is not None and option.name in arguments:
            module, name = option.settings.split(":")
            fields = _with_dataclasses(arguments[option.name], option.settings)
            try:
                arguments[option.name] = getattr(importlib.import_module(module), name)(**fields)
            except InputError as error:
                field = re.split(r"\W", str(error), maxsplit=1)[0]
                if isinstance(error, ConfigError) or field not in fields:
                    raise
                raise ConfigError(f"--{field.replace('_', '-')}{str(error)[len(field) :]}") from error
    return arguments
