"""Figures of stage 05: how the outcome is distributed, where it differs, which column may be a leak."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import plotting
from ninefold.exploration import LABEL, Params, score_name, univariate
from ninefold.metrics import EvaluationPlan
from ninefold.plotting import BLUE, GREEN, GREY, ORANGE, RED, SKY, label
from ninefold.problem import Problem, decisions

MOST_PANELS, HALF = 12, 12  # panels of a figure; groups of a panel from either end
COLORS = {"in advance": BLUE, "known later": GREY, "justified": GREEN, "identifier": SKY, "suspicious": RED}


def plot_outcomes(frame: pd.DataFrame, table: pd.DataFrame, whole: dict[str, float], problem: Problem) -> Figure:
    """Draw how the outcome is distributed: the share of every class, or a histogram of the quantity."""
    question, values, top = "How is the outcome distributed?", frame[LABEL], table.head(24)
    if problem.is_class:
        fig, axes = plotting.bars(question, top["class"], top["share"], plotting.reach(top, "share"), color=BLUE)
        axes.set(xlabel="share of rows", ylabel=plotting.plain(problem.target), xlim=(0, None))
        plotting.as_share(axes, "x")
        return fig
    fig, axes = plotting.canvas(question, height=3)
    sns.histplot(values.clip(*values.quantile([0.005, 0.995])), bins=50, color=BLUE, alpha=1, ax=axes)
    axes.axvline(whole["mean"], color=ORANGE, lw=1.5, label="mean")
    axes.axvline(values.median(), color=RED, ls="--", lw=1.5, label="median")
    axes.set(xlabel=f"{plotting.plain(problem.target)} (the last bars hold half a per cent beyond)", ylabel="rows")
    axes.legend(frameon=False)
    return fig


def plot_course(along: pd.DataFrame, whole: dict[str, float], problem: Problem, plan: EvaluationPlan) -> Figure:
    """Draw the level along time (or the order of the rows) with its interval, the overall level, where validation begins."""
    fig, axes = plotting.canvas("Does the outcome change over time?")
    period, band = along["period"].iloc[0] if len(along) else "period", f"{plan.level:.0%} interval"
    axes.fill_between(along["group"], along["low"], along["high"], color=BLUE, alpha=0.18, lw=0, label=band)
    axes.plot(along["group"], along["mean"], marker="o", markersize=5, label=f"by {period}")
    axes.axhline(whole["mean"], color=GREY, ls="--", lw=1, label="overall")
    if plan.split.by == "time":
        axes.axvline(pd.Timestamp(plan.split.validation), color=ORANGE, lw=1.5, label="validation begins")
    if not pd.api.types.is_datetime64_any_dtype(along["group"]):
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(period if problem.time else "part of the table, in key order")
    axes.set_ylim(0 if problem.is_class else None)
    _name_level(axes, "y", problem)
    fig.legend(frameon=False, ncols=4, loc="outside lower center")
    return fig


def plot_ordered(table: pd.DataFrame, whole: dict[str, float], problem: Problem) -> Figure:
    """Draw the level along the groups of each ordered column, a panel each, with intervals and the overall level."""
    question, columns = "How does the outcome change along each scale?", list(table.groupby("column", sort=False))
    fig, panels = plotting.panels(question, min(len(columns), MOST_PANELS), 2.4, sharey=True)
    for axes, (column, rows) in zip(panels, columns, strict=False):
        places, step = range(len(rows)), -(-len(rows) // 12)
        axes.errorbar(places, rows["mean"], plotting.reach(rows, "mean"), fmt="-o", ms=4, lw=1.5, elinewidth=1.2)
        axes.axhline(whole["mean"], color=GREY, ls="--", lw=1)
        axes.set_title(label(column))
        axes.set_xticks(places[::step], [label(name, 18) for name in rows["group"].iloc[::step]])
        axes.tick_params(axis="x", labelsize=8, rotation=40 if rows["group"].str.len().max() > 4 else 0)
        if problem.is_class:
            axes.set_ylim(0, 1.05 * table["high"].max())
            plotting.as_share(axes)
    fig.supylabel(plotting.plain(decisions.level_name(problem)), fontsize=9)
    return fig


def plot_nominal(table: pd.DataFrame, whole: dict[str, float], problem: Problem) -> Figure:
    """Draw the level of the groups of each unordered column, sorted; of many groups, the highest and the lowest."""
    question, columns = "Which groups stand out?", list(table.groupby("column", sort=False))
    tallest = min(2 * HALF, max((len(groups) for _, groups in columns), default=0))
    fig, panels = plotting.panels(question, min(len(columns), MOST_PANELS), 0.2 * tallest + 1, sharex=True)
    for axes, (column, groups) in zip(panels, columns, strict=False):
        title, rows = label(column), groups.sort_values("mean", ascending=False, kind="stable")
        if len(rows) > 2 * HALF:
            title = f"{title} ({HALF} highest, {HALF} lowest)"
            rows = pd.concat([rows.head(HALF), rows.tail(HALF)])
            axes.axhline(HALF - 0.5, color=GREY, lw=0.8, ls=":")
        plotting.points(axes, [plotting.cut(name, 24) for name in rows["group"]], rows, "mean", whole["mean"])
        axes.set(title=title, ylim=(tallest - 0.5, -0.5))
        _name_level(axes, "x", problem)
    return fig


def plot_gaps(ranked: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gap between the highest and the lowest group of each column, with intervals, the most significant on top."""
    question, top = "What separates the groups most?", ranked.head(20)
    if top.empty:
        return plotting.empty(question)
    fig, axes = plotting.canvas(question, height=0.28 * len(top) + 1.4)
    short = top[["column", "highest", "lowest"]].map(plotting.cut, most=20).itertuples(index=False)
    names = [f"{name}: {highest} against {lowest}" for name, highest, lowest in short]
    plotting.points(axes, names, top, "gap", 0)
    _name_level(axes, "x", problem, name=f"highest less lowest {decisions.level_name(problem)}")
    return fig


