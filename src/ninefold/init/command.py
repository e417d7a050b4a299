"""Begin a project with the user's own table: from a table to ``params.yaml`` and ``src/project``, with which it runs.

`plan` makes a proposal, `replaced` lists the files that it would replace, and `apply` writes it.
"""

from __future__ import annotations

import contextlib
import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import yaml

from ninefold import artifacts
from ninefold.collection import sources
from ninefold.errors import NinefoldError
from ninefold.init import drafting
from ninefold.init.proposal import Proposal, Wish
from ninefold.init.propose import propose
from ninefold.init.yaml_text import ascii_only
from ninefold.params import FILE, load, parse
from ninefold.stages import STAGES

SOURCE = "data/source"
PASSWORD = "${NINEFOLD_PASSWORD}"


@dataclass(frozen=True)
class Table:
    """A table of the user's: where it lies, how it is read, what it will be called, and its rows as text."""

    location: str
    options: dict[str, Any]
    name: str
    rows: pd.DataFrame

    @property
    def is_local(self) -> bool:
        """Return whether it is a file or a folder here, which is copied."""
        return "://" not in self.location

    @property
    def place(self) -> str:
        """Return where the project reads it from."""
        if not self.is_local:
            return sources.masked(self.location).replace("***", PASSWORD)
        return f"{SOURCE}/{self.name}{'' if Path(self.location).is_dir() else suffix(self.location)}"


@dataclass(frozen=True)
class Plan:
    """What `apply` is to write: the texts by their path in the project, and the tables, the main one first."""

    proposal: Proposal
    tables: list[Table]
    texts: dict[str, str]


def plan(  # noqa: PLR0913
    table: str,
    target: str,
    *,
    time: str | None = None,
    key: str | None = None,
    task: str = "auto",
    joins: Sequence[str] = (),
    options: dict[str, Any] | None = None,
) -> Plan:
    """Return ``params.yaml`` and ``src/project`` for a table; write nothing.

    Parameters
    ----------
    table : str
        A file, a folder of files, a table of a SQLite or DuckDB file (``shop.db::orders``), ``s3://bucket/key``, or the
        URL of a SQL database.
    target : str
        The column to predict.
    time : str, optional
        The column that says when a row's event happens; ``none``: there is none. Found by itself if absent.
    key : str, optional
        The column that identifies a row, or an entity that comes back.
    task : str
        ``auto``, ``binary``, ``multiclass`` or ``regression``.
    joins : sequence of str
        Tables that hold more of what a column names, as `table`.
    options : dict, optional
        How `table` is read, where that cannot be guessed; see `ninefold.collection.sources.read`.

    Raises
    ------
    NinefoldError
        If the table cannot be read, or nothing can be learned from it.
    """
    main = read(table, options)
    others: list[Table] = []
    for each in joins:
        others.append(read(each, None, others=[main.name, *(one.name for one in others)]))
    p = propose(main.name, main.rows, Wish(target, time, key, task), {one.name: one.rows for one in others})
    tables = [main, *others]
    texts = drafting.draft(p, {one.name: {"source": one.place, "options": one.options} for one in tables})
    _prove(texts[FILE])
    return Plan(p, tables, texts)


def replaced(plan: Plan) -> list[str]:
    """Return the files that `apply` would replace with other content, and say of which git has not all."""
    names = [name for name, text in plan.texts.items() if _differs(artifacts.path(name), text)]
    copies = {one.place: Path(one.location) for one in plan.tables if one.is_local}
    names += [name for name, location in copies.items() if not _is_copy(artifacts.path(name), location)]
    former = sorted(_former_sources() - set(copies))
    names += [name for name in former if artifacts.path(name).exists() and artifacts.path(f"{name}.dvc").exists()]
    return [f"{name} (has changes that are not committed)" if _is_uncommitted(name) else name for name in names]


def apply(plan: Plan) -> str:
    """Write the files of a plan, copy local tables to ``data/source`` and put them under DVC; return what was found."""
    _prepare_versions()
    old = _former_sources()
    for one in plan.tables:
        if one.is_local:
            _bring_in(one)
    _forget(old - {one.place for one in plan.tables})
    for name, text in plan.texts.items():
        artifacts.write_text(text, artifacts.path(name))
    return "\n".join([drafting.summary(plan.proposal), *(_advice(one) for one in plan.tables if PASSWORD in one.place)])


def read(location: str, options: dict[str, Any] | None = None, others: Sequence[str] = ()) -> Table:
    """Return a table that the user names, read whole as text.

    Raises
    ------
    DataError
        If it is not there, or cannot be read.
    """
    place, _, inner = location.partition("::")
    known = {**(options or {}), **({"table": inner} if inner else {})}
    if PurePosixPath(place).suffix.lower() in (".xlsx", ".xlsm") and "table" in known:
        known["sheet"] = known.pop("table")
    if "://" not in place:
        # The shell's folder is the user's; all else is relative to the project.
        here = Path(place).expanduser()
        place = str(here.resolve()) if here.exists() else place
    settings = sources.sniff(place, known)
    name = slug(str(settings.get("table") or (_stem(place))))
    while name in others:
        name += "_2"
    return Table(place, settings, name, sources.read(place, settings))


