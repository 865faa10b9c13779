"""A run of the tests in which too much had to be run again fails, though each test passed in the end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FLAKY = """
import pytest
ATTEMPTS = []

@pytest.mark.flaky(reruns=9)
def test_flaky():
    ATTEMPTS.append(1)
    assert len(ATTEMPTS) > {reruns}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reruns", "workers", "status", "said"),
    [(3, "0", 0, "3 rerun"), (4, "1", 1, "4 reruns, at most 3 are accepted")],
)
def test_more_than_three_reruns_fail_a_run(tmp_path, reruns, workers, status, said):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -raR\n")
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "test_flaky.py").write_text(FLAKY.format(reruns=reruns))
    command = [sys.executable, "-m", "pytest", "-p", "no:cov", "-n", workers, "unit"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert said in ran.stdout
    assert "RERUN unit/test_flaky.py::test_flaky" in ran.stdout
    assert "why unit/test_flaky.py::test_flaky was run again" in ran.stdout
    assert "assert len(ATTEMPTS) >" in ran.stdout
