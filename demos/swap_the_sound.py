"""Show whether the map depends on the audio: one video with its own audio, another video's, and silence.

    python demos/swap_the_sound.py [FOLDER] [RUN_OR_WEIGHTS]

Renders two scenes and writes FOLDER/swapped.mp4: three maps of the first on one color scale. A map that is the same for
all three ignores the audio. Default: the weights that come with avssl. CPU, seconds, no download.
"""

from __future__ import annotations

import sys
from pathlib import Path

from avssl.localization import Look
from avssl.recipes.localize import localize
from avssl.synthetic import SceneSettings, Split, synthesize_corpus


def main(folder: Path, weights: str | None) -> None:
    """Write the video, and print the model's confidence for each audio."""
    three_objects = SceneSettings(object_weights=(0, 0, 1))
    clips = synthesize_corpus(folder, {"scenes": Split(2, three_objects)}, seed=3, num_workers=0, progress=False)
    maps = localize(
        [clips.file(0)],
        checkpoint=weights,
        out=folder / "swapped.mp4",
        audio=clips.file(1),
        silence=True,
        side_by_side=True,
        look=Look(boxes=0.6),
    )
    for sound, heatmap in maps.items():
        print(f"{sound}: confidence {heatmap.confidence.mean():.2f} on average, {heatmap.confidence.max():.2f} at most")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "swap_demo"), sys.argv[2] if len(sys.argv) > 2 else None)
