"""Begin a project with the user's own table: from a table to ``params.yaml`` and ``src/project``, with which it runs.

What the user has edited is never overwritten unasked: each file that is written here ends in a line that knows the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import yaml

from ninefold.core import io, sources
from ninefold.core.errors import DataError, NinefoldError
from ninefold.core.params import FILE, load, parse
from ninefold.core.stages import STAGES
from ninefold.init import drafting, proposal
from ninefold.init.proposal import Proposal, Wish

SOURCE = "data/source"
FILES = (FILE, *(f"src/project/{name}.py" for name in ("__init__", "collection", "processing", "features", "training")))
EXAMPLE = Path(__file__).with_name("templates") / "example.sha256"
MARK = "# as init wrote it: "
PASSWORD = "${NINEFOLD_PASSWORD}"


@dataclass(frozen=True)
class Table:
    """A table of the user's: where it lies, how it is read, what it will be called, and its rows as text."""

    given: str
    options: dict[str, Any]
    name: str
    rows: pd.DataFrame

    @property
    def is_local(self) -> bool:
        """Return whether it is a file or a folder here, which is copied."""
        return "://" not in self.given

    @property
    def place(self) -> str:
        """Return where the project reads it from."""
        if not self.is_local:
            return sources.masked(self.given).replace("***", PASSWORD)
        return f"{SOURCE}/{self.name}{'' if Path(self.given).is_dir() else suffix(self.given)}"


def run(
    table: str,
    target: str,
    *,
    time: str | None = None,
    key: str | None = None,
    task: str = "auto",
    joins: Sequence[str] = (),
    options: dict[str, Any] | None = None,
    ask: bool = False,
    force: bool = False,
) -> str:
    """Write ``params.yaml`` and ``src/project`` for a table, and put the table under DVC; return what was found.

    Parameters
    ----------
    table : str
        A file, a folder of files, a table of a SQLite or DuckDB file (``shop.db::orders``), ``s3://bucket/key``, or the
        URL of a SQL database. Local files are copied to ``data/source``.
    target : str
        The column to foresee.
    time : str, optional
        The column that says when a row's event happens; ``none``: there is none. Found by itself if absent.
    key : str, optional
        The column that identifies a row, or an entity that comes back.
    task : str
        ``auto``, ``binary``, ``multiclass`` or ``regression``.
    joins : sequence of str
        Tables that hold more of what a column names, as `table`.
    options : dict, optional
        How `table` is read, where that cannot be guessed; see `ninefold.core.sources.read`.
    ask : bool
        Ask whether task, event, key, time and columns are as guessed.
    force : bool
        Replace files that the user has edited, keeping a copy of each beside it (``.bak``).

    Raises
    ------
    NinefoldError
        If edited files stand in the way, the table cannot be read, or nothing can be learned from it. Nothing is changed.
    """
    edited = [name for name in FILES if not is_unedited(name)]
    if edited and not force:
        raise NinefoldError(
            f"{', '.join(edited)}: edited since `ninefold init` or the example wrote it; init would overwrite that. Use "
            "--force to replace it (a copy is kept beside it, with the suffix .bak), or put your table in by hand: "
            "params.yaml says how"
        )
    main = read(table, options)
    others: list[Table] = []
    for each in joins:
        others.append(read(each, None, taken=[main.name, *(one.name for one in others)]))
    related = {one.name: one.rows for one in others}
    wish = Wish(target, time, key, task)
    p = proposal.propose(main.name, main.rows, wish, related)
    if ask:
        p = _asked(p, main, wish, related)
    tables = [main, *others]
    texts = drafting.draft(p, {one.name: {"source": one.place, "options": one.options} for one in tables})
    _prove(texts[FILE])
    _prepare_versions()
    old = _former_sources()
    for one in tables:
        if one.is_local:
            _bring_in(one)
    _forget(old - {one.place for one in tables})
    for name in edited:
        if io.path(name).exists():
            shutil.copy2(io.path(name), io.path(f"{name}.bak"))
    for name, text in texts.items():
        io.write_text(signed(text), io.path(name))
    kept = [f"kept as it was: {name}.bak" for name in edited if io.path(f"{name}.bak").exists()]
    advice = [_advice(one) for one in tables if PASSWORD in one.place]
    return "\n".join([drafting.summary(p), *advice, *kept])


def read(given: str, options: dict[str, Any] | None = None, taken: Sequence[str] = ()) -> Table:
    """Return a table that the user names, read whole as text.

    Raises
    ------
    DataError
        If it is not there, or cannot be read.
    """
    place, _, inner = given.partition("::")
    known = {**(options or {}), **({"table": inner} if inner else {})}
    if PurePosixPath(place).suffix.lower() in (".xlsx", ".xlsm") and "table" in known:
        known["sheet"] = known.pop("table")
    if "://" not in place:
        # The shell's folder is the user's; all else is relative to the project.
        here = Path(place).expanduser()
        place = str(here.resolve()) if here.exists() else place
    found = sources.sniff(place, known)
    name = slug(str(found.get("table") or (_stem(place))))
    while name in taken:
        name += "_2"
    return Table(place, found, name, sources.read(place, found))


