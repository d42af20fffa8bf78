"""Time what a newcomer does: the commands of the documentation, as they stand, on a copy of the repository.

    python benchmarks/first_minutes.py                           install, then a heat map of a generated clip
    python benchmarks/first_minutes.py --clip talk.mp4           the same, of your own clip
    python benchmarks/first_minutes.py --folder DIR              then your own folder: model, heat map, search page
    python benchmarks/first_minutes.py --classes DIR             then class folders (DIR/LABEL/NAME.mp4): predictions
    python benchmarks/first_minutes.py --installed               with this environment, without installing

Commands are read from docs/install.md, docs/your_videos.md and the first job of docs/jobs.md. Each is timed and must
succeed. Trainings get two epochs. Clips must last at least 4 s: `avssl sync` moves the audio by 1 s both ways.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "runs", "site", "__pycache__", ".*_cache")
TRAINS = {"pretrain": ("--optim.epochs", "2"), "finetune": ("--optim.epochs", "2")}


def text_of(page: str, section: str = "") -> str:
    """Return a page, or one of its sections."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if section:
        (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return text


def commands(page: str, section: str = "") -> list[str]:
    """Return the shell commands of a page, or of one of its sections, in order; continued lines are joined."""
    text = text_of(page, section)
    shell = re.sub(r"\s*\\\n\s*", " ", "".join(re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)))
    lines = (line.partition(" #")[0].strip() for line in shell.splitlines())
    return [line for line in lines if line]


def run(line: str, folder: Path, programs: Path) -> float:
    """Run a command with the programs of an environment; print and return its seconds."""
    words = shlex.split(line)
    if words[0] == "avssl" and words[1] in TRAINS and "--resume" not in words and "--dry-run" not in words:
        line = shlex.join([*words, *TRAINS[words[1]]])
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "BROWSER": "true"}
    began = time.monotonic()
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - began
    print(f"{seconds:8.1f} s  {line}", flush=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}\nfailed with status {done.returncode}: {line}")
    return seconds


def main() -> None:
    """Run the paths, and print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="clip of the first heat map; default: a generated one")
    parser.add_argument("--folder", type=Path, help="folder of videos, for docs/your_videos.md")
    parser.add_argument("--classes", type=Path, help="folder of class folders, for the first job of docs/jobs.md")
    parser.add_argument("--installed", action="store_true", help="use this environment")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder, programs = Path(made) / "avssl", Path(sys.executable).parent
        shutil.copytree(REPOSITORY, folder, ignore=LEFT_OUT)
        total = 0.0
        if not options.installed:
            programs = folder / ".venv" / "bin"
            install = " && ".join(line for line in commands("install.md") if not line.startswith("git clone"))
            total += run(install, folder, programs)
        if options.clip is None:
            total += run("avssl synthesize scene --num-clips 1 --num-test-clips 0", folder, programs)
        clip = shlex.quote(str(options.clip.resolve())) if options.clip else "scene/train/000000.mp4"
        total += run(f"avssl localize {clip} -o map.mp4", folder, programs)
        print(f"{total:8.1f} s  until the first heat map\n")
        for source, place, page, section in (
            (options.folder, "videos", "your_videos.md", ""),
            (options.classes, "videos", "jobs.md", "Classify my videos"),
        ):
            if source is None:
                continue
            work = Path(made) / page.partition(".")[0]
            shutil.copytree(source, work / place)
            shutil.copytree(folder / "configs", work / "configs")  # the commands run in a clone
            files = sorted(path for path in (work / place).rglob("*.mp4"))
            if page == "your_videos.md":
                shutil.copy(files[0], work / place / "a.mp4")
            (work / "new").mkdir()
            shutil.copy(files[-1], work / "new" / "monday.mp4")
            shutil.copy(files[0], work / "sound.wav")
            seconds = [run(line, work, programs) for line in commands(page, section)]
            print(f"{sum(seconds):8.1f} s  for docs/{page}\n")


if __name__ == "__main__":
    main()
