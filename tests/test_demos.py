"""The scripts in demos/ run as their docstrings say."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMOS = Path(__file__).parents[1] / "demos"


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(DEMOS / name), *words], capture_output=True, text=True, timeout=300)


def test_make_a_scene(tmp_path):
    done = run("make_a_scene.py", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("and it sounds") == 1
    assert (tmp_path / "out" / "scene" / "000000.mp4").is_file()


@pytest.mark.parametrize("path", sorted(DEMOS.glob("*.py")), ids=lambda path: path.name)
def test_demos_are_short(path):
    assert len(path.read_text().splitlines()) <= 80
