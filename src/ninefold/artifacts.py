"""Read and write the project's files: paths from its root, tables as Parquet, nothing ever half-written."""

import errno
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow.parquet as pq
from filelock import lock_descriptor

from ninefold import whatif
from ninefold.errors import DataError
from ninefold.params import root
from ninefold.stages import label

LOCK = "reports/timings/.lock"
HELD = "NINEFOLD_LOCK"  # environment variable for what a command starts: the lock that the command holds
RESTORE = "restore it with `dvc checkout`, or run its stage again"
_pending = whatif.outputs


def path(name: str) -> Path:
    """Return the absolute path of a name relative to the project's root."""
    return root() / name


def read_json(name: str) -> Any:
    """Read a JSON file of the project; `DataError` if it is missing or not JSON."""
    return _json(existing(name), name)


def published(name: str) -> Any | None:
    """Read a JSON file as the last run published it, not this one; None if there is none; `DataError` if it is not JSON."""
    return _json(path(name), name) if path(name).exists() else None


def read_table(name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a Parquet file, or a folder of Parquet partitions in the order of their names; only `columns`, if they are given.

    `DataError` if it is missing, damaged, or lacks one of `columns`.
    """
    place = existing(name)
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    if not files:
        raise DataError(f"{name}: holds no Parquet file; run the stage that writes it")
    return pd.concat([_read_parquet(file, columns) for file in files], ignore_index=True)


def require(table: Any, columns: Iterable[str], where: str) -> None:
    """Raise `DataError` if a table, of pandas or Ibis, or a list of the columns that there are, lacks one of the columns."""
    names = list(getattr(table, "columns", table))
    if missing := [column for column in columns if column not in names]:
        raise DataError(f"{where}: lacks {', '.join(missing)}; found {', '.join(map(str, names))}; fix the name")


def write_json(value: Any, place: Path) -> None:
    """Write indented JSON with a final newline, whole or not at all."""
    write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", place)


def write_text(text: str, place: Path) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(place) as temporary:
        temporary.write_bytes(text.encode())


def note(section: str, text: str) -> None:
    """Write to ``reports/timings`` what differs between equal runs; the runner prints it if the stage passes."""
    write_text(text.rstrip() + "\n", undeclared(f"reports/timings/{label(section)}.txt"))


def write_table(table: pd.DataFrame, place: Path) -> None:
    """Write one Parquet file (zstd), whole or not at all. The same table gives the same bytes."""
    with replacing(place) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Give a temporary path; the file or folder written there replaces `place` at the end; on failure nothing is left."""
    place.parent.mkdir(parents=True, exist_ok=True)
    number = threading.get_native_id()  # which no other thread on this machine has
    new, old = (place.with_name(f".{place.name}.{number}.{state}") for state in ("tmp", "old"))
    remove(new)  # of an earlier thread, which was killed
    try:
        yield new
        if place.exists() and (place.is_dir() or new.is_dir()):
            os.replace(place, old)
        os.replace(new, place)
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(place)
        raise
    finally:
        if old.exists() and not place.exists():
            os.replace(old, place)
        for each in (new, old, new.with_name(f"{new.name}.wal")):  # DuckDB's
            remove(each)


def write_durable(content: bytes | memoryview, place: Path) -> None:
    """Write a file for its owner alone (0600), which is whole and on disk when this returns; or not at all."""
    with replacing(place) as temporary:
        with private(temporary, "wb") as file:
            file.write(content)
        sync(temporary)
    sync(place.parent)


def private(place: Path, mode: str) -> IO[Any]:
    """Open a file, which is for its owner alone (0600) if it is new."""
    return open(place, mode, opener=partial(os.open, mode=0o600))


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
    """Hold a lock until this process and its heirs end; give its descriptor; `DataError` `busy` if it does not `wait`."""
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
    """Return an empty path beside a declared output, which it replaces when the gate passes; of a what-if, it never does."""
    final = path(name)
    pending, old = (final.with_name(f".{final.name}.{state}") for state in ("pending", "old"))
    if whatif.overrides:
        pending = path(f"{whatif.FOLDER}/{name}")
    elif not final.exists() and old.exists():  # a run was killed between the two renames of `publish`
        os.replace(old, final)
    remove(pending)
    pending.parent.mkdir(parents=True, exist_ok=True)
    _pending[name] = pending
    return pending


def undeclared(name: str) -> Path:
    """Return where a file goes that ``dvc.yaml`` does not declare: to its place, or in a what-if to that of an `output`."""
    return output(name) if whatif.overrides else path(name)


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


def discard(trace: str = "") -> None:
    """Remove every pending output; the earlier ones stay. JSON files in a folder are copied to the path ``trace.file.json``."""
    for source in _pending.values():
        for file in source.glob("*.json") if trace else ():
            write_text(file.read_text(encoding="utf-8"), path(f"{trace}.{file.name}"))
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
        raise DataError(f"{name}: not valid JSON ({error}); {RESTORE}") from None


def parquet_metadata(file: Path) -> pq.FileMetaData:
    """Return the metadata of a Parquet file: rows, and ``schema.to_arrow_schema()``; `DataError` if it is damaged."""
    with _readable(file):
        return pq.read_metadata(file)


def _read_parquet(file: Path, columns: list[str] | None) -> pd.DataFrame:
    with _readable(file) as name:
        require(pq.read_metadata(file).schema.to_arrow_schema().names, columns or [], name)
        return pd.read_parquet(file, columns=columns, partitioning=None)


@contextmanager
def _readable(file: Path) -> Iterator[str]:
    """Give the name of a file of the project; `DataError` with it if what is read is damaged."""
    name = str(file.relative_to(root()) if file.is_relative_to(root()) else file)
    try:
        yield name
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise DataError(f"{name}: damaged ({error}); {RESTORE}") from None
