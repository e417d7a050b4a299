"""The figures of stage 04: the split, and what a model can gain."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ninefold.plotting import canvas, label, plain
from ninefold.problem import Problem


def plot_split(counts: pd.DataFrame) -> Figure:
    """Draw the rows of each part: per period where there is time, else per class or decile of the outcome."""
    fig, axes = canvas("How are the rows split?")
    counts.plot.bar(stacked=True, width=0.85, ylabel="rows with an outcome", legend=False, ax=axes)
    step = -(-len(counts) // 12)
    axes.set_xticks(range(0, len(counts), step), map(label, counts.index[::step]), rotation=30)
    fig.legend(frameon=False, ncols=3, loc="outside lower center")
    return fig


def plot_baselines(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the mean payoff of the ten best baseline policies, and of perfect foresight, on open rows."""
    best = table[table["validation"].rank(ascending=False, method="min") <= 11]
    fig, axes = canvas("How much can a model gain?", height=max(2.6, 0.45 * len(best) + 1))
    long = best.assign(policy=best["policy"].map(plain)).melt("policy", ["train", "validation"])
    sns.barplot(long, x="value", y="policy", hue="variable", saturation=1, ax=axes)
    axes.set(xlabel=plain(f"mean payoff per {problem.unit} ({problem.payoff_unit})"), ylabel="")
    axes.legend(frameon=False)
    return fig
