"""Figures and sentences of stage 05: how the outcome is distributed, where it differs, which column may be a leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ninefold import display, plotting
from ninefold.exploration import univariate
from ninefold.exploration.group_rates import CLOCK, LABEL, least
from ninefold.exploration.leakage import score_name
from ninefold.exploration.params import Params
from ninefold.exploration.stage import Results, decided, strongest
from ninefold.metrics import EvaluationPlan, cluster_name
from ninefold.plotting import BLUE, GREEN, GREY, ORANGE, RED, SKY
from ninefold.problem import Problem, decisions

MOST_PANELS, HALF = 12, 12  # panels of a figure; groups of a panel from either end
COLORS = {"in advance": BLUE, "known later": GREY, "justified": GREEN, "identifier": SKY, "suspicious": RED}


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


def plot_outcomes(frame: pd.DataFrame, table: pd.DataFrame, whole: dict[str, float], problem: Problem) -> Figure:
    """Draw how the outcome is distributed: the share of every class, or a histogram of the quantity."""
    question = "How is the outcome distributed?"
    if not problem.is_class:
        fig, axes = plotting.canvas(question, height=3)
        axes.hist(frame[LABEL].clip(*np.quantile(frame[LABEL], [0.005, 0.995])), bins=50, color=BLUE)
        axes.axvline(whole["mean"], color=ORANGE, lw=1.5, label="mean")
        axes.axvline(frame[LABEL].median(), color=RED, ls="--", lw=1.5, label="median")
        axes.set(xlabel=f"{plotting.plain(problem.target)} (the last bars hold half a per cent beyond)", ylabel="rows")
        axes.legend(frameon=False)
        return fig
    top = table.head(24)
    fig, axes = plotting.canvas(question, height=max(1.6, 0.24 * len(top) + 1))
    axes.barh(range(len(top)), top["share"], 0.65, xerr=_bars(top, "share"), color=BLUE, ecolor="#333333")
    _lines(axes, top["class"].map(_label))
    axes.set(xlabel="share of rows", ylabel=plotting.plain(problem.target), xlim=(0, None))
    plotting.as_share(axes, "x")
    return fig


def plot_course(along: pd.DataFrame, whole: dict[str, float], problem: Problem, plan: EvaluationPlan) -> Figure:
    """Draw the level along time (or the order of the rows) with its interval, the overall level, where validation begins."""
    fig, axes = plotting.canvas("Does the outcome stay what it was?")
    period, band = along["period"].iloc[0] if len(along) else "period", f"{plan.bootstrap.level:.0%} interval"
    axes.fill_between(along["group"], along["low"], along["high"], color=BLUE, alpha=0.18, lw=0, label=band)
    axes.plot(along["group"], along["mean"], marker="o", markersize=5, label=f"by {period}")
    axes.axhline(whole["mean"], color=GREY, ls="--", lw=1, label="overall")
    if plan.split.by == "time":
        start = pd.Timestamp(plan.split.validation)
        axes.axvline(start, color=ORANGE, lw=1.5, label="validation begins")
    axes.set_xlabel(period if problem.time else "piece of the table, in the order of its key")
    if not pd.api.types.is_datetime64_any_dtype(along["group"]):
        axes.xaxis.get_major_locator().set_params(integer=True)
    _level_axis(axes, "y", problem)
    axes.set_ylim(0 if problem.is_class else None)
    fig.legend(frameon=False, ncols=4, loc="outside lower center")
    return fig


def plot_ordered(table: pd.DataFrame, whole: dict[str, float], question: str, problem: Problem) -> Figure:
    """Draw the level along the groups of each ordered column, a panel each, with intervals and the overall level."""
    columns = list(table["column"].unique())[:MOST_PANELS]
    fig, panels = _panels(question, len(columns), 2.4, across=2 if len(columns) in (2, 4) else 3, sharey=True)
    for axes, column in zip(panels, columns, strict=False):
        rows = table[table["column"] == column]
        places, step = range(len(rows)), -(-len(rows) // 12)
        axes.errorbar(places, rows["mean"], _bars(rows, "mean"), fmt="-o", ms=4, lw=1.5, elinewidth=1.2)
        axes.axhline(whole["mean"], color=GREY, ls="--", lw=1)
        axes.set_title(_label(column))
        axes.set_xticks(places[::step], [_label(name, 18) for name in rows["group"].iloc[::step]])
        axes.tick_params(axis="x", labelsize=8, rotation=40 if rows["group"].str.len().max() > 4 else 0)
        _level_axis(axes, "y", problem, name="")
        if problem.is_class:
            axes.set_ylim(0, 1.05 * table["high"].max())
    fig.supylabel(plotting.plain(decisions.level_name(problem)), fontsize=9)
    return fig


def plot_nominal(table: pd.DataFrame, whole: dict[str, float], question: str, problem: Problem) -> Figure:
    """Draw the level of the groups of each unordered column, sorted; of many groups, the highest and the lowest."""
    columns = list(table["column"].unique())[:MOST_PANELS]
    tallest = min(2 * HALF, int(table["column"].value_counts().max())) if columns else 8
    fig, panels = _panels(question, len(columns), 0.2 * tallest + 1, across=3, sharex=True)
    for axes, column in zip(panels, columns, strict=False):
        title, rows = _label(column), table[table["column"] == column]
        rows = rows.sort_values("mean", ascending=False, kind="stable")
        if len(rows) > 2 * HALF:
            title = f"{title} ({HALF} highest, {HALF} lowest)"
            rows = pd.concat([rows.head(HALF), rows.tail(HALF)])
            axes.axhline(HALF - 0.5, color=GREY, lw=0.8, ls=":")
        _intervals(axes, rows, "mean", whole["mean"], [_label(name, 24) for name in rows["group"]])
        axes.set(title=title, ylim=(tallest - 0.5, -0.5))
        _level_axis(axes, "x", problem)
    return fig


def plot_gaps(ranked: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gap between the highest and the lowest group of each column, with intervals, the most significant on top."""
    top = ranked.head(20)
    fig, (axes, *_) = _panels("What separates the groups most?", min(len(top), 1), 0.28 * len(top) + 1)
    names = [[_label(name, 20) for name in row] for row in top[["column", "highest", "lowest"]].to_numpy()]
    _intervals(axes, top, "gap", 0, [f"{name}: {high} against {low}" for name, high, low in names])
    _level_axis(axes, "x", problem, name=f"highest less lowest {decisions.level_name(problem)}")
    return fig


