"""The figures of stage 06: what the features see of the past, and what they say of the outcome."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ninefold import features
from ninefold.plotting import RED, as_share, canvas, empty, label, panels, plain
from ninefold.problem import Problem, decisions


def plot_strongest(deciles: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the mean target over the deciles of the strongest numbers, a panel each."""
    parts = list(deciles.groupby("feature", sort=False))
    question = "Do the features order the outcomes?"
    if not parts:
        return empty(question, "no number has enough different values")
    fig, drawn = panels(question, len(parts), 2.1, sharey=True)
    for axes, (name, part) in zip(drawn, parts, strict=True):
        axes.plot(part["value"], part["level"], marker="o")
        axes.set_title(label(name), fontsize=9)
        if problem.is_class:
            as_share(axes)
    fig.supylabel(label(decisions.level_name(problem)), fontsize=9)
    return fig


def plot_windows(params: features.Params, problem: Problem) -> Figure:
    """Draw, for every history feature, the hours before the event from which it takes its values."""
    every, hour = features.windows(params, problem.horizon)[::-1], pd.Timedelta("1h")
    fig, axes = canvas("Which past hours does each history feature cover?", height=max(1.6, 0.26 * len(every) + 1.1))
    if not every:
        axes.text(0.5, 0.5, "no history features", ha="center", transform=axes.transAxes)
    for row, window in enumerate(every):
        axes.barh(row, (window.start - window.end) / hour, left=max(window.end / hour, 0.1), height=0.6, color="C0")
    decision = max(pd.Timedelta(problem.horizon) / hour, 0.1)
    axes.axvline(decision, color=RED, ls="--", lw=1.2, label=f"prediction time, {problem.horizon} before")
    axes.set_yticks(range(len(every)), [label(window.name) for window in every])
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 4, 12, 24, 72, 168, 672], ["1", "2", "4", "12", "24", "72", "168", "672"])
    axes.invert_xaxis()
    axes.set_xlabel(plain(f"hours before the {problem.unit} is due (log scale)"))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="lower left")
    return fig
