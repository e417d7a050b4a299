"""Figures and sentences of stage 03: what the contract says, where rows went, what the lake holds."""

from __future__ import annotations

import re

import ibis.expr.types as ir
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.problem import Problem, decisions
from ninefold.processing import warehouse
from ninefold.processing.contract import Contract, written
from ninefold.processing.stage import Params


def describe_counts(counts: pd.DataFrame) -> str:
    """Return where the raw rows went, as a sentence."""
    raw, kept, held = (int(counts[name].sum()) for name in ("raw", "lake", "quarantine"))
    return (
        f"Of {raw:,} raw rows, {kept:,} are in the lake and {held:,} in quarantine ({100 * held / max(raw, 1):.2g} %)."
    )


def describe_broken(broken: pd.DataFrame) -> str:
    """Return what is quarantined and why, in words."""
    if not broken["rows"].any():
        return f"Every row keeps its contract, of {len(broken):,} rules; the quarantine is empty."
    worst = broken.loc[broken["rows"].idxmax()]
    return (
        f"Rows quarantined: {broken['rows'].sum():,}; rules broken: {(broken['rows'] > 0).sum():,} of {len(broken):,}. The rule broken most often is {display.code(worst['rule'])}, "
        f"in table {display.code(worst['table'])} ({worst['rows']:,} of them)."
    )


def left_out(raw: dict[str, ir.Table], params: Params) -> str:
    """Return, as a sentence, the raw columns that no contract names and the lake therefore does not hold."""
    extra = {name: [c for c in raw[name].columns if c not in params.tables[name].columns] for name in raw}
    parts = [
        f"{display.code(name)}: {', '.join(map(display.code, columns))}" for name, columns in extra.items() if columns
    ]
    if not parts:
        return "Every raw column is part of a contract."
    return "Raw columns that no contract names stay in `data/raw` only. " + "; ".join(parts) + "."


def plot_missing(shares: pd.DataFrame) -> Figure:
    """Draw the missing share of the columns that miss any."""
    top = shares.head(20)
    fig, axes = plotting.canvas("Which columns have gaps?", height=max(2.0, 0.28 * len(top) + 1))
    axes.barh((top["table"] + "." + top["column"]).map(plotting.plain), top["missing"], color=plotting.BLUE)
    axes.invert_yaxis()
    axes.set(xlabel="share of rows without a value")
    axes.grid(axis="y", visible=False)
    plotting.as_share(axes, "x")
    return fig


def describe_missing(shares: pd.DataFrame) -> str:
    """Return what the figure of gaps shows, in words."""
    if shares.empty:
        return "No column of the lake has a gap."
    worst = shares.iloc[0]
    few = (shares["missing"] < 0.05).sum()
    return (
        f"{len(shares):,} {'columns have' if len(shares) > 1 else 'column has'} gaps; the widest is {display.code(worst['table'] + '.' + worst['column'])} with "
        f"{worst['missing']:.1%} missing, and {few} of them miss less than 5 %."
    )


