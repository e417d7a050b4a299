"""The jobs that are measured, each in a process of its own: `python benchmarks/jobs.py NAME` in a project's folder.

Each prints its seconds, without those of Python's start and the imports, as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ninefold.problem.statement import Problem

LAKE, FEATURES = Path("data/lake"), Path("data/features")


def problem() -> None:
    """Stage 01: state the problem."""
    from ninefold import artifacts
    from ninefold.params import load

    Problem.of(load("problem")).save()
    artifacts.publish()


def collection() -> None:
    """Stage 02: collect what is new."""
    from ninefold import artifacts, collection
    from ninefold.params import load

    params = load("collection")
    kept = collection.verified_manifest()
    collection.collect(params, collection.missing(collection.plan(params), kept), kept)
    artifacts.publish()


def processing() -> None:
    """Stage 03: bring the lake up to what was collected."""
    from ninefold import artifacts, engine
    from ninefold.params import load
    from ninefold.processing import stage as processing

    processing.update(load("processing"), engine.connect())
    artifacts.publish()


def features() -> None:
    """Stage 06: bring the feature table up to the lake, on the engine that the params name."""
    from ninefold import artifacts, engine, features
    from ninefold.params import load

    problem = Problem.load()
    params = features.declared(load("features"), problem)
    tables = features.read(engine.connect(), problem)
    features.update(tables, features.build(tables, params, problem), params, problem)
    artifacts.publish()


def features_in_pandas() -> None:
    """The table of stage 06 as one would write it in pandas and NumPy, in memory; only means, as the example has."""
    import pandas as pd

    from ninefold.params import parse

    params = parse(Path("params.yaml").read_text(encoding="utf-8"))["features"]
    problem = Problem.load()
    windows = sorted(_windows(params, problem), key=lambda window: window["by"])
    head = list(dict.fromkeys([*problem.key, *(name for window in windows for name in window["by"])]))
    own = ["hour", "minute", "sched_arr_time", "year", "month", "day", "tailnum", "time_hour", "distance"]
    wanted = list(dict.fromkeys([*head, problem.target, *(window["of"] for window in windows), *own]))
    parts = {file.parent.name: pd.read_parquet(file, columns=wanted) for file in _files("flights")}
    flights = pd.concat(parts.values(), ignore_index=True)
    sizes = {period: len(part) for period, part in parts.items()}
    del parts
    for join in params["joins"]:
        names = join["columns"] if isinstance(join["columns"], dict) else {name: name for name in join["columns"]}
        related = [pd.read_parquet(file, columns=[*join["by"], *names]) for file in _files(join["table"])]
        flights = flights.merge(pd.concat(related).rename(columns=names), how="left", on=join["by"])
    flights["departure_minute"] = flights["hour"] * 60 + flights["minute"]
    flights["arrival_minute"] = flights["sched_arr_time"] // 100 * 60 + flights["sched_arr_time"] % 100
    flights["weekday"] = pd.to_datetime(flights[["year", "month", "day"]]).dt.dayofweek
    flights["plane_age"] = flights["year"] - flights["built"]
    flights = flights.drop(columns=[name for name in [*own, "built"] if name not in params["numeric"]])
    for name, values in _histories(flights, windows, problem.time):
        flights[name] = values
    named = [window["name"] for window in _windows(params, problem)]
    columns = list(dict.fromkeys([*head, problem.target, *params["numeric"], *named, *params["categorical"]]))
    first = 0
    for period, size in sizes.items():
        part = flights.iloc[first : first + size][columns].sort_values([problem.time, *problem.key])
        part = part.astype({**dict.fromkeys(params["numeric"], "float64"), problem.target: "Int64"})
        place = FEATURES / period / "part-0.parquet"
        place.parent.mkdir(parents=True)
        part.to_parquet(place, index=False, compression="zstd")
        first += size


def _windows(params: dict[str, Any], problem: Any) -> Iterator[dict[str, Any]]:
    """Yield every history feature: its name, what it averages, by what, and its window in microseconds before the event."""
    import pandas as pd

    def micros(span: str) -> int:
        return pd.Timedelta(span) // pd.Timedelta("1us")

    for history in params["history"]:
        gap = micros(history.get("known_after", problem.label_delay)) + micros(problem.horizon)
        for by in history["by"]:
            for over in history["over"]:
                name = f"{history['prefix']}_by_{'_'.join(by)}_{over}"
                yield {"name": name, "by": by, "of": history["of"], "start": gap + micros(over), "end": gap}


def _histories(flights: Any, windows: list[dict[str, Any]], time: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and the values of each history feature: means between two places in rows sorted by key and time."""
    import numpy as np
    import pandas as pd

    moments = flights[time].to_numpy("datetime64[us]").astype("int64")
    moments -= moments.min()
    apart = moments.max() + max(window["start"] for window in windows) + 1  # so that no window reaches another key
    for by, same_keys in groupby(windows, key=lambda window: window["by"]):
        code = np.zeros(len(flights), "int64")
        for name in by:
            codes, names = pd.factorize(flights[name])
            code = code * len(names) + codes
        places = pd.factorize(code)[0] * apart + moments
        order = np.argsort(places, kind="stable")
        places = places[order]
        for of, alike in groupby(same_keys, key=lambda window: window["of"]):
            values = flights[of].to_numpy("float64", na_value=np.nan)[order]
            known = ~np.isnan(values)
            sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
            counts = np.concatenate([[0], np.cumsum(known)])
            for window in alike:
                first = np.searchsorted(places, places - window["start"], "left")
                last = np.searchsorted(places, places - window["end"], "right")
                means = np.empty(len(flights))
                with np.errstate(invalid="ignore"):  # of no value, 0 / 0
                    means[order] = (sums[last] - sums[first]) / (counts[last] - counts[first])
                yield window["name"], means


def _files(table: str) -> list[Path]:
    return sorted((LAKE / table).rglob("*.parquet"))


JOBS = {job.__name__: job for job in (problem, collection, processing, features, features_in_pandas)}
NEEDED = {"features_in_pandas": "pandas", "problem": "ninefold.problem"}  # of the others the module of their own name


def main() -> None:
    """Run one job, and print its seconds."""
    name = sys.argv[1]
    importlib.import_module(NEEDED.get(name, f"ninefold.{name}"))
    if name in ("processing", "features"):
        importlib.import_module("ibis.backends.duckdb")  # Ibis imports its backends when they are first asked for
    started = time.perf_counter()
    JOBS[name]()
    print(json.dumps({"seconds": round(time.perf_counter() - started, 3)}))


if __name__ == "__main__":
    main()
