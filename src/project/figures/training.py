"""Figures of stage 07: how good the chosen model is, what it is worth, where it is biased, what it relies on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from ninefold import plotting
from ninefold.metrics import FOLLOW, EvaluationPlan, threshold
from ninefold.plotting import BLUE, GREEN, GREY, ORANGE, RED, SKY, label
from ninefold.problem import FORESIGHT, RANKING, Problem, decisions, title
from ninefold.training import sentences

MOST, MOST_POLICIES, MOST_CONTRIBUTIONS = 15, 8, 6  # slices, and features; baseline policies; of a prediction
MOST_POINTS = 3000  # residuals
REFERENCE: dict[str, Any] = {"color": GREY, "ls": "--", "lw": 1}
STACKED: dict[str, Any] = {"nrows": 2, "sharex": True, "height_ratios": [2, 1]}


def plot_learning(curve: pd.DataFrame, plan: EvaluationPlan) -> Figure:
    """Draw the primary metric on unseen rows by how many rows the model is fitted on."""
    fig, axes = plotting.canvas("Would more rows help?", height=2.8)
    sns.lineplot(curve, x="rows", y="score", marker="o", lw=2, errorbar=None, ax=axes)
    axes.set(xlabel="training rows", ylabel=title(plan.primary.name), xlim=(0, None))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return fig


def plot_calibration(curve: pd.DataFrame, predicted: pd.DataFrame, problem: Problem) -> Figure:
    """Draw observed against predicted means by decile, over the distribution of the predictions."""
    fig, (axes, below) = plotting.canvas("Are the predictions calibrated?", height=4.6, **STACKED)
    ends, limits = [curve.min(axis=None), curve.max(axis=None)], None
    if problem.is_class:
        ends, limits = [0.0, max(1.08 * ends[1], 0.02)], (0, 1)
        axes.set_xlim(ends)
        plotting.as_share(axes)
        plotting.as_share(axes, "x")
    axes.plot(ends, ends, label="perfect", **REFERENCE)
    reach = plotting.reach(curve, "observed")
    style = {"fmt": "-o", "ms": 4, "capsize": 3, "elinewidth": 1, "label": "holdout deciles with interval"}
    axes.errorbar(curve["predicted"], curve["observed"], reach, color=BLUE, **style)
    axes.set_ylabel(plotting.plain(f"observed {decisions.level_name(problem)}"))
    axes.legend(frameon=False)
    sns.histplot(decisions.expected(predicted, problem), bins=50, binrange=limits, color=SKY, alpha=1, ax=below)
    below.set(xlabel=_predicted_name(problem), ylabel="rows")
    return fig


def plot_errors(curves: dict[str, Any], target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the ROC and precision-recall curves; of quantities, the residuals."""
    if not problem.is_class:
        return plot_residuals(target, predicted, problem)
    fig, (left, right) = plotting.canvas("How well does the model rank rows?", height=3.3, ncols=2)
    style = {"plot_chance_level": True, "chance_level_kw": REFERENCE, "curve_kwargs": {"color": BLUE}}
    roc, curve, rate = curves["roc"], curves["precision"], decisions.event(target, problem).mean()
    RocCurveDisplay(fpr=roc["false_positive_rate"], tpr=roc["true_positive_rate"]).plot(left, **style)
    PrecisionRecallDisplay(curve["precision"], curve["recall"], prevalence_pos_label=rate).plot(right, **style)
    return fig


def plot_residuals(target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the residuals of quantities by the size of the prediction, with their median and the mean interval."""
    fig, axes = plotting.canvas("How large are the errors?", height=3.2)
    value = predicted["prediction"]
    rows = predicted[["low", "high"]].sub(value, axis=0).assign(prediction=value, error=target - value)
    sample = rows.sample(min(len(rows), MOST_POINTS), random_state=0)
    axes.scatter(sample["prediction"], sample["error"], s=6, alpha=0.3, color=SKY, lw=0, rasterized=True)
    by_size = rows.groupby(pd.qcut(rows["prediction"].rank(method="first"), min(12, len(rows)), labels=False))
    mean, median = by_size.mean(), by_size["error"].median()
    axes.axhline(0, color=GREY, lw=1)
    axes.plot(mean["prediction"], median, "-o", color=BLUE, ms=4, label="median error")
    band = {"color": BLUE, "alpha": 0.12, "label": "predicted interval"}
    axes.fill_between(mean["prediction"], mean["low"], mean["high"], **band)
    axes.set(xlabel=_predicted_name(problem), ylabel="residual (outcome less prediction)")
    axes.legend(frameon=False)
    return fig


def plot_policies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw what each policy pays per row on the holdout, with intervals; of many policies the best ones."""
    fixed = table["policy"].isin([FOLLOW, FORESIGHT])
    table = table[fixed | table.index.isin(table[~fixed].nlargest(MOST_POLICIES, "payoff").index)]
    colors = table["policy"].map({FOLLOW: BLUE, FORESIGHT: GREEN}).fillna(GREY)
    question, reach = "What is it worth to follow the model?", plotting.reach(table, "payoff")
    fig, axes = plotting.bars(question, table["policy"], table["payoff"], reach, color=colors)
    axes.set_xlabel(plotting.plain(f"mean payoff per {problem.unit} ({problem.payoff_unit})"))
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


def plot_prices(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gain over the best baseline policy, as prices move one at a time, with intervals."""
    names = [row.price if row.factor == 1 else f"{row.price} × {row.factor:g}" for row in table.itertuples()]
    question, colors = "Does it still pay when prices move?", np.where(table["factor"] == 1, BLUE, SKY)
    fig, axes = plotting.bars(question, names, table["gain"], plotting.reach(table, "gain"), color=colors)
    axes.set_xlabel(plotting.plain(f"gain per {problem.unit} ({problem.payoff_unit})"))
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


def plot_importance(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the permutation importance of the most important features."""
    question, top = "What does the model rely on?", table.head(MOST)
    fig, axes = plotting.bars(question, top["feature"], top["loss"], top["std"], color=BLUE)
    axes.set_xlabel(f"decrease of {title(RANKING[problem.task])} when shuffled")
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
    axes.set_xlabel(_predicted_name(problem))
    return fig


def _predicted_name(problem: Problem) -> str:
    event = f"probability that the {problem.unit} {problem.positive}"
    return label(f"predicted {event if problem.is_class else problem.target}", 90)
