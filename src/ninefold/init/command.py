"""Begin a project with the user's own table: ``params.yaml``, notebooks and ``src/project`` with which it runs."""

import contextlib
import filecmp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from ninefold import artifacts, lineage
from ninefold.collection import databases, sources
from ninefold.errors import NinefoldError
from ninefold.init import drafting, sampling, variants
from ninefold.init.assumptions import Assumption
from ninefold.init.proposal import Proposal, Wish
from ninefold.init.propose import propose
from ninefold.params import FILE, load
from ninefold.stages import STAGES

SOURCE = "data/source"
PASSWORD = "${NINEFOLD_PASSWORD}"


@dataclass(frozen=True)
class Table:
    """A table of the user's: where it is, how it is read, what it will be called, and its rows as text."""

    location: str
    options: dict[str, Any]
    name: str
    rows: pd.DataFrame
    notes: tuple[Assumption, ...] = ()  # what was assumed to read it

    @property
    def is_local(self) -> bool:
        """Whether it is a file or a folder here, which is copied."""
        return "://" not in self.location

    @property
    def place(self) -> str:
        """Where the project reads it from."""
        if not self.is_local:
            return sources.masked(self.location).replace("***", PASSWORD)
        return f"{SOURCE}/{self.name}{'' if Path(self.location).is_dir() else _suffix(self.location)}"


@dataclass(frozen=True)
class Plan:
    """What `apply` is to write: the texts by their path in the project, and the tables, the main one first."""

    proposal: Proposal
    tables: list[Table]
    texts: dict[str, str]


def plan(table: str, wish: Wish, joins: Sequence[str] = (), options: dict[str, Any] | None = None) -> Plan:
    """Return ``params.yaml``, the notebooks and ``src/project`` for a table; write nothing.

    `table`, and those of `joins`: a file, a folder of files, a table of a SQLite or DuckDB file (``shop.db::orders``),
    ``s3://bucket/key``, or the URL of a SQL database; `options`: how `table` is read, see `collection.sources.read`.
    Raises `NinefoldError` if a table cannot be read, or nothing can be learned from it.
    """
    tables = [read(table, options)]
    for each in joins:
        tables.append(read(each, others=[one.name for one in tables]))
    rows = {one.name: one.rows for one in tables}
    p = propose(tables[0].name, rows.pop(tables[0].name), wish, rows)
    p.add(note for one in tables for note in one.notes)
    texts = drafting.draft(p, {one.name: {"source": one.place, "options": one.options} for one in tables})
    texts |= variants.notebooks(p.task, p.time, p.group)
    _prove(texts[FILE])
    return Plan(p, tables, texts)


def replaced(plan: Plan) -> list[str]:
    """Return the files that `apply` would replace with other content, and say of which git has not all."""
    texts = {name: text for name, text in plan.texts.items() if artifacts.path(name).exists()}
    names = [name for name, text in texts.items() if artifacts.path(name).read_text("utf-8", "replace") != text]
    local = [one for one in plan.tables if one.is_local]
    names += [one.place for one in local if not _is_copy(artifacts.path(one.place), Path(one.location))]
    return [f"{name} (has changes that are not committed)" if _is_uncommitted(name) else name for name in names]


def apply(plan: Plan) -> str:
    """Write the files of a plan, copy local tables to ``data/source`` and put them under DVC; return what was found."""
    _prepare_versions()
    for one in plan.tables:
        if one.is_local:
            _bring_in(one)
    for name, text in plan.texts.items():
        artifacts.write_text(text, artifacts.path(name))
    secret = [f"collection.tables.{one.name}.source" for one in plan.tables if PASSWORD in one.place]
    return drafting.summary(plan.proposal, secret)


