"""A tiny untrained model and a few tiny files."""

import math

import pytest
import torch

from avssl.config import config_from_dict
from avssl.hub.pretrained import from_pretrained, save_pretrained
from avssl.media import write_video
from avssl.training.build import build_model, build_transform

CONFIG = config_from_dict(
    {
        "sampling": {
            "num_frames": 4,
            "frames_per_second": 4.0,
            "audio_seconds": 1.0,
            "sample_rate_hz": 8000,
            "short_side": 48,
        },
        "transform": {
            "video": {"size": 48},
            "spectrogram": {"num_mels": 16, "window_length": 256, "hop_seconds": 0.02},
        },
        "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 16, "out_features": 8}},
    }
)


def make_clip(path, number, seconds=1.5, sound=True):
    """A grating that moves, and a chord that changes every half second."""
    x = torch.arange(48.0)
    frames = [
        (127 + 120 * torch.sin(2 * math.pi * (x + (3 + number) * t) / (5 + 3 * number))).expand(3, 48, 48)
        for t in range(round(8 * seconds))
    ]
    time = torch.arange(round(8000 * seconds)) / 8000
    pitch = 200 * (1 + number) * (1 + (2 * time).floor())
    tone = 0.5 * torch.sin(2 * math.pi * pitch * time)[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, torch.stack(frames).to(torch.uint8), 8.0, tone if sound else None, 8000)
    return path


@pytest.fixture(scope="session")
def clip_maker():
    """:func:`make_clip`."""
    return make_clip


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """A release folder of random weights that sees 48 x 48 pixels."""
    model, transform = build_model(CONFIG, seed=1), build_transform(CONFIG)
    transform.standardize.set_statistics(torch.linspace(-9, -4, 16), torch.full((16,), 2.0))
    return save_pretrained(tmp_path_factory.mktemp("release") / "weights", model, transform, CONFIG)


@pytest.fixture(scope="session")
def pretrained(release):
    """The model, with the whole frame as its picture."""
    return from_pretrained(release, crop="full")


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder of two clips; a third file is none."""
    folder = tmp_path_factory.mktemp("clips")
    make_clip(folder / "a.mp4", 0)
    make_clip(folder / "sub" / "b.mp4", 1)
    (folder / "broken.mp4").write_bytes(b"no video at all" * 100)
    return folder


@pytest.fixture(scope="session")
def mute(tmp_path_factory):
    """A clip without a audio stream."""
    return make_clip(tmp_path_factory.mktemp("mute") / "mute.mp4", 2, sound=False)
