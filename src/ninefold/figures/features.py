"""Figures and sentences of stage 06: what the features look back at, what they say, what was proved."""

from __future__ import annotations

from typing import Any

import ibis.expr.types as ir
import pandas as pd
from matplotlib.figure import Figure

from ninefold.core import decisions, engine, plots, show
from ninefold.features import LAKE, MOMENTS, Params, quantiles, short, train, windows


def plot_strongest(
    features: pd.DataFrame, table: pd.DataFrame, stated: dict[str, Any], points: dict[str, Any]
) -> Figure:
    """Draw the mean outcome over the tenths of the six numbers along which it moves farthest (training rows)."""
    rows = train(features, stated, points)
    outcome = pd.Series(decisions.event(rows[stated["target"]].to_numpy(), stated), rows.index, name="y")
    top = table["feature"].head(6)
    down = max(-(-len(top) // 3), 1)
    fig, axes = plots.canvas(
        "Do the features order the outcomes?", height=2.1 * down + 0.5, nrows=down, ncols=3, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.ravel(), top, strict=False):
        tenths = pd.DataFrame({"x": rows[name], "y": outcome}).groupby(quantiles(rows[name], 10)).median()
        tenths["y"] = outcome.groupby(quantiles(rows[name], 10)).mean()
        axis.plot(tenths["x"], tenths["y"], marker="o", color=plots.BLUE)
        axis.set_title(plots.plain(name), fontsize=9)
        if decisions.is_class(stated):
            plots.as_share(axis)
    for axis in axes.ravel()[len(top) :]:
        axis.set_visible(False)
    if top.empty:
        fig.text(0.5, 0.5, "no number has enough different values", ha="center")
    fig.supylabel(plots.plain(decisions.level_name(stated)), fontsize=9)
    return fig


def plot_windows(params: Params, stated: dict[str, Any]) -> Figure:
    """Draw, for every history feature, the hours before the event from which it takes its values."""
    wanted = windows(params, stated["horizon"])
    fig, axes = plots.canvas("From when does the model know the past?", height=max(1.6, 0.26 * len(wanted) + 1.1))
    if not wanted:
        axes.text(0.5, 0.5, "no history features: each row stands for itself", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return fig
    for row, window in enumerate(wanted):
        start, end = (window[side].total_seconds() / 3600 for side in ("start", "end"))
        axes.barh(row, start - end, left=max(end, 0.1), color=plots.BLUE, height=0.6)
    horizon = pd.Timedelta(stated["horizon"]).total_seconds() / 3600
    axes.axvline(max(horizon, 0.1), color=plots.RED, ls="--", lw=1.2, label=f"the decision, {stated['horizon']} before")
    axes.set_yticks(range(len(wanted)), [plots.plain(window["name"]) for window in wanted])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.invert_xaxis()
    axes.set_xticks([1, 2, 4, 12, 24, 72, 168, 672], ["1", "2", "4", "12", "24", "72", "168", "672"])
    axes.set(xlabel=plots.plain(f"hours before the {stated['unit']} is due (log scale)"))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="lower left")
    return fig


def describe_events(events: ir.Table, params: Params, stated: dict[str, Any]) -> str:
    """Return how many events there are, and how many columns describe each, as a sentence."""
    rows, joined = engine.count(f"{LAKE}/{stated['table']}"), sum(len(join.columns) for join in params.joins)
    related = f", {joined} of them from {len(params.joins)} declared joins" if joined else ""
    return f"**{rows:,}** {stated['units']} go in and come out, each now with {len(engine.columns(events))} columns{related}."


def describe_proofs(changed: int, online: float, params: Params, stated: dict[str, Any]) -> str:
    """Return the outcome of both proofs, as a sentence."""
    future = "No value changes" if changed == 0 else f"{changed} values change"
    if not windows(params, stated["horizon"]):
        return f"{future} when the future is taken away. There is no history that online values would have to equal."
    return (
        f"{future} when the future is taken away. Between the online values and the offline ones, at {MOMENTS} moments, "
        f"the largest difference is {online:.3g}."
    )


def describe_strongest(ranked: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return what the figure of the strongest features shows, in words."""
    if ranked.empty:
        return "No number has enough different values to be ranked."
    first = ranked.iloc[0]
    low, high = (decisions.show_level(first[end], stated) for end in ("lowest", "highest"))
    return (
        f"The {decisions.level_name(stated)} moves farthest over {show.code(first['feature'])}: from {low} to {high} "
        f"between its fifths. {len(ranked)} features could be ranked so."
    )


def describe_windows(params: Params, stated: dict[str, Any]) -> str:
    """Return how close to the event the history features come, in words."""
    wanted = windows(params, stated["horizon"])
    if not wanted:
        return "There are no history features: the params name none, so each row stands for itself."
    nearest = min(window["end"] for window in wanted)
    longest = max(window["start"] for window in wanted)
    return (
        f"The {len(wanted)} history features look back at most {short(longest)}, and never at the last "
        f"{short(nearest)} before the {stated['unit']} is due: {stated['horizon']} pass between decision and event, "
        "the rest until an outcome is known."
    )
