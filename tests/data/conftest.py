import importlib.util
import sys
from pathlib import Path

import pytest
import torch

# Tests are imported by path and are no package, so a shared module is put in place once, by name.
_spec = importlib.util.spec_from_file_location("data_fakes", Path(__file__).with_name("fakes.py"))
sys.modules["data_fakes"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["data_fakes"])


@pytest.fixture(autouse=True)
def _rng_is_restored():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.fixture(autouse=True)
def _fake_media(request, monkeypatch):
    """Files by name instead of by content, unless a test is marked by asking for ``real_media``."""
    if "real_media" not in request.fixturenames:
        monkeypatch.setattr("avssl.data.row_files.open_media", sys.modules["data_fakes"].open_media)


@pytest.fixture
def real_media():
    return True
