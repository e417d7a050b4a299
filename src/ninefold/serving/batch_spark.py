"""Score Parquet files with Spark: each of its Python processes reads the bundle once and takes the rows in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ninefold import engine, spark
from ninefold.errors import DataError
from ninefold.serving.bundle import Bundle
from ninefold.serving.chunks import CHUNK, footer, parquet_files, whole
from ninefold.serving.scoring import added_types, check_columns, score

FILE, ROW = "@file", "@row"
SETTINGS = {"spark.sql.execution.arrow.maxRecordsPerBatch": str(CHUNK)}
SETTINGS |= {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}
RAISED = f"{DataError.__module__}.{DataError.__name__}: "  # before the message, at the end of a Python traceback


def predict(source: Path, target: Path, bundle: Bundle) -> dict[str, Any]:
    """Write the rows of a Parquet file, or a folder of them, with the answers of a bundle to a folder of Parquet files.

    Answers, errors and what is returned are those of `ninefold.serving.batch.predict`; rows stand in any order, and an
    error names one of the wrong rows, by its file and its place there. A folder at `target` is replaced if it holds Parquet
    files alone. All machines of the cluster have to reach source, target and bundle by the same paths.
    """
    files = parquet_files(source)
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: is the input; give another OUT")
    names = sorted(file.name for file in target.iterdir()) if target.is_dir() else []
    if others := [name for name in names if not name.endswith((".parquet", ".crc")) and name != "_SUCCESS"]:
        raise DataError(f"{target}: is a folder that holds {others[0]}, expected Parquet files alone; give another OUT")
    engine.connect()
    looked_up: list[str] = []
    for file in files:
        looked_up = check_columns(footer(file)[0].names, bundle, file)
    with whole(target) as folder:
        unseen = _run(files, folder, bundle)
    rows = sum(footer(file)[1] for file in parquet_files(target))
    return {"rows": rows, "looked_up": looked_up, "unseen": unseen, "wrote": str(target)}


def answer(
    batches: Iterable[pa.RecordBatch], place: str, version: str, unseen: Mapping[str, Any]
) -> Iterator[pa.RecordBatch]:
    """Yield rows with their answers: the work of one process of Spark. It adds to the accumulators `unseen`, by field."""
    bundle = _load(place, version)
    for batch in batches:
        for table, file, first in _runs(pa.Table.from_batches([batch])):
            scores = score(table, bundle, file, first)
            for each in scores.unseen:
                unseen[each["field"]].add(each["rows"])
            yield from scores.table.combine_chunks().to_batches()


@cache
def _load(place: str, version: str) -> Bundle:
    bundle = Bundle.load(Path(place))
    if bundle.version != version:
        raise DataError(
            f"{place}: found version {bundle.version} on a machine of Spark, expected {version}; copy it there"
        )
    return bundle


def _run(files: list[Path], folder: Path, bundle: Bundle) -> dict[str, int]:
    """Write the answers; return the rows with a category not in training, by field."""
    from pyspark.errors import PySparkException
    from pyspark.sql import functions, types

    session = spark.session()
    place, version = str(bundle.place.resolve()), bundle.version
    unseen = {name: session.sparkContext.accumulator(0) for name in bundle.known}
    spark_types = {pa.string(): types.StringType(), pa.float64(): types.DoubleType()}
    added = [types.StructField(name, spark_types[kind]) for name, kind in added_types(bundle).items()]
    origin = functions.url_decode("_metadata.file_path").alias(FILE), functions.col("_metadata.row_index").alias(ROW)
    with ExitStack() as afterwards:
        for name, value in SETTINGS.items():
            afterwards.callback(session.conf.set, name, session.conf.get(name))
            session.conf.set(name, value)
        rows = session.read.parquet(*(str(file.resolve()) for file in files))
        scored = rows.select("*", *origin).mapInArrow(
            lambda batches: answer(batches, place, version, unseen), types.StructType([*rows.schema.fields, *added])
        )
        try:
            scored.write.option("compression", "zstd").parquet(str(folder.resolve()))
        except PySparkException as error:
            if lines := [line for line in str(error).splitlines() if RAISED in line]:  # about the data
                raise DataError(lines[-1].partition(RAISED)[2].strip()) from None
            raise
    return {name: count.value for name, count in unseen.items() if count.value}


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
