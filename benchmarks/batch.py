"""Measure `ninefold predict`: ten million rows from Parquet to Parquet and between tables of DuckDB, and fewer with Spark.

The rows are those of the example's feature table, again and again, without history, which is looked up. Run the pipeline first.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
from common import GIB, HERE, ROOT, WORK, Run, machine, measure, merge_rows, read_rows, write_params, write_section

from ninefold.serving.bundle import Bundle

RESULTS = HERE / "batch.csv"
LIMIT = 2.0  # GiB
WAYS = {
    "parquet": ("Parquet to Parquet", "in.parquet", "out.parquet"),
    "duckdb": ("table to table of a DuckDB file", "in.duckdb::rows", "in.duckdb::scored"),
    "spark": ("Parquet to Parquet, Spark on `local[2]`", "in.parquet", "spark.parquet"),
}


def make(folder: Path, rows: int, history: list[str]) -> None:
    """Write so many rows of features into ``in.parquet`` and the table ``rows`` of ``in.duckdb``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    left_out = ", ".join(f'"{name}"' for name in history)
    found = f"read_parquet('{ROOT}/data/features/**/*.parquet', hive_partitioning = false)"
    with duckdb.connect(str(folder / "in.duckdb")) as connection:
        held = connection.sql(f"SELECT count(*) FROM {found}").fetchall()[0][0]
        columns = f"* EXCLUDE ({left_out})" if history else "*"
        copies = f"SELECT t.{columns} FROM range({rows // held + 1}), {found} AS t LIMIT {rows}"
        connection.execute(f"CREATE TABLE rows AS {copies}")
        connection.execute(f"COPY rows TO '{folder}/in.parquet' (COMPRESSION zstd)")


def scored(way: str, folder: Path, patience: float) -> Run:
    """Run the command in a process of its own; it has to say that it scored the rows."""
    _, source, target = WAYS[way]
    (folder / "params.yaml").unlink(missing_ok=True)
    if way == "spark":
        write_params(folder, engine={"backend": "pyspark", "memory_limit": "2GB", "spark": {"master": "local[2]"}})
    command = [sys.executable, "-m", "ninefold", "predict", source, target, "--bundle", str(ROOT / "models/bundle")]
    return measure(command, folder, limit=patience)


def report(rows: list[dict[str, str]]) -> list[str]:
    """Return the section of the report."""
    lines = [
        "## A batch",
        "",
        "`ninefold predict` on rows of the example's feature table, again and again. A blend of two gradient boostings (300",
        "trees) answers; twelve histories are looked up. Peak memory is that of the process and its children, so that Java and",
        "the processes of Spark count; a page that several of these share counts for each.",
        "",
        f"Machine: {machine()}.",
        "",
        "| way | rows | seconds | rows a second | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        count, seconds = int(row["rows"]), float(row["seconds"])
        result = f"{seconds:,.0f} | {count / seconds:,.0f}" if row["status"] == "ok" else f"{row['status']} |"
        lines.append(f"| {WAYS[row['way']][0]} | {count:,} | {result} | {float(row['peak_gib']):.2f} GiB |")
    most = [float(row["peak_gib"]) for row in rows if row["way"] != "spark" and row["status"] == "ok"]
    kept = "**kept**" if most and max(most) < LIMIT else "**not kept**"
    asked = f"Asked for: less than {LIMIT:.0f} GiB on one machine, whatever the number of rows: {kept}."
    return [*lines, "", asked, "", "Made by `python benchmarks/batch.py --help`, from [batch.csv](batch.csv)."]


def main() -> None:
    """Measure what is asked for, and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--ways", default="parquet,duckdb", help=f"of {', '.join(WAYS)}")
    parser.add_argument(
        "--patience", type=float, default=3600.0, metavar="SECONDS", help="after which a run is stopped"
    )
    options = parser.parse_args()
    folder = WORK / "batch"
    make(folder, options.rows, list(Bundle.load(ROOT / "models/bundle").online))
    found: list[dict[str, Any]] = []
    for way in options.ways.split(","):
        run = scored(way, folder, options.patience)
        said = re.search(r"scored ([\d,]+) rows", run.said)
        if run.status == "ok" and (said is None or int(said[1].replace(",", "")) != options.rows):
            run.status = f"said {run.said!r}"
        result = {"status": run.status, "seconds": f"{run.seconds:.1f}", "peak_gib": f"{run.peak / GIB:.3f}"}
        found.append({"way": way, "rows": options.rows, **result})
        print(found[-1], file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)  # Java may be about to clear up what it left there
    merge_rows(RESULTS, found, ["way", "rows"], lambda row: (list(WAYS).index(row["way"]), int(row["rows"])))
    write_section("batch", report(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
