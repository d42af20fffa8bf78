"""Lawful ranges of numbers, declared where an option is: ``temperature: Temperature = 0.07``.

The names below are ``int`` or ``float`` with a :class:`Range`. :func:`checked` enforces them when a function is called
or an object is built; the command line reads them from the source and enforces them before anything else is read. A
plain ``float`` has to be finite, and a plain ``int`` has to fit into 64 bits.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from avssl.core.errors import InputError

_Target = TypeVar("_Target", bound=Callable[..., Any])


@dataclass(frozen=True)
class Range:
    """The lawful values of a number."""

    low: float
    """Lowest value."""
    high: float
    """Highest value; far beyond any use where nothing limits it, so that nothing overflows."""
    above: bool = False
    """Exclude ``low`` itself."""
    below: bool = False
    """Exclude ``high`` itself."""

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return False
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        high = "" if self.short.startswith("in") else f" and {'<' if self.below else '<='} {_shown(self.high)}"
        return self.short + high

    @property
    def short(self) -> str:
        """The range without a limit that only keeps numbers from overflowing: ``"> 0"``, ``"in [0, 1)"``."""
        if self.high <= 1:
            brackets = "(" if self.above else "[", ")" if self.below else "]"
            return f"in {brackets[0]}{_shown(self.low)}, {_shown(self.high)}{brackets[1]}"
        return f"{'>' if self.above else '>='} {_shown(self.low)}"


_MOST = 2**31 - 1
_LARGEST = 1e9

Seed = Annotated[int, Range(0, 2**63 - 1)]
Count = Annotated[int, Range(1, _MOST)]
CountOrZero = Annotated[int, Range(0, _MOST)]
Workers = Annotated[int, Range(0, 1024)]
Threads = Annotated[int, Range(1, 1024)]
Pixels = Annotated[int, Range(1, 16384)]
Channels = Annotated[int, Range(1, 16384)]
"""Width of a layer."""
Blocks = Annotated[int, Range(1, 64)]
"""Blocks or strides of a stage of a network."""
HeadDepth = Annotated[int, Range(0, 16)]
"""Linear layers of a projection head."""
SampleRate = Annotated[int, Range(100, 1_000_000)]
"""Sample rate in Hz."""
WindowLength = Annotated[int, Range(4, 65536)]
"""Samples of a Fourier transform."""
Mels = Annotated[int, Range(1, 1024)]
"""Bands of a mel scale."""
FrameRate = Annotated[float, Range(0.001, 100_000)]
"""Frames per second."""
Seconds = Annotated[float, Range(0.001, 1e8)]
"""A length of time of at least a millisecond."""
Step = Annotated[float, Range(0.01, 1e8)]
"""Time in seconds from one step along a file to the next; a hundredth is shorter than a frame."""
SegmentSeconds = Annotated[float, Range(0.1, 1e8)]
"""Length in seconds of the rows that a file is cut into."""
SecondsOrForever = Annotated[float, Range(0.001, math.inf)]
SecondsOrZero = Annotated[float, Range(0, 1e8)]
Positive = Annotated[float, Range(0, _LARGEST, above=True)]
PositiveOrZero = Annotated[float, Range(0, _LARGEST)]
Signed = Annotated[float, Range(-_LARGEST, _LARGEST)]
Temperature = Annotated[float, Range(1e-6, 1e6)]
"""Temperature of a softmax; smaller ones overflow float32."""
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, below=True)]
PositiveShare = Annotated[float, Range(0, 1, above=True)]
HalfShare = Annotated[float, Range(0, 0.5)]
Ratio = Annotated[float, Range(1, 1e9)]
"""Ratio of the longer to the shorter side of a frame."""
TempoSpread = Annotated[float, Range(1, 4)]
"""Ratio of the fastest to the mean tempo of a motion."""
Cosine = Annotated[float, Range(-1, 1)]
Decibels = Annotated[float, Range(-1000, 1000)]
BlurSigma = Annotated[float, Range(0, 1000, above=True)]
"""Standard deviation of a blur in pixels."""
Semitones = Annotated[float, Range(0, 24)]
"""Shift of pitch; two octaves at most."""
Degrees = Annotated[float, Range(0, 180)]
Severity = Annotated[int, Range(1, 5)]
"""Severity of a corruption."""
SeverityOrClean = Annotated[int, Range(0, 5)]
Port = Annotated[int, Range(1, 65535)]


def plain(annotation: Any) -> Any:
    """Return an annotation without the ranges in it."""
    return get_type_hints(type("", (), {"__annotations__": {"value": annotation}}))["value"]


def ranges_in(annotation: Any) -> list[Range]:
    """Return the ranges of an annotation, however deep."""
    if get_origin(annotation) is Annotated:
        return [item for item in annotation.__metadata__ if isinstance(item, Range)]
    return [found for part in get_args(annotation) for found in ranges_in(part)]


def check_value(name: str, value: Any, annotation: Any) -> None:
    """Raise InputError if a number, or one in a sequence, is not in the range that its annotation declares.

    Where a number alone is declared, text, None and collections are errors too. Other values, such as a tensor with one
    number, are not looked at.
    """
    exact = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if exact in (int, float) and (value is None or isinstance(value, (str, list, tuple, dict))):
        limits = " ".join(["", *(lawful.short for lawful in ranges_in(annotation))])
        raise InputError(f"{name} ({value!r}) must be {'a whole' if exact is int else 'a'} number{limits}.")
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item, kind in zip(value, _element_kinds(annotation, len(value)), strict=False):
            _check_number(name, item, kind, value)
    else:
        _check_number(name, value, annotation, value)


def _check_number(name: str, number: Any, annotation: Any, value: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return
    declared = ranges_in(annotation) or _default_ranges(annotation)
    if declared and not any(number in lawful for lawful in declared):
        each, shown = ("be", f"({value})") if value is number else ("all be", f"({', '.join(map(str, value))})")
        limits = (str(lawful) if number > lawful.high else lawful.short for lawful in declared)
        raise InputError(f"{name} {shown} must {each} {' or '.join(limits)}.")


def _default_ranges(annotation: Any) -> list[Range]:
    kinds = {annotation, *get_args(annotation)}
    if float in kinds:
        return [Range(-sys.float_info.max, sys.float_info.max)]
    return [Range(-(2**63), 2**63 - 1)] if int in kinds else []


def _element_kinds(annotation: Any, count: int) -> list[Any]:
    """Return the annotation of each of ``count`` elements of a sequence; none if it is of no sequence."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(filter(None, (_element_kinds(kind, count) for kind in get_args(annotation))), [])
    if not (isinstance(get_origin(annotation), type) and issubclass(get_origin(annotation), Sequence)):
        return []
    kinds = [kind for kind in get_args(annotation) if kind is not Ellipsis]
    return kinds if len(kinds) == count else kinds[:1] * count


