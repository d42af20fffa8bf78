from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from avssl.core.errors import InputError
from avssl.core.ranges import Count, Positive, Range, Seconds, Seed, Share, ShareBelowOne, Workers, checked, plain


@pytest.mark.parametrize(
    ("lawful", "inside", "outside", "text"),
    [
        (Range(0, 1), (0, 1, 0.5), (-0.1, 1.1, math.nan, math.inf, True, "1"), "in [0, 1]"),
        (Range(0, 1, below=True), (0, 0.999), (1,), "in [0, 1)"),
        (Range(0, 1, above=True), (1e-300, 1), (0,), "in (0, 1]"),
        (Range(0, 1e9, above=True), (1e-300, 1e9), (0, 1e30, -1), "> 0 and <= 1e+09"),
        (Range(1, 10), (1, 10), (0, 11, 2**70), ">= 1 and <= 10"),
    ],
)
def test_a_range_holds_what_it_says(lawful: Range, inside: Any, outside: Any, text: str) -> None:
    assert all(value in lawful for value in inside)
    assert not any(value in lawful for value in outside)
    assert str(lawful) == text


@checked
def spread(
    a: Count, /, rate: Positive | None = None, *, pair: tuple[Share, ShareBelowOne] = (0, 0), share: Share | bool = 0,
    free: float = 0.0, whole: int = 0, name: str = "", **rest: Any,
) -> tuple[Any, ...]:  # fmt: skip
    return a, rate, pair, share, free, whole, name, rest


@checked
@dataclass(frozen=True)
class Settings:
    seed: Seed = 0
    drops: tuple[Share, ...] = ()
    seconds: Seconds = 1.0


def test_lawful_arguments_pass_unchanged() -> None:
    assert spread(3) == (3, None, (0, 0), 0, 0.0, 0, "", {})
    assert spread(3, 0.5, pair=(1, 0.5), share=True, free=-1e300, whole=-(2**63), name="x", other=math.nan)[:4] == (
        3, 0.5, (1, 0.5), True,
    )  # fmt: skip
    assert Settings(2**63 - 1, drops=(0, 0.5, 1)).drops == (0, 0.5, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spread(0), r"^a \(0\) must be >= 1\.$"),
        (lambda: spread(2**40), r"^a \(1099511627776\) must be >= 1 and <= 2147483647\.$"),
        (lambda: spread(1, math.nan), r"^rate \(nan\) must be > 0\.$"),
        (lambda: spread(1, rate=math.inf), r"^rate \(inf\) must be > 0 and <= 1e\+09\.$"),
        (lambda: spread(1, pair=(0.5, 1)), r"^pair \(0\.5, 1\) must all be in \[0, 1\)\.$"),
        (lambda: spread(1, share=2), r"^share \(2\) must be in \[0, 1\]\.$"),
        (lambda: spread(1, free=math.nan), r"^free \(nan\) must be"),
        (lambda: spread(1, whole=2**64), r"^whole \(18446744073709551616\) must be"),
        (lambda: Settings(seed=-1), r"^seed \(-1\) must be >= 0\.$"),
        (lambda: Settings(drops=(0.5, 2)), r"^drops \(0\.5, 2\) must all be in \[0, 1\]\.$"),
        (lambda: spread("8"), r"^a \('8'\) must be a whole number >= 1\.$"),
        (lambda: spread(1, free=[1]), r"^free \(\[1\]\) must be a number\.$"),
        (lambda: Settings(seconds=None), r"^seconds \(None\) must be a number >= 0\.001\.$"),  # type: ignore[arg-type]
        (lambda: Settings(seconds=0), r"^seconds \(0\) must be >= 0\.001\.$"),
    ],
)
def test_others_are_refused_by_name_value_and_range(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_annotations_without_ranges_are_the_plain_types() -> None:
    assert plain(Workers | None) == int | None
    assert plain(tuple[Share, ...]) == tuple[float, ...]
    assert plain(str) is str
