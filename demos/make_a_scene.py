"""Make one SoundingShapes clip and print its objects.

    python demos/make_a_scene.py [FOLDER]

Writes FOLDER/scene/000000.mp4 and its truth. CPU, seconds, no download.
"""

from __future__ import annotations

import sys

from avssl.synthetic import SceneSettings, Split, read_truth, synthesize_corpus


def main(folder: str) -> None:
    """Write the clip and print its objects."""
    three_objects = SceneSettings(object_weights=(0, 0, 1))
    manifest = synthesize_corpus(folder, {"scene": Split(1, three_objects)}, seed=7, num_workers=0, progress=False)
    path = manifest.truth_file(0)
    assert path is not None, "SoundingShapes clips have a truth"
    truth = read_truth(path)
    for kind, action, sounds in zip(truth.kinds, truth.actions, truth.sounding, strict=True):
        print(f"{kind}: {action}{', and it sounds' if sounds else ''}")
    print("sound events at", ", ".join(f"{second:.2f}" for second in truth.sounding_events()), "s")
    print(manifest.file(0))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "scene_demo")