def checked(target: _Target) -> _Target:
    """Check the numbers that a function, or the constructor of a class, is given against their declared ranges.

    Example:
        >>> @checked
        ... def cut(*, segment_seconds: Seconds = 10.0):
        ...     return segment_seconds
        >>> cut(segment_seconds=-1.0)
        Traceback (most recent call last):
            ...
        avssl.core.errors.InputError: segment_seconds (-1.0) must be >= 0.001.
    """
    if not isinstance(target, type):
        wrapped: Any = _checked_function(target)
        return wrapped
    target.__init__ = _checked_function(target.__init__)  # type: ignore[misc]
    return target


def _checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.cache  # on the first call: all names of the module exist then
    def annotations() -> dict[str, Any]:
        found = {}
        for name, parameter in signature.parameters.items():
            kind = parameter.annotation
            if isinstance(kind, str):
                try:
                    kind = eval(kind, inspect.unwrap(function).__globals__)
                except NameError:  # a name for type checkers only, which is no number
                    continue
            if ranges_in(kind) or _default_ranges(kind):
                found[name] = kind
        return found

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        kinds = annotations()
        given = dict(zip(signature.parameters, args, strict=False)) | options
        for name, kind in kinds.items():
            if name in given:
                check_value(name, given[name], kind)
        return function(*args, **options)

    return call


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
