"""The figures of stage 09: what has changed since the holdout, per period."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ninefold.metrics import FOLLOW
from ninefold.monitoring import Params, sentences
from ninefold.plotting import BLUE, GREY, PALETTE, RED, SKY, as_share, canvas, empty, label, panels, plain, reach, short
from ninefold.problem import ERROR, FORESIGHT, Problem, decisions, title

MOST = 40  # features that a figure shows
TITLES = {"gap": "predicted less observed (0 is best)"}


def plot_drift(drifts: pd.DataFrame, params: Params) -> Figure:
    """Draw the PSI of the features that drifted or moved most, in every period, on a log scale; a dot marks drift."""
    question = "Which inputs have moved?"
    if drifts.empty:
        return empty(question, sentences.ONLY_TIME)
    table, marks = (drifts.pivot(index="feature", columns="period", values=name) for name in ("psi", "drifted"))
    order = pd.DataFrame({"drifted": marks.eq(True).any(axis=1), "psi": table.median(axis=1)})
    table = table.loc[order.sort_values(["drifted", "psi"], ascending=False).index[:MOST], _periods(drifts)]
    marks = marks.reindex_like(table).eq(True).map({True: "●", False: ""}.get)
    fig, axes = canvas(question, height=0.22 * len(table) + 1.6)
    sns.heatmap(
        table.rename(index=label),
        norm=LogNorm(0.01, 10),
        annot=marks,
        fmt="",
        cmap="Blues",
        linewidths=0.5,
        cbar_kws={"label": "PSI", "ticks": [0.01, 0.1, 0.25, 1, 10], "format": "%g"},
        ax=axes,
    )
    for bound in {0.1, 0.25, params.alerts.inputs.limit}:
        axes.collections[0].colorbar.ax.axhline(bound, color=RED, lw=1)
    axes.set(xlabel="", ylabel="")
    period_axis(axes, list(table), 26, 0.5)
    axes.tick_params(axis="y", rotation=0)
    return fig


def plot_periods(scores: pd.DataFrame, names: list[str]) -> Figure:
    """Draw figures with their intervals, a panel each: points are periods, the band is the holdout."""
    fig, axes = panels("Is the model as good as on the holdout?", len(names), 3)
    for one, name in zip(axes, names, strict=True):
        values = scores[scores["figure"] == name]
        holdout = values[values["period"] == "holdout"]
        one.axhspan(holdout["low"].squeeze(), holdout["high"].squeeze(), color=SKY, alpha=0.25, lw=0)
        _points(one, range(len(values)), values)
        one.set_title(
            TITLES.get(name) or f"{title(name)} ({'lower' if name in ERROR.values() else 'higher'} is better)"
        )
        period_axis(one, list(values["period"]))
    return fig


def plot_calibration(curves: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the observed against the predicted mean by decile of the prediction, on the holdout and in every period."""
    names, level = _periods(curves), short(decisions.level_name(problem))
    lines = -(-len(names) // 5)
    grid = {"nrows": lines, "ncols": min(len(names), 5), "sharex": True, "sharey": True, "squeeze": False}
    fig, panels = canvas("Are the predictions still calibrated?", height=2.2 * lines + 0.8, **grid)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        part = curves[curves["period"] == name]
        axes.axline([curves["predicted"].min()] * 2, slope=1, color=GREY, ls="--", lw=1, label="perfect")
        _points(axes, part["predicted"], part, label="by decile")
        axes.plot(part["predicted"], part["value"], color=BLUE, lw=1)
        axes.set_title(name, fontsize=9)
    if problem.is_class:
        as_share(panels[0, 0])
        as_share(panels[0, 0], "x")
    fig.supylabel(f"observed {level}", fontsize=9)
    panels[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    fig.supxlabel(f"predicted {level}", fontsize=9)
    return fig


def plot_policies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw what following the model pays per row, on the holdout and in each period, beside the five best other policies."""
    means = table.groupby("policy", sort=False)["payoff"].mean().drop([FORESIGHT, FOLLOW])
    shown, names = [FOLLOW, *means.nlargest(5).index], _periods(table)
    fig, axes = canvas("Does the model still beat the baseline policies?", height=3.2)
    for number, policy in enumerate(shown):
        part = table[table["policy"] == policy].set_index("period").reindex(names).rename(columns={"payoff": "value"})
        _points(axes, np.arange(len(names)) + 0.12 * number, part, PALETTE[number], short(policy))
    period_axis(axes, names, most=15)
    axes.set_ylabel(plain(f"payoff per {problem.unit}\n({problem.payoff_unit})"))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def plot_strategies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw, per period, what each strategy paid above never retraining, and its error; dots are new models."""
    question, periods = "What would retraining have gained?", list(table["period"].unique())
    if table.empty:
        return empty(question, "nothing has arrived to retrain on")
    fig, panels = canvas(question, height=3.2, ncols=2, sharex=True)
    texts = {"gain": f"payoff per {problem.unit} above never", "error": title(ERROR[problem.task])}
    for axes, (column, text) in zip(panels, texts.items(), strict=True):
        for name, part in table.groupby("strategy", sort=False):
            axes.plot(part["period"], part[column], label=name, marker="o", markevery=part["new"].to_numpy())
        axes.set_title(short(text, 50), fontsize=9)
        period_axis(axes, periods)
    panels[1].legend(frameon=False, fontsize=8, markerscale=0)
    return fig


def _periods(table: pd.DataFrame) -> list[str]:
    """Return the holdout and the periods of a table, in their order."""
    return list(table["period"].unique())


def _points(axes: Axes, x: Any, values: pd.DataFrame, color: str = BLUE, label: str = "") -> None:
    """Draw ``value`` with the interval from ``low`` to ``high``."""
    axes.errorbar(
        x, values["value"], reach(values, "value"), fmt="o", ms=5, lw=1.4, capsize=3, color=color, label=label
    )


def period_axis(axes: Axes, names: list[str], most: int = 7, shift: float = 0.0) -> None:
    """Name the periods below, at most so many of them."""
    step = max(-(-len(names) // most), 1)
    axes.set_xticks(np.arange(0, len(names), step) + shift, names[::step], rotation=45)
