"""Nothing that is printed steers the terminal, and nothing fails because its encoding lacks a letter."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings

import pytest
from tqdm import tqdm

from avssl.core.terminal import plain_output

NAME = "\x1b]0;PWNED\x07日本\x9b2J\r\u202e.mp4"
SHOWN = r"\x1b]0;PWNED\x07日本\x9b2J\r\u202e.mp4"


def written(action, encoding="utf-8", errors="strict") -> str:
    """Return the text that a terminal of this encoding receives."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors, write_through=True)
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = stream
    try:
        with plain_output():
            action()
        assert (sys.stdout, sys.stderr) == (stream, stream)
        assert stream.errors == errors
    finally:
        sys.stdout, sys.stderr = before
    return raw.getvalue().decode(encoding)


def log():
    handler = logging.StreamHandler()
    handler.emit(logging.LogRecord("avssl", logging.INFO, "", 0, "reads %s", (NAME,), None))


def warn():
    sys.stderr.write(warnings.formatwarning(NAME, UserWarning, "a.py", 1))


@pytest.mark.parametrize(
    "action",
    [
        lambda: print("file:", NAME),
        lambda: print(f"a\t{NAME}\nb", file=sys.stderr),
        lambda: sys.stdout.writelines(["x ", NAME, "\n"]),
        lambda: tqdm.write(f"- {NAME}"),
        log,
        warn,
    ],
    ids=["print", "stderr", "lines", "tqdm.write", "log", "warning"],
)
def test_control_characters_are_shown_and_do_nothing(action):
    text = written(action)
    assert SHOWN in text
    assert not set("\x1b\x07\x9b\u202e") & set(text)


def test_letters_that_an_encoding_lacks_are_shown():
    assert written(lambda: print("日本 é\u202f"), "ascii") == "\\u65e5\\u672c \\xe9\\u202f\n"
    assert written(lambda: print("\udcff"), "utf-8") == "\\udcff\n"
    assert written(lambda: print("日本"), "latin-1") == "\\u65e5\\u672c\n"


def test_progress_bars_still_move():
    def bars():
        for _ in tqdm(range(2), "outer", mininterval=0):
            for _ in tqdm(range(2), "inner", mininterval=0, leave=False):
                pass

    text = written(bars)
    assert "\x1b[A" in text
    assert "\router: 100%" in text
    assert "\\" not in text


def test_a_closed_stream_stays_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with plain_output():
        print("nobody reads this")
        assert sys.stdout is None


CODE = """
import sys
from types import SimpleNamespace
from avssl import cli
from avssl.config import command
def action():
    print(NAME)
    raise cli.AvsslError(NAME)
NAME = {name}
command.importlib.import_module = lambda name: SimpleNamespace(doctor=action)
sys.exit(cli.main(["doctor"]))
"""


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_the_command_line_prints_any_name_in_any_locale(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = "日本\x1b[31m\udcff.mp4"
    done = subprocess.run([sys.executable, "-c", CODE.format(name=ascii(name))], capture_output=True, timeout=120)
    shown = rb"\u65e5\u672c\x1b[31m\udcff.mp4"
    assert (done.returncode, done.stdout, done.stderr) == (1, shown + b"\n", b"avssl: error: " + shown + b"\n")
