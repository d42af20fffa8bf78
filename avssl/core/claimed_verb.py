"""Decorators of verbs: claim what a verb writes before it works, and release it when it ends.

Example:
    >>> @writes_files(lambda given: [given["out"]], reads=("source",))
    ... def copy(source, *, out, overwrite=False):
    ...     Path(out).write_bytes(Path(source).read_bytes())
    >>> copy("bark.wav", out="copy.wav")
    >>> copy("video.mp4", out="copy.wav")  # another command
    Traceback (most recent call last):
        ...
    avssl.core.lock.OutputError: ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from avssl.core.output_records import Command, place
from avssl.core.outputs import FolderKind, claimed_files, claimed_folder

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
_Verb = Callable[_Given, _Result]

HOW_ONLY = ("overwrite", "device", "num_workers", "cache_folder", "progress")
"""Arguments that an output does not depend on."""


def writes_files(
    outputs: Callable[[Mapping[str, Any]], Sequence[Path | str | None]], reads: Sequence[str] = ()
) -> Callable[[_Verb[_Given, _Result]], _Verb[_Given, _Result]]:
    """Claim files while a verb runs; it raises :class:`avssl.core.lock.OutputError` if one must not be written.

    Args:
        outputs: Returns the files from all arguments of the verb; None is skipped.
        reads: Names of the arguments that are inputs.
    """

    def decorate(verb: _Verb[_Given, _Result]) -> _Verb[_Given, _Result]:
        @functools.wraps(verb)
        def claimed(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
            given = _arguments(verb, *args, **kwargs)
            files, command = outputs(given), _command(verb, given, reads)
            inputs = [given[name] for name in reads]
            with claimed_files(files, command, overwrite=given["overwrite"], reads=inputs):
                return verb(*args, **kwargs)

        return claimed

    return decorate


def writes_folder(
    kind: FolderKind, reads: Sequence[str] = ()
) -> Callable[[_Verb[_Given, _Result]], _Verb[_Given, _Result]]:
    """Claim the folder ``out`` while a verb runs, as :func:`writes_files`. The verb replaces its files one by one."""

    def decorate(verb: _Verb[_Given, _Result]) -> _Verb[_Given, _Result]:
        @functools.wraps(verb)
        def claimed(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
            given = _arguments(verb, *args, **kwargs)
            inputs = [given[name] for name in reads]
            with claimed_folder(
                given["out"], _command(verb, given, reads), kind, overwrite=given["overwrite"], reads=inputs
            ) as claim:
                claim.adopt()
                return verb(*args, **kwargs)

        return claimed

    return decorate


def _arguments(verb: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    bound = inspect.signature(verb).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _command(verb: Callable[..., Any], given: Mapping[str, Any], reads: Sequence[str]) -> Command:
    left_out = {*HOW_ONLY, "out", "readout"}
    arguments = {name: value for name, value in given.items() if name not in left_out}
    arguments |= {name: place(given[name]) for name in reads}
    return Command.of(verb.__name__.replace("_", "-"), **arguments)
