"""Score Parquet files with Spark: the bundle is read once by each of its Python processes, which take the rows in batches."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold.core import engine
from ninefold.core.errors import DataError
from ninefold.serving import bundle as bundles
from ninefold.serving import scoring
from ninefold.serving.batch_io import CHUNK, parts, progress, reader
from ninefold.serving.bundle import Bundle

FILE, ROW = "@file", "@row"
SETTINGS = {
    "spark.sql.execution.arrow.maxRecordsPerBatch": str(CHUNK),
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}
RAISED = f"{DataError.__module__}.{DataError.__name__}: "  # before what Python says at the end of a stack


def predict(source: Path, target: Path, bundle: Bundle) -> dict[str, Any]:
    """Write the rows of Parquet files with the answers of a bundle to a folder of Parquet files, as Spark has it.

    The answers are those of `scoring.predict`, and so are the errors; rows stand in any order, and errors name one row of
    those that are wrong, by its file and its place there. Source, target and bundle have to be reachable from every machine of
    the cluster, by the same path.

    Parameters
    ----------
    source : Path
        A ``.parquet`` file, or a folder of such files with the same columns.
    target : Path
        A folder, ``.parquet`` at its end. An earlier result is replaced, file or folder; another folder is refused.
    bundle : Bundle

    Returns
    -------
    dict
        As `scoring.predict`.

    Raises
    ------
    DataError
        If a file, a column or a value cannot be scored, or `target` is a folder with anything but Parquet in it.
    ParamsError
        If Spark does not start.
    """
    reader(source)  # looks whether it is there
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: is the input; give another OUT")
    if target.is_dir() and (strange := _strange(target)):
        raise DataError(f"{target}: is a folder that holds {strange}, expected Parquet files alone; give another OUT")
    engine.connect()
    files = parts(source) if source.is_dir() else [source]
    done: dict[str, Any] = {"rows": 0, "looked_up": [], "unseen": {}, "wrote": str(target)}
    for file in files:
        done["looked_up"] = scoring.check_columns(_schema(file).names, bundle, file)
    with progress(str(source)), _replaced(target) as folder:
        counted = _run(files, folder, bundle)
    done["unseen"] = dict(counted)
    done["rows"] = sum(pq.read_metadata(file).num_rows for file in parts(target))
    return done


class Tally:
    """How Spark adds up what its processes count: a `pyspark.AccumulatorParam`, which asks for no more than this."""

    def zero(self, value: Counter[str]) -> Counter[str]:
        """Return what counting begins with."""
        return Counter()

    def addInPlace(self, one: Counter[str], other: Counter[str]) -> Counter[str]:  # noqa: N802 -- Spark's name
        """Return the sum of two counts."""
        one.update(other)
        return one


def answered(batches: Iterable[pa.RecordBatch], place: str, version: str, seen: Any) -> Iterator[pa.RecordBatch]:
    """Yield rows with their answers: the work of one process of Spark.

    Parameters
    ----------
    batches : iterable of RecordBatch
        With the columns ``@file`` and ``@row``, where each row comes from.
    place, version : str
        The folder of the bundle, and its version.
    seen : accumulator
        Takes the rows of every field whose category was not in training.

    Raises
    ------
    DataError
        As `scoring.score`; or if another version of the bundle lies on this machine.
    """
    bundle = _loaded(place, version)
    for batch in batches:
        for table, file, first in _runs(pa.Table.from_batches([batch])):
            scored, unseen = scoring.score(table, bundle, file, first)
            for each in unseen:
                seen.add(Counter({each["field"]: each["rows"]}))
            yield from scored.combine_chunks().to_batches()


@cache
def _loaded(place: str, version: str) -> Bundle:
    found = bundles.load(Path(place))
    if found.version != version:
        raise DataError(
            f"{place}: found version {found.version} on a machine of Spark, expected {version}; copy it there"
        )
    return found


def _run(files: list[Path], folder: Path, bundle: Bundle) -> Counter[str]:
    """Write the answers with Spark; return the rows with a category not in training, by field."""
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession, functions, types

    session = SparkSession.getActiveSession()
    assert session is not None, "connect() starts the session"
    place, version = str(bundle.place.resolve()), bundle.version
    seen = session.sparkContext.accumulator(Counter[str](), Tally())
    with _settings(session):
        try:
            rows = session.read.parquet(*(str(file.resolve()) for file in files))
            kinds = {pa.string(): types.StringType(), pa.float64(): types.DoubleType()}
            fields = [types.StructField(name, kinds[kind]) for name, kind in scoring.added_types(bundle).items()]
            schema = types.StructType([*rows.schema.fields, *fields])
            traced = rows.select(
                "*",
                functions.url_decode("_metadata.file_path").alias(FILE),
                functions.col("_metadata.row_index").alias(ROW),
            )
            scored = traced.mapInArrow(lambda batches: answered(batches, place, version, seen), schema)
            scored.write.option("compression", "zstd").parquet(str(folder.resolve()))
        except PySparkException as error:
            raise _clear(error) from None
    return seen.value


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as Parquet: {str(error).strip()}") from None


def _runs(table: pa.Table) -> Iterator[tuple[pa.Table, str, int]]:
    """Yield the rows that follow one another in a file, the file, and the place of the first of them."""
    files, rows = table[FILE].combine_chunks().dictionary_encode(), table[ROW].to_numpy()
    codes = files.indices.to_numpy()
    starts = np.flatnonzero((np.diff(codes) != 0) | (np.diff(rows) != 1)) + 1
    plain = table.drop_columns([FILE, ROW])
    for start, end in zip([0, *starts.tolist()], [*starts.tolist(), len(codes)], strict=True):
        if end > start:
            file = files.dictionary[codes[start]].as_py().removeprefix("file://").removeprefix("file:")
            yield plain.slice(start, end - start), file, int(rows[start])


def _clear(error: Exception) -> Exception:
    """Return what a process of Spark said of the data as it said it; every other error is Spark's own."""
    said = [line for line in str(error).splitlines() if RAISED in line]
    return DataError(said[-1].partition(RAISED)[2].strip()) if said else error


@contextmanager
def _settings(session: Any) -> Iterator[None]:
    before = {name: session.conf.get(name) for name in SETTINGS}
    for name, value in SETTINGS.items():
        session.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            session.conf.set(name, value)


def _strange(folder: Path) -> str:
    """Return the name of what Spark would not write into a folder of Parquet files; empty if there is none."""
    found = (file.name for file in sorted(folder.iterdir()))
    return next((name for name in found if not (name.endswith((".parquet", ".crc")) or name == "_SUCCESS")), "")


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`, which takes its place at the end; on failure nothing is left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = (target.with_name(f".{target.name}.{os.getpid()}.{state}") for state in ("tmp", "old"))
    try:
        yield new
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(new, ignore_errors=True)
        old.unlink() if old.is_file() else shutil.rmtree(old, ignore_errors=True)
