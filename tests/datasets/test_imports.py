"""Scripts that only read lists start without torch: its import takes seconds and hundreds of MB."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets"


def test_no_script_imports_torch():
    names = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    assert len(names) >= 13
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n" + "".join(f"import {name}\n" for name in names)
    code += "print([name for name in ('torch', 'torchvision', 'sklearn', 'scipy', 'av') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
