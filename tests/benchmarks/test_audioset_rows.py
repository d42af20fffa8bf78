"""The benchmark of AudioSet's lists, on a few rows."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "audioset_rows.py"


def test_every_row_is_found_or_listed():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rows", "500"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "1 of 500 listed clips found" in done.stdout
    assert "500 rows, 499 of them listed as missing" in done.stdout
