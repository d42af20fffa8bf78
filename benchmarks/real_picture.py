"""Make the first image of README.md: a talking face of GRID under the heat map of its voice, and of silence.

    python benchmarks/real_picture.py docs/real.png --grid MANIFEST --checkpoint real.work/models/MODEL/release

MANIFEST is that of `python datasets/grid.py FOLDER`, and MODEL the row "whole frame: frame-wise, own clip" of
benchmarks/real.py. The clips are the first test clips of the manifest, not the best, each at its most confident time:
above with its own audio, below in silence, on one color scale a clip.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from avssl.core.manifest import read_manifest
from avssl.data.splits import split_rows
from avssl.recipes.localize import localize

CLIPS, WIDTH, COLORS = 4, 240, 96
SHOWN = 0.87
"""Height of a frame of 360 x 288 with its title, as a share of its width; the curves below are cut off."""


def main() -> None:
    """Write the image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--grid", type=Path, required=True, help="manifest of datasets/grid.py")
    parser.add_argument("--checkpoint", required=True, help="release of a row of benchmarks/real.py")
    options = parser.parse_args()
    manifest = read_manifest(options.grid)
    rows = np.flatnonzero(split_rows(manifest, "split", "test"))[:CLIPS].tolist()
    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        for row in rows:
            out = Path(folder, f"{row}.png")
            localize(manifest.file(row), checkpoint=options.checkpoint, out=out, silence=True, side_by_side=True)
            drawn.append(Image.open(out).convert("RGB"))
    columns = [np.asarray(stacked(image)) for image in drawn]
    picture = Image.fromarray(np.concatenate(columns, axis=1))
    picture.quantize(COLORS).save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size / 1024:.0f} KiB")


def stacked(image: Image.Image) -> Image.Image:
    """Return the frames of the two halves of an image, with their titles, one above the other."""
    width = image.width // 2
    height = round(SHOWN * width)
    both = Image.new("RGB", (width, 2 * height))
    for number in range(2):
        both.paste(image.crop((number * width, 0, (number + 1) * width, height)), (0, number * height))
    return both.resize((WIDTH, round(WIDTH * both.height / width)))


if __name__ == "__main__":
    main()
