"""The figure of stage 01: what a decision pays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ninefold.plotting import GREY, as_share, canvas, plain, short
from ninefold.problem import Problem, decisions


def plot_decision(problem: Problem) -> Figure:
    """Draw what decides: payoffs over the probability, payoffs by class, or the cost of an error in the quantity."""
    return {"binary": _plot_probability, "multiclass": _plot_classes, "regression": _plot_costs}[problem.task](problem)


def _plot_probability(problem: Problem) -> Figure:
    probability = np.linspace(0, 1, 101)
    payoffs = decisions.expected_payoff(pd.DataFrame({"probability": probability}), problem)
    fig, axes = canvas("Which action pays at which probability?")
    payoffs.set_axis(probability).rename(columns=short).plot(lw=2, ax=axes)
    if problem.break_even is not None:
        axes.axvline(problem.break_even, color=GREY, ls="--", lw=1, label=f"break-even {problem.break_even:.2g}")
    axes.set(xlabel=plain(f"probability that the {problem.unit} {problem.positive}"), ylabel=plain(problem.payoff_unit))
    as_share(axes, "x")
    axes.legend(frameon=False)
    return fig


def _plot_classes(problem: Problem) -> Figure:
    payoffs = problem.payoff_matrix.rename(columns=problem.class_labels).rename(index=short, columns=short)
    fig, axes = canvas("What does each action pay, by class?", height=0.4 * len(payoffs) + 1.4)
    sns.heatmap(payoffs, annot=True, fmt="g", cmap="Blues", cbar_kws={"label": plain(problem.payoff_unit)}, ax=axes)
    axes.set(xlabel="actual class", ylabel="action")
    axes.tick_params(axis="y", rotation=0)
    return fig


def _plot_costs(problem: Problem) -> Figure:
    error = np.linspace(-1, 1, 201)
    fig, axes = canvas("What does an error cost?")
    axes.plot(error, decisions.payoff(error, np.zeros(len(error)), problem), lw=2)
    axes.axvline(0, color=GREY, ls="--", lw=1)
    axes.set_xlabel("error of the action: too low (left), too high (right)")
    axes.set_ylabel(plain(f"payoff ({problem.payoff_unit})"))
    return fig
