"""The shipped Dockerfile takes from the checkout what the wheel is made of."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deployments" / "Dockerfile").read_text()
IGNORE = (ROOT / "deployments" / "Dockerfile.dockerignore").read_text().splitlines()
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def copied():
    """What COPY takes from the checkout."""
    return {
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }


def test_all_that_the_wheel_is_made_of_is_copied_and_not_ignored():
    folders = set(SETUPTOOLS["package-dir"].values())
    files = {"pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    modules = {f"{name}.py" for name in SETUPTOOLS.get("py-modules", [])}
    assert copied() == folders | files | modules
    assert {line.removeprefix("!") for line in IGNORE if line.startswith("!")} == copied()
    assert [each for each in copied() if not (ROOT / each).exists()] == []


def test_the_image_holds_no_key_and_runs_without_root():
    assert "EXTEND_" not in DOCKERFILE
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nCMD ")
    assert "**/__pycache__" in IGNORE
    assert IGNORE[1] == "*"  # so that .env stays out
