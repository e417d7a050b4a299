"""Measure the statistics of stage 09 on a stream whose truth is known: false alarms, faults by name, delay, cost.

Each part may be run by itself; its rows are kept in `monitoring.csv`, and the table `monitoring.md` is written from all of them.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from typing import Any

import monitoring_stream as stream
import numpy as np
from common import GIB, HERE, machine, merge_rows, read_rows
from monitoring_stream import Stream

from ninefold.monitoring import period
from ninefold.monitoring.reference import figures, outside
from ninefold.monitoring.report import period_report

RESULTS, REPORT = HERE / "monitoring.csv", HERE / "monitoring.md"
PARTS = ("stable", "planted", "delay", "cost")
REPLAYS, SEEDS, PERIODS = 200, 20, 4
KINDS = {
    "covariate shift": "covariate shift", "label shift": "label shift", "concept shift": "concept shift",
    "all null": "broken column", "unit changed": "broken column", "new category": "new category", "silence": "silence",
}  # fmt: skip
SIZES = {"small": 0.3, "medium": 0.6, "large": 1.0}
MANY, EXTRA = 1_000_000, 22


def stable(made: Stream, count: int) -> Iterator[dict[str, Any]]:
    """Yield the share of stable weeks that alert: drawn from days of the holdout, and fresh from the truth."""
    against = made.against
    block = against.holdout.block
    drawn = period.replays(block, stream.WEEK, timed=True, count=count, seed=1)
    replayed = (period.take(against.holdout, rows)._replace(block=days) for rows, days in drawn)
    fresh = (stream.rows(made, stream.draw(stream.WEEK, 50_000 + seed, 250)) for seed in range(count // 2))
    for name, periods in (("days drawn again", replayed), ("new days", fresh)):
        found = [figures(against, rows, float(stream.WEEK)) for rows in periods]
        alarms = np.mean([bool(outside(each, against.bounds)) for each in found])
        yield {
            "part": "stable",
            "what": name,
            "size": "",
            "count": len(found),
            "value": f"{alarms:.4f}",
            "more": len(against.bounds),
            "extra": "",
        }


def planted(made: Stream, count: int, only: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield, of each fault, how many of the seeds alerted, and in how many it was named first."""
    for kind, cause in ((kind, cause) for kind, cause in KINDS.items() if kind in (only or KINDS)):
        alerted = named = first = 0
        seeds = (
            range(0, count, 2) if kind == "all null" else range(1, count, 2) if kind == "unit changed" else range(count)
        )
        for seed in seeds:
            rows = stream.rows(made, stream.plant(made, kind, seed))
            found = period_report(made.against, rows, float(stream.WEEK))
            causes = [each["cause"] for each in found["findings"]]
            alerted += bool(found["outside"])
            named += cause in causes
            first += causes[:1] == [cause]
            if causes[:1] != [cause]:
                print(kind, seed, found["outside"][:3], causes, flush=True)
        yield {
            "part": "planted",
            "what": kind,
            "size": "",
            "count": len(seeds),
            "value": first,
            "more": named,
            "extra": alerted,
        }


def delay(made: Stream, count: int) -> Iterator[dict[str, Any]]:
    """Yield after how many weeks a shift that stays is alerted, of three sizes, in the mean of those alerted in time."""
    for kind in ("covariate shift", "label shift", "concept shift"):
        for name, size in SIZES.items():
            weeks = [_weeks(made, kind, seed, size) for seed in range(count)]
            told = [week for week in weeks if week]
            mean = f"{np.mean(told):.2f}" if told else ""
            yield {
                "part": "delay",
                "what": kind,
                "size": name,
                "count": count,
                "value": mean,
                "more": len(told),
                "extra": "",
            }


def cost(rows: int) -> Iterator[dict[str, Any]]:
    """Yield the seconds and the peak of memory of all statistics of one period of so many rows and thirty features."""
    began = time.perf_counter(), time.process_time()
    made = stream.fit(1, extra=EXTRA)
    fitted = time.perf_counter() - began[0], time.process_time() - began[1]
    frame = stream.draw(stream.WEEK, 5, 300, daily=rows / stream.WEEK, extra=EXTRA, inputs=0.5)
    told = stream.rows(made, frame)
    began = time.perf_counter(), time.process_time()
    period_report(made.against, told, float(stream.WEEK))
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    for name, (wall, core) in (("reference", fitted), ("period", took)):
        yield {
            "part": "cost",
            "what": name,
            "size": "",
            "count": len(told.block),
            "value": f"{wall:.1f}",
            "more": f"{peak:.2f}",
            "extra": f"{core:.1f}",
        }