def read(location: str, options: dict[str, Any] | None = None, others: Sequence[str] = ()) -> Table:
    """Return a table that the user names, as text, a sample of a large one; raise `DataError` if it cannot be read."""
    place, inner = databases.split(location)
    known = {**(options or {}), **({"table": inner} if inner else {})}
    if PurePosixPath(place).suffix.lower() in (".xlsx", ".xlsm") and "table" in known:
        known["sheet"] = known.pop("table")
    if "://" not in place and (here := Path(place).expanduser()).exists():
        place = str(here.resolve())  # the shell's folder is the user's; all else is relative to the project
    notes: list[str] = []
    settings = sources.sniff(place, known, notes)
    file = PurePosixPath(place.rstrip("/")).name
    stem = file if Path(place).is_dir() else file[: len(file) - len(_suffix(file))]
    if "://" in place and not place.startswith("s3://"):
        stem = "table"
    name = drafting.slug(str(settings.get("table") or stem), "_", 40)
    if not name or name[0].isdigit():
        name = f"table_{name}".rstrip("_")
    while name in others:
        name += "_2"
    rows, warnings = sampling.sample(sources.parts(place, settings), name)
    if (renamed := rows.attrs.get("renamed")) and settings.get("header", True):
        shown = ", ".join(f"{new} ({old!r})" for new, old in list(renamed.items())[:5])
        warnings.append(Assumption("renamed", (), {"shown": shown + (", ..." if len(renamed) > 5 else "")}, name))
    warnings += [Assumption("reading", (), {"note": note}, name) for note in notes]
    return Table(place, settings, name, rows, tuple(warnings))


def _suffix(place: str) -> str:
    """Return the suffix of a file, with that of its packing: ``.csv.gz``."""
    ends = [end.lower() for end in PurePosixPath(place).suffixes]
    return "".join(ends[-2:] if ends and ends[-1] in sources.PACKED else ends[-1:])


def _prove(text: str) -> None:
    """Load all nine sections as the stages will, before anything is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(text, encoding="utf-8")
        with contextlib.chdir(folder):
            for section in STAGES:
                load(section)


def _is_copy(place: Path, source: Path) -> bool:
    """Return whether a table of `data/source` is absent, or that which would be copied there; folders are not compared."""
    if not place.exists() or place.resolve() == source.resolve():
        return True
    return place.is_file() and source.is_file() and filecmp.cmp(source, place, shallow=False)


def _is_uncommitted(name: str) -> bool:
    """Return whether git lacks a file as it is now; of a table under DVC, its pointer, or the table as that knows it."""
    pointer = f"{name}.dvc"
    if artifacts.path(pointer).exists():
        return bool(_call("dvc", "status", "-q", pointer, check=False).returncode) or _is_uncommitted(pointer)
    status = _call("git", "status", "--porcelain", "--ignored", "--untracked-files=all", "--", name, check=False)
    return bool(status.returncode or status.stdout)


def _prepare_versions() -> None:
    """Begin a git repository and DVC where there are none; `DataError` if git, or DVC's remote, is that of another project."""
    lineage.demand_own_repository()
    if _call("git", "rev-parse", check=False).returncode:
        _call("git", "init", "-q")
    if not artifacts.path(".dvc").is_dir():
        top = Path(_call("git", "rev-parse", "--show-toplevel").stdout.strip())
        _call("dvc", "init", "-q", *([] if top.resolve() == artifacts.path(".").resolve() else ["--subdir"]))
        _call("dvc", "config", "core.analytics", "false")
    lineage.demand_own_store()


def _bring_in(table: Table) -> None:
    """Copy a local table into the project, whole or not at all, and put it under DVC."""
    source, target = Path(table.location), artifacts.path(table.place)
    if source.resolve() != target.resolve():
        with artifacts.replacing(target) as new:
            if source.is_dir():
                shutil.copytree(source, new, ignore=shutil.ignore_patterns(".*", "_*"))
            else:
                shutil.copy2(source, new)
    _call("dvc", "add", "-q", table.place)


def _call(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run git, or this environment's DVC, in the project's folder."""
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    done = subprocess.run(words, cwd=artifacts.path("."), capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()[:500]
        raise NinefoldError(f"`{' '.join(command)}` failed: {said}")
    return done