def plot_cross(grid: pd.DataFrame, problem: Problem, params: Params) -> Figure:
    """Draw the level where two scales meet, shaded and written into the cells."""
    import seaborn as sns

    fig, (axes, *_) = _panels("Do two scales together say more?", int(not grid.empty), max(2.2, 0.3 * len(grid) + 0.8))
    if grid.empty:
        return fig
    low, form, ticks = (0.0, ".0%", "{x:.0%}") if problem.is_class else (None, ".3g", None)
    legend = {"label": plotting.plain(decisions.level_name(problem)), "format": ticks}
    how = {"annot": True, "annot_kws": {"fontsize": 7}, "cbar_kws": legend, "cmap": "Blues", "linewidths": 1}
    sns.heatmap(grid, vmin=low, fmt=form, ax=axes, **how)
    across, down = [_label(name, 14) for name in grid.columns], [_label(name, 20) for name in grid.index]
    axes.set_xticks(np.arange(len(across)) + 0.5, across, fontsize=8, rotation=30 if max(map(len, across)) > 4 else 0)
    axes.set_yticks(np.arange(len(down)) + 0.5, down, fontsize=8, rotation=0)
    zone = f" ({params.timezone})" if grid.columns.name == "hour" and problem.time else ""
    axes.set(xlabel=_label(grid.columns.name) + zone, ylabel=_label(grid.index.name))
    return fig


