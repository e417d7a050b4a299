"""Score Parquet files with Spark: each task takes a row group, as one process on this machine takes a file."""

from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ninefold import artifacts, engine, spark
from ninefold.errors import DataError
from ninefold.serving import chunks
from ninefold.serving.bundle import Bundle
from ninefold.serving.scoring import check_columns, scored

RAISED = f"{DataError.__module__}.{DataError.__name__}: "  # before the message, at the end of a Python traceback


class Part(NamedTuple):
    """Row groups of a file, the first of their rows, and where to write them with their answers."""

    file: Path
    groups: list[int]
    first: int
    target: Path


def predict(source: Path, target: Path, bundle: Bundle) -> dict[str, Any]:
    """Write the rows of a Parquet file, or a folder of them, with the answers of a bundle to a folder of Parquet files.

    Answers, errors and what is returned are those of `ninefold.serving.batch.predict`; rows stand in any order, and an
    error names one of the wrong rows, by its file and its place there. A folder at `target` is replaced if it holds Parquet
    files alone. All machines of the cluster have to reach source, target and bundle by the same paths.
    """
    files = chunks.parquet_files(source)
    names = sorted(file.name for file in target.iterdir()) if target.is_dir() else []
    if others := [name for name in names if not name.endswith((".parquet", ".crc")) and name != "_SUCCESS"]:
        raise DataError(f"{target}: is a folder that holds {others[0]}, expected Parquet files alone; give another OUT")
    schema, parts = chunks.shared_schema(files), list[Part]()
    looked_up = check_columns(schema.names, bundle, source)
    engine.connect()
    with artifacts.replacing(target) as folder:
        folder.mkdir()
        for file in files:
            metadata, first = chunks.footer(file), 0
            for group in range(metadata.num_row_groups):
                parts.append(Part(file.resolve(), [group], first, folder.resolve() / f"part-{len(parts):05}.parquet"))
                first += metadata.row_group(group).num_rows
        parts = parts or [Part(files[0].resolve(), [], 0, folder.resolve() / "part-00000.parquet")]
        work = partial(_score, schema=schema, place=str(bundle.place.resolve()), version=bundle.version)
        try:
            counts = spark.session().sparkContext.parallelize(parts, len(parts)).map(work).collect()
        except Exception as error:  # Java's, with the traceback of Python in its text
            if lines := [line for line in str(error).splitlines() if RAISED in line]:  # about the data
                raise DataError(lines[-1].partition(RAISED)[2].strip()) from None
            raise
    warnings = sum(counts, Counter[str]())
    rows = sum(chunks.footer(file).num_rows for file in files)
    return {"rows": rows, "looked_up": looked_up, "warnings": dict(warnings), "wrote": str(target)}


def _score(part: Part, schema: pa.Schema, place: str, version: str) -> Counter[str]:
    """Write a part with its answers; return the rows with a warning, by field."""
    done: dict[str, Any] = {"rows": part.first, "warnings": Counter[str]()}
    tables = chunks.read_parquet(part.file, schema, chunks.CHUNK, part.groups)
    chunks.write_file(part.target, scored(tables, _load(place, version), part.file, done))
    return Counter(done["warnings"])


@cache
def _load(place: str, version: str) -> Bundle:
    bundle = Bundle.load(Path(place))
    if bundle.version != version:
        expected = f"expected {version}; copy it there"
        raise DataError(f"{place}: found version {bundle.version} on a Spark machine, {expected}")
    return bundle
