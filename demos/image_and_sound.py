"""Locate the sound source in a still image: the same image with two audio files gives two maps.

    python demos/image_and_sound.py [FOLDER] [RUN_OR_WEIGHTS]

Renders a scene in which one of several objects sounds, and the same scene with another one sounding; writes
FOLDER/image.png, FOLDER/sound_0.wav and sound_1.wav, and FOLDER/map_0.png and map_1.png. Default: the weights that come
with avssl. CPU, seconds, no download.
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

from avssl import open_media
from avssl.media import write_image
from avssl.recipes.localize import localize
from avssl.synthetic import SceneSettings, Split, read_truth, synthesize_corpus

RATE_HZ = 24_000


def main(folder: Path, weights: str | None) -> None:
    """Write the image, the audio files and the maps, and print the true source."""
    pair = SceneSettings(object_weights=(0, 0, 1), interactive_pairs=True)
    clips = synthesize_corpus(folder, {"pair": Split(2, pair)}, seed=5, num_workers=0, progress=False)
    image = folder / "image.png"
    for number in range(2):
        truth_file = clips.truth_file(number)
        assert truth_file is not None, "SoundingShapes clips have a truth"
        truth = read_truth(truth_file)
        with open_media(clips.file(number)) as reader:
            if number == 0:
                write_image(image, reader.read_frames([truth.sounding_events()[0]])[0])
            write_wav(folder / f"sound_{number}.wav", reader.read_audio(0.0, 4.0, RATE_HZ)[0])
        print(f"sound {number} is that of the {truth.heard_kinds[0]}:", end=" ")
        localize([image], checkpoint=weights, out=folder / f"map_{number}.png", audio=folder / f"sound_{number}.wav")


def write_wav(path: Path, samples) -> None:
    """Write (S,) samples in [-1, 1] as 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((samples.clamp(-1, 1) * 32767).short().numpy().tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "image_demo"), sys.argv[2] if len(sys.argv) > 2 else None)
