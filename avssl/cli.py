"""``avssl <verb>``: finds the verb's recipe, runs it, and says what went wrong in one line.

A recipe is imported only when its verb is called, so that ``avssl --help`` is quick.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

from avssl.core.errors import AvsslError, Interrupted
from avssl.core.version import __version__

VERBS: dict[str, tuple[str, str]] = {
    "pretrain": ("avssl.recipes.pretrain", "Learn from a folder of videos with sound, without labels."),
    "synthesize": ("avssl.recipes.synthesize", "Make a SoundingShapes corpus: videos with known sounding objects."),
    "index": ("avssl.recipes.index", "List the media files of a folder in a manifest."),
    "prepare": ("avssl.recipes.prepare", "Copy a corpus into shards that train many times faster."),
    "finetune": ("avssl.recipes.finetune", "Train a classifier on labeled rows, from a checkpoint or from scratch."),
    "distill": ("avssl.recipes.distill", "Train a small classifier on what a fine-tuned one says of unlabeled rows."),
    "probe": ("avssl.recipes.probe", "Measure frozen features on labeled rows by published protocols."),
    "robustness": ("avssl.recipes.robustness", "Disturb clips and say what a classifier makes of them."),
    "cka": ("avssl.recipes.cka", "Compare the stages of two runs: which represent clips alike."),
    "localize": ("avssl.recipes.localize", "Show in a video where its sound comes from."),
    "app": ("avssl.recipes.app", "The same in a page of your browser: drop a video, swap its sound, search."),
    "localize-eval": ("avssl.recipes.localize_eval", "Score heat maps where sources are known; say if they listen."),
    "energy": ("avssl.recipes.energy", "Say, over time, how badly a sound fits a video."),
    "sync": ("avssl.recipes.sync", "Find by how much the sound of a video is early or late."),
    "embed": ("avssl.recipes.embed", "Write the embedding of every moment of many files to a table."),
    "search": ("avssl.recipes.search", "Find the moments of a table that fit a sound or a picture."),
    "select": ("avssl.recipes.select_clips", "Rank clips by what a label of theirs is worth; compare such rankings."),
    "convert": ("avssl.recipes.convert", "Make a release of a checkpoint that another project trained."),
    "doctor": ("avssl.recipes.doctor", "Say which torch, GPU and media backends load, and why others do not."),
    "demo": ("avssl.recipes.demo", "From nothing to a model, its numbers and heat-map videos, with a report."),
}
"""Module and line of help of each verb. A module offers ``main(argv) -> int``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: The words after ``avssl``; the process's own by default.

    Returns:
        The exit status: 0 done, 1 failed, 2 not understood, 75 stopped by SIGTERM or SIGUSR1 with everything
        saved (start it again with ``--resume``), 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _main(words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone: "avssl --help | head -1"
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
    lines = [f"  {verb:<{width}}{doc}" for verb, (_, doc) in VERBS.items()]
    return "\n".join(
        [
            "avssl: learn from video with its own sound, without labels.",
            "",
            "usage: avssl VERB ...",
            "",
            *lines,
            "",
            'The options of a verb: "avssl VERB --help". The version: "avssl --version".',
        ]
    )


def _run(verb: str, words: list[str]) -> int:
    # Threads of the model that wait must not spin on the cores that decode: a quarter more clips a second on two
    # cores. Read when torch loads, so it is set before any recipe is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log = logging.getLogger("avssl")
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    log.handlers = [_LogPrinter()]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = importlib.import_module(VERBS[verb][0]).main(words)
    except SystemExit as done:  # --help and --print_config
        status = done.code
    except KeyboardInterrupt:
        print("\navssl: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (AvsslError, OSError) as error:
        if os.environ.get("AVSSL_TRACEBACK"):
            traceback.print_exc()
        kind = "" if isinstance(error, Interrupted) else "error: "
        print(f"avssl: {kind}{' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    return int(status or 0)


class _LogPrinter(logging.Handler):
    """Prints the library's log: information on stdout, warnings and the progress of a training on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        prefix = "avssl: warning: " if is_warning else ""
        on_stderr = is_warning or record.name == "avssl.engine.progress"
        print(f"{prefix}{self.format(record)}", file=sys.stderr if on_stderr else sys.stdout, flush=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings are for the user, in one line; those of libraries keep their place."""
    text = f"avssl: warning: {message}\n"
    if os.path.dirname(__file__) not in filename:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr)
