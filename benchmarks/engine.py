"""Measure the feature job of stage 06 in pandas, DuckDB and Spark, on 1 to 100 copies of the example's year.

Each run is a process of its own. Results are put into engine.csv in place of those of the same engine and size, so that
runs can be made one after the other; the section of benchmarks/README.md and engine.svg are made of that table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import copies
import numpy as np
import psutil
import pyarrow.parquet as pq
from common import GIB, HERE, WORK, Run, job, machine, merge_rows, read_rows, write_params, write_section

RESULTS, PLOT = HERE / "engine.csv", HERE / "engine.svg"
SIZES = (1, 10, 30, 100)
FLIGHTS = 336_776
ENGINES = {"pandas": "pandas", "duckdb": "DuckDB", "pyspark": "Spark"}
COLORS = {"pandas": "#999999", "duckdb": "#0072B2", "pyspark": "#D55E00"}
REFERENCE = "duckdb"
WHEN = {  # engine -> when to choose it, and what the numbers do not say
    "duckdb": ("is the default, on one machine", ""),
    "pandas": (
        "is for a table that fits into memory several times, in code of your own beside the pipeline",
        " It makes all months anew at each run, where stage 06 makes those that changed.",
    ),
    "pyspark": (
        "is for data on a cluster, or more than one machine can read in the time there is",
        " It ran on the cores of one machine, as the others did: this is what Spark costs, not what more machines save.",
    ),
}
EXACT = {"pandas": 1e-9, "pyspark": 1e-12}  # the largest difference to DuckDB's numbers that passes
TIMES, MEMORY = 1.2, 8.0  # asked for: at ten times the rows so many times as long for each, and GiB of memory


def run(engine: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one engine on one size; return a row of the results."""
    folder = copies.lake(options.work, size)
    conf = {"backend": "duckdb" if engine == "pandas" else engine, "spark": {"master": "local[2]"}, "threads": 2}
    write_params(folder, collection={"as_of": copies.ALL}, engine={**conf, "memory_limit": options.memory_limit})
    for place in [*(folder / "data").glob(".*"), folder / "data/features", folder / "data/state"]:
        shutil.rmtree(place) if place.exists() else None
    name = "features_in_pandas" if engine == "pandas" else "features"
    ceiling = options.ceiling * GIB
    measured, seconds = job(name, folder, limit=options.limit, ceiling=ceiling, temp=folder / "data/.temp")
    made = folder / "data/features"
    if measured.status == "ok":
        rows = sum(pq.read_metadata(file).num_rows for file in made.rglob("*.parquet"))
        if rows != FLIGHTS * size:
            raise SystemExit(f"error: {engine} made {rows:,} rows of {FLIGHTS * size:,}")
        if size == 1:  # kept, to be compared
            shutil.rmtree(folder / "made" / engine, ignore_errors=True)
            (folder / "made").mkdir(exist_ok=True)
            made.rename(folder / "made" / engine)
    shutil.rmtree(folder / "data/.temp", ignore_errors=True)
    return _row(engine, size, measured, seconds, options)


def difference(engine: str, work: Path) -> float | None:
    """Return the largest difference between an engine's numbers of one copy and DuckDB's, infinite if anything else differs."""
    made = work / "x1/made"
    if not (made / engine).exists() or not (made / REFERENCE).exists():
        return None
    months = sorted(place.name for place in (made / REFERENCE).iterdir())
    if months != sorted(place.name for place in (made / engine).iterdir()):
        return float("inf")
    worst = 0.0
    for month in months:
        mine, theirs = (
            pq.read_table(sorted((made / one / month).glob("*.parquet")), partitioning=None)
            for one in (engine, REFERENCE)
        )
        if mine.column_names != theirs.column_names or mine.num_rows != theirs.num_rows:
            return float("inf")
        for name in mine.column_names:
            one, other = mine[name].to_pandas(), theirs[name].to_pandas()
            missing = one.isna()
            if not missing.equals(other.isna()):
                return float("inf")
            if mine.schema.field(name).type == "double":
                worst = max(worst, float(np.nanmax(np.abs(one - other), initial=0.0)))
            elif not ((one == other) | missing).all():
                return float("inf")
    return worst


