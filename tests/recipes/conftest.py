"""One small folder of videos, one small run on it, shared by the tests of the recipes."""

import math
from pathlib import Path

import pytest
import torch

from avssl.config import Config, FinetuneConfig, config_from_dict
from avssl.core.manifest import Manifest
from avssl.engine import Checkpointer, load_checkpoint
from avssl.media import write_video
from avssl.recipes.pretrain import pretrain

NUM_VIDEOS = 20

TINY = {
    "sampling": {
        "num_frames": 4,
        "frames_per_second": 4.0,
        "audio_seconds": 1.0,
        "sample_rate_hz": 8000,
        "short_side": 32,
    },
    "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16, "window_length": 256, "hop_seconds": 0.02}},
    "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 16, "out_features": 8}},
    "optim": {"batch_size": 8, "epochs": 4},
    "train": {
        "log_every": 1,
        "checkpoint_every_steps": 2,
        "threads": 1,
        "device": "cpu",
        "precision": "fp32",
        "memory_format": "contiguous",
    },
    "monitor": {"every_steps": 5, "num_clips": 8},
    "data": {"num_workers": 0, "backend": "pyav"},
}


def merged(tree: dict, changes: dict) -> dict:
    """Nested settings with some replaced."""
    both = dict(tree)
    for name, value in changes.items():
        both[name] = merged(tree.get(name, {}), value) if isinstance(value, dict) else value
    return both


@pytest.fixture(scope="session")
def tiny_config():
    """Makes a config that trains in a second: ``tiny_config(source, optim={"epochs": 1})``."""

    def make(source, **changes) -> Config:
        return config_from_dict(merged(merged(TINY, {"data": {"source": str(source)}}), changes))

    return make


def make_video(path: Path, number: int, seconds: float = 2.0, sound: bool = True) -> None:
    """A moving grating of its own width and a tone of its own pitch."""
    x = torch.arange(48.0)
    frames = [
        (127 + 120 * torch.sin(2 * math.pi * (x + 3 * t) / (4 + number % 7))).expand(3, 32, 48)
        for t in range(round(8 * seconds))
    ]
    t = torch.arange(round(8000 * seconds)) / 8000
    tone = 0.5 * torch.sin(2 * math.pi * (200 + 70 * number) * t)[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, torch.stack(frames).to(torch.uint8), 8.0, tone if sound else None, 8000)


@pytest.fixture(scope="session")
def video_maker():
    """:func:`make_video`, for tests that need files of their own."""
    return make_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A folder of 20 two-second mp4 files with sound."""
    folder = tmp_path_factory.mktemp("media") / "videos"
    for number in range(NUM_VIDEOS):
        make_video(folder / f"clip{number:02d}.mp4", number)
    return folder


@pytest.fixture(scope="session")
def run(videos, tiny_config, tmp_path_factory):
    """A finished run: 4 epochs of 2 steps."""
    path, _ = pretrain(tiny_config(videos), out=tmp_path_factory.mktemp("runs") / "tiny", progress=False)
    return path


@pytest.fixture
def assert_resumes_bit_for_bit(tmp_path, monkeypatch):
    """Trains 4 epochs of 2 steps at once, and again with a stop after step 4; returns the state they end with."""

    def check(config: Config) -> dict[str, torch.Tensor]:
        whole, _ = pretrain(config, out=tmp_path / "whole", progress=False)
        save = Checkpointer.save

        def stop_after_4(checkpointer, step, state):
            path = save(checkpointer, step, state)
            if step == 4:
                raise KeyboardInterrupt
            return path

        with monkeypatch.context() as patch:
            patch.setattr(Checkpointer, "save", stop_after_4)
            with pytest.raises(KeyboardInterrupt):
                pretrain(config, out=tmp_path / "parts", progress=False)
        torch.rand(3)  # a generator in another state
        parts, _ = pretrain(config, resume=tmp_path / "parts", progress=False)
        one, other = (load_checkpoint(path / "checkpoints/step-000000008.pt")["task"] for path in (whole, parts))
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=0, equal_nan=True)
        return one

    return check


NUM_LABELED = 24
CLASSES = {"wide": 6, "narrow": 0, "middle": 3}
FAST = {
    "data": {"num_workers": 0},
    "sampling": {"num_frames": 4, "frames_per_second": 4.0, "audio_seconds": 1.0, "sample_rate_hz": 8000},
    "transform": {
        "video": {"size": 32, "scale": [0.7, 1.0], "brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
        "spectrogram": {"num_mels": 16, "window_length": 256, "hop_seconds": 0.02},
    },
    "optim": {"name": "adam", "lr": 0.01, "batch_size": 6, "epochs": 4},
    "schedule": {"name": "cosine"},
    "classifier": {"dropout": 0.1},
    "test": {"windows_per_clip": 2, "report": False},
    "train": {
        "device": "cpu",
        "threads": 1,
        "precision": "fp32",
        "memory_format": "contiguous",
        "log_every": 1,
        "checkpoint_every_steps": 2,
    },
}


@pytest.fixture(scope="session")
def labeled_clips(tmp_path_factory):
    """24 clips of three gratings, with a split, two split columns, a fold, and a few odd columns."""
    folder = tmp_path_factory.mktemp("labeled")
    names, labels = [], []
    for number in range(NUM_LABELED):
        label = list(CLASSES)[number % 3]
        make_video(folder / f"clip{number:02d}.mp4", 7 * (number // 3) + CLASSES[label])
        names.append(f"clip{number:02d}.mp4")
        labels.append(label)
    half = ["train" if number < 15 else "test" for number in range(NUM_LABELED)]
    columns = {
        "id": names,
        "path": names,
        "label": labels,
        "split": half,
        "split1": half,
        "split2": half[::-1],
        "fold": [str(number // 3 % 2 + 1) for number in range(NUM_LABELED)],
        "two": [f"{label}|{'early' if number < 12 else 'late'}" for number, label in enumerate(labels)],
        "unknown": [*labels[:-1], "tall"],
        "rare": ["rare" if number == 0 else "common" for number in range(NUM_LABELED)],
        "gaps": [None if number in (0, 20) else "wide|tall" if number == 1 else k for number, k in enumerate(labels)],
        "empty": [None] * NUM_LABELED,
        "by_class": ["a" if label == "wide" else "b" for label in labels],
    }
    Manifest.from_columns(columns, folder).write(folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def finetuning():
    """Makes settings of a fine-tuning of seconds: ``finetuning(source, "none", optim={"epochs": 1})``."""
    from avssl.recipes.finetune import settings

    def make(source, checkpoint="none", **changes) -> FinetuneConfig:
        tree = merged(FAST, changes)
        if checkpoint == "none":
            tree = merged({"model": {"video": {"width": 4}, "audio": {"width": 4}}}, tree)
        return settings(source, checkpoint, tree)

    return make
