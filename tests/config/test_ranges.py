"""Every number that a user can set has a range, and values outside it are refused before anything is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from avssl.cli import VERBS
from avssl.config import CHOICES, Config, DistillConfig, FinetuneConfig, config_from_dict
from avssl.config.command import Verb, _leaves
from avssl.config.declared import Option, read_declaration
from avssl.config.parsing import groups, parse_settings, read_names
from avssl.core.errors import ConfigError, InputError
from avssl.core.ranges import ranges_in
from avssl.training.build import check_options

HOSTILE = ("-1", "0", "nan", "inf", "-inf", "1e30", str(2**64))
UNBOUNDED = {"stride", "first_block_stride"}
"""Pixels per cell: the class itself lists the few lawful ones."""


def _is_number(kind: Any) -> bool:
    return kind in (int, float) or (get_origin(kind) is not Literal and any(map(_is_number, get_args(kind))))


def _verb_numbers() -> Iterator[tuple[str, Option]]:
    for verb, path in VERBS.items():
        yield from ((verb, option) for _, option in _leaves(path) if _is_number(option.type))


def _groups() -> Iterator[tuple[str, str, type]]:
    """Every group of settings: its path, the name of its choice, its class."""
    seen = set()
    for root in (Config, FinetuneConfig, DistillConfig):
        for path, default in groups(read_names([], root()), root()):
            for name, cls in CHOICES[path].items() if path in CHOICES else [("", type(default))]:
                if (path, cls) not in seen:
                    seen.add((path, cls))
                    yield path, name, cls


SETTINGS = [
    (path, name, cls, field.name)
    for path, name, cls in _groups()
    for field in dataclasses.fields(cls)
    if _is_number(get_type_hints(cls)[field.name])
]


def test_every_number_has_a_range() -> None:
    open_ones = {f"{verb} --{option.name}" for verb, option in _verb_numbers() if not ranges_in(option.annotation)}
    for path, name, cls, field in SETTINGS:
        if not ranges_in(get_type_hints(cls, include_extras=True)[field]):
            open_ones.add(f"{path} {name} {field}")
    assert {where for where in open_ones if where.split()[-1].removeprefix("--") not in UNBOUNDED} == set()


def _words(verb: str) -> list[str]:
    """Return the words and options that the verb requires."""
    words: list[str] = []
    for _, option in _leaves(VERBS[verb]):
        if option.default is dataclasses.MISSING:
            choices = get_args(option.type) if get_origin(option.type) is Literal else ()
            value = choices[0] if choices else "1"
            words += [value] if option.is_positional else [f"--{option.name.replace('_', '-')}={value}"]
    short = read_declaration(VERBS[verb]) and Verb(verb, VERBS[verb]).declared("SHORT_NAMES", {})
    return words + [f"{word}=none" if word.startswith("--") else "folder" for word in short]


@pytest.mark.parametrize(
    ("verb", "option"), [pytest.param(verb, o, id=f"{verb} {o.name}") for verb, o in _verb_numbers()]
)
def test_hostile_numbers_of_verbs_are_refused_by_name_or_lawful(verb: str, option: Option) -> None:
    flag = f"--{option.name.replace('_', '-')}"
    required = [word for word in _words(verb) if not word.startswith(flag + "=")]
    for value in HOSTILE:
        for words in ([f"{flag}={value}"], [f"{flag}={value},{value}"]):
            try:
                Verb(verb, VERBS[verb]).parse([*required, *words])
            except ConfigError as error:
                assert str(error).startswith(flag), (value, error)  # noqa: PT017
                continue
            assert value not in ("nan", "inf", "-inf", "1e30", str(2**64)), (value, "is lawful nowhere")


def _values(cls: type, field: str) -> Iterator[Any]:
    kind = get_type_hints(cls)[field]
    sequence = next((k for k in (kind, *get_args(kind)) if get_origin(k) is tuple), None)
    for word in HOSTILE:
        value = float(word) if "." in word or not word.lstrip("-").isdigit() else int(word)
        yield value if sequence is None else (value,) * max(1, len([k for k in get_args(sequence) if k is not ...]))


@pytest.mark.parametrize(
    ("path", "name", "cls", "field"), [pytest.param(*s, id=f"{s[0]} {s[1]} {s[3]}") for s in SETTINGS]
)
def test_hostile_settings_are_refused_by_name_or_a_plan(path: str, name: str, cls: type, field: str) -> None:
    plain = {"name": name} if name else {}
    for value in _values(cls, field):
        try:
            cls(**plain, **{field: value})
        except InputError as error:
            assert field in str(error), error  # noqa: PT017
            continue
        number = value[0] if isinstance(value, tuple) else value
        assert math.isfinite(number) or field in UNBOUNDED
        tree = {path.split(".")[-1]: {**plain, field: value}}
        for group in reversed(path.split(".")[:-1]):
            tree = {group: tree}
        if path.split(".")[0] in Config.__dataclass_fields__ and (path, cls) in {(p, c) for p, _, c in _of(Config)}:
            try:
                check_options(config_from_dict(tree))
            except InputError as error:
                assert not isinstance(error, TypeError)  # noqa: PT017


def _of(root: type) -> Iterator[tuple[str, str, type]]:
    for path, default in groups(read_names([], root()), root()):
        for name, cls in CHOICES[path].items() if path in CHOICES else [("", type(default))]:
            yield path, name, cls


@pytest.mark.parametrize(
    ("key", "word", "message"),
    [
        ("optim.betas", "[0.9,2]", r"^--optim\.betas \(0\.9, 2\.0\) must all be in \[0, 1\)"),
        ("optim.lr", "nan", r"^--optim\.lr \(nan\) must be > 0"),
        ("optim.lr", "-inf", r"^--optim\.lr \(-inf\) must be > 0"),
        ("train.seed", str(10**23), r"^--train\.seed \(10{23}\) must be >= 0 and <= 9223372036854775807"),
        ("train.threads", "100000", r"^--train\.threads \(100000\) must be >= 1 and <= 1024"),
        ("data.num_workers", "-3", r"^--data\.num-workers \(-3\) must be >= 0"),
        ("data.segment_seconds", "0", r"^--data\.segment-seconds \(0\.0\) must be >= 0\.1"),
        (
            "transform.video.flip_probability",
            "3",
            r"^--transform\.video\.flip-probability \(3\.0\) must be in",
        ),
        ("model.video.num_blocks", "2000000 1", r"^--model\.video\.num-blocks \(2000000, 1\) must all be >= 1 and <="),
        ("sampling.audio_seconds", "inf", r"^--sampling\.audio-seconds \(inf\) must be >= 0\.001 and <= 1e\+08"),
    ],
)
def test_words_of_the_command_line_are_named_with_their_range(key: str, word: str, message: str) -> None:
    words: Any = word.split() if " " in word else word
    with pytest.raises(ConfigError, match=message):
        parse_settings({key: words})


@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf", "0.01"])
def test_scripts_of_data_sets_check_their_lengths_before_anything_is_read(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avssl.recipes.dataset_script import run_script, script_parser

    parser = script_parser("UCF101", "ucf101.csv")
    refuse = lambda options: pytest.fail("the files were looked at")  # noqa: E731
    assert run_script(parser, refuse, [str(tmp_path), f"--segment-seconds={value}"]) == 1
    assert "--segment-seconds (" in capsys.readouterr().err