def criterion(rows: list[dict[str, str]]) -> list[str]:
    """Return, as lines, whether DuckDB keeps what was asked of it: time in proportion to the rows, memory bounded."""
    found = {int(row["size"]): row for row in rows if row["engine"] == "duckdb" and row["status"] == "ok"}
    if not {10, 100} <= found.keys():
        return ["What is asked of DuckDB (its time at 100x against that at 10x) is not measured yet."]
    ratios = {name: float(found[100][name]) / float(found[10][name]) for name in ("seconds", "job_seconds")}
    peak, ratio = float(found[100]["peak_gib"]), max(ratios.values())
    return [
        f"- DuckDB's time at 100x is {ratios['seconds']:.1f} times that at 10x ({ratios['job_seconds']:.1f} times without "
        f"Python's start and imports); asked for: at most {TIMES * 10:g} times, **{_kept(ratio <= TIMES * 10)}**.",
        f"- Its peak of memory at 100x is {peak:.1f} GiB; asked for: at most {MEMORY:g} GiB, **{_kept(peak <= MEMORY)}**.",
    ]


def choose(rows: list[dict[str, str]]) -> list[str]:
    """Return, as lines, what to choose when, as far as the results say."""
    done = {(row["engine"], int(row["size"])): row for row in rows if row["status"] == "ok"}
    lines = []
    for engine, (where, remark) in WHEN.items():
        size = max((size for one, size in done if one == engine), default=0)
        if not size:
            lines.append(f"- **{ENGINES[engine]}**{_ended(engine, size, rows) or ': no result.'}")
            continue
        row = done[engine, size]
        spilled = f" and {row['temp_gib']} GiB of temporary files" if float(row["temp_gib"]) else ""
        took = f"{_rows(size)} rows took {_time(row)}{_compared(engine, done, size)}, {_peak(row)} of memory{spilled}."
        lines.append(f"- **{ENGINES[engine]}** {where}: {took}{_ended(engine, size, rows)}{remark}")
    return lines


def render(rows: list[dict[str, str]]) -> None:
    """Write the section of the report, and the plot."""
    draw(rows)
    by = {(row["engine"], int(row["size"])): row for row in rows}
    sizes = sorted({size for _, size in by})
    table = [
        "| rows | engine | seconds | of these, the job | peak memory | peak of temporary files | largest difference |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for size in sizes:
        for engine, name in ENGINES.items():
            row = by.get((engine, size))
            if row is None or row["status"] != "ok":
                why = "not run" if row is None else row["status"]
                peak = f"{row['peak_gib']} GiB" if row else ""
                table.append(f"| {_rows(size)} ({size}x) | {name} | {why} | | {peak} | | |")
                continue
            temp = f"{row['temp_gib']} GiB" if float(row["temp_gib"]) else "0"
            apart = f"{float(row['difference']):.1g}" if row["difference"] else ""
            table.append(
                f"| {_rows(size)} ({size}x) | {name} | {float(row['seconds']):,.1f} | {float(row['job_seconds']):,.1f} "
                f"| {row['peak_gib']} GiB | {temp} | {apart} |"
            )
    versions = dict.fromkeys(row["version"] for row in rows)
    limits = dict.fromkeys(row["memory_limit"] for row in rows if row["engine"] != "pandas")
    write_section(
        "engine",
        [
            "## pandas, DuckDB or Spark",
            "",
            "The feature table of stage 06 (two joins, row expressions, twelve histories, a Parquet partition per month) of the",
            f"{FLIGHTS:,} flights of 2013, and of copies of them with carriers, airports, tail numbers, weather and planes of",
            f"their own; `engine.memory_limit` is {' or '.join(limits) or 'not set'}, and Spark runs on `local[2]`. Each run is a",
            "process of its own; the job is what it did after Python's start and the imports. Peak memory is that of the process",
            "and its children, so that Java counts. At 1x the tables were compared with DuckDB's, value by value.",
            "",
            f"Machine: {'; '.join(dict.fromkeys(row['machine'] for row in rows))}. Versions: {', '.join(versions)}.",
            "",
            *table,
            "",
            "![Seconds and peak memory by size](engine.svg)",
            "",
            "What was asked for:",
            "",
            *criterion(rows),
            "",
            "What to choose:",
            "",
            *choose(rows),
            "",
            "Made by `python benchmarks/engine.py --help`, from [engine.csv](engine.csv).",
        ],
    )


def draw(rows: list[dict[str, str]]) -> None:
    """Draw seconds and peak memory over the rows, an engine a line."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams |= {"svg.hashsalt": "ninefold", "svg.fonttype": "none", "font.size": 9}
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, (column, title) in zip(axes, {"seconds": "seconds", "peak_gib": "peak memory, GiB"}.items(), strict=True):
        for engine, name in ENGINES.items():
            mine = [row for row in rows if row["engine"] == engine and row["status"] == "ok"]
            points = sorted((FLIGHTS * int(row["size"]), float(row[column])) for row in mine)
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", ms=4, color=COLORS[engine], label=name)
        axis.set(xscale="log", yscale="log", xlabel="rows", title=title)
        axis.grid(alpha=0.3, lw=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].axhline(MEMORY, color="black", ls=":", lw=1)
    axes[0].legend(frameon=False)
    fig.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    """Measure what is asked for, and render all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="copies of the year (default: %(default)s)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="default: %(default)s")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which a run is stopped (%(default)s)")
    parser.add_argument("--memory-limit", default="5GB", help="engine.memory_limit (%(default)s)")
    most = psutil.virtual_memory().total / GIB * 0.9
    parser.add_argument(
        "--ceiling", type=float, default=most, help="GiB at which a run is stopped (90 %% of the memory)"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="where the copies lie (%(default)s)")
    parser.add_argument("--clean", action="store_true", help="remove the copies, and stop")
    parser.add_argument("--render", action="store_true", help="render the results alone")
    options = parser.parse_args()
    if options.clean:
        shutil.rmtree(options.work, ignore_errors=True)
        return
    sizes = [] if options.render else [int(size) for size in options.sizes.split(",")]
    for size in sizes:
        for engine in [engine for engine in ENGINES if engine in options.engines.split(",")]:
            if importlib.util.find_spec(engine) is None:
                print(f"{ENGINES[engine]} is not installed: not run")
                continue
            row = run(engine, size, options)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            merge_rows(RESULTS, [row], ["engine", "size"], order=_order)
    if 1 in sizes:
        _compare(options.work)
    rows = read_rows(RESULTS)
    if not rows:
        raise SystemExit(f"error: {RESULTS}: holds no results; run without --render first")
    render(rows)


