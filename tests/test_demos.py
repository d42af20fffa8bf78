"""The scripts in demos/ run as documented."""

import subprocess
import sys
from pathlib import Path

import pytest

from avssl.media import open_media, read_image

DEMOS = Path(__file__).parents[1] / "demos"


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(DEMOS / name), *words], capture_output=True, text=True, timeout=300)


def test_make_a_scene(tmp_path):
    done = run("make_a_scene.py", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("and it sounds") == 1
    assert (tmp_path / "out" / "scene" / "000000.mp4").is_file()


def test_image_and_sound(tmp_path, tiny_release):
    done = run("image_and_sound.py", str(tmp_path), str(tiny_release))
    assert done.returncode == 0, done.stderr
    first, second = (read_image(tmp_path / f"map_{number}.png") for number in range(2))
    assert first.shape == second.shape == (3, 384 + 120, 384)
    assert done.stdout.count("is that of the") == 2


def test_swap_the_sound(tmp_path, tiny_release):
    done = run("swap_the_sound.py", str(tmp_path), str(tiny_release))
    assert done.returncode == 0, done.stderr
    with open_media(tmp_path / "swapped.mp4") as reader:
        assert reader.info.width == 3 * 384
        assert reader.info.has_audio
    assert "silence: confidence" in done.stdout


def test_two_sources(tmp_path, tiny_release):
    done = run("two_sources.py", str(tmp_path), str(tiny_release))
    assert done.returncode == 0, done.stderr
    assert "right at" in done.stdout
    for name in ("two_sources.mp4", "heads.mp4"):
        with open_media(tmp_path / name) as reader:
            assert reader.info.duration_seconds == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize("path", sorted(DEMOS.glob("*.py")), ids=lambda path: path.name)
def test_demos_are_short(path):
    assert len(path.read_text().splitlines()) <= 80
