"""The figures of stage 08: what the service decided, and what that paid."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ninefold.plotting import BLUE, GREY, RED, SKY, as_share, canvas, label, plain, short
from ninefold.problem import Problem, decisions
from ninefold.serving import sentences


def plot_decisions(answers: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the actions over the probability, or the action over the prediction."""
    fig, axes = canvas("What did the service decide?", height=3.2)
    if problem.is_class:
        likeliest = answers[decisions.forecast_columns(problem)].max(axis=1)
        groups = {action: likeliest[answers["action"] == action] for action in problem.actions}
        names = [f"{short(action)} ({len(group) / len(answers):.0%})" for action, group in groups.items()]
        axes.hist(list(groups.values()), bins=50, range=(0, 1), stacked=True, label=names)
        if problem.break_even is not None:
            axes.axvline(problem.break_even, color=RED, ls="--", lw=1.2, label="break-even")
        event = f"probability that the {problem.unit} {problem.positive}"
        name = plain(event) if problem.task == "binary" else "probability of the likeliest class"
        axes.set(xlabel=name, ylabel="answers")
        as_share(axes, "x")
    else:
        x, ends = answers["prediction"], answers["prediction"].agg(["min", "max"])
        axes.vlines(x, answers["low"], answers["high"], color=SKY, alpha=0.3, lw=1, label="interval")
        axes.plot(ends, ends, color=GREY, ls="--", lw=1, label="prediction")
        axes.scatter(x, answers["action"], s=8, color=BLUE, alpha=0.6, label="action")
        axes.set(xlabel=f"prediction of {label(problem.target)}", ylabel=label(problem.target))
    axes.legend(frameon=False)
    return fig


def plot_deciles(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the expected and the actual payoff by decile of the answers, and that of baseline policies."""
    lines = table.set_index("decile").drop(columns=["level", "rows"]).rename(columns=short)
    fig, axes = canvas("Does the payoff match the expectation?", height=3.4)
    lines.drop(columns=["expected", "paid"]).plot(color=GREY, style=["--", ":", "-."] * len(lines.columns), ax=axes)
    axes.plot(lines["expected"], color=SKY, marker="o", label="expected")
    axes.plot(lines["paid"], color=BLUE, marker="o", label="actual, on the holdout")
    axes.set(xlabel=f"decile of the answers, by {sentences.ORDER[problem.task]}", xticks=lines.index)
    axes.set_ylabel(short(f"payoff per {problem.unit}"))
    axes.legend(frameon=False)
    return fig
