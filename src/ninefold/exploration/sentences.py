"""Sentences of stage 05: how the outcome is distributed, where it differs, which column may be a leak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from scipy import stats

from ninefold import display, plotting
from ninefold.exploration.group_rates import CLOCK, least
from ninefold.exploration.leakage import score_name
from ninefold.exploration.params import Params
from ninefold.exploration.stage import Results, decided, strongest
from ninefold.metrics import EvaluationPlan, cluster_name
from ninefold.problem import Problem, decisions


def formats(table: pd.DataFrame, problem: Problem) -> dict[str, Callable[[Any], str]]:
    """Return how to show the columns of a table that hold levels of the outcome, or differences between them."""
    levels = table.select_dtypes("float")
    return {**{name: lambda value: decisions.show_level(value, problem) for name in levels}, "missing": "{:.1%}".format}


def findings(results: Results, problem: Problem, level: float) -> list[str]:
    """Return a sentence each: overall, along time, the four most significant gaps, missing values, columns."""
    whole, along, ranked, missing, scores = results
    lines = [describe_overall(whole, problem, level), describe_course(along, whole, problem, level)]
    significant = ranked[ranked["low"] > 0].head(4)
    lines += [f"{_gap(row, problem, level)}." for _, row in significant.iterrows()]
    return [*lines, describe_missing(missing, problem, level), describe_scores(scores, problem)]


def describe_rows(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> str:
    """Return, as a sentence, which rows are looked at."""
    first, last = frame[CLOCK].min(), frame[CLOCK].max()
    days = f", from {first:%Y-%m-%d} to {last:%Y-%m-%d}, before {plan.split.holdout}" if problem.time else ""
    return f"**{len(frame):,}** {problem.units} with a known outcome{days}; those of the holdout stay closed."


def describe_overall(whole: dict[str, float], problem: Problem, level: float) -> str:
    """Return the overall level with its interval."""
    mean, low, high = (decisions.show_level(whole[name], problem) for name in ("mean", "low", "high"))
    return _level(f"{mean} (with {level:.0%} confidence {low} to {high})", problem, display.code)


def describe_outcomes(table: pd.DataFrame, problem: Problem) -> str:
    """Return how the outcome is distributed, in words."""
    if problem.is_class:
        shares = table.set_index("class")["share"]
        return f"The shares of the {len(table)} classes are between {_ends(shares, problem)}."
    value = {name: decisions.show_level(number, problem) for name, number in table.itertuples(index=False)}
    half, most = (f"{value[low]} and {value[high]}" for low, high in (("25%", "75%"), ("5%", "95%")))
    return f"Half of the values are between {half}, nine of ten between {most}."


def describe_course(along: pd.DataFrame, whole: dict[str, float], problem: Problem, level: float) -> str:
    """Return how the level moves along time, or the order of the rows, and whether that is more than chance."""
    if along.empty:
        return "No part of the table has enough rows to tell its level."
    means, name = along.set_index(along["group"].astype(str))["mean"], display.code(decisions.level_name(problem))
    off = int(((along["low"] > whole["mean"]) | (along["high"] < whole["mean"])).sum())
    change = "it drifts, and later rows may differ again" if problem.time else "the order of rows predicts it"
    conclusion = change if off > stats.binom.ppf(0.99, len(along), 1 - level) else "no more than chance would do"
    return (
        f"By {along['period'].iloc[0]} the {name} moves between {_ends(means, problem)}; the intervals of {off} of "
        f"{len(along)} exclude the overall level: {conclusion}."
    )


def describe_groups(table: pd.DataFrame, frame: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return the extremes of every column, and what was omitted."""
    if table.empty:
        return "There is no such column to compare."
    columns = table.set_index("group").groupby("column", sort=False)
    ends = "; ".join(f"{display.code(name)} between {_ends(rows['mean'], problem)}" for name, rows in columns)
    omitted = f"at most {1 - columns['rows'].sum().min() / len(frame):.1%} of the rows of a column"
    return f"{ends}. Groups under {least(frame, params):,} rows, and missing values, are omitted, {omitted}."


def describe_gaps(ranked: pd.DataFrame, problem: Problem, level: float) -> str:
    """Return what separates the groups most, in words."""
    if ranked.empty:
        return "No column has two groups large enough to compare."
    most = f"The most significant gap: {_gap(ranked.iloc[0], problem, level)}. "
    return most + _significant(ranked["low"] > 0, "columns compared", problem)


def _significant(rows: pd.Series, columns: str, problem: Problem) -> str:
    return f"Of {len(rows)} {columns}, {rows.sum()} differ by more than sampling noise of the {cluster_name(problem)}."


