"""Python's pwd module knows no user here, as in a container that is run with another uid."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = """
import pwd
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""
NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")


def run(code, tmp_path, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    words = [sys.executable, "-c", UNKNOWN + code]
    kept |= {"PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(words, env=kept, cwd=tmp_path, capture_output=True, text=True, timeout=200)


def test_a_verb_runs_for_a_user_without_a_name(tmp_path):
    done = run("from avssl.cli import main\nraise SystemExit(main(['doctor']))", tmp_path)
    assert "Traceback" not in done.stderr
    assert "torch" in done.stdout
    assert list(tmp_path.iterdir()) == []  # no folder "~"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, f"uid{os.getuid()} /nonexistent"), ({"LOGNAME": "me", "HOME": "/home/me"}, "None /home/me")],
)
def test_what_is_known_stays(tmp_path, environment, expected):
    done = run("import avssl, os\nprint(os.environ.get('USER'), os.environ['HOME'])", tmp_path, **environment)
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")
