"""The look of every figure: one theme, colours that serve the colour-blind, a title that is the question."""

import warnings
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ninefold import labels

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), darkest first so that one series reads in print.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#7F7F7F")
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, GREY = PALETTE
CAPS = {"lw": 1.2, "capsize": 3}  # of the intervals of bars


def theme() -> None:
    """Set Ninefold's theme, for the figures that a notebook draws itself, too."""
    import seaborn as sns  # takes 0.7 s with scipy.stats

    look: dict[str, Any] = {"axes.spines.top": False, "axes.spines.right": False, "grid.color": "#E6E8EB"}
    look |= {f"{part}.titleweight": "bold" for part in ("axes", "figure")} | {"figure.titlesize": 11}
    look |= {"axes.titlelocation": "left", "figure.constrained_layout.use": True}
    look |= {"text.parse_math": False}  # names of columns and classes are no formulas
    warnings.filterwarnings("ignore", "The figure layout has changed to tight")  # by grids of seaborn
    sns.set_theme(style="whitegrid", palette=PALETTE, font="DejaVu Sans", font_scale=0.85, rc=look)


def canvas(question: str, width: float = 8.0, height: float = 3.6, **subplots: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes (`matplotlib.pyplot.subplots`) in Ninefold's theme, with a question as title; in inches."""
    theme()
    fig, axes = plt.subplots(figsize=(width, height), layout="constrained", **subplots)
    fig.suptitle(question, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return fig, axes


def empty(question: str, text: str = "nothing to compare") -> Figure:
    """Return a figure that says why there is nothing to draw."""
    fig, axes = canvas(question, height=1.4)
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
    return fig


def panels(question: str, count: int, height: float, **subplots: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure (`canvas`) of `count` panels, up to three side by side, of a height in inches, and their axes."""
    if not count:
        return empty(question), []
    across = 2 if count == 4 else min(count, 3)
    down = -(-count // across)
    fig, grid = canvas(question, height=height * down + 0.4, nrows=down, ncols=across, squeeze=False, **subplots)
    for spare in grid.flat[count:]:
        spare.set_axis_off()
    return fig, list(grid.flat[:count])


def name_lines(axes: Axes, names: Iterable[Any]) -> None:
    """Name the lines of a panel, which are at 0, 1, 2 ..., from the top."""
    lines = [short(name, 76) for name in names]
    axes.set_yticks(range(len(lines)), lines, fontsize=8)
    axes.set_ylim(max(len(lines), 1) - 0.5, -0.5)
    axes.set_ylabel("")
    axes.grid(axis="y", visible=False)


def reach(table: pd.DataFrame, value: str, low: str = "low", high: str = "high") -> np.ndarray:
    """Return how far intervals go below and above a column of values, as error bars: float64, shape (2, n), none below 0."""
    ends: np.ndarray = np.array([table[value] - table[low], table[high] - table[value]], dtype="float64")
    return ends.clip(min=0)  # rounding may leave less, which cannot be drawn


def as_share(axes: Axes, which: str = "y") -> None:
    """Label an axis in per cent."""
    (axes.yaxis if which == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1.0, decimals=None))


def label(column: Any, most: int = 32) -> str:
    """Return the label of a column for a figure, `short`, and its unit behind it (section ``labels`` of ``params.yaml``)."""
    text, unit = labels.parts(column)
    return short(text, most) + plain(unit)


def short(name: Any, most: int = 32) -> str:
    """Return a value, a class or another name for a figure: plain, on one line, and at most `most` characters long."""
    return plain(cut(name, most))


def cut(name: Any, most: int) -> str:
    """Return a name on one line of at most `most` characters, with an ellipsis where it was longer; ``""`` if it is empty."""
    text = " ".join(str(name).split()) or '""'
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plain(text: Any) -> str:
    """Return a name with its dollar signs escaped: matplotlib reads text between two of them as mathematics."""
    return str(text).replace("$", r"\$")
