"""Kill verbs (SIGKILL) at any moment and continue them: does each end with the result of a run that nobody killed?

A job is one verb on a small generated corpus: ``pretrain`` with every objective, ``finetune``, ``distill``,
``classify``, ``embed``, ``prepare``, ``index`` and ``synthesize``. Each runs once undisturbed. Then it runs again and
again, killed before its n-th file operation (open for writing, rename, link, remove, make a folder; n is drawn from
all it did undisturbed) or after a random time, sometimes twice, and is continued as the documentation says:
``--resume`` where there is a run to continue, else the same command. Results must be equal to the byte: weights,
metrics without clocks, tables, manifests, videos. Files that the killed processes left are counted.

    python benchmarks/crashes.py --kills 240 --file crashes.jsonl      about 15 minutes on 2 cores
    python benchmarks/crashes.py --file crashes.jsonl --table          print the rows so far
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import append_row, read_rows

from avssl.cli import main as avssl
from avssl.objectives import OBJECTIVES

_TRAIN = shlex.split(
    "--model.video.width 4 --model.audio.width 4 --train.device cpu --train.precision fp32 "
    "--train.memory-format contiguous --train.threads 1 --train.log-every 1 --train.checkpoint-every-steps 2 "
    "--data.backend pyav --data.num-workers 0 --optim.batch-size 8"
)
_TINY = (
    *shlex.split("--sampling.num-frames 2 --sampling.audio-seconds 0.5 --transform.video.size 32"),
    *_TRAIN,
)
_EPOCHS = shlex.split("--optim.epochs 2 --test.windows-per-clip 1 --test.report false")
_FINETUNE = ("--labels.label-column", "num_objects", *_EPOCHS)
_PRETRAIN = shlex.split(
    "--model.head.hidden 16 --model.head.out-features 8 --optim.epochs 2 --train.ema-decay 0.9 --monitor.every-steps 3"
)
_OBJECTIVE_OPTIONS = {
    "cma": "--objective.num-positives 4 --objective.warmup-epochs 1 --objective.refresh-epochs 1",
    "moco": "--objective.queue-size 16",
}
_WRITES = {"os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate"}
_CLOCKS = {"wall_seconds", "samples_per_second", "cpu_seconds"}
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Job:
    """One verb with its arguments; ``{work}`` is the folder it works in."""

    name: str
    words: Sequence[str]
    results: Sequence[str]
    """Patterns of the files whose content must be equal."""
    resume: Sequence[str] | None = None
    """Arguments that continue it; None: the same again."""

    def in_folder(self, words: Sequence[str], work: Path) -> list[str]:
        return [word.replace("{work}", str(work)) for word in words]


@dataclass(frozen=True)
class Material:
    """Files that the jobs read."""

    corpus: Path
    release: Path
    """Weights of a pretrained model, which embed."""
    teacher: Path
    """Run of a classifier, which is distilled."""


def make_jobs(material: Material) -> list[Job]:
    """Return the jobs."""
    corpus, release = material.corpus, material.release
    run_files = ("run/weights/*", "run/metrics.jsonl", "run/manifest.csv", "run/unusable_files.csv")
    jobs = [
        Job(
            f"pretrain {name}",
            (
                *("pretrain", str(corpus / "manifest.csv"), "-o", "{work}/run", *_TINY, *_PRETRAIN),
                *("--objective.name", name, *_OBJECTIVE_OPTIONS.get(name, "").split()),
            ),
            run_files,
            ("pretrain", "--resume", "{work}/run"),
        )
        for name in sorted(OBJECTIVES)
    ]
    manifest, train = str(corpus / "manifest.csv"), str(corpus / "train")
    files = ("run/**/*.safetensors", "run/**/metrics.jsonl", "run/**/*.csv")
    words = ("finetune", manifest, "--checkpoint", "none", "-o", "{work}/run", *_TINY, *_FINETUNE)
    jobs.append(Job("finetune", words, files, ("finetune", "--resume", "{work}/run")))
    words = ("distill", manifest, "--teacher", str(material.teacher), "-o", "{work}/run", *_TRAIN, *_EPOCHS)
    jobs.append(Job("distill", words, files, ("distill", "--resume", "{work}/run")))
    options = "--every 0.2 --num-workers 1 --device cpu --page {work}/p.html -o {work}/p.csv"
    jobs.append(Job("classify", ("classify", str(material.teacher), train, *options.split(" ")), ("p*",)))
    options = "--num-workers 1 --batch-size 4 --stride-seconds 0.1"
    words = ("embed", train, "--checkpoint", str(release), "-o", "{work}/table.parquet", *options.split(" "))
    jobs.append(Job("embed", words, ("table*",)))
    words = ("prepare", manifest, "{work}/copy", "--num-workers", "1", "--short-side", "32")
    jobs.append(Job("prepare", words, ("copy/**/*.tar", "copy/**/*.csv", "copy/**/*.json*")))
    words = ("index", "{work}/videos", "--num-workers", "1", "--depth", "quick")
    jobs.append(Job("index", words, ("videos/manifest*.csv",)))
    options = "--num-clips 12 --num-test-clips 4 --width 32 --height 32 --duration-seconds 0.5 --num-workers 1"
    words = ("synthesize", "{work}/made", *options.split(" "))
    jobs.append(Job("synthesize", words, ("made/**/*.mp4", "made/**/*.csv")))
    return jobs


# ---------------------------------------------------------------- one process


def run_forked(
    words: Sequence[str], log: Path, work: Path, die_at: int | None = None, after_seconds: float | None = None
) -> tuple[int, int]:
    """Run ``avssl WORDS`` in a forked process, which has everything imported.

    Args:
        words: Arguments of ``avssl``.
        log: File that the output is appended to.
        work: Folder whose file operations are counted.
        die_at: The process kills itself before this file operation, from 1.
        after_seconds: It is killed after this time.

    Returns:
        Exit status (negative: the signal), and the number of file operations so far.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _count_writes(work, die_at, write_end)
        status = 70
        try:
            status = avssl(words)
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(write_end)
    status = _wait(pid, after_seconds)
    with os.fdopen(read_end, "rb") as pipe:
        count = len(pipe.read())
    return status, count


