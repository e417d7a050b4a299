"""Figures and sentences of stage 03: what the contract says, where rows went, what the lake holds."""

from __future__ import annotations

import ibis.expr.types as ir
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.problem import Problem, decisions
from ninefold.processing import warehouse
from ninefold.processing.contract import Contract, Params


def describe_counts(counts: pd.DataFrame) -> str:
    """Return where the raw rows went, as a sentence."""
    raw, kept, bad = (int(counts[name].sum()) for name in ("raw", "lake", "quarantine"))
    return f"Of {raw:,} raw rows, {kept:,} are in the lake and {bad:,} in quarantine ({100 * bad / max(raw, 1):.2g} %)."


def describe_broken(broken: pd.DataFrame) -> str:
    """Return what is quarantined and why, in words."""
    rows, rules = broken["rows"].sum(), (broken["rows"] > 0).sum()
    text = f"Rows quarantined: {rows:,}; rules broken: {rules:,} of {len(broken):,}."
    if not rows:
        return text
    worst = broken.loc[broken["rows"].idxmax()]
    where = f"in table {display.code(worst['table'])} ({worst['rows']:,} rows)"
    return f"{text} The rule broken most often is {display.code(worst['rule'])}, {where}."


def left_out(raw: dict[str, ir.Table], params: Params) -> str:
    """Return, as a sentence, the raw columns that no contract names and the lake therefore does not hold."""
    extra = {
        name: [column for column in raw[name].columns if column not in params.tables[name].columns] for name in raw
    }
    parts = [f"{display.code(name)}: {', '.join(map(display.code, names))}" for name, names in extra.items() if names]
    return f"Raw columns that no contract names, which stay in `data/raw` only: {'; '.join(parts) or 'none'}."


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
    worst, few = shares.iloc[0], (shares["missing"] < 0.05).sum()
    return (
        f"Columns with gaps: {len(shares):,}, of which {few} miss less than 5 %; the widest is "
        f"{display.code(worst['table'] + '.' + worst['column'])} with {worst['missing']:.1%} missing."
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
    """Return what the answer to `query` says, in words: the least and the greatest of its values."""
    by, target = answer.columns[0], display.code(problem.target)
    column, what, show = {
        "month": ("level", decisions.level_name(problem), lambda value: decisions.show_level(value, problem)),
        "class": ("share", f"share of a class of {target}", "{:.1%}".format),
        "decile": ("mean", f"mean of {target}", "{:,.4g}".format),
    }[by]
    known = answer.dropna(subset=[by, column])
    if known.empty:
        return f"The target {target} is not known of any of the {problem.units}."
    rows = known[column].agg(["idxmin", "idxmax"])
    low, high = (f"{display.code(known.at[row, by])}, at {show(known.at[row, column])}" for row in rows)
    unknown = answer.loc[answer[by].isna(), "rows"].sum()
    gap = f" It is not known of {unknown:,}." if unknown else ""
    return f"The {what} is lowest for {by} {low}, and highest for {by} {high}.{gap}"


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
        values += [column.written()] if column.format or column.decimal or column.thousands else []
        rows.append((name, column.type, "yes" if column.nullable else "no", ", ".join(values) or "any"))
    return pd.DataFrame(rows, columns=["column", "type", "may be missing", "values"])


def _event(contract: Contract, problem: Problem) -> str:
    """Return in SQL what a row's target is as `decisions.event` sees it, missing where it is not known."""
    target, is_float = warehouse.identifier(problem.target), contract.columns[problem.target].type == "float64"
    if not problem.is_class:
        return f"CASE WHEN isfinite({target}) THEN {target} END" if is_float else target
    text, events = f"CAST({target} AS VARCHAR)", {name: int(name == problem.focus) for name in problem.classes}
    if is_float:  # 1.0 is the class 1
        text = f"regexp_replace({text}, '[.]0$', '')"
        events = {name.removesuffix(".0"): event for name, event in events.items()}
    cases = " ".join(f"WHEN {warehouse.literal(name)} THEN {event}" for name, event in events.items())
    return f"CASE {text} {cases} END"
