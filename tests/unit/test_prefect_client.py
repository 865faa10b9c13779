"""Flows, tasks and the block need no more than prefect-client has: no server, and nothing of the command line's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
COMMAND_LINE = {"cyclopts", "markdown-it-py", "packaging", "pyyaml", "rich", "starlette", "uvicorn"}
"""Used by the command line and the sandbox only."""
ABSENT = "cyclopts", "fastapi", "markdown_it", "sqlalchemy", "uvicorn"
"""Of it and of a server's, what prefect-client does without itself."""
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Blocked())
"""


def imported(code, *absent):
    """What a new process says that imports something while these modules cannot be."""
    command = [sys.executable, "-W", "ignore", "-c", BLOCKED + code, *absent]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_flows_tasks_and_block_import_without_them():
    code = "import prefect_extend_ai.flows, prefect_extend_ai.tasks\nfrom prefect_extend_ai import ExtendCredentials"
    done = imported(code, *ABSENT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cyclopts", "uvicorn"])
def test_what_is_blocked_would_be_missed(name):
    code = "import prefect_extend_ai.cli.command_line, prefect_extend_ai.sandbox.command"
    assert f"{name} is not there" in imported(code, name).stderr


def test_the_page_names_all_that_prefect_client_lacks():
    text = (ROOT / "docs" / "install.md").read_text()
    [line] = re.findall(r'^pip install prefect-client ".*', text, re.MULTILINE)
    named = {Requirement(word) for word in shlex.split(line)[3:]}
    required = {
        Requirement(each) for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert named == {each for each in required if each.name not in COMMAND_LINE | {"prefect"}}
