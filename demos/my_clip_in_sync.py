"""Your own clip: is its audio early or late?

    python demos/my_clip_in_sync.py VIDEO RUN_OR_WEIGHTS [MAX_OFFSET_SECONDS]

Tries every offset of the audio up to 0.5 s (or MAX_OFFSET_SECONDS) in either direction, plots how well each fits, and
moves the audio by 0.2 s as a check: a model that can tell finds an offset that is 0.2 s larger. It needs a model that
was trained frame by frame on videos like yours, such as one of avssl pretrain FOLDER --config
configs/soundingshapes_sync.yaml, or one of GRID (benchmarks/real.py). The packaged weights were not trained so.
"""

from __future__ import annotations

import sys
import tempfile
import wave
from pathlib import Path

import torch

from avssl.media import open_media
from avssl.recipes.sync import sync

MOVED_SECONDS = 0.2
RATE_HZ = 48_000


def main(video: str, weights: str, most: str = "0.5") -> None:
    """Print the offset of the clip, and that of the clip with later audio."""
    own = sync(video, checkpoint=weights, out=f"{Path(video).stem}_sync.png", max_offset_seconds=float(most))
    with tempfile.TemporaryDirectory() as folder:
        sound, plot = Path(folder, "later.wav"), Path(folder, "later.png")
        write_later(video, sound)
        later = sync(video, checkpoint=weights, audio=sound, out=plot, max_offset_seconds=float(most))
    moved = later.lowest_at_seconds - own.lowest_at_seconds
    print(f"with audio {MOVED_SECONDS} s later the best offset moves by {moved:+.2f} s")
    if abs(moved - MOVED_SECONDS) > MOVED_SECONDS / 2:
        print("The model cannot tell the timing of this clip: do not trust its offset.")


def write_later(video: str, out: Path) -> None:
    """Write the audio of a video behind some silence."""
    with open_media(video) as reader:
        start, stop = reader.info.audio_start_seconds or 0.0, reader.info.audio_stop_seconds or 0.0
        samples = (reader.read_audio(start, stop, RATE_HZ)[0].clamp(-1, 1) * 32767).round().to(torch.int16)
    with wave.open(str(out), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(bytes(2 * round(MOVED_SECONDS * RATE_HZ)) + samples.numpy().tobytes())


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
