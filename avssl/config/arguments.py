"""One option of a verb: how it is written, shown in help, and converted to its type."""

from __future__ import annotations

import argparse
import re
import textwrap
import types
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from avssl.config.declared import Option
from avssl.config.parsing import NONE, did_you_mean
from avssl.core.errors import ConfigError, InputError
from avssl.core.ranges import check_value, ranges_in

LETTERS = {"out": "-o", "k": "-k"}
"""One-letter forms of options; the same for every verb."""
_METAVARS = {"checkpoint": "MODEL", "resume": "RUN", "teacher": "RUN", "every": "SECONDS", "text": "WORDS"}
_WIDEST_CHOICES = 30
"""Choices that take more columns are listed in the text."""


class Parser(argparse.ArgumentParser):
    """A parser that raises a :class:`ConfigError` instead of exiting."""

    _taken = ""
    """The last option that takes several words, or may take one, and its last word."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.color = False  # Python 3.14 would write escape sequences, which are printed as text

    def error(self, message: str) -> NoReturn:
        """Raise the message of argparse; if a file is missing, say which option may have taken it."""
        missing = [str(action.metavar) for action in self._actions if not action.option_strings]
        first = next(
            (name for name in missing if re.search(rf"required: (.*, )?{re.escape(name)}(,|$)", message)), None
        )
        hint = f" {self._taken}; put {first} first." if first and self._taken else ""
        raise ConfigError(f"{message}.{hint} See {self.prog} --help.")

    def with_whole_lists(self, words: Sequence[str]) -> list[str]:
        """Return the words with each list in one word, ``[0, 1]`` or ``0,1``, joined to its option.

        The words that follow such a list are not part of it.
        """
        counts = {name: action.nargs for action in self._actions for name in action.option_strings}
        joined: list[str] = []
        option, self._taken = "", ""
        for word in words:
            is_list = word.startswith("[") or "," in word.strip(",")
            if option and joined[-1] == option and counts[option] == "+" and is_list and not word.endswith(","):
                joined[-1], option = f"{option}={word}", ""
                continue
            joined.append(word)
            if word.startswith("-") and not _is_number(word):
                option = word if counts.get(word) in ("+", "?") else ""
            elif option:
                self._taken = f"{option} took {word}"
        return joined

    def format_help(self) -> str:
        """Return the help; the usage names what is required."""
        needed = []
        for action in self._actions:
            if not action.option_strings:
                name = f"{action.metavar} ..." if action.nargs in ("+", "*") else str(action.metavar)
                needed.append(f"[{name}]" if action.nargs in ("?", "*") else name)
            elif action.required:
                needed.append(f"{action.option_strings[0]} {action.metavar}")
        self.usage = " ".join([self.prog, *needed, "[options]"])
        return super().format_help()


class HelpFormatter(argparse.HelpFormatter):
    """Keeps paragraphs and never breaks a line inside an option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(self._fill_paragraph(part, width, indent) for part in text.strip().split("\n\n"))

    def _fill_paragraph(self, text: str, width: int, indent: str) -> str:
        """Wrap a paragraph; each item of a list starts a line."""
        items = re.split(r"\n\s*(?=- )", text)
        return "\n".join(
            textwrap.fill(
                " ".join(item.split()),
                width,
                initial_indent=indent,
                subsequent_indent=indent + "  " * item.startswith("- "),
                break_on_hyphens=False,
            )
            for item in items
        )

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def add_option(parser: Any, option: Option, *, is_shown: bool) -> None:
    """Add an option of a verb to a parser or to one of its groups."""
    kind: dict[str, Any] = {"metavar": metavar(option)}
    if option.is_positional:
        if takes_list(option):
            kind["nargs"] = "+" if option.default is MISSING else "*"
        elif option.default is not MISSING:
            kind["nargs"] = "?"
        parser.add_argument(option.name, help=help_text(option, is_shown), **kind | {"metavar": option.name.upper()})
        return
    kinds = _alternatives(option.type)
    if kinds == [bool]:
        kind = {"action": argparse.BooleanOptionalAction if option.default else "store_true"}
    elif bool in kinds:
        kind |= {"nargs": "?", "const": True}
    elif any(_is_sequence(kind) for kind in kinds):
        kind["nargs"] = "+"
    names = [f"--{option.name.replace('_', '-')}", *filter(None, [LETTERS.get(option.name)])]
    if names[0] == names[-1].replace("-", "--"):  # --k, -k
        names = names[::-1]
    parser.add_argument(*names, required=option.default is MISSING, help=help_text(option, is_shown), **kind)