def plot_cross(grid: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the level where two scales meet, shaded and written into the cells."""
    question = "Do two scales together say more?"
    if grid.empty:
        return plotting.empty(question)
    fig, axes = plotting.canvas(question, height=max(2.6, 0.3 * len(grid) + 1.2))
    low, form, ticks = (0.0, ".0%", "{x:.0%}") if problem.is_class else (None, ".3g", None)
    legend = {"label": plotting.plain(decisions.level_name(problem)), "format": ticks}
    across, down = [label(name, 14) for name in grid.columns], [label(name, 20) for name in grid.index]
    sns.heatmap(
        grid.to_numpy(), vmin=low, fmt=form, cmap="Blues", annot=True, annot_kws={"fontsize": 7}, linewidths=1,
        xticklabels=across, yticklabels=down, cbar_kws=legend, ax=axes,
    )  # fmt: skip
    axes.tick_params(axis="x", labelsize=8, rotation=30 if max(map(len, across)) > 4 else 0)
    axes.tick_params(axis="y", labelsize=8, rotation=0)
    zone = f" ({problem.timezone})" if grid.columns.name == "hour" and problem.time else ""
    axes.set(xlabel=label(grid.columns.name) + zone, ylabel=label(grid.index.name))
    return fig


def plot_scores(scores: pd.DataFrame, params: Params, problem: Problem) -> Figure:
    """Draw how well each column alone predicts the outcome, coloured by whether it may be used."""
    top, guess, limit = scores.head(30), univariate.guess(problem), params.most_score(problem)
    fig, axes = plotting.canvas("Which single column predicts the outcome too well?", height=0.22 * len(top) + 1.1)
    style = {"hue": "status", "palette": COLORS, "saturation": 1, "width": 0.7, "orient": "h"}
    sns.barplot(top, x="score", y="column", errorbar=None, ax=axes, **style)
    axes.axvline(limit, color=RED, ls="--", lw=1, label=f"limit {limit:g}")
    plotting.name_lines(axes, [plotting.cut(name, 32) for name in top["column"]])
    axes.set(xlabel=f"{score_name(problem)} of the column alone (chance level {guess:g})", xlim=(guess, 1))
    axes.legend(frameon=False, loc="lower right")
    return fig


def _name_level(axes: Axes, which: str, problem: Problem, name: str | None = None) -> None:
    """Label an axis with what the level is called, in per cent if it is a share."""
    axes.set(**{f"{which}label": plotting.plain(decisions.level_name(problem) if name is None else name)})
    if problem.is_class:
        plotting.as_share(axes, which)