def _wait(pid: int, after_seconds: float | None) -> int:
    """Return the status of a process, which is killed with its group after ``after_seconds`` or the time limit."""
    limit = time.monotonic() + (after_seconds if after_seconds is not None else _TIMEOUT_SECONDS)
    while time.monotonic() < limit:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)  # the process alone: its children must end by themselves
    _, status = os.waitpid(pid, 0)
    if after_seconds is None:
        raise RuntimeError(f"a process did not end within {_TIMEOUT_SECONDS:g} s.")
    return os.waitstatus_to_exitcode(status)


def _count_writes(work: Path, die_at: int | None, pipe: int) -> None:
    """Send a byte for every file operation below ``work``, and die before operation ``die_at``."""
    below, me, count = str(work), os.getpid(), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if os.getpid() != me:  # a worker
            return
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in _WRITES:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(below):
            count += 1
            os.write(pipe, b".")
            if count == die_at:
                os.kill(me, signal.SIGKILL)

    sys.addaudithook(hook)


# ---------------------------------------------------------------- one job


def result_of(job: Job, work: Path) -> dict[str, str]:
    """Return file → hash of its content; without clocks, and with the work folder's name replaced."""
    found = {}
    for pattern in job.results:
        for path in sorted(work.glob(pattern)):
            if path.is_file():
                found[str(path.relative_to(work))] = hashlib.sha256(_content(path, work)).hexdigest()
    return found


def _content(path: Path, work: Path) -> bytes:
    data = path.read_bytes().replace(str(work).encode(), b"WORK")
    if path.suffix not in (".json", ".jsonl"):
        return data
    texts = data.splitlines() if path.suffix == ".jsonl" else [data]
    return json.dumps([{k: v for k, v in json.loads(text).items() if k not in _CLOCKS} for text in texts]).encode()


def all_names(work: Path) -> set[str]:
    """Return the names of all files, to see what killed processes left; each process has its own TensorBoard file."""
    files = (path for path in work.rglob("*") if path.is_file() and path.parent.name != "tensorboard")
    return {str(path.relative_to(work)) for path in files}


class Harness:
    """Runs of one job: the undisturbed one, and killed ones that are compared with it."""

    def __init__(self, job: Job, folder: Path, prepare: Callable[[Path], None]) -> None:
        self.job, self.folder, self.prepare = job, folder, prepare
        self.whole = self._fresh("whole")
        began = time.monotonic()
        status, self.num_writes = self._run(self.whole, job.words)
        self.seconds = time.monotonic() - began
        if status != 0:
            raise RuntimeError(f"{job.name} ends with status {status} undisturbed:\n{self._log().read_text()[-2000:]}")
        self.expected, self.names = result_of(job, self.whole), all_names(self.whole)
        if not self.expected:
            raise RuntimeError(f"{job.name} wrote none of {', '.join(job.results)}.")

    def _log(self) -> Path:
        return self.folder / "log.txt"

    def _fresh(self, name: str) -> Path:
        work = self.folder / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self.prepare(work)
        return work

    def _run(self, work: Path, words: Sequence[str], **kill: Any) -> tuple[int, int]:
        return run_forked(self.job.in_folder(words, work), self._log(), work, **kill)

    def killed(self, draw: random.Random) -> dict[str, Any]:
        """Kill one run once or twice, continue it, and return what came of it."""
        self._log().write_text("")
        work = self._fresh("killed")
        kills, how = 0, []
        words: Sequence[str] = self.job.words
        for _ in range(draw.choice([1, 1, 2])):
            if draw.random() < 0.6:
                moment: dict[str, Any] = {"die_at": draw.randint(1, self.num_writes)}
            else:
                moment = {"after_seconds": draw.uniform(0.0, self.seconds)}
            status, _ = self._run(work, words, **moment)
            if status == 0:  # it was done before its moment came
                return self._row(work, kills, how, status)
            if status != -signal.SIGKILL:
                how.append(f"status {status} instead of a kill")
                break
            kills += 1
            how.append(" ".join(f"{key} {value:.3g}" for key, value in moment.items()))
            words = self._next_words(work)
        status, _ = self._run(work, words)
        if status != 0 and words != self.job.words:  # nothing to resume yet: the same command must be free to start
            status, _ = self._run(work, self.job.words)
        return self._row(work, kills, how, status)

    def _row(self, work: Path, kills: int, how: list[str], status: int) -> dict[str, Any]:
        """Compare what came of it with the undisturbed run."""
        found = result_of(self.job, work)
        differing = sorted(name for name in self.expected.keys() | found if self.expected.get(name) != found.get(name))
        row = {"job": self.job.name, "kills": kills, "how": how, "status": status, "differing": differing}
        row["left"] = sorted(all_names(work) - self.names)
        if status != 0 or differing:
            row["log"] = self._log().read_text(errors="replace")[-1500:]
        return row

    def _next_words(self, work: Path) -> Sequence[str]:
        has_run = (work / "run").exists()
        return self.job.resume if self.job.resume is not None and has_run else self.job.words


