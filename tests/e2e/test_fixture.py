"""The pytest fixture that the package brings for other projects, in a project of somebody else's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SANDBOX = Path(__file__).parents[2] / "docs" / "sandbox.md"


def test_the_example_passes_in_another_project(prefect_server, tmp_path):
    (example,) = re.findall(r"```python\n(.*?def test_.*?)```", SANDBOX.read_text(), re.DOTALL)
    (tmp_path / "test_ours.py").write_text(example)
    words = [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", str(tmp_path)]
    environment = os.environ | {"PREFECT_API_URL": prefect_server.api_url}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_pytest_starts_without_importing_prefect(tmp_path):
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\ndef test_nothing():\n    assert 'prefect' not in sys.modules\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
