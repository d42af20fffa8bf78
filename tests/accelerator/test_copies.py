"""A batch is copied to an accelerator whole, and the host waits for none of it."""

import json
import subprocess
import sys
from pathlib import Path


def test_every_tensor_of_a_batch_is_copied_without_waiting() -> None:
    script = Path(__file__).with_name("copies.py")
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {
        "devices": ["pretend"],
        "audio": "torch.float32",
        "copies": 7,  # frames, chroma, audio, sizes, row, group and key
        "launches": 9,  # and int16 to float32, and its scale
        "blocking": 0,
    }