def describe_cross(grid: pd.DataFrame, frame: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return where the level is highest and lowest, in words."""
    cells = grid.stack().dropna() if len(grid) else grid
    if len(cells) < 2:
        return "There are no two scales of which several cells have enough rows."
    ends = _ends(cells.set_axis([f"{line}, {column}" for line, column in cells.index]), problem)
    names = (grid.index.name, grid.columns.name, decisions.level_name(problem))
    down, across, name = (display.code(each) for each in names)
    return f"By {down} and {across} the {name} is between {ends}; cells under {least(frame, params):,} rows are blank."


def describe_missing(missing: pd.DataFrame, problem: Problem, level: float) -> str:
    """Return whether missing values go with the outcome, in words."""
    if missing.empty:
        return "No column is missing in enough rows to compare the outcomes."
    significant = (missing["low"] > 0) | (missing["high"] < 0)
    return f"{_gap(missing.iloc[0], problem, level)}. {_significant(significant, 'columns with gaps', problem)}"


def describe_scores(scores: pd.DataFrame, problem: Problem) -> str:
    """Return the strongest column that is known in advance, and the suspicious, kept and dropped ones, in words."""
    best, columns = strongest(scores), decided(scores).groupby("decision")["column"]
    first = "none is known in advance without suspicion"
    if best is not None:
        score = f"{score_name(problem)} {best['learned']:.3f}, out of sample"
        first = f"{display.code(best['column'])} predicts most ({score})"
    names = {decision: ", ".join(map(display.code, group)) for decision, group in columns}
    kinds = {"open": "suspicious", "keep": "kept for a reason", "drop": "known later"}
    shown = "; ".join(f"{kind}: {names.get(decision, 'none')}" for decision, kind in kinds.items())
    return f"Of {len(scores)} columns, each by itself, {first}; {shown}."


def headline(whole: dict[str, float], table: pd.DataFrame, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    best = strongest(table)
    name = "none" if best is None else f"{best['column']} ({score_name(problem)} {best['learned']:.2f})"
    return {decisions.level_name(problem): decisions.show_level(whole["mean"], problem), "strongest column": name}


def conclusion(whole: dict[str, float], table: pd.DataFrame, problem: Problem) -> str:
    """Return the bottom line."""
    level, best = headline(whole, table, problem).values()
    suspicious = ", ".join(table.loc[table["status"] == "suspicious", "column"])
    justified = table.loc[table["status"] == "justified", ["column", "reason"]].to_numpy()
    leak = f"{suspicious} may leak it" if suspicious else "no undeclared column leaks it"
    reasons = f" (justified: {'; '.join(map(', '.join, justified))})" if len(justified) else ""
    return f"{_level(level, problem)} The best single column known in advance: {best}; {leak}{reasons}."


def _level(level: str, problem: Problem, name: Callable[[str], str] = str) -> str:
    if problem.positive:
        return f"In {level} of the cases {decisions.one(problem)} {problem.positive}."
    return f"The {name(decisions.level_name(problem))} is {level}."


def _ends(means: pd.Series, problem: Problem) -> str:
    """Return the lowest and the highest of means, with the names of their groups, in Markdown."""
    ends = (int(means.argmin()), int(means.argmax()))
    names = [display.code(plotting.cut(means.index[end], 60)) for end in ends]
    low, high = (decisions.show_level(means.iloc[end], problem) for end in ends)
    return f"{low} ({names[0]}) and {high} ({names[1]})"


def _gap(row: pd.Series, problem: Problem, level: float) -> str:
    """Return the two means of a row of `gaps`, or of `missing_effects`, and their difference, in Markdown."""
    by = f"By {display.code(row['column'])}"
    means = pd.Series([row.get("mean of highest"), row.get("mean of lowest")], [row.get("highest"), row.get("lowest")])
    if "outcome" in row:
        by, problem = f"{by} being missing or not", problem.changed(focus=row["outcome"])
        means = pd.Series([row["if missing"], row["if present"]], ["missing", "present"])
    ends, unit = row[["gap", "low", "high"]], " points" if problem.is_class else ""
    if problem.is_class:  # of the levels as they are shown
        ends = [means.iloc[0].round(3) - means.iloc[1].round(3), *ends.iloc[1:]]
    gap, low, high = (f"{100 * end:.1f}" if problem.is_class else decisions.show_level(end, problem) for end in ends)
    name, interval = display.code(decisions.level_name(problem)), f"{level:.0%} interval {low} to {high}"
    return f"{by} the {name} is between {_ends(means, problem)}, a difference of {gap}{unit} ({interval})"
