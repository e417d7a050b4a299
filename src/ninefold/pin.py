"""The engine of a project: `check` refuses another commit than ``ninefold.yaml`` names; `eject` copies the sources."""

import json
import re
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from ninefold import artifacts
from ninefold.errors import DataError, NinefoldError
from ninefold.outdated import PIN as FILE
from ninefold.sentences import render

OWNED = "src/ninefold"
ANSWERS = ".copier-answers.yml"
PACKAGE = Path(__file__).parent
EJECTED = f"""# The engine, on which every stage depends: its sources, which this project owns since `ninefold eject`.
ninefold:
  code: {OWNED}
"""


@dataclass(frozen=True)
class Pin:
    """What ``ninefold.yaml`` says: `code`, on which the stages depend; `source` and `commit` only of an installed engine."""

    code: str
    source: str | None = None
    commit: str | None = None


def read() -> Pin | None:
    """Return the pin of the project; None if there is no ``ninefold.yaml``; raise `DataError` if it cannot be read."""
    place = artifacts.path(FILE)
    if not place.exists():
        return None
    expected = "expected `ninefold:` and below it `code`, and for an installed engine `source` and `commit`, in quotes"
    try:
        pin = Pin(**yaml.safe_load(place.read_text(encoding="utf-8"))["ninefold"])
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise DataError(f"{FILE}: {' '.join(str(error).split())}; {expected}; restore it from git") from None
    if (pin.code == FILE) != bool(pin.source and pin.commit):
        raise DataError(f"{FILE}: found code {pin.code!r} with commit {pin.commit!r}; {expected}; restore it from git")
    return pin


def installed() -> str | None:
    """Return the commit from which pip has installed the engine; None if it was not installed from a repository."""
    try:
        origin = json.loads(metadata.distribution("ninefold").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        return None
    commit: str | None = origin.get("vcs_info", {}).get("commit_id")
    return commit


def check() -> None:
    """Raise `DataError` if ``ninefold.yaml`` names another engine: results would be recorded under its name."""
    pin = read()
    if pin and pin.commit and pin.commit != (commit := installed()):
        running = f"{commit[:12] if commit else PACKAGE} is installed"
        raise DataError(f"{FILE}: names commit {pin.commit[:12]} of the engine, but {running}; run `make setup`")
    if pin and pin.code == OWNED and PACKAGE.resolve() != artifacts.path(OWNED).resolve():
        raise DataError(f"{FILE}: names {OWNED}, but the engine in {PACKAGE} is running; run `make setup`")


def plan() -> str:
    """Return what `eject` does and what it costs; raise `NinefoldError` if the project owns the engine already."""
    commit, modules = _installed_here(), list(PACKAGE.rglob("*.py"))
    lines = sum(module.read_text(encoding="utf-8").count("\n") for module in modules)
    names = {"owned": OWNED, "file": FILE, "answers": ANSWERS}
    return render("spine", "eject", commit=commit, modules=modules, lines=lines, **names)


def eject() -> str:
    """Copy the installed engine to ``src/ninefold`` and make the project use it; return what to do next."""
    _installed_here()
    project = _with_engine(artifacts.path("pyproject.toml").read_text(encoding="utf-8"))
    target = artifacts.path(OWNED)
    with artifacts.replacing(target) as temporary:
        shutil.copytree(PACKAGE, temporary, ignore=shutil.ignore_patterns("__pycache__"))
        for part in metadata.files("ninefold") or []:
            if part.name == "LICENSE":
                shutil.copyfile(str(part.locate()), temporary / "LICENSE")
    artifacts.write_text(project, artifacts.path("pyproject.toml"))
    artifacts.write_text(EJECTED, artifacts.path(FILE))
    artifacts.remove(artifacts.path(ANSWERS))
    return f"wrote {OWNED}. Next: `make test`, `make run`, and commit: git add -A && git commit"


def _installed_here() -> str:
    pin = read()
    if pin is None or not pin.commit or artifacts.path(OWNED).exists():
        raise NinefoldError(f"{OWNED}: this project has the engine's sources already; there is nothing to eject")
    check()
    return pin.commit


def _with_engine(text: str) -> str:
    """Return ``pyproject.toml`` with the packages that the engine needs, its command, and its sources in the wheel."""
    head = re.search(r"^dependencies = \[[ \t]*\n", text, re.M)
    wheel = re.search(r'^packages = \["src/project"\]', text, re.M)
    if head is None or wheel is None:
        raise NinefoldError(render("spine", "no_place_for_engine"))
    needed = [one.replace('"', "'") for one in metadata.requires("ninefold") or [] if "extra ==" not in one]
    lines = "".join(f'    "{one}",\n' for one in needed)
    text = f"{text[: head.end()]}{lines}{text[head.end() :]}"
    text = text.replace('packages = ["src/project"]', 'packages = ["src/project", "src/ninefold"]', 1)
    return f'{text.rstrip()}\n\n[project.scripts]\nninefold = "ninefold.cli:app"\n'
