"""Figures of stage 07: how good the chosen model is, what it is worth, where it is biased, what it relies on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import plotting
from ninefold.metrics import FOLLOW, threshold
from ninefold.plotting import BLUE, GREEN, GREY, ORANGE, RED, SKY, label
from ninefold.problem import FORESIGHT, Problem, decisions
from ninefold.training import sentences

MOST, MOST_POLICIES, MOST_CONTRIBUTIONS = 15, 8, 6  # slices; baseline policies; of a prediction
REFERENCE: dict[str, Any] = {"color": GREY, "ls": "--", "lw": 1}
STACKED: dict[str, Any] = {"nrows": 2, "sharex": True, "height_ratios": [2, 1]}


def add_intervals(axes: Axes, curve: pd.DataFrame, fmt: str = "none") -> None:
    """Draw the intervals of a calibration curve."""
    reach = plotting.reach(curve, "observed")
    axes.errorbar(curve["predicted"], curve["observed"], reach, fmt=fmt, color=BLUE, ms=4, capsize=3, elinewidth=1)


def plot_policies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw what each policy pays per row on the holdout, with intervals; of many policies the best ones."""
    fixed = table["policy"].isin([FOLLOW, FORESIGHT])
    table = table[fixed | table.index.isin(table[~fixed].nlargest(MOST_POLICIES, "payoff").index)]
    colors = table["policy"].map({FOLLOW: BLUE, FORESIGHT: GREEN}).fillna(GREY)
    question, reach = "What is it worth to follow the model?", plotting.reach(table, "payoff")
    fig, axes = plotting.bars(question, table["policy"], table["payoff"], reach, color=colors)
    axes.set_xlabel(payoff_name("mean payoff", problem))
    return fig


def plot_threshold(curve: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the payoff against the decision threshold, and the threshold that is used."""
    fig, axes = plotting.canvas("Is the threshold the best one?", height=3)
    axes.plot(curve["threshold"], curve["payoff"], color=BLUE, lw=2)
    if (used := threshold(problem)) is not None:
        axes.axvline(used, color=RED, ls="--", lw=1.2, label="used, from the payoffs")
        axes.legend(frameon=False)
    meaning = {
        "binary": "the other action above this probability",
        "multiclass": "follow the model above this highest probability, else the best single action",
        "regression": "quantile of the predicted distribution that one acts on",
    }
    axes.set(xlabel=meaning[problem.task], ylabel=plotting.plain(f"payoff per {problem.unit}"))
    plotting.as_share(axes, "x")
    return fig


def plot_slices(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the bias of the most significant slices, with intervals; differences of shares are in points."""
    question, top = "Where are predictions biased?", table.head(MOST)
    if top.empty:
        return plotting.empty(question, "too few rows to show anything")
    scale, points = (100, " (points)") if problem.is_class else (1, "")
    reach, colors = scale * plotting.reach(top, "bias", "bias_low", "bias_high"), np.where(top["flagged"], RED, SKY)
    rows = top[["feature", "group", "rows"]].itertuples(index=False)
    names = [f"{plotting.cut(name, 24)}: {plotting.cut(group, 26)} ({count:,})" for name, group, count in rows]
    fig, axes = plotting.bars(question, names, scale * top["bias"], reach, color=colors)
    level = decisions.level_name(problem)
    axes.set_xlabel(plotting.plain(f"predicted less observed {level}{points}, significant in red"))
    return fig


def plot_over_time(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gain of each period with its interval, and below it predicted and observed means."""
    if table.empty:
        return plotting.empty("Does it hold from period to period?", "too few rows to show anything")
    unit, periods = table["unit"].iloc[0], table["period"]
    fig, (axes, below) = plotting.canvas(f"Is the gain stable from {unit} to {unit}?", height=4.6, **STACKED)
    axes.fill_between(periods, table["low"], table["high"], color=BLUE, alpha=0.18, lw=0, label="interval")
    axes.plot(periods, table["gain"], "-o", color=BLUE, ms=4, label="gain over the best baseline policy")
    axes.axhline(0, **REFERENCE)
    below.plot(periods, table["observed"], "-o", color=ORANGE, ms=4, label="observed")
    below.plot(periods, table["predicted"], "--o", color=BLUE, ms=4, label="predicted")
    for panel in (axes, below):
        panel.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    axes.set_ylabel(f"gain per {label(problem.unit, 20)}\n({label(problem.payoff_unit, 20)})")
    below.set(xlabel=f"{unit} ({problem.timezone})", ylabel=label(decisions.level_name(problem), 26))
    if problem.is_class:
        below.set_ylim(0, None)
        plotting.as_share(below)
    below.tick_params(axis="x", rotation=30)
    fig.align_ylabels()
    return fig


def plot_gains(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gain of each day, entity or row, and above it the cumulative gain."""
    unit, gain = table.columns[0], table["gain"]
    x = table["day"] if unit == "day" else np.arange(1, len(table) + 1)
    fig, (axes, below) = plotting.canvas(f"Does a single {unit} make the gain?", height=4.2, **STACKED)
    sns.lineplot(x=x, y=table["cumulative gain"], lw=2, errorbar=None, ax=axes)
    below.vlines(x, 0, gain, colors=np.where(gain > 0, BLUE, RED), lw=3)
    axes.axhline(0, **REFERENCE)
    axes.set_ylabel(f"cumulative gain\n({label(problem.payoff_unit, 26)})")
    below.set(ylabel=f"by {unit}", xlabel=unit if unit == "day" else f"number of the {unit}, the largest gain first")
    below.tick_params(axis="x", rotation=30)
    fig.align_ylabels()
    return fig


def plot_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> Figure:
    """Draw how features move each prediction from the average one, with the error of sampling (95 %)."""
    tops = [sentences.largest(part, MOST_CONTRIBUTIONS) for _, part in table.groupby("row")]
    question, heights = "What made these predictions differ from the average one?", [len(top) + 1.6 for top in tops]
    grid: dict[str, Any] = {"nrows": len(tops), "sharex": True, "squeeze": False, "height_ratios": heights}
    fig, panels = plotting.canvas(question, height=0.3 * sum(heights) + 0.7, **grid)
    for axes, top, name in zip(panels.flat, tops, titles, strict=True):
        base, change, errors = top["base"].iloc[0], top["contribution"], 1.96 * top["standard_error"]
        colors = np.where(change > 0, ORANGE, BLUE)
        axes.barh(range(len(top)), change, left=base, xerr=errors, color=colors, error_kw=plotting.CAPS)
        axes.axvline(base, color=GREY, lw=1)
        plotting.name_lines(axes, [plotting.cut(each, 44) for each in top["name"]])
        level, average = (decisions.show_level(value, problem) for value in (base + change.sum(), base))
        axes.set_title(label(f"{name}: {level}, average {average}", 90), loc="left")
        if problem.is_class:
            plotting.as_share(axes, "x")
    axes.set_xlabel(predicted_name(problem))
    return fig


def predicted_name(problem: Problem) -> str:
    """Return the name of an axis of predictions."""
    event = f"probability that the {problem.unit} {problem.positive}"
    return label(f"predicted {event if problem.is_class else problem.target}", 90)


def payoff_name(what: str, problem: Problem) -> str:
    """Return the name of an axis of payoffs or gains per row."""
    return plotting.plain(f"{what} per {problem.unit} ({problem.payoff_unit})")