def query(contract: Contract, problem: Problem) -> str:
    """Return a question to the lake in SQL: the target by month; without a time by class, or by deciles of a quantity.

    The level of a month is the mean of `decisions.event`.
    """
    table, target = f"lake.{warehouse.identifier(problem.table)}", warehouse.identifier(problem.target)
    if problem.time:
        return (
            f"SELECT strftime({warehouse.identifier(problem.time)}, '%Y-%m') AS month, count(*) AS rows,\n"
            f"  avg({_event(contract, problem)}) AS level\nFROM {table} GROUP BY 1 ORDER BY 1"
        )
    if problem.is_class:
        return (
            f"SELECT CAST({target} AS VARCHAR) AS class, count(*) AS rows, "
            f"count(*) / sum(count(*)) OVER () AS share\nFROM {table} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
    return (
        "SELECT decile, count(*) AS rows, min(value) AS lowest, avg(value) AS mean, max(value) AS highest\n"
        f"FROM (SELECT {target} AS value, ntile(10) OVER (ORDER BY {target}) AS decile FROM {table} "
        f"WHERE {target} IS NOT NULL)\nGROUP BY 1 ORDER BY 1"
    )


def query_caption(problem: Problem) -> str:
    """Return the caption of the answer to `query`."""
    units = problem.units.capitalize()
    if problem.time:
        return f"{units} per month; level: {decisions.level_name(problem)}"
    how = "class" if problem.is_class else "decile"
    return f"{units} by {how} of {problem.target}"


def describe_answer(answer: pd.DataFrame, problem: Problem) -> str:
    """Return what the answer to `query` says, in words."""
    known = answer.dropna(subset=[answer.columns[-1]])
    target = display.code(problem.target)
    if known.empty or ("class" in answer and answer["class"].isna().all()):
        return f"The target {target} is not known of any of the {problem.units}."
    if "level" in answer:
        low, high = known.loc[known["level"].idxmin()], known.loc[known["level"].idxmax()]
        shown = [decisions.show_level(row["level"], problem) for row in (low, high)]
        return (
            f"The {decisions.level_name(problem)} of the {problem.units} is {shown[0]} in {low['month']}, the lowest "
            f"month, and {shown[1]} in {high['month']}, the highest."
        )
    if "class" in answer:
        known = answer.dropna(subset=["class"])
        least, most = known.iloc[-1], known.iloc[0]
        gap = answer["rows"].sum() - known["rows"].sum()
        return (
            f"Of the {problem.units}, {most['share']:.1%} have {target} = {display.code(most['class'])}, the most frequent class, and "
            f"{least['share']:.1%} {display.code(least['class'])}, the rarest."
            + (f" It is not known of {gap:,}." if gap else "")
        )
    return (
        f"The lowest decile of {target} reaches from {known['lowest'].iloc[0]:,.4g} to "
        f"{known['highest'].iloc[0]:,.4g}, the highest from {known['lowest'].iloc[-1]:,.4g} to "
        f"{known['highest'].iloc[-1]:,.4g}, in rows of equal number."
    )


def grouping(contract: Contract, problem: Problem) -> str:
    """Return a column to compare rows by: the first of text that is neither target nor the whole key, else any other."""
    taken = {"rows", "level", problem.target, problem.time, *(problem.key if len(problem.key) == 1 else [])}
    other = [name for name in contract.columns if name not in taken]
    texts = [name for name in other if contract.columns[name].type == "string"]
    return next(iter([*texts, *other, *problem.key]))


def promises(contract: Contract) -> pd.DataFrame:
    """Return the contract of one table for reading: ``column``, ``type``, ``may be missing``, ``values``."""
    rows = []
    for name, column in contract.columns.items():
        bounds = {"at least": column.min, "at most": column.max}
        values = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        values += ["one of " + ", ".join(map(str, column.allowed))] if column.allowed else []
        values += [written(column)] if column.format or column.decimal or column.thousands else []
        rows.append((name, column.type, "yes" if column.nullable else "no", ", ".join(values) or "any"))
    return pd.DataFrame(rows, columns=["column", "type", "may be missing", "values"])


def _event(contract: Contract, problem: Problem) -> str:
    """Return in SQL what a row's target is as `decisions.event` sees it, missing where it is not known."""
    target, kind = warehouse.identifier(problem.target), contract.columns[problem.target].type
    if not problem.is_class:
        return f"CASE WHEN isfinite({target}) THEN {target} END" if kind == "float64" else target
    values = {name: _value(name, kind) for name in problem.classes}
    cases = [f"WHEN {value} THEN {int(name == problem.focus)}" for name, value in values.items() if value]
    return f"CASE {target} {' '.join(cases)} END" if cases else "CAST(NULL AS DOUBLE)"


def _value(name: str, kind: str) -> str:
    """Return a class as a value of a column in SQL; empty if no value of this kind is written so."""
    if kind == "string":
        return warehouse.literal(name)
    if kind == "timestamp":
        return f"TRY_CAST({warehouse.literal(name)} AS TIMESTAMP)"
    number = r"-?\d+(\.\d+)?" if kind == "float64" else r"-?\d+"
    return name if re.fullmatch(number, name) else ""
