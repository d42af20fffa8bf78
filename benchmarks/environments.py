"""Run the verbs where people run them: unknown users, small shared memory, read-only data, exFAT, odd locales.

    python benchmarks/environments.py              about 6 minutes on 2 cores; needs Linux and util-linux's unshare

In every environment the same story is told on 15 generated clips with names that people have: ``doctor``, ``index``,
``pretrain`` (two workers), ``embed``, ``prepare``. It prints a table of exit statuses, and the last line of what did
not end with 0. Nothing is mounted outside of the process (``unshare --mount``), except for exFAT, which needs root,
exfat-fuse and exfatprogs. What cannot be made here is said and left out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

NAMES = (
    *(
        "plain.mp4",
        "東京\u3000夏祭り.mp4",
        "Screen Recording at 3.04.05\u202fPM.mp4",
        "👩\u200d👩\u200d👧.mp4",
        "-rf.mp4",
    ),
    *("cats, dogs.mp4", "two  spaces.mp4", "Mon\u00a0film.mp4", "clip#0.000-2.000.mp4", "100%.mp4", "=1+1.mp4"),
    *("Q: what is this.mp4", "a\\..\\b.mp4", 'the "best" one.mp4', "two\nlines.mp4"),
)
"""Names of the clips."""
NUM_FOREIGN = 4
"""The last of them, which exFAT cannot hold."""

_TINY = (
    "--sampling.num-frames 4 --sampling.audio-seconds 0.5 --transform.video.size 32 --model.video.width 4 "
    "--model.audio.width 4 --optim.epochs 2 --optim.batch-size 4 --monitor.every-steps 0 --data.num-workers 2 "
    "--train.device cpu --train.precision fp32"
)
STORY = (
    ("doctor", "doctor"),
    ("index", "index {data} -o {manifest}"),
    ("pretrain", "pretrain {manifest} -o {out}/run " + _TINY),
    ("embed", "embed {manifest} --checkpoint {out}/run -o {out}/table.parquet --num-workers 2"),
    ("prepare", "prepare {manifest} {out}/copy --num-workers 2"),
)


@dataclass(frozen=True)
class Environment:
    """One way in which a process can live."""

    name: str
    shell: str = ""
    """Commands before the verb, in a mount namespace of its own."""
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """Variables that are set, or unset where None."""
    unshare: Sequence[str] = ()
    """Options of ``unshare``; none: run as it is."""
    read_only: bool = False
    """The data are on a mount that cannot be written; the manifest goes elsewhere."""
    exfat: bool = False
    """Everything is on a file system without hard links, file modes and some characters."""


_MOUNTS = ("--map-root-user", "--mount")
ENVIRONMENTS = (
    Environment("as it is"),
    Environment("uid 12345 without a name", unshare=("--user", "--map-user=12345", "--map-group=12345"),
                variables={"HOME": None, "USER": None, "LOGNAME": None}),
    Environment("/dev/shm of 64 MB", "mount -t tmpfs -o size=64m tmpfs /dev/shm", unshare=_MOUNTS),
    Environment("/dev/shm of 1 MB", "mount -t tmpfs -o size=1m tmpfs /dev/shm", unshare=_MOUNTS),
    Environment("/dev/shm read-only", "mount -t tmpfs -o ro tmpfs /dev/shm", unshare=_MOUNTS),
    Environment("data mounted read-only", "mount --bind {data} {data} && mount -o remount,ro,bind {data} {data}",
                unshare=_MOUNTS, read_only=True),
    Environment("home read-only", variables={"HOME": "/proc/none", "XDG_CACHE_HOME": None}),
    Environment("exFAT", exfat=True),
    Environment("LANG=C, ASCII output",
                variables={"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}),
)  # fmt: skip


def tell(environment: Environment, clips: Path, folder: Path) -> list[tuple[str, int, str]]:
    """Run the story, and return verb, status and last line of each chapter."""
    data, out = folder / "videos", folder / "out"
    data.mkdir(parents=True)
    out.mkdir()
    names = NAMES[:-NUM_FOREIGN] if environment.exfat else NAMES
    for name, clip in zip(names, sorted(clips.glob("*.mp4")), strict=False):
        shutil.copyfile(clip, data / name)
    for path in () if environment.exfat else (folder, data, out):
        path.chmod(0o777)
    manifest = (folder if environment.read_only else data) / "manifest.csv"
    places = {"data": data, "out": out, "manifest": manifest}
    chapters = []
    for verb, words in STORY:
        command = [sys.executable, "-m", "avssl", *words.format_map(places).split(" ")]
        if environment.unshare:
            before = environment.shell.format_map(places) or "true"
            command = ["unshare", *environment.unshare, "sh", "-ec", f'{before}; exec "$@"', "sh", *command]
        variables = {**os.environ, **{k: v for k, v in environment.variables.items() if v is not None}}
        for name in environment.variables.keys() - {k for k, v in environment.variables.items() if v is not None}:
            variables.pop(name, None)
        done = subprocess.run(
            command, capture_output=True, env=variables, timeout=600, cwd=out, stdin=subprocess.DEVNULL, check=False
        )
        printed = (done.stdout + done.stderr).decode(errors="replace")
        status = 1000 if "Traceback (most recent call last)" in printed else done.returncode
        chapters.append((verb, status, (printed.strip().splitlines() or [""])[-1]))
    return chapters


@contextmanager
def exfat(folder: Path) -> Iterator[None]:
    """Mount a new exFAT file system at ``folder``."""
    image = folder.with_suffix(".img")
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(2**29)
    shell = (
        'mkfs.exfat "$1" >&2; device=$(losetup --find --show "$1"); mount.exfat-fuse "$device" "$2" >&2; echo "$device"'
    )
    done = subprocess.run(["sh", "-ec", shell, "sh", image, folder], check=True, capture_output=True, text=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def missing(environment: Environment) -> str:
    """Return why an environment cannot be made here, or nothing."""
    if environment.exfat:
        programs = [p for p in ("mkfs.exfat", "mount.exfat-fuse", "losetup") if shutil.which(p) is None]
        return f"{', '.join(programs)} missing" if programs else "" if os.geteuid() == 0 else "needs root"
    if not environment.unshare:
        return ""
    if shutil.which("unshare") is None:
        return "unshare is missing"
    done = subprocess.run(["unshare", *environment.unshare, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="environments whose name holds this text")
    options = parser.parse_args()
    print(f"| environment | {' | '.join(verb for verb, _ in STORY)} |\n| --- |{' ---: |' * len(STORY)}")
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o777)
        words = shlex.split("--num-clips 15 --num-test-clips 1 --width 64 --height 64 --duration-seconds 1.5")
        made = Path(temporary) / "made"
        subprocess.run([sys.executable, "-m", "avssl", "synthesize", made, *words], check=True, capture_output=True)
        for number, environment in enumerate(ENVIRONMENTS):
            if options.only not in environment.name:
                continue
            reason = missing(environment)
            folder = Path(temporary) / str(number)
            with exfat(folder) if environment.exfat and not reason else nullcontext():
                chapters = [] if reason else tell(environment, made / "train", folder)
            shown = [reason] if reason else ["traceback" if s == 1000 else str(s) for _, s, _ in chapters]
            print(f"| {environment.name} | {' | '.join(shown)} |", flush=True)
            wrong += [f"{environment.name}: {verb}: {line}" for verb, status, line in chapters if status != 0]
    print("\n".join(["", *wrong]) if wrong else "")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
