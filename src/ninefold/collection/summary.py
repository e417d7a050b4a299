"""Tables and sentences of the report on stage 02."""

from __future__ import annotations

import pandas as pd

from ninefold import display
from ninefold.collection.settings import Params
from ninefold.collection.stage import WHOLE, is_whole
from ninefold.problem import Problem


def outline(plan: pd.DataFrame) -> pd.DataFrame:
    """Return the plan a line per table: ``table``, ``partitions``, ``first`` and ``last`` period, ``start``, ``end``."""
    columns = {"partitions": ("period", "size"), "first": ("period", "first"), "last": ("period", "last")}
    return plan.groupby("table", sort=False).agg(**columns, start=("start", "min"), end=("end", "max")).reset_index()


def describe_plan(plan: pd.DataFrame, params: Params) -> str:
    """Return, as a sentence, whether the last month is complete."""
    if params.as_of is None or (plan["period"] == WHOLE).all():
        return "No table is split by month."
    complete = params.as_of == pd.Period(params.as_of, freq="M").end_time.date()
    return f"The last month is {'complete' if complete else 'incomplete, and will be collected again'}."


def describe_volume(manifest: pd.DataFrame, params: Params) -> str:
    """Return how many rows arrived, table by table, and in which periods they are too few."""
    sentences, whole = [], manifest[is_whole(manifest)]
    for name, source in params.tables.items():
        part, what = whole[whole["table"] == name], "a whole month" if source.time else "in all"
        few = ", ".join(part.loc[part["rows"] < source.min_rows, "period"]) or "none"
        sizes = sorted({part["rows"].min(), part["rows"].max()}) if len(part) else []
        rows = f"{' to '.join(f'{size:,}' for size in sizes) or 'no'} rows {what}"
        sentences.append(f"{display.code(name)}: {rows}, at least {source.min_rows:,} expected; too few: {few}.")
    return " ".join(sentences)


def example(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the first of some raw rows, a line per column, and how many distinct texts each column holds."""
    first = rows.iloc[0].to_numpy() if len(rows) else ""
    return pd.DataFrame({"column": rows.columns, "first value": first, "distinct values": rows.nunique().to_numpy()})


def datasheet(params: Params) -> pd.DataFrame:
    """Return what a reader has to know about the data: ``question``, ``answer``."""
    rows = [(key.replace("_", " "), answer) for key, answer in params.datasheet.items()]
    return pd.DataFrame(rows, columns=["question", "answer"])


def headline(manifest: pd.DataFrame, params: Params, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    rows = manifest.loc[manifest["table"] == problem.table, "rows"].sum()
    last = {"until": str(params.as_of)} if params.as_of else {"tables": f"{manifest['table'].nunique():,}"}
    return {problem.units: f"{rows:,}", **last}


def conclusion(manifest: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return the stage's conclusion: rows, span, related tables, partitions."""
    is_main = manifest["table"] == problem.table
    timed = problem.table in params.tables and params.tables[problem.table].time
    span = f" from {params.start} to {params.as_of}" if timed else ""
    return (
        f"{manifest.loc[is_main, 'rows'].sum():,} {problem.units}{span} have arrived; related tables: "
        f"{manifest.loc[~is_main, 'table'].nunique()}, immutable partitions: {len(manifest):,}."
    )
