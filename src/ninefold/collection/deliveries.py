"""A folder of files that make one table: which months each holds, so that a new or corrected file concerns these alone."""

import hashlib
from collections.abc import Callable, Iterable

import pandas as pd
from pydantic import BaseModel

from ninefold import artifacts
from ninefold.collection import files as places
from ninefold.collection.tabular import ONE_TABLE, demand_columns

UNDATED = ""  # the month of rows whose time cannot be read
Part = tuple[pd.DataFrame, pd.Series]  # rows, all text, and their times
Read = Callable[[str, str], Part]  # by a file and its SHA-256


class File(BaseModel):
    """One file of the folder: what it holds, or which earlier one it repeats."""

    name: str
    sha256: str
    columns: list[str] = []
    months: dict[str, int] = {}
    repeats: str | None = None


def glance(folder: str) -> str:
    """Return what tells one state of a folder from another without reading its files: their names, sizes and times."""
    place = places.local(folder)
    states = [(path.relative_to(place).as_posix(), *places.state_of(path)) for path in places.inside(place)]
    return "".join(f"{name} {size} {changed}\n" for name, size, changed in states)


def months(times: pd.Series) -> pd.Series:
    """Return the month of each time, such as ``2013-01``; `UNDATED` for NaT."""
    return times.dt.strftime("%Y-%m").fillna(UNDATED)


def index(folder: str, read: Read, known: Iterable[File] = ()) -> list[File]:
    """Return the files of a folder, by name, with the rows that each holds of every month.

    A file of the same bytes as one before it repeats that one, and adds nothing. `read` is not called for files that are `known`:
    what an earlier call returned. Raises `DataError` if a file has other columns than the first.
    """
    entries = {(one.name, one.sha256): one for one in known if not one.repeats}
    first, result, place = dict[str, str](), list[File](), places.local(folder)
    for path in places.inside(place):
        name, sha = path.relative_to(place).as_posix(), artifacts.sha256(path)
        entry = entries.get((name, sha))
        if first.setdefault(sha, name) != name:
            entry = File(name=name, sha256=sha, repeats=first[sha])
        elif entry is None:
            rows, times = read(f"{folder.rstrip('/')}/{name}", sha)
            counts = months(times).value_counts().sort_index().to_dict()
            entry = File(name=name, sha256=sha, columns=list(rows.columns), months=counts)
        result.append(entry)
    whole = [one for one in result if not one.repeats]
    for one in whole[1:]:
        demand_columns(one.columns, whole[0].columns, f"{folder}/{one.name}", f"in {whole[0].name}", ONE_TABLE)
    return result


def holding(files: Iterable[File], months: Iterable[str]) -> list[File]:
    """Return the files with rows of some months."""
    return [one for one in files if not one.months.keys().isdisjoint(months)]


def digest(files: Iterable[File]) -> str:
    """Return what tells the content of some files, in their order, from any other; empty of none."""
    text = "".join(f"{one.name} {one.sha256}\n" for one in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def rows(folder: str, files: Iterable[File], read: Read) -> Part:
    """Return the rows of some files, in their order, and their times."""
    return concat(read(f"{folder.rstrip('/')}/{one.name}", one.sha256) for one in files)


def concat(parts: Iterable[Part]) -> Part:
    """Return parts as one, with the columns in the order of the first."""
    rows, times = zip(*parts, strict=True)
    return pd.concat(rows, ignore_index=True), pd.concat(times, ignore_index=True)
