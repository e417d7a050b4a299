"""Figures and sentences of stage 06: the windows of the history, the strongest features, the proofs."""

from __future__ import annotations

import ibis.expr.types as ir
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, engine, plotting
from ninefold.features.declarations import Params, windows
from ninefold.features.events import LAKE
from ninefold.features.online import MOMENTS
from ninefold.features.stage import quantiles, short, train
from ninefold.metrics import Split
from ninefold.problem import Problem, decisions


def plot_strongest(features: pd.DataFrame, table: pd.DataFrame, problem: Problem, points: Split) -> Figure:
    """Draw the mean target over the deciles of the six strongest numbers (training rows)."""
    rows = train(features, problem, points)
    outcome = pd.Series(decisions.event(rows[problem.target].to_numpy(), problem), rows.index, name="y")
    top = table["feature"].head(6)
    down = max(-(-len(top) // 3), 1)
    fig, axes = plotting.canvas(
        "Do the features order the outcomes?", height=2.1 * down + 0.5, nrows=down, ncols=3, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.ravel(), top, strict=False):
        deciles = pd.DataFrame({"x": rows[name], "y": outcome}).groupby(quantiles(rows[name], 10)).median()
        deciles["y"] = outcome.groupby(quantiles(rows[name], 10)).mean()
        axis.plot(deciles["x"], deciles["y"], marker="o", color=plotting.BLUE)
        axis.set_title(plotting.plain(name), fontsize=9)
        if problem.is_class:
            plotting.as_share(axis)
    for axis in axes.ravel()[len(top) :]:
        axis.set_visible(False)
    if top.empty:
        fig.text(0.5, 0.5, "no number has enough different values", ha="center")
    fig.supylabel(plotting.plain(decisions.level_name(problem)), fontsize=9)
    return fig


def plot_windows(params: Params, problem: Problem) -> Figure:
    """Draw, for every history feature, the hours before the event from which it takes its values."""
    every = windows(params, problem.horizon)
    fig, axes = plotting.canvas("From when does the model know the past?", height=max(1.6, 0.26 * len(every) + 1.1))
    if not every:
        axes.text(0.5, 0.5, "no history features", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return fig
    for row, window in enumerate(every):
        start, end = (side.total_seconds() / 3600 for side in (window.start, window.end))
        axes.barh(row, start - end, left=max(end, 0.1), color=plotting.BLUE, height=0.6)
    horizon = pd.Timedelta(problem.horizon).total_seconds() / 3600
    axes.axvline(
        max(horizon, 0.1), color=plotting.RED, ls="--", lw=1.2, label=f"the decision, {problem.horizon} before"
    )
    axes.set_yticks(range(len(every)), [plotting.plain(window.name) for window in every])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.invert_xaxis()
    axes.set_xticks([1, 2, 4, 12, 24, 72, 168, 672], ["1", "2", "4", "12", "24", "72", "168", "672"])
    axes.set(xlabel=plotting.plain(f"hours before the {problem.unit} is due (log scale)"))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="lower left")
    return fig


def describe_events(events: ir.Table, params: Params, problem: Problem) -> str:
    """Return the number of events and of their columns, as a sentence."""
    rows, joined = engine.count(f"{LAKE}/{problem.table}"), sum(len(join.columns) for join in params.joins)
    related = f", {joined} of them from {len(params.joins)} declared joins" if joined else ""
    return f"**{rows:,}** {problem.units}, each with {len(engine.columns(events))} columns{related}."


def describe_proofs(changed: int, online: float, params: Params, problem: Problem) -> str:
    """Return the outcome of both proofs, as a sentence."""
    future = "No value changes" if changed == 0 else f"{changed} values change"
    if not windows(params, problem.horizon):
        return f"{future} when the future is removed. There is no history, so there are no online values to compare."
    return (
        f"{future} when the future is removed. At {MOMENTS} moments, online and offline values differ by at most "
        f"{online:.3g}."
    )


def describe_strongest(ranked: pd.DataFrame, problem: Problem) -> str:
    """Return what the figure of the strongest features shows, in words."""
    if ranked.empty:
        return "No number has enough different values to be ranked."
    first = ranked.iloc[0]
    low, high = (decisions.show_level(first[end], problem) for end in ("lowest", "highest"))
    return (
        f"The {decisions.level_name(problem)} varies most over {display.code(first['feature'])}: from {low} to {high} "
        f"between its quintiles. {len(ranked)} features were ranked."
    )


def describe_windows(params: Params, problem: Problem) -> str:
    """Return which hours before the event the history features use, in words."""
    every = windows(params, problem.horizon)
    if not every:
        return "The params name no history features."
    nearest = min(window.end for window in every)
    longest = max(window.start for window in every)
    return (
        f"The {len(every)} history features look back at most {short(longest)}, and never at the last "
        f"{short(nearest)} before the {problem.unit} is due: {problem.horizon} between decision and event, the rest until "
        "a value is known."
    )
