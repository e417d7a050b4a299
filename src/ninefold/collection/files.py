"""Files of a source: on disk or in cloud storage (S3, Google Cloud, Azure), alone or in a folder, packed or not."""

import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs

from ninefold import artifacts
from ninefold.collection.tabular import failing
from ninefold.errors import DataError
from ninefold.params import in_project
from ninefold.sentences import render

PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
S3, CLOUD = "s3://", ("s3://", "gs://", "abfs://", "abfss://")


def state_of(file: Path) -> tuple[int, int]:
    """Return the size of a file, and when it was written (nanoseconds): a change of the file changes one of them."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def files(source: str) -> Iterator[tuple[str, Path]]:
    """Yield the name of a file, or of each in a folder, and where its content lies, unpacked, until the next is asked for.

    What is packed, or in the cloud, is copied to a temporary file first. Raises `DataError` if there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for packed in _from_cloud(source, copy) if source.startswith(CLOUD) else _from_disk(source):
            name, place = _unpack(*packed, Path(folder))
            if not place.stat().st_size:
                raise DataError(f"{name}: found an empty file, expected a table; fetch it again, or remove it")
            yield name, place


def is_local(source: str) -> bool:
    """Return whether a source is a path, not the URL of a database or of cloud storage."""
    return "://" not in source or source.startswith("file://")


def local(source: str) -> Path:
    """Return the path of a file: below the project's root if it is there, else below the current folder."""
    place = Path(unquote(source.removeprefix("file://")) if source.startswith("file://") else source).expanduser()
    return artifacts.path(str(place)) if in_project() and artifacts.path(str(place)).exists() else place


def inside(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, by name, without hidden ones; none if there is no folder."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(folder)))


def _is_hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)  # such as .DS_Store, and Spark's _SUCCESS


def _from_disk(source: str) -> Iterator[tuple[str, Path]]:
    place = local(source)
    if not place.exists():
        raise DataError(f"{source}: not found; correct the path, or put the file there")
    paths = inside(place) if place.is_dir() else [place]
    if not paths:
        raise DataError(f"{source}: found an empty folder, expected the files of a table in it")
    for file in paths:
        name = source if file == place else f"{source.rstrip('/')}/{file.relative_to(place).as_posix()}"
        try:
            file.open("rb").close()
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror or error}); check its permissions") from None
        yield name, file


def _from_cloud(source: str, copy: Path) -> Iterator[tuple[str, Path]]:
    remedy, source = render("collection", "cloud", scheme=source.partition("://")[0]), source.rstrip("/")
    with failing(source, "read", remedy, OSError, pa.ArrowException):
        store, place = _store(source)
        infos = [store.get_file_info(place)]
        if infos[0].type == pyarrow.fs.FileType.Directory:
            infos = store.get_file_info(pyarrow.fs.FileSelector(place, recursive=True))
        names = {one.path.removeprefix(place): one.path for one in infos if one.is_file}
        names = {name: path for name, path in sorted(names.items()) if not _is_hidden(PurePosixPath(name.lstrip("/")))}
        if not names:
            raise DataError(f"{source}: not found; correct the bucket and the key")
        for name, path in names.items():
            store.open_input_file(path).download(str(copy))
            yield source + name, copy


def _store(source: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the file system of an address in the cloud, and the path in it."""
    if source.startswith(S3):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return pyarrow.fs.S3FileSystem(endpoint_override=endpoint, region=region), source.removeprefix(S3)
    options = "?retry_limit_seconds=30" if source.startswith("gs://") else ""  # its default is 15 minutes
    return pyarrow.fs.FileSystem.from_uri(quote(source, safe=":/@") + options)


def _unpack(where: str, place: Path, folder: Path) -> tuple[str, Path]:
    """Return a file's name and place without its packing, unpacked to a folder: ``orders.csv.gz`` becomes ``orders.csv``."""
    suffix = PurePosixPath(where).suffix.lower()
    if suffix not in PACKED:
        return where, place
    inner, target = where[: -len(suffix)], folder / f"{place.name}.unpacked"
    errors = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
    with failing(where, "unpacked", "fetch or pack the file again", *errors):
        if suffix == ".zip":
            archive = zipfile.ZipFile(place)
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if len(names) != 1:
                listed = ", ".join(names[:10])
                raise DataError(f"{where}: found {len(names)} files in it ({listed}), expected one; unpack it")
            inner, unpack = f"{inner}/{names[0]}", partial(archive.open, names[0])
        else:
            of_kind = lzma.open if suffix == ".xz" else partial(pa.input_stream, compression=PACKED[suffix])
            unpack = partial(of_kind, str(place))
        with unpack() as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
    return _unpack(inner, target, folder)
