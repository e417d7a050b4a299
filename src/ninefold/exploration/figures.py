"""Figures and sentences of stage 05: how the outcome is distributed, where it differs, which column may be a leak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ninefold import display, plotting
from ninefold.exploration import univariate
from ninefold.exploration.group_rates import LABEL
from ninefold.exploration.stage import CLOCK, Params, least, limits, score_name, strongest
from ninefold.metrics import EvaluationPlan, cluster_name
from ninefold.problem import Problem, decisions

MOST_NAMED = 6  # columns, or classes, in one sentence
MOST_PANELS = 12
LEVELS = ("share", "mean", "if missing", "if present", "gap", "low", "high", "mean of highest", "mean of lowest")
COLORS = {
    "in advance": plotting.BLUE,
    "known later": plotting.GREY,
    "justified": plotting.GREEN,
    "identifier": plotting.SKY,
    "suspicious": plotting.RED,
}


def formats(table: pd.DataFrame, problem: Problem) -> dict[str, Callable[[Any], str]]:
    """Return how to show the columns of a table that hold levels of the outcome, or differences between them."""

    def shown(value: float) -> str:
        return "–" if value != value else decisions.show_level(value, problem)

    return {**{name: shown for name in LEVELS if name in table}, "missing": "{:.1%}".format}


def findings(  # noqa: PLR0913, PLR0917
    whole: dict[str, float],
    along: pd.DataFrame,
    ranked: pd.DataFrame,
    missing: pd.DataFrame,
    scores: pd.DataFrame,
    problem: Problem,
    level: float,
) -> list[str]:
    """Return what was found, a sentence each: overall, along time, the four most significant gaps, missing values, columns."""
    lines = [describe_overall(whole, problem, level), describe_course(along, whole, problem, level)]
    sure = ranked[ranked["low"] > 0].head(4)
    lines += [f"{display.code(row['column'])}: {_gap(row, problem, level)}." for _, row in sure.iterrows()]
    return [*lines, describe_missing(missing, problem, level), describe_scores(scores, problem)]


def plot_outcomes(frame: pd.DataFrame, table: pd.DataFrame, whole: dict[str, float], problem: Problem) -> Figure:
    """Draw how the outcome is distributed: the share of every class, or a histogram of the quantity."""
    if not problem.is_class:
        fig, axes = plotting.canvas("How is the outcome distributed?", height=3)
        low, high = np.quantile(frame[LABEL], [0.005, 0.995])
        axes.hist(frame[LABEL].clip(low, high), bins=50, color=plotting.BLUE)
        axes.axvline(whole["mean"], color=plotting.ORANGE, lw=1.5, label="mean")
        axes.axvline(frame[LABEL].median(), color=plotting.RED, ls="--", lw=1.5, label="median")
        label = f"{problem.target} (the last bars hold half a per cent beyond)"
        axes.set(xlabel=plotting.plain(label), ylabel="rows")
        axes.legend(frameon=False)
        return fig
    top = table.head(24)
    fig, axes = plotting.canvas("How is the outcome distributed?", height=max(1.6, 0.24 * len(top) + 1))
    axes.barh(range(len(top)), top["share"], color=plotting.BLUE, height=0.65, alpha=0.85)
    axes.errorbar(
        top["share"], range(len(top)), xerr=_bars(top["share"], top), fmt="none", ecolor="#333333", elinewidth=1.2
    )
    axes.set_yticks(range(len(top)), [_label(name) for name in top["class"]], fontsize=8)
    axes.set(xlabel="share of rows", ylabel=plotting.plain(problem.target), ylim=(len(top) - 0.5, -0.5), xlim=(0, None))
    axes.grid(axis="y", visible=False)
    plotting.as_share(axes, "x")
    return fig


def plot_course(along: pd.DataFrame, whole: dict[str, float], problem: Problem, plan: EvaluationPlan) -> Figure:
    """Draw the level along time (or the order of the rows) with its interval, the overall level, where validation begins."""
    fig, axes = plotting.canvas("Does the outcome stay what it was?")
    period = along["period"].iloc[0] if len(along) else "period"
    band = f"{plan.bootstrap.level:.0%} interval"
    axes.fill_between(along["group"], along["low"], along["high"], color=plotting.BLUE, alpha=0.18, lw=0, label=band)
    axes.plot(along["group"], along["mean"], marker="o", markersize=5, label=f"by {period}")
    axes.axhline(whole["mean"], color=plotting.GREY, ls="--", lw=1, label="overall")
    if plan.split.by == "time":
        start = pd.Timestamp(plan.split.validation)
        axes.axvline(start, color=plotting.ORANGE, lw=1.5, label="validation begins")
    axes.set_xlabel(period if problem.time else "piece of the table, in the order of its key")
    if not pd.api.types.is_datetime64_any_dtype(along["group"]):
        axes.xaxis.get_major_locator().set_params(integer=True)
    _level_axis(axes, "y", problem)
    if problem.is_class:
        axes.set_ylim(0, None)
    fig.legend(frameon=False, ncols=4, loc="outside lower center")
    return fig


def plot_ordered(table: pd.DataFrame, whole: dict[str, float], question: str, problem: Problem) -> Figure:
    """Draw the level along the groups of each ordered column, a panel each, with intervals and the overall level."""
    columns = list(table["column"].unique())[:MOST_PANELS]
    across = 2 if len(columns) in (2, 4) else 3
    fig, panels = _panels(question, len(columns), across=across, height=2.4, sharey=True)
    for axes, column in zip(panels, columns, strict=False):
        rows, places = table[table["column"] == column], range((table["column"] == column).sum())
        axes.errorbar(
            places, rows["mean"], _bars(rows["mean"], rows), fmt="-o", ms=4, lw=1.5, color=plotting.BLUE, elinewidth=1.2
        )
        axes.axhline(whole["mean"], color=plotting.GREY, ls="--", lw=1)
        axes.set_title(_label(column))
        step = -(-len(rows) // 12)
        axes.set_xticks(places[::step], [_label(name, 18) for name in rows["group"].iloc[::step]])
        axes.tick_params(axis="x", labelsize=8, rotation=40 if rows["group"].str.len().max() > 4 else 0)
        _level_axis(axes, "y", problem, name="")
        if problem.is_class:
            axes.set_ylim(0, 1.05 * table["high"].max())
    fig.supylabel(plotting.plain(decisions.level_name(problem)), fontsize=9)
    return fig


def plot_nominal(
    table: pd.DataFrame, whole: dict[str, float], question: str, problem: Problem, most: int = 24
) -> Figure:
    """Draw the level of the groups of each unordered column, sorted; of many groups, the highest and the lowest."""
    columns, half = list(table["column"].unique())[:MOST_PANELS], most // 2
    tallest = min(most, int(table["column"].value_counts().max())) if columns else 8
    fig, panels = _panels(question, len(columns), across=3, height=0.2 * tallest + 1, sharex=True)
    for axes, column in zip(panels, columns, strict=False):
        rows = table[table["column"] == column].sort_values("mean", ascending=False, kind="stable")
        title = _label(column)
        if len(rows) > most:
            title = f"{title} ({half} highest, {half} lowest)"
            rows = pd.concat([rows.head(half), rows.tail(half)])
            axes.axhline(half - 0.5, color=plotting.GREY, lw=0.8, ls=":")
        _intervals(axes, [_label(name, 24) for name in rows["group"]], rows["mean"], rows, whole["mean"])
        axes.set(title=title, ylim=(tallest - 0.5, -0.5))
        _level_axis(axes, "x", problem)
    return fig


def plot_gaps(ranked: pd.DataFrame, problem: Problem, most: int = 20) -> Figure:
    """Draw the gap between the highest and the lowest group of each column, with intervals, the most significant on top."""
    top = ranked.head(most)
    fig, (axes, *_) = _panels("What separates the groups most?", min(len(top), 1), height=0.28 * len(top) + 1)
    names = [
        f"{_label(row['column'])}: {_label(row['highest'], 20)} against {_label(row['lowest'], 20)}"
        for _, row in top.iterrows()
    ]
    _intervals(axes, names, top["gap"], top, 0)
    axes.set_ylim(max(len(top), 1) - 0.5, -0.5)
    _level_axis(axes, "x", problem, name=f"highest less lowest {decisions.level_name(problem)}")
    return fig


def plot_cross(grid: pd.DataFrame, problem: Problem, params: Params) -> Figure:
    """Draw the level where two scales meet, shaded and written into the cells."""
    question = "Do two scales together say more?"
    fig, (axes, *_) = _panels(question, 0 if grid.empty else 1, height=max(2.2, 0.3 * len(grid) + 0.8))
    if grid.empty:
        return fig
    scale, unit = _scale(grid, problem)
    low = 0 if problem.is_class else None
    shades = axes.pcolormesh(scale * grid, cmap="Blues", edgecolors="white", linewidth=1, vmin=low)
    top = scale * np.nanmax(grid.to_numpy())
    floor = 0.0 if problem.is_class else scale * np.nanmin(grid.to_numpy())
    for (line, column), value in np.ndenumerate(scale * grid.to_numpy()):
        if value == value:
            color = "white" if value > floor + 0.6 * (top - floor) else "#333333"
            text = f"{value:.0f}" if problem.is_class else f"{value:.3g}"
            axes.text(column + 0.5, line + 0.5, text, ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(np.arange(grid.shape[1]) + 0.5, [_label(name, 14) for name in grid.columns], fontsize=8)
    axes.set_yticks(np.arange(len(grid)) + 0.5, [_label(name, 20) for name in grid.index], fontsize=8)
    axes.tick_params(axis="x", rotation=30 if max(len(str(name)) for name in grid.columns) > 4 else 0)
    zone = f" ({params.timezone})" if grid.columns.name == "hour" and problem.time else ""
    axes.set(xlabel=_label(grid.columns.name) + zone, ylabel=_label(grid.index.name))
    axes.invert_yaxis()
    axes.grid(visible=False)
    fig.colorbar(shades, ax=axes, label=plotting.plain(f"{decisions.level_name(problem)}{unit}"))
    return fig


def plot_scores(scores: pd.DataFrame, params: Params, problem: Problem, most: int = 30) -> Figure:
    """Draw how well each column alone predicts the outcome, coloured by whether it may be used."""
    top, start = scores.head(most).reset_index(drop=True), univariate.guess(problem)
    limit = limits(params).most_score(problem)
    fig, axes = plotting.canvas("Which single column predicts the outcome too well?", height=0.22 * len(top) + 1.1)
    for status, color in COLORS.items():
        rows = top[top["status"] == status]
        if len(rows):
            axes.barh(rows.index, rows["score"] - start, left=start, height=0.7, color=color, label=status)
    axes.axvline(limit, color=plotting.RED, ls="--", lw=1, label=f"limit {limit:g}")
    axes.set_yticks(range(len(top)), [_label(name) for name in top["column"]], fontsize=8)
    axes.set(xlabel=f"{score_name(problem)} of the column alone ({start:g} is guessing)", xlim=(start, 1))
    axes.set_ylim(len(top) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="lower right")
    return fig


def describe_rows(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> str:
    """Return, as a sentence, which rows are looked at."""
    if not problem.time:
        return f"**{len(frame):,}** {problem.units} with a known outcome; those of the holdout stay closed."
    first, last = frame[CLOCK].min().date(), frame[CLOCK].max().date()
    return (
        f"**{len(frame):,}** {problem.units} with a known outcome, from {first} to {last}; everything from "
        f"{plan.split.holdout} on is the holdout and stays closed."
    )


def describe_overall(whole: dict[str, float], problem: Problem, level: float) -> str:
    """Return the overall level, in words."""
    mean, low, high = (decisions.show_level(whole[name], problem) for name in ("mean", "low", "high"))
    sure = f"(with {level:.0%} confidence {low} to {high})"
    if problem.positive:
        return f"In {mean} of the cases {sure} {decisions.one(problem)} {problem.positive}."
    return f"The mean of {display.code(problem.target)} is {mean} {sure}."


def describe_outcomes(table: pd.DataFrame, problem: Problem) -> str:
    """Return how the outcome is distributed, in words."""
    if problem.is_class:
        common, rare = table.iloc[0], table.iloc[-1]
        return (
            f"Of {len(table)} classes {display.code(common['class'])} is the most frequent ({common['share']:.1%} of the "
            f"rows) and {display.code(rare['class'])} the rarest ({rare['share']:.1%}, {rare['rows']:,} rows)."
        )
    value = {name: decisions.show_level(number, problem) for name, number in table.itertuples(index=False)}
    return (
        f"Half of the values are between {value['25%']} and {value['75%']}, nine of ten between {value['5%']} and "
        f"{value['95%']}; the lowest is {value['lowest']}, the highest {value['highest']}."
    )


def describe_course(along: pd.DataFrame, whole: dict[str, float], problem: Problem, level: float) -> str:
    """Return how the level moves along time, or the order of the rows, and whether that is more than chance, in words."""
    if along.empty:
        return "No part of the table has enough rows to tell its level."
    period = along["period"].iloc[0]
    low, high = along.loc[along["mean"].idxmin()], along.loc[along["mean"].idxmax()]
    off = int(((along["low"] > whole["mean"]) | (along["high"] < whole["mean"])).sum())
    drift = (
        "it drifts, and later rows may differ again" if problem.time else "how the rows are sorted tells outcomes apart"
    )
    means = drift if off > stats.binom.ppf(0.99, len(along), 1 - level) else "no more than chance would do"
    ends = [f"{decisions.show_level(row['mean'], problem)} ({_moment(row)})" for row in (low, high)]
    return (
        f"By {period} the {_level(problem)} moves between {ends[0]} and {ends[1]}; the intervals of {off} "
        f"of {len(along)} exclude the overall level: {means}."
    )


def describe_groups(table: pd.DataFrame, frame: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return the extremes of every column, in words, and what was omitted."""
    if table.empty:
        return "There is no such column to compare."
    parts = []
    columns = list(table["column"].unique())
    for column in columns[:MOST_NAMED]:
        rows = table[table["column"] == column]
        low, high = rows.loc[rows["mean"].idxmin()], rows.loc[rows["mean"].idxmax()]
        ends = [f"{decisions.show_level(row['mean'], problem)} ({_code(row['group'])})" for row in (low, high)]
        omitted = 1 - rows["rows"].sum() / len(frame)
        part = f"{display.code(column)} from {ends[0]} to {ends[1]}"
        parts.append(part + (f", {omitted:.1%} of rows omitted" if omitted >= 0.0005 else ""))
    more = f"; and {len(columns) - MOST_NAMED} columns more" if len(columns) > MOST_NAMED else ""
    small = f"Groups under {least(frame, params):,} rows, and missing values, are omitted."
    return f"{'; '.join(parts)}{more}. {small}"


