"""Read and write the project's files: paths from its root, tables as Parquet, nothing ever half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow.parquet as pq
from filelock import lock_descriptor

from ninefold.errors import DataError
from ninefold.params import root
from ninefold.stages import label

LOCK = "reports/timings/.lock"
HELD = "NINEFOLD_LOCK"  # environment variable for what a command starts: the lock that the command holds
RESTORE = "restore it with `dvc checkout`, or run its stage again"
_pending: dict[str, Path] = {}


def path(name: str) -> Path:
    """Return the absolute path of a name relative to the project's root."""
    return root() / name


def read_json(name: str) -> Any:
    """Read a JSON file of the project.

    Raises
    ------
    DataError
        If the file is missing or not JSON.
    """
    return _json(existing(name), name)


def published(name: str) -> Any | None:
    """Read a JSON file as the last run published it, not as this one may have written it; None if there is none.

    Raises
    ------
    DataError
        If it is not JSON.
    """
    return _json(path(name), name) if path(name).exists() else None


def read_table(name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a Parquet file, or a folder of Parquet partitions in the order of their names.

    Parameters
    ----------
    name : str
        File or folder, relative to the project's root.
    columns : list of str, optional
        Read only these.

    Raises
    ------
    DataError
        If it is missing, damaged, or lacks one of `columns`.
    """
    place = existing(name)
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    if not files:
        raise DataError(f"{name}: holds no Parquet file; run the stage that writes it")
    return pd.concat([_read_parquet(file, columns) for file in files], ignore_index=True)


def require(table: Any, columns: Iterable[str], where: str) -> None:
    """Raise an error if a table, of pandas or Ibis, or a list of the columns that there are, lacks one of the columns.

    Raises
    ------
    DataError
        Naming the place, the missing columns and those of the table.
    """
    names = list(getattr(table, "columns", table))
    if missing := [column for column in columns if column not in names]:
        raise DataError(f"{where}: lacks {', '.join(missing)}; found {', '.join(map(str, names))}; mend the name")


def write_json(value: Any, place: Path) -> None:
    """Write indented JSON with a final newline, whole or not at all."""
    write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", place)


def write_text(text: str, place: Path) -> None:
    """Write UTF-8 text, whole or not at all."""
    with _replacing(place) as temporary:
        temporary.write_bytes(text.encode())


def note(section: str, text: str) -> None:
    """Write to ``reports/timings`` what differs between equal runs, such as times, and may be in no report or output.

    The runner prints the note when the stage has passed.
    """
    write_text(text.rstrip() + "\n", path(f"reports/timings/{label(section)}.txt"))


def write_table(table: pd.DataFrame, place: Path) -> None:
    """Write one Parquet file (zstd), whole or not at all. The same table gives the same bytes."""
    with _replacing(place) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")


def write_durable(content: bytes | memoryview, place: Path) -> None:
    """Write a file for its owner alone (0600), which is whole and on disk when this returns; or not at all."""
    with _replacing(place) as temporary:
        temporary.unlink(missing_ok=True)
        with private(temporary, "wb") as file:
            file.write(content)
        sync(temporary)
    sync(place.parent)


def private(place: Path, mode: str) -> IO[Any]:
    """Open a file, which is for its owner alone (0600) if it is new."""
    return open(place, mode, opener=partial(os.open, mode=0o600))


def sync_folder(folder: Path) -> None:
    """Wait until a folder, with the content and the names of all files in it, is on disk."""
    for place in (*folder.rglob("*"), folder):
        sync(place)


def sync(place: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk; Windows, which cannot wait for names, writes them itself."""
    windows = os.name == "nt"
    if windows and place.is_dir():
        return
    handle = os.open(place, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def alone(lock: Path, busy: str, wait: bool = False) -> Iterator[int]:
    """Hold a lock file and give its descriptor; the system frees it when this process and its heirs have ended.

    Raises
    ------
    DataError
        With the message `busy`, if another process holds it and `wait` is False.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        if not lock_descriptor(file.fileno(), blocking=wait):
            raise DataError(busy)
        yield file.fileno()


@contextmanager
def writing() -> Iterator[None]:
    """Hold the project's lock while outputs are written; wait for a command that holds it, unless it started this one."""
    lock = path(LOCK)
    if os.environ.get(HELD) == str(lock):
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(lock, "another command writes the outputs of this project"))
        except DataError as busy:
            print(f"{busy}; waiting for its end", file=sys.stderr, flush=True)
            stack.enter_context(alone(lock, "", wait=True))
        os.environ[HELD] = str(lock)
        stack.callback(os.environ.pop, HELD, None)
        yield


def disk_is_full(error: BaseException) -> bool:
    """Return whether an error is that of a full disk, or of a quota: also of SQLite, DuckDB and `shutil`, which give no number."""
    texts = (os.strerror(errno.ENOSPC), "database or disk is full")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in texts)


