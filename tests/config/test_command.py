import sys

import pytest

from avssl.config.command import Verb
from avssl.core.errors import ConfigError

TOY = '''
"""A module that must not be imported for help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avssl.core.errors import InputError

FIRST = ("count", "out", "size")


@dataclass
class Inner:
    depth: int = 3
    """How deep."""


@dataclass
class Look:
    size: float = 2.0
    """How large. At 50 % it is small."""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise InputError(f"size ({self.size}) must be >= 0.")


def toy(
    source: Path | str,
    target: str = "there",
    *,
    count: int,
    out: Path | str | None = None,
    mode: Literal["fast", "slow"] = "fast",
    names: Sequence[str] = ("a", "b"),
    scale: Literal["video"] | tuple[float, float] = "video",
    boxes: float | bool = False,
    limit: int | None = 1,
    strict: bool = False,
    bar: bool = True,
    look: Look | None = None,
) -> dict:
    """Do a thing.

    It has a list:

    - one;
    - two,
      which is long.

    Args:
        source: File to read, in ``any`` format.
        target: Place to write to.
        count: How many.
        out: Folder.
        mode: Speed.
        names: Names.
        scale: Range.
        boxes: Draw boxes.
        limit: Most of them; None for all.
        strict: Fail early.
        bar: Show a bar.
        look: Colors.
    """
    return {key: value for key, value in locals().items()}
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_verb.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    yield Verb("toy", "toy_verb:toy")
    sys.modules.pop("toy_verb", None)


def test_the_function_is_called_with_what_is_given(toy):
    given = toy.run(["here", "--count", "3"])
    assert (given["source"], given["target"], given["count"], given["mode"]) == ("here", "there", 3, "fast")
    assert (given["strict"], given["bar"], given["look"]) == (False, True, None)
    given = toy.run(
        [
            "here",
            "near",
            "--count=-3",
            "-o",
            "x",
            "--mode",
            "slow",
            "--strict",
            "--no-bar",
            "--boxes",
            "--scale",
            "-0.5",
            "1",
        ]
    )
    assert (given["target"], given["count"], given["out"], given["mode"]) == ("near", -3, "x", "slow")
    assert (given["strict"], given["bar"], given["boxes"], given["scale"]) == (True, False, True, (-0.5, 1.0))


def test_several_values_are_separated_by_spaces_or_commas(toy):
    for words in (["--names", "x", "y z"], ["--names", "x,y z"]):
        assert toy.parse(["here", "--count", "1", *words])["names"] == ("x", "y z")
    for words in (["--scale", "0", "0.5"], ["--scale", "[0, 0.5]"], ["--scale=0,0.5"]):
        assert toy.parse(["here", "--count", "1", *words])["scale"] == (0.0, 0.5)
    assert toy.parse(["here", "--count", "1", "--scale", "video", "--boxes", "0.3"])["boxes"] == 0.3


def test_none_is_a_value_of_an_optional_option(toy):
    for word in ("none", "None", "null"):
        assert toy.parse(["here", "--count", "1", "--limit", word])["limit"] is None


def test_words_after_two_hyphens_are_no_options(toy):
    given = toy.parse(["--count", "1", "--", "--my_file", "-h"])
    assert (given["source"], given["target"]) == ("--my_file", "-h")


def test_a_list_in_one_word_ends_there(toy):
    for words in (["--scale", "[0,1]"], ["--scale", "0,1"], ["--scale=0,1"]):
        given = toy.parse(["--count", "1", *words, "here"])
        assert (given["source"], given["scale"]) == ("here", (0.0, 1.0))


def test_fields_of_a_dataclass_are_options(toy):
    look = toy.run(["here", "--count", "1", "--depth", "5"])["look"]
    assert (look.size, look.inner.depth) == (2.0, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("here", "the following arguments are required: --count. See avssl toy --help."),
        ("--count 1", "required: SOURCE"),
        ("here --count x", r"--count \(x\) must be a whole number."),
        ("here --count", "expected one argument"),
        ("here --count 1 --size x", r"--size \(x\) must be a number."),
        ("here --count 1 --mode fats", r"--mode \(fats\) must be one of fast, slow. Did you mean fast\?"),
        ("here --count 1 --scale 1 2 3", r"--scale \(1 2 3\) must be one of video or 2 values, each a number."),
        ("here --count 1 --coutn 2", r"--coutn is not an option. Did you mean --count\?"),
        ("here there too --count 1", "unrecognized arguments: too"),
        ("--count 1 --boxes here", "required: SOURCE. --boxes took here; put SOURCE first."),
        ("--count 1 --names a here --strict", "required: SOURCE. --names took here; put SOURCE first."),
        ("--count 1 --source here", "SOURCE is given without --source: avssl toy SOURCE"),
        ("here --count 1 --out=", "--out is empty; name a file or folder"),
    ],
)
def test_wrong_command_lines_are_errors(toy, words, message):
    with pytest.raises(ConfigError, match=message):
        toy.parse(words.split())
    assert "toy_verb" not in sys.modules


def test_a_dataclass_that_rejects_a_value_names_the_option(toy):
    with pytest.raises(ConfigError, match=r"^--size \(-1.0\) must be >= 0."):
        toy.parse(["here", "--count", "1", "--size", "-1"])


def test_help_shows_first_options_and_all_of_them(toy, capsys):
    texts = {}
    for flag in ("--help", "-h", "--help-all"):
        with pytest.raises(SystemExit):
            toy.parse([flag, "here"])
        texts[flag] = capsys.readouterr().out
    assert texts["--help"] == texts["-h"]
    assert texts["--help"].startswith(
        "usage: avssl toy SOURCE [TARGET] --count N [options]\n\nDo a thing.\n\nIt has a list:\n\n"
        "- one;\n- two, which is long.\n"
    )
    first, everything = (" ".join(texts[flag].split()) for flag in ("--help", "--help-all"))
    for text in (" SOURCE File to read, in `any` format. ", "How large. At 50 % it is small. (default: 2.0)"):
        assert text in first
    assert "--mode" not in first
    for text in (" --mode {fast,slow} Speed. (default: fast) ", "--depth N", "--boxes [X]", "--bar, --no-bar"):
        assert text in everything
