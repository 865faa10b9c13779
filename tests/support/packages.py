"""The distributions of this package, built offline from a copy of the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "site", "output")
"""What an earlier build or a test run left behind must not get in."""


def copy_of_the_checkout(target):
    """The files of the checkout at `target`, links as links."""
    return shutil.copytree(ROOT, target, symlinks=True, ignore=MADE)


def build(hook, source, target):
    """What setuptools builds of a source tree: hook is build_sdist or build_wheel."""
    code = f"import sys; from setuptools.build_meta import {hook}; print({hook}(sys.argv[1]))"
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-c", code, target]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return target / built.stdout.split()[-1]


def unpack(sdist, target):
    """The root of a source distribution, unpacked where a file system knows no symbolic links."""
    with tarfile.open(sdist) as archive:
        plain = [member for member in archive if member.isfile() or member.isdir()]
        archive.extractall(target, plain, filter="data")
    [root] = target.iterdir()
    return root


def built_wheel(place):
    """The wheel, built from the source distribution below the folder `place`, as a package index gets it."""
    source = copy_of_the_checkout(place / "checkout")
    unpacked = unpack(build("build_sdist", source, place / "sdist"), place / "unpacked")
    return build("build_wheel", unpacked, place / "wheel")