def add_setting(section: Any, key: str, option: Option, *, is_shown: bool, several: bool = False) -> None:
    """Add a setting, such as ``optim.lr``, whose value is converted with the other settings.

    ``several`` allows several values of every setting.
    """
    name = f"--{key.replace('_', '-')}"
    shown: Any = metavar(option)
    words = {"nargs": "+"} if several or takes_list(option) else {}
    if words and shown.startswith("{"):
        shown = (shown, "NAME")  # the choices once
    section.add_argument(name, metavar=shown, help=help_text(option, is_shown), **words)


def takes_list(option: Option) -> bool:
    """Return True if the value of an option is a list."""
    return any(map(_is_sequence, _alternatives(option.type)))


def help_text(option: Option, is_shown: bool = True) -> str:
    """Return the text of help of an option, with its default."""
    if not is_shown:
        return argparse.SUPPRESS
    text, default = option.help.replace("``", "`"), option.default
    kinds = _alternatives(option.type)
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal and not metavar(option).startswith("{"):
        text += f" One of {', '.join(map(str, get_args(kinds[0])))}."
    if isinstance(default, (tuple, list)):
        default = " ".join(map(str, default))
    lawful = " or ".join(dict.fromkeys(lawful.short for lawful in ranges_in(option.annotation)))
    notes = [lawful] if lawful and lawful not in text else []
    is_said = default is MISSING or default in ("", None) or default is False or "default:" in text.lower()
    notes += [] if is_said else [f"default: {'yes' if default is True else default}"]
    return (f"{text} ({'; '.join(notes)})" if notes else text).replace("%", "%%")


def metavar(option: Option) -> str:
    """Return the name of an option's value in help."""
    kinds = _alternatives(option.type)
    kind: Any = next((kind for kind in kinds if kind is not bool), bool)
    if get_origin(kind) is Literal:
        choices = "{" + ",".join(map(str, get_args(kind))) + "}"
        return choices if len(choices) <= _WIDEST_CHOICES and len(kinds) == 1 else "NAME"
    if _is_sequence(kind):
        return metavar(Option(option.name, get_args(kind)[0], None, ""))
    if option.name in _METAVARS:
        return _METAVARS[option.name]
    if kind is float:
        return "SECONDS" if option.name.endswith("seconds") else "X"
    return {bool: "{true,false}", int: "N", Path: "PATH"}.get(kind, "NAME")


def convert(value: Any, option: Option) -> Any:
    """Return the words that were given for an option, in its type.

    Raises:
        ConfigError: If they are of no type that the option takes, or a number is not in its range.
    """
    shown = option.name if option.is_positional else f"--{option.name.replace('_', '-')}"
    if isinstance(value, bool):
        return value
    words = [value] if isinstance(value, str) else list(value)
    kinds = [kind for kind in _alternatives(option.type) if kind is not bool]
    if words[-1] in NONE and type(None) in get_args(option.type) and not {str, Path} & set(kinds):
        return None
    if words == [""] and (Path in kinds or any(map(_is_sequence, kinds))):
        raise ConfigError(f"{shown} is empty; name a file or folder, or leave it out.")
    for kind in kinds:
        try:
            found = _parse(kind, words)
        except ValueError:
            continue
        try:
            check_value(shown, found, option.annotation)
        except InputError as error:
            raise ConfigError(str(error)) from error
        return found
    hint = did_you_mean(words[0], get_args(kinds[0])) if get_origin(kinds[0]) is Literal else ""
    raise ConfigError(f"{shown} ({' '.join(words)}) must be {' or '.join(map(_described, kinds))}.{hint}")


def _is_number(word: str) -> bool:
    return re.match(r"-\.?\d", word) is not None


def _alternatives(kind: Any) -> list[Any]:
    """Return the types that a value may have, without None; a path may be any word."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    kept = [kind for kind in kinds if kind is not type(None)]
    return [Path] if Path in kept else kept


def _is_sequence(kind: Any) -> bool:
    return isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Sequence)


def _parse(kind: Any, words: list[str]) -> Any:
    if _is_sequence(kind):
        element, *rest = get_args(kind)
        breaks = r"," if element is str else r"[\s,\[\]()]+"
        is_path = Path in _alternatives(element)  # a name may hold any letter
        items = words if is_path else [part for word in words for part in re.split(breaks, word) if part]
        if rest and rest[-1] is not Ellipsis and len(items) != 1 + len(rest):
            raise ValueError
        return tuple(_parse(element, [item]) for item in items)
    (word,) = words
    if get_origin(kind) is Literal:
        if word not in get_args(kind):
            raise ValueError
        return word
    return kind(word) if kind in (int, float) else word


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if _is_sequence(kind):
        element, *rest = get_args(kind)
        count = "several values, each" if not rest or rest[-1] is Ellipsis else f"{1 + len(rest)} values, each"
        return f"{count} {_described(element)}"
    return {int: "a whole number", float: "a number"}.get(kind, "a word")
