"""Without a terminal a log gets a plain line every 30 seconds at most, from all bars together."""

import io
import re
from pathlib import Path

import pytest

from avssl.core import progress
from avssl.core.progress import Bar

ROOT = Path(__file__).resolve().parents[2]


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when told: ``clock(seconds)``."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Bar, "_last_line", None)

    def wait(seconds):
        now[0] += seconds

    return wait


@pytest.fixture
def shown(monkeypatch):
    """``shown(file)`` replaces stderr."""

    def replace(file):
        monkeypatch.setattr("sys.stderr", file)
        monkeypatch.setenv("TERM", "xterm")
        return file

    return replace


def test_a_log_gets_a_line_every_30_seconds(clock, shown):
    told = shown(io.StringIO())
    with Bar(desc="work", total=1000, unit="file", mininterval=0.0) as bar:
        for _ in range(200):
            clock(1)
            bar.set_postfix(loss="1.5")
            bar.update()
    lines = told.getvalue().splitlines()
    assert len(lines) == 200 // 30
    assert re.fullmatch(r"work: file \d+ of 1000, \d\d:\d\d gone, .* left, .*file/s, loss=1.5", lines[0])
    assert "\r" not in told.getvalue()


def test_bars_share_the_30_seconds(clock, shown):
    told = shown(io.StringIO())
    for _ in range(100):
        for _ in Bar(range(3), "short", mininterval=0.0):
            clock(0.4)
    assert 0 < len(told.getvalue().splitlines()) <= 100 * 3 * 0.4 // 30


def test_an_unknown_total_has_no_remaining_time(clock, shown):
    told = shown(io.StringIO())
    with Bar(desc="work", unit="map", mininterval=0.0) as bar:
        clock(31)
        bar.update(5)
        assert re.fullmatch(r"work: map 5, \d\d:\d\d gone, .*map/s\n", told.getvalue())
        clock(31)
        bar.move(7, 10)
    assert "work: map 7 of 10" in told.getvalue()


def test_a_terminal_shows_a_bar(shown):
    told = shown(Screen())
    with Bar(desc="work", total=2) as bar:
        bar.update(2)
    assert "\rwork: 100%" in told.getvalue()


@pytest.mark.parametrize("show", [True, False])
def test_other_ranks_and_hidden_bars_are_silent(clock, shown, monkeypatch, show):
    monkeypatch.setenv("RANK", "1" if show else "0")
    told = shown(Screen())
    for _ in Bar(range(3), "work", show=show):
        clock(31)
    assert told.getvalue() == ""


def test_every_bar_is_one_of_these():
    found = {
        str(file.relative_to(ROOT))
        for folder in ("avssl", "datasets", "demos", "benchmarks", "docs")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"(import|from) tqdm", file.read_text(encoding="utf-8"))
    }
    assert found == {"avssl/core/progress.py"}
