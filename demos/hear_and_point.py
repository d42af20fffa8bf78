"""Locate the sound source in one video, in Python: a heat map every quarter second, and its peaks as numbers.

    python demos/hear_and_point.py VIDEO RUN_OR_WEIGHTS

RUN is the folder of an `avssl pretrain` run, or `run/` of a demo. CPU, no download.
"""

from __future__ import annotations

import sys

import avssl
from avssl.localization import heatmap_readout


def main(video: str, checkpoint: str) -> None:
    """Print the peaks, and the confidence in silence."""
    heatmap = avssl.localize(video, checkpoint)
    silent = avssl.localize(video, checkpoint, "silence")
    with avssl.open_media(video) as reader:
        frame_hw = reader.info.height or 0, reader.info.width or 0
    for peak in heatmap_readout(heatmap, frame_hw):
        print(f"{peak['second']:6.2f} s   x {peak['x']:5.0f}   y {peak['y']:5.0f}   cosine {peak['confidence']:.2f}")
    # A model that uses the audio is less confident in silence.
    print(f"mean confidence {heatmap.confidence.mean():.2f}; with silence {silent.confidence.mean():.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
