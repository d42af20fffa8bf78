import sys

import pytest

from avssl.core.lazy import load, make_lazy

INIT = """
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from somebodys_package.thing import Thing as Thing
    from somebodys_package.thing import thing as thing
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "somebodys_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(INIT)
    (folder / "thing.py").write_text("class Thing: ...\ndef thing(): return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("somebodys_package")
    for name in [name for name in sys.modules if name.startswith("somebodys_package")]:
        del sys.modules[name]


def test_a_name_is_imported_when_it_is_first_used(package):
    make_lazy("somebodys_package")
    assert "somebodys_package.thing" not in sys.modules
    assert {"Thing", "thing"} <= set(dir(package))
    assert package.Thing is load("somebodys_package.thing:Thing")


def test_a_function_is_not_hidden_by_its_module_of_the_same_name(package):
    make_lazy("somebodys_package")
    __import__("somebodys_package.thing")
    assert package.thing() == 3


def test_an_unknown_name_is_an_attribute_error(package):
    make_lazy("somebodys_package")
    with pytest.raises(AttributeError, match="'somebodys_package' has no attribute 'thin'"):
        package.thin  # noqa: B018
