"""The figure of stage 03: which columns have gaps."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ninefold.plotting import BLUE, as_share, canvas, plain


def plot_missing(shares: pd.DataFrame) -> Figure:
    """Draw the missing share of the columns that miss any."""
    top = shares.head(20)
    fig, axes = canvas("Which columns have missing values?", height=max(2.0, 0.28 * len(top) + 1))
    sns.barplot(x=top["missing"], y=(top["table"] + "." + top["column"]).map(plain), color=BLUE, saturation=1, ax=axes)
    axes.set(xlabel="share of missing values", ylabel="")
    as_share(axes, "x")
    return fig
