"""What does the model see, and was it known at that moment?

Reads: ``data/problem.json``; ``data/exploration.json``, what is known only later; ``data/lake/``.
Writes: ``data/features/``, a row per event; ``data/online/``, the last history values per key;
``data/state/features.json``, the inputs of each partition.
Gate: no feature is known only later, none sees the future, and online values equal offline ones.
"""

from typing import Any

import ibis.expr.types as ir
import pandas as pd

from ninefold import artifacts, engine, gate, labels
from ninefold.features.declarations import Params, kinds, windows
from ninefold.features.events import FEATURES, LAKE
from ninefold.metrics import Split, part_of
from ninefold.problem import Problem
from ninefold.sentences import render

SAMPLE = 500_000  # rows that figures show
MAX_CATEGORIES = 250  # histogram trees take at most 255


def known_too_late(params: Params, exploration: dict[str, Any]) -> list[str]:
    """Return the features that, by stage 05, are known only after the decision."""
    joined = {new: f"{join.table}.{old}" for join in params.joins for old, new in join.renamed().items()}
    names = {*params.numeric, *params.categorical, *params.text, *params.dates}
    return sorted(name for name in names if joined.get(name, name) in exploration["known_later"])


def load(columns: list[str] | None = None) -> pd.DataFrame:
    """Read the feature table that `update` wrote, by time."""
    return artifacts.read_table(FEATURES, columns)


def sample(limit: int = SAMPLE) -> pd.DataFrame:
    """Return the feature table by time; of more than `limit` rows, as many, spread evenly over it."""
    step = max(-(-engine.count(FEATURES) // limit), 1)
    parts = [artifacts.read_table(str(file)).iloc[::step] for file in engine.parts(FEATURES)]
    return pd.concat(parts, ignore_index=True)


def dictionary(table: ir.Table, params: Params, problem: Problem) -> pd.DataFrame:
    """Return every feature of the engine's feature table: ``feature``, ``kind``, ``looks back``, ``missing`` (0-1), ``distinct`` values."""
    every, by_kind = windows(params, problem.horizon), kinds(params, problem.horizon)
    back = {window.name: f"from {short(window.start)} to {short(window.end)} before" for window in every}
    missing = table.aggregate([table[name].isnull().mean().name(name) for name in by_kind]).to_pandas()
    distinct = table.aggregate([table[name].nunique().name(name) for name in by_kind]).to_pandas()
    result = pd.DataFrame(by_kind.items(), columns=["feature", "kind"])
    result["looks back"] = result["feature"].map(back).fillna("")
    return result.assign(missing=missing.iloc[0].to_numpy("float64"), distinct=distinct.iloc[0].to_numpy("int64"))


def training_rows(features: pd.DataFrame, problem: Problem, split: Split) -> pd.DataFrame:
    """Return the training rows whose outcome is known."""
    known = features[features[problem.target].notna()]
    return known[part_of(known, split, problem) == "train"]


def high_cardinality(table: pd.DataFrame, problem: Problem, split: Split) -> list[str]:
    """Return the categories of a `dictionary` with more values on training rows than trees encode (`MAX_CATEGORIES`)."""
    many = table.loc[(table["kind"] == "categorical") & (table["distinct"] > MAX_CATEGORIES), "feature"].tolist()
    if not many:
        return []
    columns = [*problem.key, problem.time, *(problem.group or []), problem.target, *many]
    rows = training_rows(load([name for name in dict.fromkeys(columns) if name]), problem, split)
    return [name for name in many if rows[name].nunique() > MAX_CATEGORIES]


def checks(table: pd.DataFrame, late: list[str], changed: int, online: float) -> list[gate.Check]:
    """Return the gate: every feature is known in time, sees no future, is the same online as offline, and has values.

    `table` is the `dictionary`; the others are what `known_too_late` and the methods of `PointInTime` return.
    """
    empty = table.loc[table["missing"] == 1, "feature"]
    unknown, absent = (", ".join(map(labels.of, names)) or "none" for names in (late, empty))
    footers = map(artifacts.parquet_metadata, [*engine.parts(LAKE), *engine.parts(FEATURES)])
    misspelt = labels.misspelt({name for each in footers for name in each.schema.to_arrow_schema().names})
    named = gate.holds("NF606 labels of no column", not misspelt, misspelt, "names of columns in section labels")
    return [
        gate.holds("NF601 features known only after the decision", not late, unknown, "none"),
        gate.at_most("NF602 values that change when the future is removed", changed, 0),
        gate.at_most("NF603 largest difference between online and offline", online, 1e-9),
        gate.holds("NF604 features without any value", empty.empty, absent, "none"),
        gate.at_least("NF605 rows", engine.count(FEATURES), 1),
        *([named] if misspelt else []),
    ]


def metrics(rows: int, table: pd.DataFrame, ranked: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``; `ranked` has by feature the ``range`` of the mean outcome."""
    missing = table.set_index("feature")["missing"]
    return {"rows": rows, "features": len(table), "missing": missing.to_dict(), "range": ranked["range"].to_dict()}


def headline(table: pd.DataFrame, ranked: pd.DataFrame) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    return {"features": f"{len(table)}", "strongest alone": next(map(labels.of, ranked.index), "none")}


def conclusion(rows: int, table: pd.DataFrame, problem: Problem) -> str:
    """Return the conclusion of the stage."""
    return render("features", "conclusion", rows=rows, table=table, problem=problem)


def short(span: pd.Timedelta) -> str:
    """Return a span in hours, or in days and hours."""
    if span < pd.Timedelta("2d"):
        return f"{span / pd.Timedelta('1h'):g} h"
    hours = (span % pd.Timedelta("1d")) / pd.Timedelta("1h")
    return f"{span.days} d {hours:g} h" if hours else f"{span.days} d"
