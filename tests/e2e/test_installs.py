"""The package as people install it: with pip, with uv, and beside prefect-client, each in its own environment."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import venv
from pathlib import Path

import httpx
import pytest

from prefect_extend_ai.sandbox import API_KEY, World, serve
from support.account import clear
from support.packages import built_wheel
from support.patience import Patient

pytestmark = pytest.mark.nightly
ROOT = Path(__file__).parents[2]
INSTALL = (ROOT / "docs" / "install.md").read_text()
PACKAGE = re.compile(r"git\+https://github\.com/prefect-extend-ai/prefect-extend-ai")
SWEEP = """
import asyncio, os, sys
from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.tasks import cancel_run, find_stale_runs, get_run

async def main():
    await ExtendCredentials(api_key=os.environ["KEY"], base_url=os.environ["URL"]).asave("client")
    credentials = await ExtendCredentials.aload("client")
    first, *others = await find_stale_runs(credentials)
    assert (await get_run(credentials, first.id)).status == "PROCESSING"
    assert (await cancel_run(credentials, first.id)).outcome == "cancelled"
    report = await cancel_stale_runs(credentials)
    assert len(report.cancellations) == len(others)
    assert all(each.record for each in report.cancellations)
    print(report.headline)

asyncio.run(main())
"""


CLEAN = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
"""The environment in which the checkout and what is installed beside it are out of reach."""


def call(*command, environment=CLEAN, code=0, **options):
    """What a command prints, which must end with this code."""
    done = subprocess.run(command, env=CLEAN | environment, capture_output=True, text=True, check=False, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def installed_sandbox(command, *words, cwd):
    """The variables of an account on a sandbox that an installed command serves."""
    process = subprocess.Popen(
        [command, "sandbox", "--port", "0", *words], env=CLEAN, cwd=cwd, stdout=subprocess.PIPE, text=True
    )
    try:
        exported = next(line for line in process.stdout if "export " in line)
        yield dict(word.split("=", 1) for word in exported.split() if "=" in word)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def in_docs(word):
    """The command of the page that has this word in it, as arguments, with the wheel in the place of the address."""
    [line] = [line for line in re.findall(r"^(?:pip|uv) .*", INSTALL, re.MULTILINE) if word in line]
    return shlex.split(line, comments=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built_wheel(tmp_path_factory.mktemp("built"))


@pytest.fixture
def python(tmp_path):
    """The python of a new environment."""
    venv.create(tmp_path / "env", with_pip=True)
    return tmp_path / "env" / "bin" / "python"


def pip(python, wheel, words):
    """Carry out a command of the page."""
    call(python, "-m", *(PACKAGE.sub(str(wheel), word) for word in words), "-q", cwd=python.parents[2])


def test_pip_installs_a_working_command(python, wheel, tmp_path, prefect_server):
    pip(python, wheel, ["pip", "install", PACKAGE.pattern.replace("\\", "")])
    command = python.with_name("prefect-extend-ai")
    assert call(command, "--version", cwd=tmp_path).strip() in wheel.name
    assert "--every" in call(command, "serve", "--help", cwd=tmp_path)
    server = prefect_server.settings | {"PREFECT_HOME": str(tmp_path / "home"), "COLUMNS": "300"}
    with (
        installed_sandbox(command, "--runs", "5", "--stuck", "3", cwd=tmp_path) as account,
        httpx.Client(base_url=prefect_server.api_url, transport=Patient()) as api,
    ):
        clear(api)
        said = call(command, "setup", cwd=tmp_path, environment=server | account)
        assert "Stale now   3 classify runs" in said
        checked = call(command, "check", cwd=tmp_path, environment=server | account, code=1)
        [fault] = re.findall(r"(?m)^fail  .*", checked)
        assert "no worker is running" in fault
        clear(api)


def test_uv_installs_the_command_as_a_tool(python, wheel, tmp_path):
    call(python, "-m", "pip", "install", "-q", "uv")
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    words = [PACKAGE.sub(str(wheel), word) for word in in_docs("uv tool install")]
    call(python.with_name("uv"), *words[1:], "--python", sys.executable, environment=places)
    assert call(tmp_path / "bin" / "prefect-extend-ai", "--version", cwd=tmp_path).strip() in wheel.name


def test_prefect_client_sweeps_against_a_server_elsewhere(python, wheel, tmp_path, prefect_server):
    pip(python, wheel, in_docs("pip install prefect-client"))
    pip(python, wheel, in_docs("--no-deps"))
    installed = call(python, "-m", "pip", "list", "--format", "freeze")
    assert not re.search(r"(?im)^(prefect|sqlalchemy|cyclopts)==", installed)
    with serve(World.populated(runs=60, stuck=12, seed=77)) as sandbox:
        settings = prefect_server.settings | {"PREFECT_HOME": str(tmp_path / "home")}
        extend = {"KEY": API_KEY, "URL": sandbox.url}
        said = call(python, "-W", "ignore", "-c", SWEEP, cwd=tmp_path, environment=settings | extend)
    assert said.splitlines()[-1] == "Cancelled 11 of 11 stale classify runs"
