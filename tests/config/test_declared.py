import subprocess
import sys
from dataclasses import MISSING
from typing import Literal

import pytest

from avssl.config.declared import read_declaration


def test_options_have_the_types_defaults_and_docs_of_the_class():
    declared = read_declaration("avssl.objectives.info_nce:InfoNCE")
    assert declared["temperature"].default == 0.07
    assert declared["max_over"].type == Literal["cells", "space"]
    assert declared["chunk_size"].type == int | None
    assert declared["exclude_hardest"].help.startswith("Share of each clip")


def test_options_of_a_subclass_include_those_its_base_takes():
    names = list(read_declaration("avssl.objectives.cma:CMA").options)
    assert {"num_positives", "variant", "momentum"} <= set(names)
    assert len(names) == len(set(names))


def test_fields_of_a_dataclass_are_options():
    declared = read_declaration("avssl.data.sampling:ClipSampling")
    assert declared["short_side"].type == int | None
    assert declared["num_frames"].help == "Frames per clip, >= 1."


def test_a_required_option_has_no_default():
    declared = read_declaration("avssl.engine.optim:create_optimizer")
    assert declared["lr"].default is MISSING
    assert not declared["lr"].is_positional


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no class or function Nothing in"):
        read_declaration("avssl.objectives.info_nce:Nothing")
    with pytest.raises(ValueError, match="no module"):
        read_declaration("avssl.objectives.nothing:Nothing")


def test_a_module_outside_the_package_can_be_read(tmp_path, monkeypatch):
    source = 'SCALE = 4 / 3\nclass Mine:\n    """Mine.\n\n    Args:\n        scale: Factor, > 0.\n    """\n'
    (tmp_path / "somebodys_own.py").write_text(source + "    def __init__(self, scale: float = SCALE): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    option = read_declaration("somebodys_own:Mine")["scale"]
    assert (option.type, option.default, option.help) == (float, 4 / 3, "Factor, > 0.")


def test_reading_imports_neither_the_module_nor_torch():
    code = (
        "import sys; from avssl.config.declared import read_declaration; "
        "read_declaration('avssl.objectives.info_nce:InfoNCE'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
