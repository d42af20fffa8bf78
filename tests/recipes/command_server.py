"""``command_server.py``: start verbs in forks of a clean process, which has imported what they need and run nothing.

A fork of the process of the tests could wait forever for threads of torch that were not forked with it. Lines of JSON
come in and go out: ``{"words": [...], "folder": ..., "seconds": ..., "cache": ...}`` starts a command in a new process
group and returns its id; ``{"wait": id}`` returns its exit status, or null while it runs. Workers take ``seconds`` for
each job, and ``folder`` has the file ``busyPID`` when one has done its first; ``told`` there has what it prints.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from avssl.cli import VERBS, main
from avssl.core import parallel
from avssl.data.health import killable


def slow(serve: Callable[..., None], folder: Path, seconds: float) -> Callable[..., None]:
    """Return ``serve`` with workers that tell when they have done a job, and then pause."""

    def served(connection: Any, task: Callable[[Any], Any], *rest: Any) -> None:
        def answer(job: Any) -> Any:
            result = task(job)
            (folder / f"busy{os.getpid()}").touch()
            time.sleep(seconds)
            return result

        serve(connection, answer, *rest)

    return served


def run(words: list[str], folder: Path, seconds: float) -> int:
    """Run a verb in this process, which is a fork of the server; return its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(told, 1)
    os.dup2(told, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    for module in (parallel, killable):
        module._serve = slow(module._serve, folder, seconds)
    try:
        status = main(words)
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def start(words: list[str], folder: str, seconds: float, cache: str) -> int:
    """Fork; return the id of the new process, which leads a process group of its own by then."""
    ready, began = os.pipe()
    process = os.fork()
    if process == 0:
        os.setsid()
        os.environ["XDG_CACHE_HOME"] = cache
        os.close(ready)
        os.close(began)
        os._exit(run(words, Path(folder), seconds))
    os.close(began)
    os.read(ready, 1)  # ends when the child has closed its copy
    os.close(ready)
    return process


def wait(process: int) -> int | None:
    """Return the exit status of a process, None while it runs."""
    pid, code = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(code) if pid else None


if __name__ == "__main__":
    for verb in VERBS.values():
        import_module(verb.partition(":")[0])
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(wait(asked["wait"]) if "wait" in asked else start(**asked)), flush=True)
