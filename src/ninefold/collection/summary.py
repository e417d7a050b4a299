"""Tables, figures and sentences of the report on stage 02."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.collection.settings import Params
from ninefold.collection.stage import WHOLE, is_whole
from ninefold.problem import Problem


def outline(plan: pd.DataFrame) -> pd.DataFrame:
    """Return the plan a line per table: ``table``, ``partitions``, ``first`` and ``last`` period, ``start``, ``end``."""
    period = "period"
    columns = {"partitions": (period, "size"), "first": (period, "first"), "last": (period, "last")}
    columns |= {"start": ("start", "min"), "end": ("end", "max")}
    return plan.groupby("table", sort=False).agg(**columns).reset_index()


def describe_plan(plan: pd.DataFrame, params: Params) -> str:
    """Return, as a sentence, how many partitions are due, and whether the last month is unfinished."""
    months = plan[plan["period"] != WHOLE]
    by_month, whole = months["table"].nunique(), len(plan) - len(months)
    text = f"Partitions due: {len(plan):,}; tables cut by month: {by_month:,}, tables of one partition: {whole:,}."
    if months.empty or params.as_of is None:
        return text
    unfinished = params.as_of < pd.Period(params.as_of, freq="M").end_time.date()
    return f"{text} The last month is {'unfinished, and will be collected again' if unfinished else 'finished'}."


def describe_volume(manifest: pd.DataFrame, params: Params) -> str:
    """Return, in sentences, how many rows arrived and where they are too few."""
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


def describe_columns(rows: pd.DataFrame) -> str:
    """Return, as a sentence, the column of some raw rows with most distinct values, and the constant ones."""
    distinct = rows.nunique().sort_values(kind="stable")
    constant = [display.code(name) for name in distinct.index[distinct <= 1]]
    return (
        f"The column with most distinct values is {display.code(distinct.index[-1])}, with {distinct.iloc[-1]:,} of "
        f"{len(rows):,} rows; constant: {', '.join(constant) or 'none'}."
    )


def datasheet(params: Params) -> pd.DataFrame:
    """Return what a reader has to know about the data: ``question``, ``answer``."""
    rows = [(key.replace("_", " "), answer) for key, answer in params.datasheet.items()]
    return pd.DataFrame(rows, columns=["question", "answer"])


def plot_volume(manifest: pd.DataFrame, params: Params) -> Figure:
    """Draw the rows that arrived and the minimum expected: per month, a panel per table with time; else per table."""
    timed = [name for name, source in params.tables.items() if source.time]
    if not timed:
        return _plot_sizes(manifest, params)
    columns, lines = min(len(timed), 3), -(-len(timed) // 3)
    grid = {"height": 3.6 * lines, "ncols": columns, "nrows": lines, "squeeze": False}
    fig, axes = plotting.canvas("Did every month arrive whole?", **grid)
    for axis in axes.flat[len(timed) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, timed, strict=False):
        part = manifest[manifest["table"] == name]
        colors = [plotting.BLUE if whole else plotting.SKY for whole in is_whole(part)]
        axis.bar(part["period"].str[2:], part["rows"], color=colors)
        axis.axhline(params.tables[name].min_rows, color=plotting.RED, ls="--", lw=1, label="least expected")
        ticks = range(0, len(part), 1 + len(part) // 13)
        axis.set(title=plotting.plain(name), ylabel="rows", xlabel="month (UTC)", xticks=ticks)
        axis.tick_params(axis="x", rotation=45)
        axis.grid(axis="x", visible=False)
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.legend(loc="lower right", framealpha=1)
    return fig


def _plot_sizes(manifest: pd.DataFrame, params: Params) -> Figure:
    rows = manifest.groupby("table", sort=False)["rows"].sum()
    fig, axes = plotting.canvas("Did every table arrive whole?", height=max(2.0, 0.4 * len(rows) + 1))
    names, least = map(plotting.plain, rows.index), [params.tables[name].min_rows for name in rows.index]
    axes.barh([*names], rows, color=plotting.BLUE)
    axes.scatter(least, range(len(rows)), color=plotting.RED, marker="|", s=300, label="least expected", zorder=3)
    axes.invert_yaxis()
    axes.set(xlabel="rows")
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="lower right", framealpha=1)
    return fig


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
