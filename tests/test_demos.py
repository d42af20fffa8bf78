"""The scripts in demos/ run as their docstrings say."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avssl.build import build_model, build_transform
from avssl.config import Config, config_from_dict
from avssl.hub import save_pretrained
from avssl.media import open_media, read_picture

DEMOS = Path(__file__).parents[1] / "demos"


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(DEMOS / name), *words], capture_output=True, text=True, timeout=300)


def test_make_a_scene(tmp_path):
    done = run("make_a_scene.py", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("and it sounds") == 1
    assert (tmp_path / "out" / "scene" / "000000.mp4").is_file()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A release of a tiny model of two heads that has learnt nothing."""
    tree = {
        "data": {"source": "none"},
        "sampling": {"num_frames": 2, "frames_per_second": 4.0, "audio_seconds": 1.0, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16, "window_length": 256}},
        "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 8, "out_features": 8}},
        "objective": {"name": "dense_av", "num_heads": 2},
    }
    config = config_from_dict(tree, "", Config)
    transform = build_transform(config)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    return save_pretrained(tmp_path_factory.mktemp("demos") / "release", build_model(config, 0), transform, config)


def test_image_and_sound(tmp_path, weights):
    done = run("image_and_sound.py", str(tmp_path), str(weights))
    assert done.returncode == 0, done.stderr
    first, second = (read_picture(tmp_path / f"map_{number}.png") for number in range(2))
    assert first.shape == second.shape == (3, 384 + 120, 384)
    assert done.stdout.count("is that of the") == 2


def test_swap_the_sound(tmp_path, weights):
    done = run("swap_the_sound.py", str(tmp_path), str(weights))
    assert done.returncode == 0, done.stderr
    with open_media(tmp_path / "swapped.mp4") as reader:
        assert reader.info.width == 3 * 384
        assert reader.info.has_audio
    assert "silence: confidence" in done.stdout


def test_two_sources(tmp_path, weights):
    done = run("two_sources.py", str(tmp_path), str(weights))
    assert done.returncode == 0, done.stderr
    assert "right at" in done.stdout
    for name in ("two_sources.mp4", "heads.mp4"):
        with open_media(tmp_path / name) as reader:
            assert reader.info.duration_seconds == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize("path", sorted(DEMOS.glob("*.py")), ids=lambda path: path.name)
def test_demos_are_short(path):
    assert len(path.read_text().splitlines()) <= 80
