"""The commands of the pages of docs/ run as they stand, in order, on generated clips."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from avssl.cli import main

SMALL = {
    "pretrain": {
        "sampling": {"num_frames": 4, "frames_per_second": 4.0, "audio_seconds": 1.0, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 32}},
        "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 16, "out_features": 8}},
        "optim": {"epochs": 1},
        "train": {"device": "cpu", "threads": 1, "precision": "fp32", "memory_format": "contiguous"},
        "data": {"num_workers": 0},
    },
    "finetune": {
        "optim": {"epochs": 2},
        "test": {"windows_per_clip": 2},
        "train": {"device": "cpu", "threads": 1},
        "data": {"num_workers": 0},
    },
}
"""Settings of trainings of a second, by verb."""


@pytest.fixture(scope="session")
def pages(benchmark_script):
    """Returns the commands of a page as first_minutes.py reads them: ``pages.commands("jobs.md")``."""
    return benchmark_script("first_minutes")


@pytest.fixture
def run_command(tmp_path, monkeypatch):
    """Runs a line of the page in an empty folder; trainings get small networks, and no browser opens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROWSER", "true")
    for verb, tree in SMALL.items():
        Path(f".{verb}.yaml").write_text(yaml.safe_dump(tree))

    def run(line: str) -> None:
        program, *words = shlex.split(line)
        if program == "avssl":
            is_new = words[0] in SMALL and "--resume" not in words
            small = ["--config", f".{words[0]}.yaml"] if is_new else []
            assert main([*words, *small]) == 0, line
        else:
            assert program == "python3"
            subprocess.run([sys.executable, *words], check=True, capture_output=True, timeout=60)

    return run


def test_classify_my_videos(pages, run_command, video_maker, capsys):
    for number in range(24):
        video_maker(Path("videos", ("dog", "bird", "cat")[number % 3], f"{number}.mp4"), number)
    video_maker(Path("new/monday.mp4"), 100, 3.0)
    video_maker(Path("new/tuesday.mp4"), 101, 2.0)
    job = "jobs.md", "Classify my videos"
    commands = pages.commands(*job)
    (python,) = re.findall(r"^```python\n(.*?)^```", pages.text_of(*job), re.DOTALL | re.MULTILINE)
    assert len(commands) == 5 + 1
    for line in commands:
        run_command(line)
    said = capsys.readouterr().out
    top1 = json.loads(Path("runs/videos-finetune/results.json").read_text())["mean"]["top1"]
    assert re.search(rf"on \d+ rows with a label of the classifier: top1 {top1:.3f}", said)
    page = Path("predictions.html").read_text()
    assert page.count("<video") == 2
    assert "new/monday.mp4" in page
    assert Path("predictions.windows.csv").read_text().count("monday") >= 2 * 3  # id and path of three windows
    exec(compile(python, "docs/jobs.md", "exec"), {})
    assert capsys.readouterr().out.count("new/monday.mp4: ") == 3


def test_first_run(pages, run_command):
    commands = pages.commands("first_run.md")
    assert len(commands) == 5
    for line in commands:
        run_command(re.sub(r"--num-clips \d+ --num-test-clips \d+", "--num-clips 16 --num-test-clips 8", line))
    assert Path("map.mp4").is_file()
    assert Path("results.html").is_file()


def test_your_own_videos(pages, run_command, video_maker):
    for number in range(12):
        video_maker(Path("videos", f"{'a' if number == 0 else number}.mp4"), number, 3.0)
    Path("sound.wav").symlink_to(Path("videos", "a.mp4").resolve())
    for line in pages.commands("your_videos.md"):
        run_command(line)
    for made in ("videos/manifest.csv", "map.mp4", "features.parquet", "results.html", "curve.png"):
        assert Path(made).is_file(), made
