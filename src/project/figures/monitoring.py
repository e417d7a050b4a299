"""The figures of stage 09: what has changed since the holdout, per period."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ninefold.monitoring import Params, sentences
from ninefold.plotting import RED, canvas, empty, label

MOST = 40  # features that a figure shows


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
        table.rename(index=lambda name: label(name, most=44)),
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


def _periods(table: pd.DataFrame) -> list[str]:
    """Return the holdout and the periods of a table, in their order."""
    return list(table["period"].unique())


def period_axis(axes: Axes, names: list[str], most: int = 7, shift: float = 0.0) -> None:
    """Name the periods below, at most so many of them."""
    step = max(-(-len(names) // most), 1)
    axes.set_xticks(np.arange(0, len(names), step) + shift, names[::step], rotation=45)
