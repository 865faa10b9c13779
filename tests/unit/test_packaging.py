"""What a user installs is what is meant, and nothing else."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.packages import build, copy_of_the_checkout, unpack

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"prefect_extend_ai": "prefect_extend_ai"} | {
    folder: f"prefect_extend_ai/{folder}" for folder in ("tasks", "flows", "deployments")
}
"""Where each folder of the checkout lies in the wheel."""
SHIPPED = {".py", ".yaml", ".typed"}
PLUGIN = "pytest_extend_sandbox.py"
"""Beside the package, since pytest imports it at every start."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_checkout(tmp_path_factory.mktemp("checkout") / "source")


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(sdist, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, as a package index gets it."""
    return build("build_wheel", unpacked, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def in_checkout() -> set[str]:
    return {
        f"{target}/{path.relative_to(ROOT / folder)}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")  # does not follow the links
        if path.suffix in SHIPPED and path.is_file()
    }


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_the_source_distribution_is_the_whole_checkout(source: Path, unpacked: Path):
    assert {"Makefile", "constraints.txt", "docs/index.md", "tests/unit/test_packaging.py"} <= files(unpacked)
    assert files(source) - files(unpacked) == set()


def test_the_checkout_builds_the_same_wheel(contents: set[str], tmp_path: Path):
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    with zipfile.ZipFile(build("build_wheel", checkout, tmp_path / "wheel")) as archive:
        assert set(archive.namelist()) == contents


def test_the_wheel_has_every_module_and_nothing_else(contents: set[str]):
    installed = {name for name in contents if ".dist-info/" not in name}
    assert installed == in_checkout() | {PLUGIN}


def test_the_wheel_takes_one_name_and_the_plugin(contents: set[str]):
    assert {name.split("/")[0] for name in contents if ".dist-info/" not in name} == {
        "prefect_extend_ai",
        PLUGIN,
    }


def test_the_wheel_is_typed_and_licensed(contents: set[str]):
    assert "prefect_extend_ai/py.typed" in contents
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in contents)


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import prefect_extend_ai.flows, prefect_extend_ai.tasks as tasks; print(tasks.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert Path(ran.stdout.strip()).is_relative_to(tmp_path), ran.stderr


def test_the_links_for_type_checkers_say_what_the_wheel_does():
    mapped = {name.replace(".", "/"): folder for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()}
    assert mapped == {target: folder for folder, target in FOLDERS.items()}
    for target, folder in mapped.items():
        assert (ROOT / target).resolve() == ROOT / folder


def test_prefect_finds_the_block_and_the_shell_finds_the_command():
    [collection] = entry_points(group="prefect.collections", name="prefect_extend_ai")
    [command] = entry_points(group="console_scripts", name="prefect-extend-ai")
    assert hasattr(collection.load(), "ExtendCredentials")
    assert callable(command.load())


def test_what_repairs_servers_is_in_the_extra_alone(metadata: Message):
    required = list(map(Requirement, metadata.get_all("Requires-Dist", [])))
    always = {each.name: each.specifier for each in required if each.marker is None}
    server = {
        each.name: each.specifier for each in required if each.marker and each.marker.evaluate({"extra": "server"})
    }
    assert "4.0" not in always["prefect"]
    assert set(server) - set(always) == {"fastapi", "sqlalchemy"}
    assert "0.151.0" not in server["fastapi"]
    assert "2.1.0" not in server["sqlalchemy"]


def test_the_version_is_written_in_one_place(metadata: Message):
    version = PROJECT["project"]["version"]
    assert metadata["Version"] == version
    changes = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[0] == "[Unreleased]"
    assert all(heading.startswith(f"[{version}] - ") for heading in changes[1:2])
    sources = [path.read_text() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert not [text for text in sources if re.search(rf'(?i)version__ = |"prefect-extend-ai/{version}', text)]


def test_the_constraints_name_one_release_of_each_dependency():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    odd = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)]
    assert not odd
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *chain.from_iterable(extras.values())]
    # pip freeze leaves the installers out.
    missing = {canonicalize_name(Requirement(each).name) for each in wanted} - pinned - {"setuptools"}
    assert not missing
    assert not pinned & {"torch", "prefect-extend-ai"}


@pytest.mark.parametrize(
    "module", ["prefect_extend_ai.cli.command_line", "prefect_extend_ai.sandbox", "prefect_extend_ai.tasks"]
)
def test_every_name_in_all_is_there(module: str):
    imported = importlib.import_module(module)
    assert not [name for name in imported.__all__ if not hasattr(imported, name)]
