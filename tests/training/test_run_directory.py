"""A run that is killed while it starts can be resumed or started again, whatever it was doing."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("start_killed.py")


@pytest.mark.parametrize("way", ["new", "overwrite"])
def test_a_kill_at_any_moment_of_the_start_leaves_a_run_that_is_resumable_or_free(tmp_path, way):
    command = [sys.executable, str(SCRIPT), str(tmp_path), way]
    ended = subprocess.run(command, timeout=300, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 20
