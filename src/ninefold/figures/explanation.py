"""Figures and sentences of single decisions: what made each forecast differ from the average one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold.core import decisions, plots, show

MOST = 6  # features that are told one by one
TOLD = 3  # of them, in words
LONGEST = 44  # characters of a label
NORMAL = 1.96  # standard errors on either side hold 95 of 100 samplings


def plot_contributions(table: pd.DataFrame, titles: Sequence[str], stated: dict[str, Any]) -> Figure:
    """Draw, a panel for each decision, how features move its forecast away from the average one.

    The largest contributions are bars from the average forecast, with what the sampling leaves open; the others are one.

    Parameters
    ----------
    table : DataFrame
        What `ninefold.core.explanation.explain` returned.
    titles : sequence of str
        Of the panels, in the order of ``row``.
    stated : dict
        The problem.
    """
    largest = [_largest(part) for _, part in table.groupby("row")]
    heights = [len(each) + 1.6 for each in largest]
    fig, panels = plots.canvas(
        f"What made {'this forecast' if len(largest) == 1 else 'these forecasts'} differ from the average one?",
        height=0.3 * sum(heights) + 0.7,
        nrows=len(largest),
        sharex=True,
        squeeze=False,
        height_ratios=heights,
    )
    bases = table.groupby("row")["base"].first()
    for axes, each, title, base in zip(panels[:, 0], largest, titles, bases, strict=True):
        _draw(axes, each, title, base, stated)
    panels[-1, 0].set(xlabel=plots.label(f"forecast of {_what(stated)}", 70))
    return fig


def describe_contributions(table: pd.DataFrame, titles: Sequence[str], stated: dict[str, Any]) -> str:
    """Return what moved each forecast most, and what such a contribution means and does not, in words; also an alt text."""
    told = []
    for (_, part), title in zip(table.groupby("row"), titles, strict=True):
        base, forecast = part["base"].iloc[0], part["base"].iloc[0] + part["contribution"].sum()
        moved = [
            f"{show.code(_named(line.feature, line.value))} ({_moved(line.contribution, stated)})"
            for line in _ranked(part).head(TOLD).itertuples()
        ]
        told.append(
            f"{show.code(title)}: {decisions.show_level(forecast, stated)} against {decisions.show_level(base, stated)} "
            f"on average, most of all by {', '.join(moved)}."
        )
    return " ".join(told) + (
        " A contribution is what a value adds to *this* forecast, against the rows that it is compared "
        "with; with the others it sums to the difference. It tells what the model relied on, not what causes the "
        "outcome: to change the value need not change what happens."
    )


def _draw(axes: Axes, largest: pd.DataFrame, title: str, base: float, stated: dict[str, Any]) -> None:
    place, moved = np.arange(len(largest)), largest["contribution"].to_numpy()
    colors = [plots.ORANGE if each > 0 else plots.BLUE for each in moved]
    open_ends = NORMAL * largest["standard_error"].to_numpy()
    axes.barh(place, moved, left=base, xerr=open_ends, color=colors, error_kw={"lw": 1.2, "capsize": 2})
    axes.axvline(base, color=plots.GREY, lw=1)
    axes.set_yticks(place, [plots.label(name, LONGEST) for name in largest["label"]])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    forecast = decisions.show_level(base + moved.sum(), stated)
    axes.set_title(plots.label(f"{title}: {forecast}, average {decisions.show_level(base, stated)}", 90), loc="left")
    if decisions.is_class(stated):
        plots.as_share(axes, "x")


def _largest(part: pd.DataFrame) -> pd.DataFrame:
    """Return the largest contributions, and the sum of the others as one: ``label``, ``contribution``, ``standard_error``.

    Of the sum no error is known: those of its parts hang together.
    """
    ranked = _ranked(part)
    shown, rest = ranked.head(MOST), ranked.iloc[MOST:]
    labels = [_named(*pair) for pair in zip(shown["feature"], shown["value"], strict=True)]
    table = shown[["contribution", "standard_error"]].assign(label=labels)
    if not len(rest):
        return table
    name = f"the other {len(rest)} features" if len(rest) > 1 else "the other feature"
    summed = pd.DataFrame({"contribution": [rest["contribution"].sum()], "standard_error": np.nan, "label": name})
    return pd.concat([table, summed], ignore_index=True)


def _ranked(part: pd.DataFrame) -> pd.DataFrame:
    return part.sort_values("contribution", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def _named(feature: str, value: str) -> str:
    return " ".join(f"{plots.cut(str(feature), 32)} = {plots.cut(value, 24)}".split())


def _moved(contribution: float, stated: dict[str, Any]) -> str:
    if decisions.is_class(stated):
        return f"{100 * contribution:+.1f} points"
    return decisions.number(contribution, "+")


def _what(stated: dict[str, Any]) -> str:
    if decisions.is_class(stated):
        return f"the probability that the {stated['unit']} {stated['positive']}"
    return str(stated["target"])
