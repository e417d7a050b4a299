"""Tables and sentences of the report on stage 02."""

import pandas as pd

from ninefold.collection.settings import Params
from ninefold.collection.stage import WHOLE, is_whole
from ninefold.problem import Problem
from ninefold.sentences import render


def outline(plan: pd.DataFrame) -> pd.DataFrame:
    """Return the plan a line per table: ``table``, ``partitions``, ``first`` and ``last`` period, ``start``, ``end``."""
    columns = {"partitions": ("period", "size"), "first": ("period", "first"), "last": ("period", "last")}
    return plan.groupby("table", sort=False).agg(**columns, start=("start", "min"), end=("end", "max")).reset_index()


def describe_plan(plan: pd.DataFrame, params: Params) -> str:
    """Return, as a sentence, whether the last month is complete."""
    by_month = params.as_of is not None and not (plan["period"] == WHOLE).all()
    complete = by_month and params.as_of == pd.Period(params.as_of, freq="M").end_time.date()
    return render("collection", "plan", by_month=by_month, complete=complete)


def describe_volume(manifest: pd.DataFrame, params: Params) -> str:
    """Return how many rows arrived, table by table, and in which periods they are too few."""
    return render("collection", "volume", whole=manifest[is_whole(manifest)], tables=params.tables)


def example(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the first of some raw rows, a line per column, and how many distinct texts each column holds."""
    first = rows.iloc[0].to_numpy() if len(rows) else ""
    distinct = (
        [rows.attrs["distinct"][name] for name in rows] if "distinct" in rows.attrs else rows.nunique().to_numpy()
    )
    return pd.DataFrame({"column": rows.columns, "first value": first, "distinct values": distinct})


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
    rows, related = manifest.loc[is_main, "rows"].sum(), manifest.loc[~is_main, "table"].nunique()
    facts = {"rows": rows, "related": related, "timed": timed, "params": params}
    return render("collection", "conclusion", manifest=manifest, problem=problem, **facts)