def slug(text: str) -> str:
    """Return a name of letters, digits and underscores that a table may have: ``Orders 2024`` becomes ``orders_2024``."""
    plain = re.sub(r"[^a-z0-9]+", "_", ascii_only(text).lower()).strip("_")[:40].strip("_")
    return f"table_{plain}".rstrip("_") if not plain or plain[0].isdigit() else plain


def suffix(place: str) -> str:
    """Return the suffix of a file, with that of its packing: ``.csv.gz``."""
    ends = [end.lower() for end in PurePosixPath(place).suffixes]
    return "".join(ends[-2:] if ends and ends[-1] in sources.PACKED and len(ends) > 1 else ends[-1:])


def _stem(place: str) -> str:
    if "://" in place and not place.startswith("s3://"):
        return "table"
    name = PurePosixPath(place.rstrip("/")).name
    return name[: len(name) - len(suffix(name))] if not Path(place).is_dir() else name


def _prove(text: str) -> None:
    """Load all nine sections as the stages will, before anything is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(text, encoding="utf-8")
        with contextlib.chdir(folder):
            for section in STAGES:
                load(section)


def _differs(place: Path, text: str) -> bool:
    """Return whether a file is there with another text, whatever ends its lines."""
    return place.exists() and place.read_text(encoding="utf-8", errors="replace") != text


def _is_copy(place: Path, source: Path) -> bool:
    """Return whether a table of `data/source` is absent, or that which would be copied there; folders are not compared."""
    if not place.exists() or place.resolve() == source.resolve():
        return True
    return place.is_file() and source.is_file() and filecmp.cmp(source, place, shallow=False)


def _is_uncommitted(name: str) -> bool:
    """Return whether git lacks a file as it is now; of a table under DVC, its pointer, or the table as that knows it."""
    pointer = f"{name}.dvc"
    if artifacts.path(pointer).exists():
        done = _call(sys.executable, "-m", "dvc", "status", "-q", pointer, check=False)
        return bool(done.returncode) or _is_uncommitted(pointer)
    status = _call("git", "status", "--porcelain", "--ignored", "--untracked-files=all", "--", name, check=False)
    return bool(status.returncode or status.stdout)


def _prepare_versions() -> None:
    """Begin a git repository and DVC where there are none."""
    inside = _call("git", "rev-parse", "--show-toplevel", check=False)
    if inside.returncode:
        _call("git", "init", "-q")
    if not artifacts.path(".dvc").is_dir():
        top = Path(_call("git", "rev-parse", "--show-toplevel").stdout.strip())
        sub = [] if top.resolve() == artifacts.path(".").resolve() else ["--subdir"]
        _call(sys.executable, "-m", "dvc", "init", "-q", *sub)
        _call(sys.executable, "-m", "dvc", "config", "core.analytics", "false")


def _bring_in(table: Table) -> None:
    """Copy a local table into the project, whole or not at all, and put it under DVC."""
    source, target = Path(table.location), artifacts.path(table.place)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.resolve() != target.resolve():
        temporary = target.with_name(f".{target.name}.tmp")
        _drop(temporary)
        if source.is_dir():
            shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(".*", "_*"))
        else:
            shutil.copy2(source, temporary)
        _drop(target)
        temporary.rename(target)
    _call(sys.executable, "-m", "dvc", "add", "-q", table.place)


def _former_sources() -> set[str]:
    """Return the files in ``data/source`` that the ``params.yaml`` to be replaced reads."""
    try:
        tables = parse(artifacts.path(FILE).read_text(encoding="utf-8"))["collection"]["tables"]
        places = {str(table.get("source") or "") for table in tables.values()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in places if PurePosixPath(name).parent == PurePosixPath(SOURCE)}


def _forget(places: set[str]) -> None:
    """Remove files of a former init, and their pointers."""
    for name in sorted(places):
        pointer = f"{name}.dvc"
        if artifacts.path(pointer).exists():
            _call(sys.executable, "-m", "dvc", "remove", "-q", pointer)
            _drop(artifacts.path(name))


def _drop(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _call(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=artifacts.path("."), capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()[:500]
        raise NinefoldError(f"`{' '.join(command).replace(sys.executable, 'python')}` failed: {said}")
    return done


def _advice(table: Table) -> str:
    return (
        f"The password is not written down: set the environment variable NINEFOLD_PASSWORD before `dvc repro`; "
        f"collection.tables.{table.name}.source names it."
    )
