"""Figures of stage 07: how the candidates compare, how good the chosen model is, where it is biased, what it relies on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from ninefold import plotting
from ninefold.metrics import FOLD, Evaluation, EvaluationPlan, one_score, with_interval
from ninefold.plotting import BLUE, GREY, ORANGE, label, short
from ninefold.problem import Problem, decisions, title
from ninefold.training import Calibrator, Folds, sentences

MOST_CONTRIBUTIONS = 6  # of a prediction
REFERENCE: dict[str, Any] = {"color": GREY, "ls": "--", "lw": 1}


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
