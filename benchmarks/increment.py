"""Measure a new month: stages 02, 03 and 06 after it came, against the same stages where nothing had been made before.

Each stage is measured twice: its functions alone, in a process without Python's start and imports, and as the command
`ninefold stage NAME`. Results are put into increment.csv in place of those of the same size, stage and way; the section of
benchmarks/README.md is made of that table.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import copies
from common import HERE, ROOT, WORK, job, machine, measure, merge_rows, read_rows, write_params, write_section

RESULTS = HERE / "increment.csv"
BEFORE, AFTER = "2013-08-31", "2013-09-30"
MONTHS = [f"2013-{month:02d}" for month in range(1, 10)]
MADE = {  # stage -> what it makes
    "collection": ["raw"],
    "processing": ["lake", "quarantine", "state/processing.json"],
    "features": ["features", "online", "state/features.json"],
}
GIVEN = (
    "problem.json",
    "metrics.json",
    "exploration.json",
)  # what other stages made, which stays when all else is made anew
WAYS = ("functions", "command")
LABELS = {"collection": "02 collection", "processing": "03 processing", "features": "06 features"}


def sources() -> list[str]:
    """Return the names of this checkout's files, without what the pipeline writes."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in names if (ROOT / name).is_file() and not name.startswith(("benchmarks/", "reports/"))]


def checkout(work: Path, size: int) -> Path:
    """Return a fresh copy of this checkout's files."""
    folder = work / f"increment-x{size}"
    shutil.rmtree(folder, ignore_errors=True)
    for name in sources():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return folder


def prepare(work: Path, size: int) -> Path:
    """Return a copy of the project, and beside it in ``-before`` its ``data/`` as the month before the new one left it."""
    folder = checkout(work, size)
    before = folder.with_name(f"{folder.name}-before")
    shutil.rmtree(before, ignore_errors=True)
    if size == 1:
        write_params(folder, folder, collection={"as_of": BEFORE})
        for stage in ("problem", "collection", "processing", "metrics", "exploration", "features"):
            seconds(stage, "command", folder)
        shutil.copytree(folder / "data", before)
        write_params(folder, folder, collection={"as_of": AFTER})
        for stage in ("collection", "processing", "metrics", "exploration"):
            seconds(stage, "command", folder)
    else:
        write_params(folder, folder, collection={"as_of": AFTER}, processing=copies.FREE)
        shutil.copytree(work / "increment-x1-before", folder / "data", ignore=_all_but_given, dirs_exist_ok=True)
        copies.raw(work, size, folder, MONTHS[:-1])
        for stage in ("processing", "features"):
            seconds(stage, "functions", folder)
        shutil.copytree(folder / "data", before)
    for name in ("metrics.json", "exploration.json"):
        shutil.copy2(folder / "data" / name, before / name)
    return folder


def restore(work: Path, size: int, folder: Path, full: bool) -> None:
    """Put a project's ``data/`` back to where the new month is still to be made, or all is."""
    shutil.rmtree(folder / "data")
    before = folder.with_name(f"{folder.name}-before")
    # Links suffice: the pipeline replaces files, and changes none.
    shutil.copytree(before, folder / "data", copy_function=os.link, ignore=_all_but_given if full else None)
    if size > 1:
        copies.raw(work, size, folder, MONTHS)


def seconds(stage: str, way: str, folder: Path) -> float:
    """Return the seconds of a stage's functions, or of its command; stop if it fails."""
    env = {"PYTHONPATH": str(folder / "src")}  # the copy's own code
    if way == "functions":
        run, taken = job(stage, folder, env=env)
    else:
        run = measure([sys.executable, "-m", "ninefold", "stage", stage], folder, env=env)
        taken = run.seconds
    if run.status != "ok" or taken is None:
        raise SystemExit(f"error: {stage} in {folder}: {run.status}")
    return taken


