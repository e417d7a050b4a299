"""Larger copies of the example: each flight n times, with carriers, airports and tail numbers of its own per copy.

So keys grow with the rows, and each copy has its own weather and planes. The first copy is the example itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from common import job, write_params

KEYS = {
    "flights": ["carrier", "tailnum", "origin", "dest"],
    "weather": ["origin"],
    "planes": ["tailnum"],
    "airports": ["faa"],
    "airlines": ["carrier"],
}
ORDER = {
    "flights": ["carrier", "flight", "origin", "scheduled"],
    "weather": ["origin", "time_hour"],
    "planes": ["tailnum"],
    "airports": ["faa"],
    "airlines": ["carrier"],
}
ALL, LAST = (
    "2014-01-01",
    "2013-12",
)  # the first day after the year in New York, and the month to which its hours are put
GROUP = 1_048_576
# Copies have other airports than the contract allows.
FREE = {
    "tables": {
        "flights": {"columns": {"origin": {"allowed": None}}},
        "weather": {"columns": {"origin": {"allowed": None}}},
    }
}


def base(work: Path) -> Path:
    """Return a project with the whole year of the example in ``data/raw`` and ``data/lake``, made by stages 01-03."""
    folder = work / "base"
    if not (folder / ".ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        write_params(folder, collection={"as_of": ALL})
        for name in ("problem", "collection", "processing"):
            run, _ = job(name, folder)
            if run.status != "ok":
                raise SystemExit(f"error: {name}: {run.status}")
        (folder / ".ready").touch()
    return folder


def lake(work: Path, copies: int) -> Path:
    """Return a project whose ``data/lake`` holds so many copies of the year, a partition per month, as stage 03 writes it."""
    folder, source = work / f"x{copies}", base(work)
    if not (folder / ".ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for table, keys in KEYS.items():
            months = sorted(place.name for place in (source / "data/lake" / table).iterdir())
            for month in [one for one in months if one <= f"period={LAST}" or one == "period=all"]:
                files = [source / "data/lake" / table / month / "part-0.parquet"]
                if month == f"period={LAST}":
                    files += [source / "data/lake" / table / one / "part-0.parquet" for one in months if one > month]
                target = folder / "data/lake" / table / month / "part-0.parquet"
                _copy(files, target, keys, ORDER[table], copies, folder)
        shutil.copy2(source / "data/problem.json", folder / "data/problem.json")
        shutil.rmtree(folder / ".temp", ignore_errors=True)
        (folder / ".ready").touch()
    return folder


def raw(work: Path, copies: int, folder: Path, months: Iterable[str]) -> None:
    """Write into a project's ``data/raw`` so many copies of some months of the example, all text, with their manifest."""
    source, parts = base(work) / "data/raw", []
    shutil.rmtree(folder / "data/raw", ignore_errors=True)
    for part in json.loads((source / "manifest.json").read_text(encoding="utf-8"))["partitions"]:
        table, period = part["table"], part["period"]
        if period not in ("all", *months):
            continue
        made = work / f"raw-x{copies}" / table / f"{period}.parquet"
        if not made.exists():
            _copy([source / table / made.name], made, KEYS[table], ["copy", "file_row_number"], copies, work)
        target = folder / "data/raw" / table / made.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(made, target)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        parts.append({**part, "rows": part["rows"] * copies, "sha256": digest})
    manifest = json.dumps({"partitions": parts}, indent=1) + "\n"
    (folder / "data/raw/manifest.json").write_text(manifest, encoding="utf-8")


def _copy(files: list[Path], target: Path, keys: list[str], order: list[str], copies: int, temp: Path) -> None:
    """Write the rows of Parquet files so many times in an order, 'UA' of the eighth copy as 'UA#07', whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    named = ", ".join(f"{key} || suffix AS {key}" for key in keys)
    suffix = "CASE WHEN number = 0 THEN '' ELSE printf('#%02d', number) END"
    source = ", ".join(f"'{file}'" for file in files)
    written = target.with_name(f".{target.name}.tmp")
    schema = pq.read_schema(files[0]).remove_metadata()
    with duckdb.connect() as connection, pq.ParquetWriter(written, schema, compression="zstd") as writer:
        connection.execute(f"SET memory_limit = '2GB'; SET temp_directory = '{temp}/.temp'; SET TimeZone = 'UTC'")
        found = connection.sql(
            f"""
            SELECT rows.* EXCLUDE (file_row_number) REPLACE ({named})
            FROM read_parquet([{source}], hive_partitioning = false, file_row_number = true) AS rows
            CROSS JOIN (SELECT number AS copy, {suffix} AS suffix FROM range({copies}) AS numbers(number)) AS copies
            ORDER BY {", ".join(order)}
            """
        )
        held: list[pa.RecordBatch] = []
        for batch in found.to_arrow_reader(GROUP):
            held.append(batch)
            if sum(one.num_rows for one in held) >= GROUP:
                writer.write_table(pa.Table.from_batches(held).cast(schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held).cast(schema))
    written.replace(target)