def slug(text: str) -> str:
    """Return a name of letters, digits and underscores that a table may have: ``Orders 2024`` becomes ``orders_2024``."""
    plain = re.sub(r"[^a-z0-9]+", "_", drafting.ascii_only(text).lower()).strip("_")[:40].strip("_")
    return f"table_{plain}".rstrip("_") if not plain or plain[0].isdigit() else plain


def suffix(place: str) -> str:
    """Return the suffix of a file, with that of its packing: ``.csv.gz``."""
    ends = [end.lower() for end in PurePosixPath(place).suffixes]
    return "".join(ends[-2:] if ends and ends[-1] in sources.PACKED and len(ends) > 1 else ends[-1:])


def signed(text: str) -> str:
    """Return a text with a last line that knows the rest, by which an edit is noticed."""
    body = text.rstrip("\n") + "\n"
    gap = "\n\n" if re.search(r"^(def|class) ", body, re.M) else "\n"
    return f"{body}{gap}{MARK}{_digest(body)}\n"


def is_as_written(text: str) -> bool:
    """Return whether a text that `signed` returned was not edited since."""
    body, found, mark = text.rpartition(MARK)
    return bool(found) and mark.strip() == _digest(body.rstrip("\n") + "\n")


def is_unedited(name: str) -> bool:
    """Return whether a file is absent, or just as the example or `run` left it."""
    place = io.path(name)
    if not place.exists():
        return True
    text = place.read_text(encoding="utf-8")  # whatever ends its lines
    example = {tuple(line.split()) for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.strip()}
    return is_as_written(text) or (hashlib.sha256(text.encode()).hexdigest(), name) in example


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def _prepare_versions() -> None:
    """Begin a git repository and DVC where there are none."""
    inside = _call("git", "rev-parse", "--show-toplevel", check=False)
    if inside.returncode:
        _call("git", "init", "-q")
    if not io.path(".dvc").is_dir():
        top = Path(_call("git", "rev-parse", "--show-toplevel").stdout.strip())
        sub = [] if top.resolve() == io.path(".").resolve() else ["--subdir"]
        _call(sys.executable, "-m", "dvc", "init", "-q", *sub)
        _call(sys.executable, "-m", "dvc", "config", "core.analytics", "false")


def _bring_in(table: Table) -> None:
    """Copy a local table into the project, whole or not at all, and put it under DVC."""
    source, target = Path(table.given), io.path(table.place)
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
        tables = parse(io.path(FILE).read_text(encoding="utf-8"))["collection"]["tables"]
        found = {str(table.get("source") or "") for table in tables.values()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in found if PurePosixPath(name).parent == PurePosixPath(SOURCE)}


def _forget(places: set[str]) -> None:
    """Remove files of a former init, and their pointers."""
    for name in sorted(places):
        pointer = f"{name}.dvc"
        if io.path(pointer).exists():
            _call(sys.executable, "-m", "dvc", "remove", "-q", pointer)
            _drop(io.path(name))


def _drop(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _call(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=io.path("."), capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()[:500]
        raise NinefoldError(f"`{' '.join(command).replace(sys.executable, 'python')}` failed: {said}")
    return done


def _advice(table: Table) -> str:
    return (
        f"The password is not written down: set the environment variable NINEFOLD_PASSWORD before `dvc repro`; "
        f"collection.tables.{table.name}.source names it."
    )


def _asked(p: Proposal, main: Table, wish: Wish, related: dict[str, pd.DataFrame]) -> Proposal:
    """Ask whether what was guessed is right, and return the proposal by the answers."""
    import typer

    def again(changed: Wish) -> Proposal:
        return proposal.propose(main.name, main.rows, changed, related)

    def retried(changed: Wish, before: Proposal) -> tuple[Wish, Proposal]:
        try:
            return changed, again(changed)
        except DataError as error:
            typer.echo(f"not possible: {error}")
            return wish, before

    answer = typer.prompt("Task (binary, multiclass, regression)", default=p.task)
    if answer != p.task:
        wish, p = retried(replace(wish, task=answer), p)
    if p.task == "binary":
        answer = typer.prompt(
            f"Which value of {p.target.name} is the event ({' or '.join(p.classes)})", default=p.focus
        )
        if answer != p.focus:
            wish, p = retried(replace(wish, event=answer), p)
    answer = typer.prompt("Time of a row (a column, or none)", default=p.time.name if p.time else "none")
    if answer != (p.time.name if p.time else "none"):
        wish, p = retried(replace(wish, time=answer), p)
    shown = "none" if p.number else p.key[0]
    answer = typer.prompt("What identifies a row, or an entity that comes back (a column, or none)", default=shown)
    if answer not in (shown, "none"):
        wish, p = retried(replace(wish, key=answer), p)
    typer.echo("Left out: " + ("; ".join(f"{name} ({why})" for name, why in p.left.items()) or "nothing"))
    answer = typer.prompt("Leave out more (columns, with commas between)", default="", show_default=False)
    more = tuple(name.strip() for name in answer.split(",") if name.strip())
    if more:
        wish, p = retried(replace(wish, without=more), p)
    return p
