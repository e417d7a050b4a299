"""The figures of stage 09: what has changed since the holdout, per period."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import timestamps
from ninefold.metrics import FOLLOW
from ninefold.monitoring import Params, sentences, tables
from ninefold.plotting import BLUE, GREY, ORANGE, PALETTE, SKY, as_share, canvas, empty, label, plain, reach
from ninefold.problem import ERROR, FORESIGHT, RANKING, Problem, decisions, title


def plot_drift(drifts: pd.DataFrame, params: Params) -> Figure:
    """Draw the PSI of the features that moved most, per period beside the holdout; bold where a feature drifted."""
    question = "Which inputs have moved?"
    if drifts.empty:
        return empty(question, sentences.ONLY_TIME)
    table = drifts.pivot(index="feature", columns="period", values="psi")[_periods(drifts)]
    table = table.loc[table.max(axis=1).sort_values(ascending=False).index[:24]]
    drifted = drifts.pivot(index="feature", columns="period", values="drifted").loc[table.index, table.columns].eq(True)
    fig, axes = canvas(question, height=0.27 * len(table) + 1.4)
    most = 4 * max(params.alerts.inputs.limit, 1e-9)
    sns.heatmap(
        table.rename(index=label),
        vmin=0,
        vmax=most,
        annot=len(table.columns) <= 26,
        fmt=".2f",
        cmap="Blues",
        cbar=False,
        ax=axes,
    )
    for text, is_bold in zip(axes.texts, drifted.to_numpy()[table.notna().to_numpy()], strict=False):
        text.set_fontweight("bold" if is_bold else "normal")
    axes.axvline(1, color="white", lw=3)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(axis="x", rotation=45 if len(table.columns) > 8 else 0)
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    return fig


def plot_performance(records: list[dict[str, Any]], baseline: dict[str, Any], problem: Problem) -> Figure:
    """Draw three figures with their intervals, of the holdout and of each period: ranking, error, and gap."""
    ranking, error, level = RANKING[problem.task], ERROR[problem.task], decisions.level_name(problem)
    titles = {ranking: f"{title(ranking)}\n(higher is better)", error: f"{title(error)}\n(lower is better)"}
    titles["gap"] = f"predicted less observed\n{label(level)}"
    spans = tables.figures_by_period(records, baseline)
    fig, panels = canvas("Is the model as good as on the holdout?", height=3.2, ncols=len(titles))
    for axes, (name, text) in zip(panels, titles.items(), strict=True):
        values = pd.DataFrame([figures.get(name, {}) for figures in spans.values()], columns=["value", "low", "high"])
        axes.axhspan(values["low"][0], values["high"][0], color=SKY, alpha=0.25, lw=0)
        _points(axes, range(len(spans)), values)
        axes.set_title(text, fontsize=9)
        _period_axis(axes, list(spans))
    panels[-1].axhline(0, color=GREY, lw=1)
    if problem.is_class:
        as_share(panels[-1])
    return fig


def plot_calibration(curves: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the observed against the predicted mean by decile of the prediction, on the holdout and in every period."""
    names, level = _periods(curves), label(decisions.level_name(problem))
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


def plot_weeks(weeks: pd.DataFrame, volume: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the predicted and the observed level per week, from the holdout on; dotted lines are where periods begin."""
    question = "Are predicted and observed the same?"
    if weeks.empty:
        return empty(question, "Without time there are no weeks.")
    fig, axes = canvas(question, height=3)
    sns.lineplot(weeks.set_index("week")[["observed", "predicted"]], palette=[ORANGE, BLUE], marker="o", ax=axes)
    for start in timestamps.local(volume["start"], problem.timezone):
        axes.axvline(start, color=GREY, lw=0.8, ls=":")
    axes.set(
        xlabel=f"{weeks.attrs.get('unit', 'week')} ({problem.timezone})", ylabel=label(decisions.level_name(problem))
    )
    axes.tick_params(axis="x", rotation=30)
    if problem.is_class:
        axes.set_ylim(0, None)
        as_share(axes)
    axes.legend(frameon=False)
    return fig


def plot_policies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw what following the model pays per row, on the holdout and in each period, beside the five best other policies."""
    means = table.groupby("policy", sort=False)["payoff"].mean().drop([FORESIGHT, FOLLOW])
    shown, names = [FOLLOW, *means.nlargest(5).index], _periods(table)
    fig, axes = canvas("Does the model still beat the baseline policies?", height=3.2)
    for number, policy in enumerate(shown):
        part = table[table["policy"] == policy].set_index("period").reindex(names).rename(columns={"payoff": "value"})
        _points(axes, np.arange(len(names)) + 0.12 * number, part, PALETTE[number], label(policy))
    _period_axis(axes, names, most=15)
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
        axes.set_title(label(text, 50), fontsize=9)
        _period_axis(axes, periods)
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


def _period_axis(axes: Axes, names: list[str], most: int = 7) -> None:
    """Name the periods below, at most so many of them."""
    step = -(-len(names) // most)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=45)