def compare(work: Path, size: int, repeats: int, ways: list[str]) -> list[dict[str, Any]]:
    """Measure all stages of one size; return a row of the results for each stage and way."""
    folder = prepare(work, size)
    stages = [stage for stage in MADE if size == 1 or stage != "collection"]
    rows = []
    for way in ways:
        times, made, sums = defaultdict[tuple[str, bool], list[float]](list), dict[str, str](), {}
        for _ in range(repeats):
            for full in (False, True):
                restore(work, size, folder, full)
                for stage in stages:
                    times[stage, full].append(seconds(stage, way, folder))
                    sums[stage, full] = _digest(folder / "data", stage, way)
                    if not full:
                        made[stage] = _noted(folder, stage)
        for stage in stages:
            full, increment = (statistics.median(times[stage, whole]) for whole in (True, False))
            rows.append(
                {
                    "size": size,
                    "stage": stage,
                    "way": way,
                    "full_seconds": f"{full:.2f}",
                    "increment_seconds": f"{increment:.2f}",
                    "ratio": f"{increment / full:.3f}",
                    "made": made[stage],
                    "same": "yes" if sums[stage, True] == sums[stage, False] else "no",
                    "repeats": repeats,
                    "machine": machine(),
                }
            )
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def render(rows: list[dict[str, str]]) -> None:
    """Write the section of the report."""
    table = [
        "| flights | stage | measured | all anew, s | new month, s | ratio | of partitions | same bytes |",
        "|---:|---|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        table.append(
            f"| {row['size']}x | {LABELS[row['stage']]} | {row['way']} | {float(row['full_seconds']):.1f} "
            f"| {float(row['increment_seconds']):.1f} | **{float(row['ratio']):.2f}** | {row['made']} | {row['same']} |"
        )
    repeats = max(int(row["repeats"]) for row in rows)
    write_section(
        "increment",
        [
            "## A new month",
            "",
            f"What `collection.as_of` moved from {BEFORE} to {AFTER} costs, against the same run where nothing had been made",
            f"before, the median of {repeats}. One of nine months is {1 / 9:.2f} of all. The functions are those of the stage's",
            "module in a process of their own, without Python's start and the imports; the command is all of `ninefold stage NAME`:",
            "notebook, kernel, figures and gate. At more than 1x the raw tables are copies with keys of their own, laid into",
            "`data/raw`, so that there is no stage 02. Same bytes: both ways left the same files.",
            "",
            f"Machine: {'; '.join(dict.fromkeys(row['machine'] for row in rows))}.",
            "",
            *table,
            "",
            *_remarks(rows),
            "",
            "Made by `python benchmarks/increment.py --help`, from [increment.csv](increment.csv).",
        ],
    )


def main() -> None:
    """Measure what is asked for, and render all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,10", help="copies of the flights; 1 comes first (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each run; the median counts (%(default)s)")
    parser.add_argument("--ways", default=",".join(WAYS), help="default: %(default)s")
    parser.add_argument("--work", type=Path, default=WORK, help="where the copies lie (%(default)s)")
    parser.add_argument("--render", action="store_true", help="render the results alone")
    options = parser.parse_args()
    for size in [] if options.render else sorted(map(int, options.sizes.split(","))):
        if size > 1 and not (options.work / "increment-x1-before").exists():
            raise SystemExit("error: --sizes: 1 was never run, whose problem, metrics and exploration the others read")
        found = compare(options.work, size, options.repeats, options.ways.split(","))
        merge_rows(RESULTS, found, ["size", "stage", "way"], order=_order)
    if not (rows := read_rows(RESULTS)):
        raise SystemExit(f"error: {RESULTS}: holds no results; run without --render first")
    render(rows)


def _remarks(rows: list[dict[str, str]]) -> list[str]:
    """Return, as lines, the ratio of all stages together, and how much of a command's time is the same at every run."""
    lines = []
    for size in dict.fromkeys(row["size"] for row in rows):
        for way in WAYS:
            mine = [row for row in rows if row["size"] == size and row["way"] == way]
            full, increment = (sum(float(row[f"{kind}_seconds"]) for row in mine) for kind in ("full", "increment"))
            named = ", ".join(LABELS[row["stage"]][:2] for row in mine)
            lines.append(
                f"- {size}x, {way}: stages {named} together {increment:.1f} s of {full:.1f} s, **{increment / full:.2f}**."
            )
    return lines


def _digest(data: Path, stage: str, way: str) -> dict[str, str]:
    """Return the SHA-256 of every file that a stage made."""
    # The online values are no work of the functions that are measured; those there are the last command's.
    places = [data / name for name in MADE[stage] if way == "command" or name != "online"]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    return {str(file.relative_to(data)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _noted(folder: Path, stage: str) -> str:
    """Return how many partitions a stage made of how many, from its note."""
    note = next((folder / "reports/timings").glob(f"??_{stage}.txt")).read_text(encoding="utf-8")
    made, kept = map(int, re.findall(r"\d+", note)[:2])
    return f"{made} of {made + kept}"


def _all_but_given(place: str, names: list[str]) -> set[str]:
    """Return the names in ``data/`` itself that a full run makes anew."""
    own = {name.split("/")[1] for name in sources() if name.startswith("data/")}
    return {name for name in names if name not in {*GIVEN, *own}} if "problem.json" in names else set()


def _order(row: dict[str, str]) -> tuple[int, int, int]:
    return int(row["size"]), list(MADE).index(row["stage"]), WAYS.index(row["way"])


if __name__ == "__main__":
    main()
