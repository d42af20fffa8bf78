"""A small run of the heat-map video benchmark."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "overlay.py"


def test_a_small_video_is_made_and_measured(tiny_release):
    words = [sys.executable, str(SCRIPT), "--seconds", "2", "--width", "64", "--height", "48"]
    done = subprocess.run([*words, "--checkpoint", str(tiny_release)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 s of 64 x 48 at 25 frames a second" in done.stdout
    wall, cpu, peak = map(float, re.search(r"(\S+) s wall .* (\S+) s CPU, (\S+) GiB at peak", done.stdout).groups())
    assert min(wall, cpu, peak) > 0
