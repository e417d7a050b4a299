"""The figure of stage 06: what the features see of the past."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ninefold import features
from ninefold.plotting import RED, canvas, label, plain
from ninefold.problem import Problem


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
