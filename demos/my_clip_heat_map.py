"""Your own clip: where does its sound come from?

    python demos/my_clip_heat_map.py VIDEO [RUN_OR_WEIGHTS] [OUT.mp4]

Writes VIDEO_map.mp4: its own audio beside silence, on one color scale. Prints where the map is highest at its most
confident time, whether the audio matters, and whether the model knows such videos at all. Default: the weights that
come with avssl.
"""

from __future__ import annotations

import sys
from pathlib import Path

from avssl.core.batch import Heatmap
from avssl.localization import heatmap_readout
from avssl.media import open_media
from avssl.recipes.localize import localize


def main(video: str, weights: str | None = None, out: str | None = None) -> None:
    """Write the heat map, and print where it peaks with the audio and in silence."""
    out = out or f"{Path(video).stem}_map.mp4"
    found = localize([video], checkpoint=weights, out=out, silence=True, side_by_side=True)
    own, silent = found["own audio"], found["silence"]
    peak = best_peak(video, own)
    print(f"at {peak['second']:.2f} s the sound seems to come from x {peak['x']:.0f}, y {peak['y']:.0f} (pixels)")
    gain = float(own.confidence.mean() - silent.confidence.mean())
    print(f"confidence {own.confidence.mean():.2f}; in silence {silent.confidence.mean():.2f}")
    if gain <= 0:
        print("The map is no more confident with the audio than without: it does not say where the sound is.")


def best_peak(video: str, heatmap: Heatmap) -> dict[str, float]:
    """Return the peak of the most confident time."""
    with open_media(video) as reader:
        size = reader.info.height or 0, reader.info.width or 0
    return max(heatmap_readout(heatmap, size), key=lambda peak: peak["confidence"])


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
