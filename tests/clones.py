"""Clones of the repository and copies made from it by Copier, for tests that run commands in them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

from ninefold.testing import project as testing

ROOT = Path(__file__).parent.parent
LIGHT = {"max_iter": 60, "single_rows": 50}


class Clone:
    """A copy of the repository in a folder of its own, with commands run in it."""

    def __init__(self, folder: Path, environment: Path | None = None) -> None:
        self.folder = folder
        self.environment = environment  # of a copied project: where its engine is installed
        self.changed: list[str] = []

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the clone, with the clone's own modules first on the path."""
        env = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "MPLBACKEND": "Agg"}
        places = [self.environment / "bin"] if self.environment else []
        env["PATH"] = os.pathsep.join(map(str, [*places, Path(sys.executable).parent, env["PATH"]]))
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # each of many processes would compile again
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        done = self.run("git", "commit", "-q", "--allow-empty", "-m", message)
        assert done.returncode == 0, done.stderr

    def edit_params(self, old: str, new: str) -> None:
        file = self.folder / "params.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def restore(self) -> None:
        """Take back every edit of what git tracks, and whatever failed runs left."""
        self.run("git", "checkout", "-q", ".")
        shutil.rmtree(self.folder / "reports/failed", ignore_errors=True)


def copy_of_the_repository(folder: Path) -> Clone:
    """Copy what git tracks or would track to `folder`, as a repository of its own with one commit."""
    testing.copy_tracked(ROOT, folder)
    clone = Clone(folder)
    clone.run("git", "init", "-q")
    clone.commit("as it stands")
    return clone


def template(folder: Path) -> Clone:
    """Return the repository as a template to copy from: what git tracks or would track, in one commit, tagged v1.0.0."""
    made = copy_of_the_repository(folder)
    made.run("git", "tag", "v1.0.0")
    return made


def copied(origin: Path, folder: Path) -> Clone:
    """Return the project that Copier makes of a template, committed, without trust and without questions."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "copier", "copy", "--defaults", str(origin), folder.name],
        cwd=folder.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    project = Clone(folder)
    project.run("git", "init", "-q")
    project.commit("as it was copied")
    return project


def set_up(project: Clone) -> subprocess.CompletedProcess[str]:
    """Run ``make setup`` in a copied project, in an environment that sees the third-party packages of the tests'.

    So only what is the project's own is installed: its package, and the engine from the commit in ``ninefold.yaml``. The
    locks are left out: pip would take ten seconds to find all of it there.
    """
    project.environment = project.folder / ".venv"
    if not project.environment.exists():
        venv.create(project.environment, symlinks=True)
        inside = sysconfig.get_path("purelib", vars={"base": str(project.environment)})
        (Path(inside) / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (project.environment / "share").symlink_to(Path(sys.prefix) / "share")  # the templates of nbconvert
    pip = f"{shlex.quote(sys.executable)} -m pip --quiet --disable-pip-version-check --python .venv/bin/python"
    return project.run("make", "setup", "LOCKS=", f"PIP={pip}")


def lighten(folder: Path) -> None:
    """Ask a project for fewer trees and single requests where what it proves is that its stages run."""
    place = folder / "params.yaml"
    text = place.read_text(encoding="utf-8")
    for name, value in LIGHT.items():
        text, found = re.subn(rf"(?m)^( +{name}: )\d+", rf"\g<1>{value}", text)
        assert found, name
    place.write_text(text, encoding="utf-8")
