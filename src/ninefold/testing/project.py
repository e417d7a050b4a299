"""Rows of a project's source, and copies of the project in another folder; the project itself is only read."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ninefold import artifacts, collection, engine, processing
from ninefold.errors import NinefoldError, ParamsError
from ninefold.params import load, root

SOURCES = (collection.SOURCE, collection.LANDING)  # git ignores what users put there
NOT_COPIED = ("reports/", "tests/", "docs/", "dvc.lock")
MONTHS = 3  # of which `read_rows` returns rows
Span = tuple[pd.Timestamp | None, pd.Timestamp | None]


def spans(table: str) -> list[Span]:
    """Return the spans (UTC) by which a raw table is read: its months, or one span without ends if it has no time."""
    params = load("collection")
    if table not in params.tables:
        known = ", ".join(params.tables)
        raise ParamsError(f"params.yaml, problem.table: found {table!r}, expected one of collection.tables: {known}")
    months = collection.periods(params)
    return list(zip(months["start"], months["end"], strict=True)) if params.tables[table].time else [(None, None)]


def read_rows(most: int = 20_000) -> dict[str, pd.DataFrame]:
    """Return rows of every raw table, as text: of the last `MONTHS` months, or all; of ``problem.table`` the last `most`."""
    main, params = load("problem").table, load("collection")
    read = collection.reader(params)
    months = spans(main)[-MONTHS:]
    span = (months[0][0], months[-1][1])
    rows = {name: read(name, *(span if table.time else (None, None))) for name, table in params.tables.items()}
    return {**rows, main: rows[main].tail(most)}


@contextlib.contextmanager
def lake(folder: Path, rows: dict[str, pd.DataFrame]) -> Iterator[None]:
    """Copy the project to `folder`, write a lake of raw rows there, and make it the current folder of the block.

    Rows that break their contract are left out. What stage 06 reads of stage 05 is written, too.
    """
    copy_project(folder)
    with contextlib.chdir(folder):
        params, connection = load("processing"), engine.connect()
        raw = {name: engine.table(connection, rows[name].astype("str"), period="all") for name in params.tables}
        for name, table in processing.judge(processing.convert(raw, params), params).items():
            sound = table.filter(table[processing.RULE].isnull()).drop(processing.RULE, engine.ROW)
            engine.write(sound, artifacts.path(f"data/lake/{name}"), params.tables[name].unique, ["all"])
        known_later = list(load("exploration").known_later)
        artifacts.write_json({"known_later": known_later}, artifacts.path("data/exploration.json"))
        try:
            yield
        finally:
            artifacts.discard()


def copy_project(folder: Path) -> None:
    """Copy to `folder` what git tracks or would track, and the source files; no results, tests or docs."""
    copy_tracked(root(), folder, NOT_COPIED)
    for place in SOURCES:
        if (root() / place).is_dir():
            shutil.copytree(root() / place, folder / place, dirs_exist_ok=True, ignore_dangling_symlinks=True)


def copy_tracked(source: Path, folder: Path, without: tuple[str, ...] = ()) -> None:
    """Copy to `folder` what git tracks or would track of `source`, but for names that begin with one of `without`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=source, env=_environment(), capture_output=True, text=True, check=False)
    if listed.returncode:
        wrong = f"found no git repository ({listed.stderr.strip()}), expected one; run `git init`"
        raise NinefoldError(f"{source}: {wrong}")
    for name in listed.stdout.split("\0"):
        if not name.startswith(without) and (source / name).is_file():  # the empty name is that of the folder
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)


def repro(folder: Path) -> str:
    """Run ``dvc repro`` in a copy of the project; return which stage failed and why, or an empty text if none did."""
    subprocess.run(["git", "init", "-q"], cwd=folder, env=_environment(), check=True)
    # Whatever cache the project shares with others, the copy has its own.
    (folder / ".dvc/config.local").write_text("[cache]\n    dir = cache\n", encoding="utf-8")
    env, first = _environment(), {"PATH": Path(sys.executable).parent, "PYTHONPATH": folder / "src"}
    env |= {name: os.pathsep.join([str(place), *filter(None, [env.get(name)])]) for name, place in first.items()}
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    if not done.returncode:
        return ""
    stages = re.findall(r"Running stage '([^']+)'", done.stdout)
    where = f"stage {stages[-1]} failed" if stages else "`dvc repro` failed before the first stage"
    return f"{where}, in a copy of the project at {folder}:\n{done.stderr.strip()}"


def _environment() -> dict[str, str]:
    """Return the variables for commands in a copy: none of a git hook that runs the tests, and Python's bytecode is kept."""
    left = ("GIT_", "PYTHONDONTWRITEBYTECODE")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(left)}, "MPLBACKEND": "Agg"}
