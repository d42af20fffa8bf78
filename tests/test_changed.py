import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def changed():
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("changed.py"))))


def test_a_module_has_its_own_test_or_its_folders(changed):
    assert changed.tests_of("avssl/objectives/moco.py") == "tests/objectives/test_moco.py"
    assert changed.tests_of("avssl/objectives/without_a_test.py") == "tests/objectives"
    assert changed.tests_of("benchmarks/overlay.py") == "tests/benchmarks/test_overlay.py"
    assert changed.tests_of("configs/avid_kinetics.yaml") == "tests/test_configs.py"
    assert changed.tests_of("README.md") == "tests/test_docs.py"
    assert changed.tests_of("LICENSE") is None


def test_a_folder_stands_for_the_files_in_it(changed):
    files = ["avssl/objectives/moco.py", "avssl/objectives/without_a_test.py", "avssl/engine/loop.py"]
    assert changed.selection(files) == [*changed.ALWAYS, "tests/engine/test_loop.py", "tests/objectives"]


def test_every_selected_test_exists(changed):
    root = Path(__file__).parents[1]
    for file in changed.selection(p.relative_to(root).as_posix() for p in root.glob("avssl/**/*.py")):
        assert (root / file).exists()
