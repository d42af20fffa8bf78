"""Small corpora with known truth, and an untrained model that looks at them."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.config import config_from_dict
from avssl.core.manifest import Manifest
from avssl.data.official.box_truth import TruthBox, TruthFrame, write_boxes
from avssl.hub.pretrained import from_pretrained, save_pretrained
from avssl.media import write_video
from avssl.synthetic import SceneSettings, Split, synthesize_corpus
from avssl.training.build import build_model, build_transform

RATE = 8000
TINY = {
    "data": {"source": "videos"},
    "sampling": {"num_frames": 4, "frames_per_second": 8.0, "audio_seconds": 0.5, "sample_rate_hz": RATE},
    "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16, "window_length": 256, "hop_seconds": 0.02}},
    "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 16, "out_features": 8}},
}


def write_sound(path: Path, pitch_hz: float, seconds: float = 1.0, loudness: float = 0.4) -> None:
    """A tone, as a WAV file."""
    t = np.arange(round(RATE * seconds)) / RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((32767 * loudness * np.sin(2 * math.pi * pitch_hz * t)).astype("<i2").tobytes())


def write_image(path: Path, seed: int, hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Noise, as a PNG or JPEG file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_clip(path: Path, pitch_hz: float = 300.0, seconds: float = 2.0) -> None:
    """A video of 8 frames a second whose frame k has the brightness 10 * k, with a tone."""
    frames = torch.arange(round(8 * seconds))[:, None, None, None].mul(10).expand(-1, 3, 32, 48).to(torch.uint8)
    t = torch.arange(round(RATE * seconds)) / RATE
    write_video(path, frames, 8.0, 0.4 * torch.sin(2 * math.pi * pitch_hz * t)[None], RATE)


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """A release of an untrained model."""
    config = config_from_dict(TINY)
    model, transform = build_model(config, seed=3), build_transform(config)
    transform.standardize.set_statistics(torch.full((16,), -40.0), torch.full((16,), 10.0))
    return save_pretrained(tmp_path_factory.mktemp("tiny") / "weights", model, transform, config)


@pytest.fixture
def pretrained(release):
    return from_pretrained(release, crop="full")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """SoundingShapes of 48 x 64 pixels: two or three objects, pairs, and clips in which nothing visible sounds."""
    base = {"width": 64, "height": 48, "video_fps": 8.0, "duration_seconds": 1.5, "sample_rate_hz": RATE}
    several, off_screen = (0.0, 1.0, 1.0), {"off_screen_fraction": 0.5, "silent_fraction": 0.5}
    return synthesize_corpus(
        tmp_path_factory.mktemp("shapes"),
        {
            "several": Split(4, SceneSettings(**base, object_weights=several)),
            "pairs": Split(4, SceneSettings(**base, object_weights=(0.0, 1.0), interactive_pairs=True)),
            "absent": Split(4, SceneSettings(**base, object_weights=several, **off_screen)),
        },
        num_workers=0,
        progress=False,
    )


LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
LOUD, QUIET = 0.8, 0.3


@pytest.fixture
def corpus(tmp_path):
    """Writes the files of a manifest: ``corpus.row("a0", picture="a", pair="a", boxes=[LEFT], loudness=0.8)``."""
    return Corpus(tmp_path)


class Corpus:
    """Still pictures with sounds and boxes, row by row."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, str | None]] = []

    def row(self, name: str, picture: str, boxes, *, loudness: float = QUIET, num_annotators: int = 1, **columns):
        if not (self.root / f"{picture}.png").exists():
            write_image(self.root / f"{picture}.png", len(self.rows))
        write_sound(self.root / f"sounds/{name}.wav", 300.0, loudness=loudness)
        frame = TruthFrame(None, [TruthBox(box, annotator=number) for number, box in enumerate(boxes)])
        truth = write_boxes(self.root, "boxes", name, [frame], num_annotators)
        paths = {"path": f"{picture}.png", "audio_path": f"sounds/{name}.wav", "truth": truth}
        self.rows.append({"id": name, **paths, "pair": None, "split": "test", **columns})

    def manifest(self) -> Manifest:
        columns = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        manifest = Manifest.from_columns(columns, self.root)
        manifest.write(self.root / "manifest.csv")
        return manifest


@pytest.fixture
def pairs(corpus):
    """Two pictures with two sounds each, as IS3: what is loud is on the left."""
    for name in "ab":
        corpus.row(f"{name}0", name, [LEFT], loudness=LOUD, pair=name)
        corpus.row(f"{name}1", name, [RIGHT], loudness=QUIET, pair=name)
    return corpus


@pytest.fixture
def clip_maker():
    """:func:`write_clip`."""
    return write_clip


@pytest.fixture
def picture_maker():
    """:func:`write_image`."""
    return write_image
