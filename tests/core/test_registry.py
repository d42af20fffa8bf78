"""Every table of the library answers a wrong name, option or count with one that says what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from avssl.core.errors import InputError
from avssl.core.registry import build, entry, parameters_of
from avssl.models import create_encoder, create_head
from avssl.objectives import OBJECTIVES, create_objective
from avssl.transforms import create_spectrogram

CREATE: dict[str, Callable[..., Any]] = {
    "objective": create_objective,
    "encoder": create_encoder,
    "spectrogram": create_spectrogram,
    "head": lambda name, **options: create_head(name, 8, **options),
}


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [("objective", "info_nc", "info_nce"), ("encoder", "small_vide", "small_video"), ("head", "mlpbn", "mlp_bn"),
     ("spectrogram", "log_mle", "log_mel")],
)  # fmt: skip
def test_unknown_name(kind: str, name: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"'{name}' is not a known {kind}\. Did you mean '{near}'\? Known: "):
        CREATE[kind](name)


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "near"),
    [("objective", "info_nce", "temprature", "temperature"), ("encoder", "small_audio", "widht", "width"),
     ("head", "mlp", "hiden", "hidden"), ("spectrogram", "log_mel", "nummels", "num_mels")],
)  # fmt: skip
def test_unknown_option(kind: str, name: str, wrong: str, near: str) -> None:
    message = rf"'{wrong}' is not a known option of {kind} {name}\. Did you mean '{near}'\? Known: .*{near}"
    with pytest.raises(InputError, match=message):
        CREATE[kind](name, **{wrong: 1})


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_an_objective_is_built_or_says_what_it_needs(name: str) -> None:
    try:
        create_objective(name)
    except InputError as error:
        assert "also needs" in str(error)  # noqa: PT017


def test_too_many_values_by_position() -> None:
    with pytest.raises(InputError, match="head linear takes at most 2 values by position, got 3"):
        create_head("linear", 8, 4, 2)


def test_options_of_base_classes_are_known_where_they_are_passed_on() -> None:
    class Base:
        def __init__(self, first: int, *, second: int = 2) -> None: ...

    class Derived(Base):
        def __init__(self, zeroth: int, **options: Any) -> None:
            super().__init__(**options)

    assert list(parameters_of(Derived)) == ["zeroth", "first", "second"]
    assert list(parameters_of(Base)) == ["first", "second"]


def test_a_table_of_values_has_the_same_errors() -> None:
    assert entry("color", {"red": 1}, "red") == 1
    with pytest.raises(InputError, match=r"'rad' is not a known color\. Did you mean 'red'\? Known: red\."):
        build("color", {"red": "builtins:int"}, "rad")
