import importlib.util
import sys
from pathlib import Path

# Tests are imported by path and are no package, so a shared module is put in place once, by name.
_spec = importlib.util.spec_from_file_location("localization_clock", Path(__file__).with_name("clock.py"))
sys.modules["localization_clock"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["localization_clock"])
