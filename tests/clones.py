"""A copy of the repository in a folder of its own, for tests that run commands in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
LIGHT = {"max_iter": 60, "replicates": 50, "single_rows": 50}


class Clone:
    """A copy of the repository in a folder of its own, with commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changed: list[str] = []

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the clone, with the clone's own modules first on the path."""
        env = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "MPLBACKEND": "Agg"}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # each of many processes would compile anew
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)

    def json(self, name: str) -> Any:
        """Read a JSON file of the clone."""
        return json.loads((self.folder / name).read_text())

    def lock(self) -> dict[str, Any]:
        """Return the stages of ``dvc.lock``."""
        return yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]

    def commit(self, message: str) -> None:
        """Commit everything that git does not ignore."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        self.run("git", "add", "-A")
        done = self.run("git", *identity, "commit", "-q", "--allow-empty", "-m", message)
        assert done.returncode == 0, done.stderr

    def edit_params(self, old: str, new: str) -> None:
        """Replace one text of ``params.yaml``."""
        file = self.folder / "params.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def restore(self) -> None:
        """Take back every edit of what git tracks, and whatever failed runs left."""
        self.run("git", "checkout", "-q", ".")
        shutil.rmtree(self.folder / "reports/failed", ignore_errors=True)


def copy_of_the_repository(folder: Path, *, without: tuple[str, ...] = ()) -> Clone:
    """Copy what git tracks or would track to `folder`, as a repository of its own with one commit."""
    copy_files(folder, without=without)
    clone = Clone(folder)
    clone.run("git", "init", "-q")
    clone.commit("as it stands")
    return clone


def copy_files(folder: Path, *, without: tuple[str, ...] = ()) -> None:
    """Copy what git tracks or would track to `folder`, but for names that begin with one of `without`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(without or "\0"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def lighten(folder: Path) -> None:
    """Ask a project for fewer trees, resamples and single requests where what it proves is that its stages run."""
    place = folder / "params.yaml"
    text = place.read_text(encoding="utf-8")
    for name, value in LIGHT.items():
        text, found = re.subn(rf"(?m)^( +{name}: )\d+", rf"\g<1>{value}", text)
        assert found, name
    place.write_text(text, encoding="utf-8")
