"""Locate two objects that sound in one scene at different times.

    python demos/two_sources.py [FOLDER] [RUN_OR_WEIGHTS]

Writes FOLDER/two_sources.mp4 and prints, for each sound event, the object under the peak of the map. A model with
several heads (objective dense_av) also shows them in separate colors: FOLDER/heads.mp4. CPU, seconds, no download.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from avssl.hub.pretrained import demo_weights, from_pretrained
from avssl.localization import Look, upsample
from avssl.localization.drawing.scale import heat_at
from avssl.recipes.localize import localize
from avssl.synthetic import SceneSettings, Split, read_truth, synthesize_corpus


def main(folder: Path, weights: str | None) -> None:
    """Write the video, and count the events at which the right object is found."""
    two_sound = SceneSettings(object_weights=(0, 0, 1), num_sounding=2)
    clips = synthesize_corpus(folder, {"two": Split(1, two_sound)}, seed=3, num_workers=0, progress=False)
    truth_file = clips.truth_file(0)
    assert truth_file is not None, "SoundingShapes clips have a truth"
    truth = read_truth(truth_file)
    maps = localize([clips.file(0)], checkpoint=weights, out=folder / "two_sources.mp4", stride_seconds=0.125)[
        "own audio"
    ]

    found = total = 0
    for second, sounding in zip(truth.event_seconds, truth.event_object, strict=True):
        if truth.sounding[sounding]:
            objects = truth.masks[truth.frame_at(second)]  # (O, H, W)
            heat = upsample(heat_at(maps, torch.tensor([second])), objects.shape[1:])[0]
            under = objects.reshape(len(objects), -1)[:, int(heat.argmax())].nonzero()[0]
            names = " and ".join(truth.kinds[number] for number in under) or "the background"
            print(f"{second:5.2f} s  the {truth.kinds[sounding]} sounds; the peak is on {names}")
            found, total = found + int(sounding in under), total + 1
    print(f"right at {found} of {total} events")

    if from_pretrained(weights or demo_weights()).model.num_heads > 1:
        localize([clips.file(0)], checkpoint=weights, out=folder / "heads.mp4", look=Look(heads=True))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "two_demo"), sys.argv[2] if len(sys.argv) > 2 else None)
