"""Where files lie, and what is in them: on disk or on S3, alone or in a folder, packed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs

from ninefold.core import io
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.tabular import line

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


class State(NamedTuple):
    """What tells whether a file has changed: its size in bytes, and when it was written (nanoseconds)."""

    size: int
    changed: int


def state_of(file: Path) -> State:
    """Return the state of a file."""
    found = file.stat()
    return State(found.st_size, found.st_mtime_ns)


def files(source: str) -> Iterator[tuple[str, pa.Buffer]]:
    """Yield the name and content of a file, unpacked, or of each file of a folder in the order of their names."""
    if source.startswith("s3://"):
        yield from (_unpack(name, content) for name, content in _from_s3(source))
        return
    place = local(source)
    if not place.exists():
        raise DataError(f"{source}: not found; correct the path, or put the file there")
    if place.is_dir() and not inside(place):
        raise DataError(f"{source}: found an empty folder, expected the files of a table in it")
    for file in inside(place) if place.is_dir() else [place]:
        name = f"{source.rstrip('/')}/{file.relative_to(place).as_posix()}" if place.is_dir() else source
        try:
            content = pa.memory_map(str(file)).read_buffer() if file.stat().st_size else pa.py_buffer(b"")
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror or error}); see to its permissions") from None
        yield _unpack(name, content)


def local(source: str) -> Path:
    """Return the path of a file: below the project's root if it is there, else below the current folder."""
    place = Path(unquote(source.removeprefix("file://")) if source.startswith("file://") else source).expanduser()
    try:
        return io.path(str(place)) if io.path(str(place)).exists() else place
    except ParamsError:  # outside any project
        return place


def inside(folder: Path) -> list[Path]:
    """Return the files of a folder and those below it, by name; hidden ones are none."""
    hidden = (".", "_")  # such as .DS_Store, and Spark's _SUCCESS
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in files if not any(p.startswith(hidden) for p in file.relative_to(folder).parts))


def _from_s3(source: str) -> Iterator[tuple[str, pa.Buffer]]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    place = source.removeprefix("s3://").rstrip("/")
    try:
        store = pyarrow.fs.S3FileSystem(endpoint_override=endpoint, region=region)
        info = store.get_file_info(place)
        found = [info]
        if info.type == pyarrow.fs.FileType.Directory:
            found = store.get_file_info(pyarrow.fs.FileSelector(place, recursive=True))
        files = sorted(
            one.path for one in found if one.type == pyarrow.fs.FileType.File and one.base_name[0] not in "._"
        )
        contents = [(f"s3://{path}", store.open_input_file(path).read_buffer()) for path in files]
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{source}: cannot be read ({line(error)}); see to the address and to AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL"
        ) from None
    if not contents:
        raise DataError(f"{source}: not found; correct the bucket and the key")
    yield from contents


def _unpack(where: str, content: pa.Buffer) -> tuple[str, pa.Buffer]:
    """Return a file's name and content without its packing: ``orders.csv.gz`` becomes ``orders.csv``."""
    suffix = PurePosixPath(where).suffix.lower()
    if suffix not in PACKED:
        return where, content
    try:
        if suffix == ".zip":
            return _unpack(*_from_zip(where, content))
        if suffix == ".zst":
            return _unpack(where[:-4], pa.input_stream(content, compression="zstd").read_buffer())
        unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}[suffix]
        return _unpack(where[: -len(suffix)], pa.py_buffer(unpack(content)))
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(f"{where}: cannot be unpacked ({line(error)}); fetch or pack the file anew") from None


def _from_zip(where: str, content: pa.Buffer) -> tuple[str, pa.Buffer]:
    archive = zipfile.ZipFile(pa.BufferReader(content))
    inside = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
    if len(inside) != 1:
        raise DataError(f"{where}: found {len(inside)} files in it ({', '.join(inside[:10])}), expected one; unpack it")
    return f"{where[:-4]}/{inside[0]}", pa.py_buffer(archive.read(inside[0]))
