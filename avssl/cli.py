"""The command line: find the verb's function, run it, and print errors in one line.

A recipe is imported only when its verb runs, so help is quick.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
import textwrap
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from avssl.config.command import Verb
from avssl.config.memory_advice import out_of_memory
from avssl.core.errors import AvsslError, Interruption
from avssl.core.memory import is_memory_shortage
from avssl.core.stopping import Stopped, stop_signals_raised
from avssl.core.terminal import plain_output
from avssl.core.version import __version__

VERBS = {
    "pretrain": "avssl.recipes.pretrain:pretrain",
    "sweep": "avssl.recipes.sweep:sweep",
    "synthesize": "avssl.recipes.synthesize:synthesize",
    "index": "avssl.recipes.index:index",
    "prepare": "avssl.recipes.prepare:prepare",
    "finetune": "avssl.recipes.finetune:finetune",
    "classify": "avssl.recipes.classify:classify",
    "distill": "avssl.recipes.distill:distill",
    "probe": "avssl.recipes.probe:probe",
    "robustness": "avssl.recipes.robustness:robustness",
    "benchmark": "avssl.recipes.benchmark:benchmark",
    "cka": "avssl.recipes.cka:cka",
    "localize": "avssl.recipes.localize:localize",
    "app": "avssl.recipes.app:app",
    "localize-eval": "avssl.recipes.localize_eval:localize_eval",
    "energy": "avssl.recipes.energy:energy",
    "sync": "avssl.recipes.sync:sync",
    "sync-eval": "avssl.recipes.sync_eval:sync_eval",
    "embed": "avssl.recipes.embed:embed",
    "search": "avssl.recipes.search:search",
    "explore": "avssl.recipes.explore:explore",
    "cluster": "avssl.recipes.cluster:cluster",
    "select": "avssl.recipes.select_clips:select",
    "convert": "avssl.recipes.convert:convert",
    "export": "avssl.recipes.export:export",
    "push": "avssl.recipes.push:push",
    "doctor": "avssl.recipes.doctor:doctor",
    "demo": "avssl.recipes.demo:demo",
}
"""Function of each verb; its signature and docstring are the verb's options and help (avssl/config/command.py)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Arguments after ``avssl``; default: those of this process.

    Returns:
        Exit status: 0 success, 1 failure, 2 wrong usage, 75 a training stopped by SIGTERM, SIGHUP or SIGUSR1 after
        everything was saved (continue with ``--resume``), 130 interrupted by Ctrl-C, 143, 129 or 138 stopped by one
        of those signals where there is nothing to resume.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with plain_output():
            status = _main(words)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output is gone: "avssl --help | head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _main(words: list[str]) -> int:
    verb = words[0] if words else ""
    if verb in ("--version", "-V"):
        print(f"avssl {__version__}")
        return 0
    if verb in ("--help", "-h", "help"):
        print(_help())
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f' Did you mean "avssl {near[0]}"?' if near else ""
        wrong = f"avssl: error: {verb!r} is not a verb.{hint}\n" if verb else ""
        print(f"{wrong}{_help()}", file=sys.stderr)
        return 2
    return _run(verb, words[1:])


def _help() -> str:
    width = max(map(len, VERBS)) + 2
    indent = " " * (width + 2)
    lines = [
        textwrap.fill(Verb(verb, path).summary, 80, initial_indent=f"  {verb:<{width}}", subsequent_indent=indent)
        for verb, path in VERBS.items()
    ]
    return "\n".join(
        [
            "avssl: self-supervised learning from videos and their audio.",
            "",
            "usage: avssl VERB ...",
            "",
            *lines,
            "",
            'Options of a verb: "avssl VERB --help". Version: "avssl --version".',
        ]
    )


def _run(verb: str, words: list[str]) -> int:
    # Waiting threads of the model must not spin on the cores that decode: 25 % more clips per second on two cores.
    # torch reads this when it loads, so it is set before any recipe is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log = logging.getLogger("avssl")
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    log.handlers = [_LogPrinter()]
    command = Verb(verb, VERBS[verb])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            with stop_signals_raised():
                command.run(words)
    except SystemExit as done:  # --help and --print-config
        return int(done.code or 0)
    except Stopped as stop:
        with suppress(OSError):  # the terminal is gone
            print(f"\navssl: {stop}.", file=sys.stderr)
        return stop.exit_status
    except KeyboardInterrupt:
        print("\navssl: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if is_memory_shortage(error):
            return _tell(out_of_memory(command, error))
        if not isinstance(error, AvsslError | OSError):
            raise
        return _tell(error)
    return 0


def _tell(error: AvsslError | OSError) -> int:
    """Print an error in one line, and return the exit status."""
    if os.environ.get("AVSSL_TRACEBACK"):
        traceback.print_exc()
    kind = "" if isinstance(error, Interruption) else "error: "
    text, own = " ".join(str(error).split()), f"rank {os.environ.get('RANK')}"
    if os.environ.get("WORLD_SIZE", "1") != "1" and not text.startswith(own):
        text = f"{own}: {text}"  # torchrun mixes the messages of all ranks
    with suppress(OSError):  # the terminal is gone
        print(f"avssl: {kind}{text}", file=sys.stderr)
    return error.exit_status if isinstance(error, AvsslError) else 1


class _LogPrinter(logging.Handler):
    """Print the library's log: information to stdout, warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        prefix = "avssl: warning: " if is_warning else ""
        print(f"{prefix}{self.format(record)}", file=sys.stderr if is_warning else sys.stdout, flush=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print this package's warnings in one line, and others as Python does."""
    text = f"avssl: warning: {message}\n"
    if os.path.dirname(__file__) not in filename:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr)
