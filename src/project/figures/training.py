"""Figures of stage 07: how the candidates compare, how good the chosen model is, where it is biased, what it relies on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import labels, plotting
from ninefold.metrics import FOLD, FOLLOW, Evaluation, EvaluationPlan, one_score, threshold, with_interval
from ninefold.plotting import BLUE, GREEN, GREY, ORANGE, RED, SKY, label, short
from ninefold.problem import FORESIGHT, Problem, decisions, title
from ninefold.training import Calibrator, Folds, sentences

MOST, MOST_POLICIES, MOST_CONTRIBUTIONS = 15, 8, 6  # slices; baseline policies; of a prediction
REFERENCE: dict[str, Any] = {"color": GREY, "ls": "--", "lw": 1}
STACKED: dict[str, Any] = {"nrows": 2, "sharex": True, "height_ratios": [2, 1]}


@dataclass(frozen=True)
class Folded:
    """Lines that a cell of a table (`display.table`) shows when its summary is clicked."""

    summary: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, summary: str, facts: dict[str, Any]) -> Folded:
        """Return facts as lines, numbers with four significant digits."""
        pairs = ((name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in facts.items())
        return cls(summary, tuple(f"{name}: {value}" for name, value in pairs))

    def __str__(self) -> str:
        """Return the lines as text."""
        return "; ".join(self.lines)

    def __html__(self) -> str:
        """Return the lines as HTML."""
        lines = Markup("<br>").join(self.lines)
        return Markup("<details><summary>{}</summary>{}</details>").format(self.summary, lines)


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
    names = [
        f"{plotting.cut(labels.of(name), 44)}: {plotting.cut(group, 26)} ({count:,})" for name, group, count in rows
    ]
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
    axes.set_ylabel(f"gain per {short(problem.unit, 20)}\n({short(problem.payoff_unit, 20)})")
    below.set(xlabel=f"{unit} ({problem.timezone})", ylabel=short(decisions.level_name(problem), 26))
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
    below.bar(x, gain, color=np.where(gain > 0, BLUE, RED), label="gain")
    axes.axhline(0, **REFERENCE)
    axes.set_ylabel(f"cumulative gain\n({short(problem.payoff_unit, 26)})")
    below.set(ylabel=f"by {unit}", xlabel=unit if unit == "day" else f"number of the {unit}, the largest gain first")
    below.tick_params(axis="x", rotation=30)
    fig.align_ylabels()
    return fig


def plot_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> Figure:
    """Draw, as waterfalls, how features move each prediction from the average one, with the error of sampling (95 %)."""
    tops = [sentences.largest(part, MOST_CONTRIBUTIONS) for _, part in table.groupby("row")]
    question, heights = "What made these predictions differ from the average one?", [len(top) + 2.6 for top in tops]
    grid: dict[str, Any] = {"nrows": len(tops), "sharex": True, "squeeze": False, "height_ratios": heights}
    fig, panels = plotting.canvas(question, height=0.3 * sum(heights) + 0.7, **grid)
    for axes, top, name in zip(panels.flat, tops, titles, strict=True):
        base, change, errors = top["base"].iloc[0], top["contribution"].to_numpy(), 1.96 * top["standard_error"]
        ends, lines = base + change.cumsum(), np.arange(len(top))
        colors = np.where(change > 0, ORANGE, BLUE)
        axes.barh(lines, change, left=ends - change, xerr=errors, color=colors, error_kw=plotting.CAPS)
        axes.vlines(ends, lines, lines + 1, color=GREY, lw=0.8)
        axes.axvline(base, **REFERENCE)
        axes.plot(ends[-1], len(top), "D", color=GREY, ms=6)
        plotting.name_lines(axes, [*(plotting.cut(each, 44) for each in top["name"]), "prediction"])
        level, average = (decisions.show_level(value, problem) for value in (ends[-1], base))
        axes.set_title(short(f"{name}: {level}, average {average}", 90), loc="left")
        if problem.is_class:
            plotting.as_share(axes, "x")
    axes.set_xlabel(predicted_name(problem))
    return fig


def leaderboard(forecasts: dict[str, pd.DataFrame], folds: Folds, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per candidate, the primary metric and the payoff on unseen rows with intervals, and its calibrated score.

    That is the log loss, or the share of outcomes in the prediction interval, with the calibration that the params choose,
    on rows from which it was not learned. The last column, ``by fold``, has the primary metric of each fold.
    """
    problem, rows, metric, table = folds.problem, folds.unseen, plan.primary.name, {}
    target = rows[problem.target].to_numpy()
    for name, predicted in forecasts.items():
        ends = {} if problem.is_class else dict.fromkeys(("low", "high"), predicted["prediction"])  # not calibrated yet
        results = Evaluation(target, predicted.assign(**ends), rows, problem, plan).results()
        recent, latest = folds.newest(predicted)
        calibrator = Calibrator(latest, recent, problem, level=folds.params.interval)
        methods = calibrator.compare()
        scores = methods.set_index(methods.columns[0]).loc[calibrator.choose(methods, folds.params.calibration)]
        score = (
            f"{title(scores.index[0])}, calibrated"
            if problem.is_class
            else f"in the {folds.params.interval:.0%} interval"
        )
        shown = {title(metric): with_interval(results[metric]), score: scores.iloc[0]}
        at = predicted.groupby(FOLD).indices.values()
        values = [one_score(metric, target[mine], predicted.iloc[mine], problem) for mine in at]
        folded = {f"fold {number}": value for number, value in enumerate(values)}
        table[name] = {**shown, "payoff": with_interval(results["payoff"]), "by fold": folded}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("candidate")


def predicted_name(problem: Problem) -> str:
    """Return the name of an axis of predictions."""
    event = f"probability that the {problem.unit} {problem.positive}"
    return f"predicted {short(event, 80) if problem.is_class else label(problem.target)}"


def payoff_name(what: str, problem: Problem) -> str:
    """Return the name of an axis of payoffs or gains per row."""
    return plotting.plain(f"{what} per {problem.unit} ({problem.payoff_unit})")