def report(rows: list[dict[str, str]]) -> str:
    """Return the text of the table."""
    by = {part: [row for row in rows if row["part"] == part] for part in PARTS}
    lines = ["# The statistics of monitoring, on a stream whose truth is known", ""]
    lines += [
        f"Simulated weeks of about {stream.DAILY * stream.WEEK:,} rows with eight features (numbers, categories, a text, a date); days",
        "differ, and a week resembles itself. A gradient boosting was fitted on the first "
        f"{stream.TRAIN} days, its forecasts judged on the next {stream.HOLDOUT}.",
        f"A week alerts if any of its figures is outside its bounds, which are set for 5 % of stable weeks. {machine()}.",
        "",
    ]
    if by["stable"]:
        lines += [
            "## False alarms",
            "",
            "| stable weeks | weeks | figures | share that alerts |",
            "|---|---:|---:|---:|",
        ]
        lines += [
            f"| {row['what']} | {row['count']} | {row['more']} | {float(row['value']):.1%} |" for row in by["stable"]
        ]
        lines += [
            "",
            "Baseline: under 5 % of days drawn again. New days are drawn from the truth, and no bound has seen them; all of one model.",
            "Their weeks resemble themselves, which the bounds of forecasts and outcomes, from days of the holdout drawn at random, do not",
            "know: that is the price of seeing a shift of them in its first week. Where the holdout has 20 windows, these are used.",
            "",
        ]
    if by["planted"]:
        lines += [
            "## Planted faults",
            "",
            "| planted | seeds | alerted | named first | named at all |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['what']} | {row['count']} | {row['extra']} | {row['value']} | {row['more']} |"
            for row in by["planted"]
        ]
        lines += [
            "",
            "Covariate: ages one deviation higher. Label: outcomes drawn anew, their odds by a factor e. Concept: the effect of age",
            "is gone. Unit: amounts times 2.2. New category: 15 % of the rows. Silence: no row, or 2 % of them. All null and",
            "unit changed are the two halves of one kind, the broken upstream column.",
            "",
        ]
    if by["delay"]:
        lines += [
            "## Delay",
            "",
            "| shift | size | seeds | alerted within four weeks | mean weeks to the alert |",
            "|---|---|---:|---:|---:|",
        ]
        lines += [
            f"| {row['what']} | {row['size']} | {row['count']} | {row['more']} | {row['value'] or '–'} |"
            for row in by["delay"]
        ]
        lines += [
            "",
            f"Sizes: {', '.join(f'{name} {size:g}' for name, size in SIZES.items())} of the faults above. One week is the least that can be.",
            "",
        ]
    if by["cost"]:
        lines += [
            "## Cost",
            "",
            "| what | rows | seconds | of a core | peak memory, GiB |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['what']} | {int(row['count']):,} | {row['value']} | {row['extra']} | {row['more']} |"
            for row in by["cost"]
        ]
        lines += [
            "",
            "Thirty features. The reference is made once for a model (fitting the model included). Baseline for a period: under 60 s",
            "and 4 GiB. Rows are counted on the whole period; shares, distances and tests rest on at most 200,000 of its rows, spread",
            "evenly, estimates on 20,000, and the classifier on 10,000 a side.",
            "",
        ]
    lines += ["Made by `python benchmarks/monitoring.py --help`, from [monitoring.csv](monitoring.csv)."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="of " + ", ".join(PARTS))
    parser.add_argument("--replays", type=int, default=REPLAYS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--faults", default=",".join(KINDS), help="of the planted ones, " + ", ".join(KINDS))
    options = parser.parse_args()
    parts = options.parts.split(",")
    made = stream.fit(1) if set(parts) - {"cost"} else None
    for part in parts:
        if part not in PARTS:
            raise SystemExit(f"error: --parts: found {part}, expected of {', '.join(PARTS)}")
        if part == "cost":
            found = list(cost(MANY))
        else:
            assert made is not None
            found = {
                "stable": lambda: list(stable(made, options.replays)),
                "planted": lambda: list(planted(made, options.seeds, options.faults.split(","))),
                "delay": lambda: list(delay(made, options.seeds // 2)),
            }[part]()
        merge_rows(RESULTS, found, ["part", "what", "size"], _order)
        REPORT.write_text(report(read_rows(RESULTS)), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))


def _order(row: dict[str, str]) -> tuple[int, int, int]:
    what = list(KINDS).index(row["what"]) if row["what"] in KINDS else len(KINDS)
    return PARTS.index(row["part"]), what, list(SIZES).index(row["size"]) if row["size"] in SIZES else 0


def _weeks(made: Stream, kind: str, seed: int, size: float) -> int | None:
    """Return the week, from 1, whose figures first leave their bounds; None if none of the first does."""
    for week in range(PERIODS):
        rows = stream.rows(made, stream.plant(made, kind, 1000 * (week + 1) + seed, size=size))
        found = figures(made.against, rows, float(stream.WEEK))
        if outside(found, made.against.bounds):
            return week + 1
    return None


if __name__ == "__main__":
    main()
