"""``start_killed.py FOLDER new|overwrite``: start a run again and again, killed before every file operation in turn.

Prints the number of operations. Raises unless every kill leaves a run that can be resumed or started again.
"""

import builtins
import os
import sys
from pathlib import Path

import pyarrow as pa

from avssl.config import Config
from avssl.core.manifest import Manifest
from avssl.training.run_directory import RunDirectory

NO_FILES = pa.table({name: pa.array([], pa.string()) for name in ("id", "path", "stream", "reason", "message")})
OPERATIONS = ("open", "link", "rename", "replace", "unlink", "mkdir", "rmdir", "utime")


def start(folder: Path, seed: int, overwrite: bool = False) -> None:
    """Do what a run does between its claim and its first step."""
    run, config = RunDirectory(folder), Config()
    config.train.seed = seed
    manifest = Manifest.from_columns({"id": ["a", str(seed)], "path": ["a.mp4", "b.mp4"]}, "/data")
    with run.claimed("pretrain", overwrite=overwrite) as claim:
        claim.begin()
        run.write_rows(manifest, NO_FILES, manifest)
        run.write_config(config)
        run.write_environment({})


def in_child(work, *args, **options) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work(*args, **options)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_start(number: int, *args, **options) -> None:
    calls = 0

    def counted(function):
        def call(*inner, **more):
            nonlocal calls
            calls += 1
            if calls == number:
                os._exit(9)
            return function(*inner, **more)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    builtins.open = counted(builtins.open)
    start(*args, **options)


def check(folder: Path, seeds: set[int]) -> None:
    """Resume the run, if it has begun, and else start it again."""
    run = RunDirectory(folder)
    if run.config_file.exists():
        with run.claimed("pretrain", resume=True):
            seed = run.read_config().train.seed
            rows, _ = run.read_rows("/data")
        assert seed in seeds, seed
        assert rows["id"].tolist() == ["a", str(seed)], "rows of another run"
        return
    start(folder, 7)
    assert run.read_config().train.seed == 7


def main(folder: Path, way: str) -> None:
    """Kill before operation 1, 2, 3 ... until a start is not killed."""
    number = 0
    while True:
        number += 1
        run = folder / str(number)
        if way == "overwrite":
            assert in_child(start, run, 1) == 0
        status = in_child(killed_start, number, run, 2, overwrite=way == "overwrite")
        assert status in (0, 9), status
        check(run, {1, 2} if status == 9 else {2})
        if status == 0:
            break
    print(number)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
