"""Time and memory of datasets/audioset.py on a made-up file as long as AudioSet's unbalanced one.

Run: python benchmarks/audioset_rows.py [--rows 2041789]

It writes the file in the official format, with random ids, seconds and labels and one audio file, runs the script
in a process of its own, and prints its time and its largest memory.
"""

from __future__ import annotations

import argparse
import random
import resource
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "datasets" / "audioset.py"
ALPHABET = string.ascii_letters + string.digits + "-_"


def write_files(root: Path, rows: int) -> None:
    """Write the segments, the class names and one audio file."""
    draw = random.Random(0)
    machine_ids = [f"/m/{number:05x}" for number in range(527)]
    classes = "".join(f'{n},{mid},"Class {n}, of sounds"\n' for n, mid in enumerate(machine_ids))
    (root / "class_labels_indices.csv").write_text(f"index,mid,display_name\n{classes}")
    with (root / "unbalanced_train_segments.csv").open("w") as file:
        file.write("# Segments csv\n# num_ytids\n# YTID, start_seconds, end_seconds, positive_labels\n")
        for row in range(rows):
            video, start = "".join(draw.choices(ALPHABET, k=11)), draw.randrange(0, 600, 10)
            labels = ",".join(draw.sample(machine_ids, draw.choice((1, 2, 2, 3, 4))))
            file.write(f'{video}, {start}.000, {start + 10}.000, "{labels}"\n')
            if row == 0:
                (root / f"{video}_{start}.wav").touch()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_041_789)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), rows)
        began = time.monotonic()
        subprocess.run([sys.executable, str(SCRIPT), folder, "--subset", "unbalanced"], check=True)
        seconds = time.monotonic() - began
        lines = sum(1 for _ in (Path(folder) / "manifest.missing.csv").open())
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{rows} rows, {lines - 1} of them listed as missing: {seconds:.1f} s, at most {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