def describe_gaps(ranked: pd.DataFrame, problem: Problem, level: float) -> str:
    """Return what separates the groups most, in words."""
    if ranked.empty:
        return "No column has two groups large enough to compare."
    row, sure = ranked.iloc[0], int((ranked["low"] > 0).sum())
    return (
        f"The most significant gap is that of {display.code(row['column'])}: {_gap(row, problem, level)}. Of {len(ranked)} columns "
        f"compared, {sure} have a gap that is more than sampling noise of the {cluster_name(problem)}."
    )


def describe_cross(grid: pd.DataFrame, frame: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return where the level is highest and lowest, in words."""
    cells = grid.stack()
    cells = cells[cells.notna()] if len(cells) else cells
    if len(cells) < 2:
        return "There are no two scales of which several cells have enough rows."
    down, across = (display.code(name) for name in (grid.index.name, grid.columns.name))
    (line, column), (other, last) = cells.idxmax(), cells.idxmin()
    return (
        f"By {down} and {across} the {_level(problem)} is highest at {_code(line)} and {_code(column)} "
        f"({decisions.show_level(cells.max(), problem)}), lowest at {_code(other)} and {_code(last)} "
        f"({decisions.show_level(cells.min(), problem)}); cells under {least(frame, params):,} rows are blank."
    )


def describe_missing(missing: pd.DataFrame, problem: Problem, level: float) -> str:
    """Return whether missing values go with the outcome, in words."""
    if missing.empty:
        return "No column is missing in enough rows to compare the outcomes."
    row, real = missing.iloc[0], int(((missing["low"] > 0) | (missing["high"] < 0)).sum())
    absent, present = (decisions.show_level(row[name], problem) for name in ("if missing", "if present"))
    return (
        f"Where {display.code(row['column'])} is missing the {_level(problem, row['outcome'])} is {absent}, elsewhere {present}: "
        f"{_points(row, problem, level)}. Of {len(missing)} columns with gaps, {real} differ by more than the sampling noise of "
        f"the {cluster_name(problem)}."
    )


def describe_scores(scores: pd.DataFrame, problem: Problem) -> str:
    """Return the strongest column known in advance, those that know too much, and those that may, in words."""
    best, leaks = strongest(scores), scores[scores["status"] == "suspicious"]
    late = int((scores["status"] == "known later").sum())
    named = "; ".join(f"{display.code(row['column'])} ({display.code(row['evidence'])})" for _, row in leaks.iterrows())
    first = f"Of {len(scores)} columns none is known in advance without suspicion."
    if best is not None:
        first = (
            f"Of {len(scores)} columns, {display.code(best['column'])} alone predicts most: {score_name(problem)} "
            f"{best['learned']:.3f} on rows not learned from."
        )
    shown_rows = describe_justified(scores)
    last = "suspicious: " + named if named else "no other is suspicious"
    return f"{first} {late} are declared known later; {last}.{f' {shown_rows}' if shown_rows else ''}"


def describe_justified(scores: pd.DataFrame) -> str:
    """Return which columns stay by decision, on what evidence against them, and why, in words; empty if none does."""
    shown_rows = scores[scores["status"] == "justified"]
    rows = zip(
        shown_rows["column"],
        shown_rows["evidence"].replace("", "not suspicious at all"),
        shown_rows["reason"],
        strict=True,
    )
    parts = [
        f"{display.code(name)} ({display.code(evidence)}): {display.code(reason)}" for name, evidence, reason in rows
    ]
    return f"Justified, as known when deciding: {'; '.join(parts)}." if parts else ""


def headline(whole: dict[str, float], table: pd.DataFrame, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    best = strongest(table)
    column = "none" if best is None else f"{best['column']}, {score_name(problem)} {best['learned']:.2f}"
    return {decisions.level_name(problem): decisions.show_level(whole["mean"], problem), "strongest column": column}


def conclusion(whole: dict[str, float], table: pd.DataFrame, problem: Problem) -> str:
    """Return the bottom line."""
    best, suspicious = strongest(table), list(table.loc[table["status"] == "suspicious", "column"])
    shown_rows = table[table["status"] == "justified"]
    leak = f"{', '.join(suspicious)} may leak it" if suspicious else "no undeclared column leaks it"
    reasons = [f"{name}, {reason}" for name, reason in zip(shown_rows["column"], shown_rows["reason"], strict=True)]
    leak += f" (justified: {'; '.join(reasons)})" if reasons else ""
    level = decisions.show_level(whole["mean"], problem)
    first = f"The {decisions.level_name(problem)} is {level}."
    if problem.positive:
        first = f"In {level} of the cases {decisions.one(problem)} {problem.positive}."
    if best is None:
        return f"{first} No column is known in advance without suspicion: {leak}."
    return (
        f"{first} The best single column known in advance is {best['column']} ({score_name(problem)} "
        f"{best['learned']:.2f}), and {leak}."
    )


def _panels(question: str, count: int, height: float, across: int = 1, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, one per panel, or one that says that there is nothing to compare."""
    across = max(min(across, count), 1)
    down = max(-(-count // across), 1)
    height = height if count else 1
    fig, axes = plotting.canvas(question, height=height * down + 0.4, nrows=down, ncols=across, squeeze=False, **kwargs)
    for spare in axes.flat[count:]:
        spare.set_axis_off()
    if not count:
        axes.flat[0].text(0.5, 0.5, "nothing to compare", ha="center", transform=axes.flat[0].transAxes)
    return fig, list(axes.flat)


def _intervals(axes: Axes, names: list[str], values: pd.Series, ends: pd.DataFrame, base: float) -> None:
    """Draw points with intervals, one a line, against a base line."""
    axes.errorbar(
        values, range(len(names)), xerr=_bars(values, ends), fmt="o", ms=4, color=plotting.BLUE, elinewidth=1.2
    )
    axes.axvline(base, color=plotting.GREY, ls="--", lw=1)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.grid(axis="y", visible=False)


def _bars(values: pd.Series, ends: pd.DataFrame) -> list[pd.Series]:
    """Return how far intervals reach to either side; rounding may leave less than nothing, which cannot be drawn."""
    return [(values - ends["low"]).clip(lower=0), (ends["high"] - values).clip(lower=0)]


def _level_axis(axes: Axes, which: str, problem: Problem, name: str | None = None) -> None:
    """Label an axis with what the level is called, in per cent if it is a share."""
    label = plotting.plain(decisions.level_name(problem) if name is None else name)
    axes.set(**{f"{which}label": label})
    if problem.is_class:
        plotting.as_share(axes, which)


def _scale(grid: pd.DataFrame, problem: Problem) -> tuple[float, str]:
    """Return by what to multiply levels so that they are short in a cell, and how to say so."""
    if problem.is_class:
        return 100.0, " (%)"
    size = np.nanmax(np.abs(grid.to_numpy()))
    power = 3 * int(np.floor(np.log10(size) / 3)) if size > 0 else 0
    return (1.0, "") if -3 <= power <= 0 else (10.0**-power, f" (in units of 1e{power})")


def _gap(row: pd.Series, problem: Problem, level: float) -> str:
    top, bottom = (decisions.show_level(row[f"mean of {end}"], problem) for end in ("highest", "lowest"))
    return (
        f"{top} for {_code(row['highest'])} against {bottom} for {_code(row['lowest'])}, a gap of "
        f"{_points(row, problem, level)}"
    )


def _points(row: pd.Series, problem: Problem, level: float) -> str:
    if not problem.is_class:
        gap, low, high = (decisions.show_level(row[name], problem) for name in ("gap", "low", "high"))
        return f"{gap} ({level:.0%} interval {low} to {high})"
    gap, low, high = (f"{100 * row[name]:.1f}" for name in ("gap", "low", "high"))
    return f"{gap} points ({level:.0%} interval {low} to {high})"


def _moment(row: pd.Series) -> str:
    """Return the name of a part of the table, such as ``week of 2020-01-06`` or ``piece 7``."""
    form = {"month": "%Y-%m", "year": "%Y"}.get(row["period"], "%Y-%m-%d")
    link = {"week": "week of", "piece": "piece from"}.get(row["period"], row["period"])
    return (
        f"{link} {row['group']:{form}}" if isinstance(row["group"], pd.Timestamp) else f"{row['period']} {row['group']}"
    )


def _level(problem: Problem, name: str | None = None) -> str:
    """Return what the mean of the label is called, in Markdown; of several classes, that of the one named, or in focus."""
    if problem.task == "binary":
        return decisions.level_name(problem)
    if problem.task == "multiclass":
        return f"share of {display.code(name or problem.focus)}"
    return f"mean {display.code(problem.target)}"


def _code(name: Any) -> str:
    return display.code(plotting.cut(str(name), 60))


def _label(name: Any, most: int = 32) -> str:
    """Return a name of the data as a figure can hold it."""
    return plotting.label(" ".join(str(name).split()), most)