def plot_scores(scores: pd.DataFrame, params: Params, problem: Problem) -> Figure:
    """Draw how well each column alone predicts the outcome, coloured by whether it may be used."""
    top, start = scores.head(30).reset_index(drop=True), univariate.guess(problem)
    limit = params.most_score(problem)
    fig, axes = plotting.canvas("Which single column predicts the outcome too well?", height=0.22 * len(top) + 1.1)
    for status, rows in top.groupby("status"):
        axes.barh(rows.index, rows["score"], height=0.7, color=COLORS[status], label=status)
    axes.axvline(limit, color=RED, ls="--", lw=1, label=f"limit {limit:g}")
    _lines(axes, top["column"].map(_label))
    axes.set(xlabel=f"{score_name(problem)} of the column alone ({start:g} is guessing)", xlim=(start, 1))
    axes.legend(frameon=False, loc="lower right")
    return fig


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
    """Return the strongest column known in advance, the suspicious ones, and those justified and why, in words."""
    best, rows, code = strongest(scores), decided(scores), display.code
    first = "none is known in advance without suspicion"
    if best is not None:
        first = (
            f"{code(best['column'])} alone predicts most: {score_name(problem)} {best['learned']:.3f}, out of sample"
        )
    late, undropped = (rows["decision"] == "drop").sum(), rows[rows["decision"] != "drop"]
    notes = "; ".join(
        f"{code(name)} ({decision}; evidence: {code(evidence)}; reason: {code(reason or 'none yet')})"
        for name, evidence, decision, reason in undropped.itertuples(index=False)
    )
    return f"Of {len(scores)} columns {first}; {late} are declared known later. Suspicious or justified: {notes or 'none'}."


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


def _panels(question: str, count: int, height: float, across: int = 1, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, one per panel, or one that says that there is nothing to compare."""
    across = max(min(across, count), 1)
    down, height = max(-(-count // across), 1), height if count else 1
    fig, axes = plotting.canvas(question, height=height * down + 0.4, nrows=down, ncols=across, squeeze=False, **kwargs)
    for spare in axes.flat[count:]:
        spare.set_axis_off()
    if not count:
        axes.flat[0].text(0.5, 0.5, "nothing to compare", ha="center", transform=axes.flat[0].transAxes)
    return fig, list(axes.flat)


def _intervals(axes: Axes, rows: pd.DataFrame, value: str, base: float, labels: list[str]) -> None:
    axes.errorbar(rows[value], range(len(rows)), xerr=_bars(rows, value), fmt="o", ms=4, elinewidth=1.2)
    axes.axvline(base, color=GREY, ls="--", lw=1)
    _lines(axes, labels)


def _lines(axes: Axes, labels: Sequence[str]) -> None:
    """Name the lines of a panel, from the top."""
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _bars(rows: pd.DataFrame, value: str) -> list[pd.Series]:
    """Return how far intervals reach to either side; rounding may leave less than nothing, which cannot be drawn."""
    return [(rows[value] - rows["low"]).clip(lower=0), (rows["high"] - rows[value]).clip(lower=0)]


def _level_axis(axes: Axes, which: str, problem: Problem, name: str | None = None) -> None:
    """Label an axis with what the level is called, in per cent if it is a share."""
    axes.set(**{f"{which}label": plotting.plain(decisions.level_name(problem) if name is None else name)})
    if problem.is_class:
        plotting.as_share(axes, which)


def _ends(means: pd.Series, problem: Problem) -> str:
    """Return the lowest and the highest of means, with the names of their groups, in Markdown."""
    ends = (int(means.argmin()), int(means.argmax()))
    names = [display.code(plotting.cut(str(means.index[end]), 60)) for end in ends]
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
    gap, low, high = (f"{100 * end:.1f}" if problem.is_class else decisions.show_level(end, problem) for end in ends)
    name, interval = display.code(decisions.level_name(problem)), f"{level:.0%} interval {low} to {high}"
    return f"{by} the {name} is between {_ends(means, problem)}, a difference of {gap}{unit} ({interval})"


def _label(name: Any, most: int = 32) -> str:
    return plotting.label(" ".join(str(name).split()), most)
