"""The figure of stage 02: how many rows arrived."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold import collection
from ninefold.plotting import BLUE, RED, SKY, canvas, label


def plot_volume(manifest: pd.DataFrame, params: collection.Params) -> Figure:
    """Draw the rows that arrived and the minimum expected: per month, a panel per table with time; else per table."""
    timed = [name for name, source in params.tables.items() if source.time]
    if not timed:
        return _plot_sizes(manifest, params)
    fig, panels = canvas("Is every month complete?", height=2.1 * len(timed) + 0.5, nrows=len(timed))
    for axes, name in zip(np.ravel(panels), timed, strict=True):
        part = manifest[manifest["table"] == name]
        axes.bar(part["period"], part["rows"], color=np.where(collection.is_whole(part), BLUE, SKY))
        axes.axhline(params.tables[name].min_rows, color=RED, ls="--", lw=1, label="expected minimum")
        axes.set(title=label(name), xlabel="month (UTC)", ylabel="rows")
        axes.set_xticks(range(0, len(part), 1 + len(part) // 10))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="lower right", framealpha=1)
    return fig


def _plot_sizes(manifest: pd.DataFrame, params: collection.Params) -> Figure:
    table = manifest.groupby("table", sort=False)[["rows"]].sum()
    table["expected minimum"] = [params.tables[name].min_rows for name in table.index]
    fig, axes = canvas("Is every table complete?", height=0.45 * len(table) + 1)
    table.rename(index=label).plot.barh(color=[BLUE, RED], xlabel="rows", ylabel="", ax=axes)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return fig