def _row(engine: str, size: int, measured: Run, seconds: float | None, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "engine": engine,
        "size": size,
        "rows": FLIGHTS * size,
        "status": measured.status,
        "seconds": f"{measured.seconds:.2f}",
        "job_seconds": "" if seconds is None else f"{seconds:.2f}",
        "peak_gib": f"{measured.peak / GIB:.2f}",
        "temp_gib": f"{measured.temp / GIB:.2f}",
        "difference": "",
        "memory_limit": "" if engine == "pandas" else options.memory_limit,
        "version": f"{ENGINES[engine]} {importlib.metadata.version(engine)}",
        "machine": machine(),
    }


def _compare(work: Path) -> None:
    """Put into the results how far the tables of one copy lie from DuckDB's; stop if it is too far."""
    rows = [row for row in read_rows(RESULTS) if row["size"] == "1" and row["status"] == "ok"]
    for row in rows:
        found = difference(row["engine"], work)
        row["difference"] = "" if found is None or row["engine"] == REFERENCE else f"{found:g}"
    merge_rows(RESULTS, rows, ["engine", "size"], order=_order)
    for row in rows:
        if row["difference"] and float(row["difference"]) > EXACT[row["engine"]]:
            raise SystemExit(f"error: {row['engine']} differs from {REFERENCE} by {row['difference']}")


def _order(row: dict[str, str]) -> tuple[int, int]:
    return int(row["size"]), list(ENGINES).index(row["engine"])


def _rows(size: int) -> str:
    rows = FLIGHTS * size
    return f"{rows:,}" if rows < 1e6 else f"{rows / 1e6:.1f} million"


def _time(row: dict[str, str]) -> str:
    seconds = float(row["seconds"])
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _peak(row: dict[str, str]) -> str:
    return f"{float(row['peak_gib']):.1f} GiB"


def _kept(holds: bool) -> str:
    return "kept" if holds else "not kept"


def _compared(engine: str, done: dict[tuple[str, int], dict[str, str]], size: int) -> str:
    """Return a run's time as a multiple of DuckDB's on the same rows, and of the smallest size that both did."""
    both = sorted({one for name, one in done if name == engine} & {one for name, one in done if name == REFERENCE})
    if engine == REFERENCE or not both:
        return ""
    ratios = {one: float(done[engine, one]["seconds"]) / float(done[REFERENCE, one]["seconds"]) for one in both}
    said = [f"{ratio:.2g} times DuckDB's at {one}x" for one, ratio in ratios.items() if one in (both[0], both[-1])]
    return f" ({', '.join(said)})"


def _ended(engine: str, size: int, rows: list[dict[str, str]]) -> str:
    """Return how the larger runs ended, and which there were none of."""
    larger = {int(row["size"]): row["status"] for row in rows if row["engine"] == engine and int(row["size"]) > size}
    missing = [f"{one}x" for one in SIZES if one > size and one not in larger]
    said = [f" At {one}x: {status}." for one, status in sorted(larger.items())]
    return "".join(said) + (f" Not run: {', '.join(missing)}." if missing else "")


if __name__ == "__main__":
    main()
