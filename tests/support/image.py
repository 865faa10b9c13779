"""A Dockerfile carried out without Docker: a fresh virtual environment in the place of each base image."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import venv
from pathlib import Path


class Image:
    """What the last stage of a Dockerfile holds, as far as COPY and `RUN pip` make it.

    Absolute paths of the image lie below `root`. Other RUN lines (a user, a package of the system) are left out.
    """

    def __init__(self, dockerfile, context, root):
        self.context, self.root = Path(context), Path(root)
        self.stages = {}
        self.stage = self.folder = None
        text = Path(dockerfile).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if step := {"FROM": self._from, "WORKDIR": self._workdir, "COPY": self._copy, "RUN": self._run}.get(word):
                step(rest)

    @property
    def bin(self):
        """Where the commands are that the image's python has."""
        return self.stage / "venv" / "bin"

    def _from(self, rest):
        words = rest.split()
        name = words[2] if "AS" in words else "last"
        self.stage = self.stages[name] = self.folder = self.root / name
        # As in an image, nothing of this machine's environment is in it.
        venv.create(self.stage / "venv", with_pip=True)

    def _at(self, path, stage=None):
        return (stage or self.stage) / path.lstrip("/") if path.startswith("/") else self.folder / path

    def _workdir(self, rest):
        self.folder = self._at(rest)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest):
        words = shlex.split(rest)
        origin = next((self.stages[each.partition("=")[2]] for each in words if each.startswith("--from=")), None)
        *sources, target = [each for each in words if not each.startswith("--")]
        for source in sources:
            path = self._at(source, origin) if origin else self.context / source
            to = self._at(target)
            if path.is_dir():
                shutil.copytree(path, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                to = to / path.name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to)

    def _files(self, word):
        """What a shell makes of a word with an asterisk in its last part."""
        path = Path(word)
        return sorted(path.parent.glob(path.name)) if "*" in path.name else [word]

    def _run(self, rest):
        words = shlex.split(rest)
        if words[0] != "pip":
            return
        # With pip's cache: a layer of an image has no use for it, a test has.
        words = [each for each in words[1:] if each != "--no-cache-dir"]
        options = [str(self._at(each)) if each.startswith("/") else each for each in words]
        files = [path for each in options for path in self._files(each)]
        # Off the checkout's own environment: it has the package installed.
        clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        done = subprocess.run(
            [self.bin / "python", "-m", "pip", "--disable-pip-version-check", *files],
            cwd=self.folder,
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{rest}: {done.stdout}{done.stderr}"
