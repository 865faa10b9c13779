"""The unit and contract tests on every Python and Prefect that is supported, as far as this machine has them.

    make matrix                     everything
    make matrix ARGS=lowest         one of it: lowest, newest, prefect-3.8.0, python-3.11, ...

Each environment is made by uv, which this installs from PyPI, under .matrix/.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".matrix"
TOOLS = HOME / "tools.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST_PREFECT = "3.8.0"
TESTS = ("--no-cov", "-q", "--dist=worksteal", "-m", "not slow and not nightly", "tests/unit", "tests/contract")


@dataclass(frozen=True, slots=True)
class Cell:
    """One environment.

    Attributes:
        name: what people call it.
        python: its Python; None for one that is not on this machine.
        wants: what is installed into it besides this package.
        extras: the extras of this package.
    """

    name: str
    python: Path | None
    wants: list[str] = field(default_factory=list)
    extras: str = "server,test"


def main(names: list[str]) -> int:
    """Run what is named, or everything; 1 where a test fails, 2 where a name is unknown."""
    known = list(cells())
    unknown = set(names) - {cell.name for cell in known}
    if unknown:
        say(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(cell.name for cell in known)}")
        return 2
    chosen = [cell for cell in known if not names or cell.name in names]
    HOME.mkdir(exist_ok=True)
    TOOLS.write_text("".join(f"{line}\n" for line in pinned_tools()), "utf-8")
    ran = {cell.name: run(cell) for cell in chosen if cell.python is not None}
    for cell in chosen:
        say(f"{cell.name:<16}{ran.get(cell.name, 'left out: this machine has no such Python')}")
    return int(not ran or any(result != "passed" for result in ran.values()))


def cells() -> Iterator[Cell]:
    """Every environment that is supported, the lowest releases first."""
    found = {version: interpreter(version) for version in PYTHONS}
    there = [python for python in found.values() if python is not None]
    oldest, newest = (there[0], there[-1]) if there else (None, None)
    yield Cell("lowest", oldest, ["--resolution", "lowest-direct"])
    # Without the ceilings that only a server needs.
    yield Cell("newest", newest, ["--resolution", "highest", "--upgrade"], "test")
    yield Cell(f"prefect-{OLDEST_PREFECT}", oldest, [f"prefect=={OLDEST_PREFECT}", "-c", str(TOOLS)])
    for version, python in found.items():
        yield Cell(f"python-{version}", python, ["-c", "constraints.txt"])


def interpreter(version: str) -> Path | None:
    """A Python of this version that runs. A shim may stand for one that does not."""
    named = shutil.which(f"python{version}")
    candidates = [Path(named)] if named else []
    candidates += [Path(sys.executable), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for candidate in candidates:
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
        if answer.stdout.strip() == version:
            return candidate
    return None


def pinned_tools() -> list[str]:
    """The lines of constraints.txt for the tools of the tests: another Prefect needs other releases of the rest."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    names = {re.split(r"[^\w-]", each)[0].lower() for each in extras["test"]}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line.split("==")[0].lower() in names]


def run(cell: Cell) -> str:
    """Make the environment and run the tests in it: `passed`, or what failed."""
    say(f"== {cell.name}: {cell.python}")
    place = HOME / cell.name
    bin_ = place / "bin"
    uv = str(installer())
    if call(uv, "venv", "--quiet", "--clear", "--no-python-downloads", "--python", str(cell.python), str(place)):
        return "failed: no environment"
    package = (*cell.wants, "--editable", f".[{cell.extras}]")
    if call(uv, "pip", "install", "--quiet", "--python", str(bin_ / "python"), *package):
        return "failed: cannot be installed"
    call(uv, "pip", "list", "--quiet", "--python", str(bin_ / "python"))
    return "failed" if call(str(bin_ / "python"), "-m", "pytest", *TESTS, HYPOTHESIS_PROFILE="fast") else "passed"


def installer() -> Path:
    """The uv of the matrix, installed at its first use."""
    uv = HOME / "uv" / "bin" / "uv"
    if not uv.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME / "uv"], check=True)  # noqa: S603
        subprocess.run([uv.with_name("pip"), "install", "--quiet", "uv>=0.8"], check=True)  # noqa: S603
    return uv


def call(*command: str, **environment: str) -> int:
    """Run a command in the checkout; its exit code."""
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode  # noqa: S603


def say(line: str) -> None:
    """Print a line at once, before what the commands print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
