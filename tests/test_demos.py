"""The scripts in demos/ run as documented."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from avssl.media import open_media, read_image
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

DEMOS = Path(__file__).parents[1] / "demos"


def run(name: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMOS / name), *words], capture_output=True, text=True, timeout=300, cwd=cwd
    )


@pytest.fixture(scope="module")
def clips(talking_clips, tmp_path_factory) -> Path:
    """A folder with three clips of a talking face."""
    folder = tmp_path_factory.mktemp("talking")
    for clip in talking_clips[:3]:
        shutil.copy(clip, folder)
    return folder


def test_make_a_scene(tmp_path):
    done = run("make_a_scene.py", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("and it sounds") == 1
    assert (tmp_path / "out" / "scene" / "000000.mp4").is_file()


def test_hear_and_point(clips, tiny_release):
    clip = sorted(clips.iterdir())[0]
    done = run("hear_and_point.py", str(clip), str(tiny_release))
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^ *[\d.]+ s   x +\d+   y +\d+   cosine -?\d\.\d\d$", done.stdout, re.MULTILINE)) >= 8
    assert "; with silence " in done.stdout


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


def test_my_clip_heat_map(clips, tmp_path, tiny_release):
    clip = sorted(clips.iterdir())[0]
    done = run("my_clip_heat_map.py", str(clip), str(tiny_release), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the sound seems to come from x" in done.stdout
    with open_media(tmp_path / f"{clip.stem}_map.mp4") as reader:
        assert reader.info.duration_seconds == pytest.approx(3, abs=0.1)


def test_my_clips_search(clips, tmp_path, tiny_release):
    query = str(sorted(clips.iterdir())[0])
    for _ in range(2):
        done = run("my_clips_search.py", str(clips), query, str(tiny_release), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "complete already" in done.stdout
    assert (tmp_path / "search.html").stat().st_size > 1000


def test_my_clip_in_sync(clips, tmp_path, tiny_release):
    clip = sorted(clips.iterdir())[0]
    done = run("my_clip_in_sync.py", str(clip), str(tiny_release), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the best offset moves by" in done.stdout
    assert (tmp_path / f"{clip.stem}_sync.png").is_file()


def test_train_in_python(tmp_path):
    small = SceneSettings(width=48, height=48, duration_seconds=1.5)
    synthesize_corpus(tmp_path, {"train": Split(20, small)}, num_workers=0, progress=False)
    done = run("train_in_python.py", str(tmp_path / "train"), "2")
    assert done.returncode == 0, done.stderr
    assert "step    1   loss" in done.stdout
    assert "chance_R@5" in done.stdout
    assert len((DEMOS / "train_in_python.py").read_text().splitlines()) <= 70


def test_every_demo_runs_in_a_test():
    tests = Path(__file__).parent
    text = "".join(
        (tests / name).read_text(encoding="utf-8") for name in ("test_demos.py", "hub/export/test_export.py")
    )
    assert [path.name for path in DEMOS.glob("*.py") if f'"{path.name}"' not in text] == []


@pytest.mark.parametrize("path", sorted(DEMOS.glob("*.py")), ids=lambda path: path.name)
def test_demos_are_short(path):
    assert len(path.read_text().splitlines()) <= 80