def sha256(place: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with place.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def output(name: str) -> Path:
    """Open a declared output of a stage for writing: a path beside the final one, empty, not yet visible.

    What is written there replaces the old output only when the stage's gate passes (see `publish`),
    so that a failing stage leaves the earlier outputs as they were.
    """
    final = path(name)
    pending, old = (final.with_name(f".{final.name}.{state}") for state in ("pending", "old"))
    if not final.exists() and old.exists():  # a run was killed between the two renames of `publish`
        os.replace(old, final)
    remove(pending)
    pending.parent.mkdir(parents=True, exist_ok=True)
    _pending[name] = pending
    return pending


def pending(name: str) -> Path:
    """Return where an output, or a file in it, stands now: its pending path before the gate, its final one after."""
    for out, place in _pending.items():
        if name == out or name.startswith(f"{out}/"):
            return place / name[len(out) + 1 :]
    return path(name)


def existing(name: str) -> Path:
    """Return where an output, or a file in it, stands now (`pending`); raise `DataError` if it is missing."""
    place = pending(name)
    if not place.exists():
        raise DataError(f"{name}: not found; run the stages before this one with `dvc repro`")
    return place


def link(source: Path, target: Path) -> None:
    """Link a file to a second name, or copy it where the disk has no links. Neither is ever changed, only replaced."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def publish() -> None:
    """Move every pending output to its final place: each is renamed whole, then the old one is removed."""
    for name, source in _pending.items():
        final = path(name)
        old = final.with_name(f".{final.name}.old")
        remove(old)
        if final.exists():
            os.replace(final, old)
        os.replace(source, final)
        remove(old)
    _pending.clear()


def discard(kept: str = "") -> None:
    """Remove every pending output; the earlier ones stay. JSON files in a folder are `kept` under a path, as ``kept.file.json``."""
    for source in _pending.values():
        for file in source.glob("*.json") if kept else ():
            write_text(file.read_text(encoding="utf-8"), path(f"{kept}.{file.name}"))
        remove(source)
    _pending.clear()


def remove(place: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _json(place: Path, name: str) -> Any:
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"{name}: not valid JSON ({error}); restore it with `dvc checkout`, or run its stage") from None


def parquet_metadata(file: Path) -> pq.FileMetaData:
    """Return the metadata of a Parquet file: its rows, and by ``schema.to_arrow_schema()`` its columns.

    Raises
    ------
    DataError
        If the file is damaged, naming it.
    """
    try:
        return pq.read_metadata(file)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise DataError(f"{_relative(file)}: damaged ({error}); {RESTORE}") from None


def _relative(file: Path) -> Path:
    return file.relative_to(root()) if file.is_relative_to(root()) else file


def _read_parquet(file: Path, columns: list[str] | None) -> pd.DataFrame:
    require(parquet_metadata(file).schema.to_arrow_schema().names, columns or [], str(_relative(file)))
    try:
        return pd.read_parquet(file, columns=columns, partitioning=None)
    except (OSError, ValueError) as error:
        raise DataError(f"{_relative(file)}: damaged ({error}); {RESTORE}") from None


@contextmanager
def _replacing(place: Path) -> Iterator[Path]:
    """Give a temporary path; what is written there replaces `place` when the context ends without an error."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, place)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(place)
        raise
