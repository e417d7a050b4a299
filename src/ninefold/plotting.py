"""The look of every figure: one theme, colours that serve the colour-blind, a title that is the question."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), darkest first so that one series reads in print.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#7F7F7F")
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, GREY = PALETTE


def canvas(question: str, width: float = 8.0, height: float = 3.6, **subplots: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes in Ninefold's theme, with a question as title.

    Parameters
    ----------
    question : str
        The title.
    width, height : float
        Inches.
    **subplots
        Passed on to `matplotlib.pyplot.subplots`.
    """
    import seaborn as sns  # takes 0.7 s with scipy.stats

    sns.set_theme(style="whitegrid", context="notebook", palette=PALETTE, font="DejaVu Sans", font_scale=0.85)
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "grid.color": "#E6E8EB"})
    fig, axes = plt.subplots(figsize=(width, height), layout="constrained", **subplots)
    fig.suptitle(question, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return fig, axes


def as_share(axes: Axes, which: str = "y") -> None:
    """Label an axis in per cent."""
    from matplotlib.ticker import PercentFormatter

    (axes.yaxis if which == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1.0, decimals=None))


def label(name: Any, most: int = 32) -> str:
    """Return a name of the data for a figure: plain, and at most `most` characters long."""
    return plain(cut(str(name), most))


def cut(text: str, most: int) -> str:
    """Return a text of at most `most` characters, with an ellipsis where it was longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plain(text: Any) -> str:
    """Return a name with its dollar signs escaped: matplotlib reads text between two of them as mathematics."""
    return str(text).replace("$", r"\$")