# ---------------------------------------------------------------- all


def make_material(folder: Path) -> Material:
    """Make the corpus and the models that the jobs use."""
    corpus = folder / "corpus"
    manifest = str(corpus / "manifest.csv")
    size = shlex.split("--width 32 --height 32 --duration-seconds 1 --num-workers 1")
    for words in (
        ["synthesize", str(corpus), "--num-clips", "16", "--num-test-clips", "8", *size],
        ["pretrain", manifest, "-o", str(folder / "model"), *_TINY, *_PRETRAIN],
        ["finetune", manifest, "--checkpoint", "none", "-o", str(folder / "teacher"), *_TINY, *_FINETUNE],
    ):
        status, _ = run_forked(words, folder / "log.txt", folder)
        if status != 0:
            raise RuntimeError((folder / "log.txt").read_text()[-2000:])
    return Material(corpus, folder / "model" / "weights", folder / "teacher")


def preload() -> None:
    """Import what the verbs import, once for all forked processes."""
    import avssl.recipes.classify
    import avssl.recipes.distill
    import avssl.recipes.embed
    import avssl.recipes.finetune
    import avssl.recipes.index
    import avssl.recipes.prepare
    import avssl.recipes.pretrain
    import avssl.recipes.synthesize  # noqa: F401


def kill_all(folder: Path, num_kills: int, seed: int, file: Path | None, only: str = "") -> list[dict[str, Any]]:
    """Kill the jobs in turn until ``num_kills`` kills happened, and return one row for each run."""
    preload()
    material = make_material(folder)

    def prepare(work: Path) -> None:
        if job.name == "index":
            shutil.copytree(material.corpus / "train", work / "videos", copy_function=os.link)

    harnesses = []
    for job in make_jobs(material):
        if job.name.startswith(only):
            harnesses.append(Harness(job, folder / job.name.replace(" ", "_"), prepare))
    rows: list[dict[str, Any]] = []
    number, kills = 0, 0
    while kills < num_kills:
        job = harnesses[number % len(harnesses)].job
        row = harnesses[number % len(harnesses)].killed(random.Random(f"{seed} {number}"))
        number, kills = number + 1, kills + row["kills"]
        rows.append(row)
        if file is not None:
            append_row(file, row)
        if row["status"] != 0 or row["differing"] or row["left"]:
            found = f"status {row['status']}, differing {row['differing']}, left {row['left']}"
            print(f"{row['job']}: {row['how']}: {found}", flush=True)
        elif number % 20 == 0:
            print(f"{kills} of {num_kills} kills", file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table: kills, and runs that ended equal, by job."""
    lines = ["| verb | runs | kills | ended equal | files left over |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in [*dict.fromkeys(row["job"] for row in rows), "all"]:
        mine = [row for row in rows if name in (row["job"], "all")]
        equal = sum(row["status"] == 0 and not row["differing"] for row in mine)
        kills, left = sum(row["kills"] for row in mine), sum(len(row["left"]) for row in mine)
        lines.append(f"| {name} | {len(mine)} | {kills} | {equal} | {left} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="jobs whose name starts so")
    parser.add_argument("--file", type=Path, help="JSONL file that rows are appended to")
    parser.add_argument("--table", action="store_true", help="print the rows of --file and stop")
    options = parser.parse_args()
    if options.table:
        if options.file is None:
            parser.error("--table needs --file")
        print(table(read_rows(options.file)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        rows = kill_all(Path(temporary), options.kills, options.seed, options.file, options.only)
    print(table(rows))
    sys.exit(any(row["status"] != 0 or row["differing"] for row in rows))


if __name__ == "__main__":
    main()
