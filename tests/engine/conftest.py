import importlib.util
import sys
from pathlib import Path

import pytest
import torch

# Tests are imported by path and are no package, so a shared module is put in place once, by name.
_spec = importlib.util.spec_from_file_location("engine_toy", Path(__file__).with_name("toy.py"))
sys.modules["engine_toy"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["engine_toy"])


@pytest.fixture(autouse=True)
def _rng_is_restored():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
