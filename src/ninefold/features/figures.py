"""Figures and sentences of stage 06: the windows of the history, the strongest features, the proofs."""

from __future__ import annotations

import ibis.expr.types as ir
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, engine, plotting
from ninefold.features.declarations import Params, windows
from ninefold.features.events import LAKE
from ninefold.features.stage import quantiles, short, train
from ninefold.metrics import Split
from ninefold.problem import Problem, decisions


def plot_strongest(features: pd.DataFrame, table: pd.DataFrame, problem: Problem, points: Split) -> Figure:
    """Draw the mean target over the deciles of the six strongest numbers (training rows)."""
    rows = train(features, problem, points)
    outcome = pd.Series(decisions.event(rows[problem.target].to_numpy(), problem), rows.index)
    top = table["feature"].head(6)
    down = max(-(-len(top) // 3), 1)
    fig, axes = plotting.canvas(
        "Do the features order the outcomes?", height=2.1 * down + 0.5, nrows=down, ncols=3, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.ravel(), top, strict=False):
        decile = quantiles(rows[name], 10)
        axis.plot(rows[name].groupby(decile).median(), outcome.groupby(decile).mean(), marker="o", color=plotting.BLUE)
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
    hour, rows = pd.Timedelta("1h"), range(len(every))
    widths = [(window.start - window.end) / hour for window in every]
    axes.barh(rows, widths, left=[max(window.end / hour, 0.1) for window in every], color=plotting.BLUE, height=0.6)
    decision, label = max(pd.Timedelta(problem.horizon) / hour, 0.1), f"the decision, {problem.horizon} before"
    axes.axvline(decision, color=plotting.RED, ls="--", lw=1.2, label=label)
    axes.set_yticks(rows, [plotting.plain(window.name) for window in every])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.invert_xaxis()
    ticks = [1, 2, 4, 12, 24, 72, 168, 672]
    axes.set_xticks(ticks, map(str, ticks))
    axes.set(xlabel=plotting.plain(f"hours before the {problem.unit} is due (log scale)"))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="lower left")
    return fig


def describe_events(events: ir.Table, params: Params, problem: Problem) -> str:
    """Return the number of events and of their columns, as a sentence."""
    rows, joined = engine.count(f"{LAKE}/{problem.table}"), sum(len(join.columns) for join in params.joins)
    return f"**{rows:,}** {problem.units}, each with {len(engine.columns(events))} columns, {joined} of them joined."


def describe_proofs(changed: int, online: float, params: Params, problem: Problem) -> str:
    """Return the outcome of both proofs, as a sentence."""
    return (
        f"{changed} values change when the future is removed. Online and offline values of the "
        f"{len(windows(params, problem.horizon))} history features differ by at most {online:.3g}."
    )


def describe_strongest(ranked: pd.DataFrame, problem: Problem) -> str:
    """Return what the figure of the strongest features shows, in words."""
    if ranked.empty:
        return "No number has enough different values to be ranked."
    low, high = (decisions.show_level(ranked[end].iloc[0], problem) for end in ("lowest", "highest"))
    return (
        f"Of {len(ranked)} features, the {decisions.level_name(problem)} varies most over "
        f"{display.code(ranked['feature'].iloc[0])}: from {low} to {high} between its quintiles."
    )


def describe_windows(params: Params, problem: Problem) -> str:
    """Return which hours before the event the history features use, in words."""
    every = windows(params, problem.horizon)
    if not every:
        return "The params name no history features."
    longest, nearest = max(window.start for window in every), min(window.end for window in every)
    return (
        f"The {len(every)} history features look back at most {short(longest)}, and never at the last {short(nearest)} "
        f"before the {problem.unit} is due."
    )
