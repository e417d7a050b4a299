"""Figures and sentences on single predictions: what made each differ from the average one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.problem import Problem, decisions

MOST = 6  # features that are shown one by one
IN_WORDS = 3  # of them, in the sentence
LONGEST = 44  # characters of a label
NORMAL = 1.96  # standard errors on either side of a 95 % interval


def plot_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> Figure:
    """Draw, a panel for each prediction, how features move it away from the average one.

    The largest contributions are bars with the interval of the sampling; the others are one bar.

    Parameters
    ----------
    table : DataFrame
        What `ninefold.training.explanation.explain` returned.
    titles : sequence of str
        Of the panels, in the order of ``row``.
    """
    largest = [_largest(part) for _, part in table.groupby("row")]
    heights = [len(each) + 1.6 for each in largest]
    fig, panels = plotting.canvas(
        f"What made {'this prediction' if len(largest) == 1 else 'these predictions'} differ from the average one?",
        height=0.3 * sum(heights) + 0.7,
        nrows=len(largest),
        sharex=True,
        squeeze=False,
        height_ratios=heights,
    )
    bases = table.groupby("row")["base"].first()
    for axes, each, title, base in zip(panels[:, 0], largest, titles, bases, strict=True):
        _draw(axes, each, title, base, problem)
    what = f"probability that the {problem.unit} {problem.positive}" if problem.is_class else problem.target
    panels[-1, 0].set(xlabel=plotting.label(f"predicted {what}", 70))
    return fig


def describe_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> str:
    """Return what moved each prediction most, and what a contribution means; also an alt text."""
    level, sentences = decisions.show_level, []
    for (_, part), title in zip(table.groupby("row"), titles, strict=True):
        base = part["base"].iloc[0]
        top = ", ".join(
            f"{display.code(_name(line.feature, line.value))} ({_change(line.contribution, problem)})"
            for line in _ranked(part).head(IN_WORDS).itertuples()
        )
        sentences.append(
            f"{display.code(title)}: {level(base + part['contribution'].sum(), problem)} against {level(base, problem)} on "
            f"average, most of all by {top}."
        )
    return " ".join(sentences) + (
        " A contribution is what a value adds to this prediction, compared with background rows. It shows what the model "
        "relied on, not what causes the outcome."
    )


def _draw(axes: Axes, largest: pd.DataFrame, title: str, base: float, problem: Problem) -> None:
    place, change = np.arange(len(largest)), largest["contribution"].to_numpy()
    colors = [plotting.ORANGE if each > 0 else plotting.BLUE for each in change]
    errors = NORMAL * largest["standard_error"].to_numpy()
    axes.barh(place, change, left=base, xerr=errors, color=colors, error_kw={"lw": 1.2, "capsize": 2})
    axes.axvline(base, color=plotting.GREY, lw=1)
    axes.set_yticks(place, [plotting.label(name, LONGEST) for name in largest["label"]])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    levels = [decisions.show_level(value, problem) for value in (base + change.sum(), base)]
    axes.set_title(plotting.label(f"{title}: {levels[0]}, average {levels[1]}", 90), loc="left")
    if problem.is_class:
        plotting.as_share(axes, "x")


def _largest(part: pd.DataFrame) -> pd.DataFrame:
    """Return the largest contributions, and the sum of the others: ``label``, ``contribution``, ``standard_error``.

    Of the sum no error is known: those of its parts are correlated.
    """
    ranked = _ranked(part)
    ranked["label"] = [_name(*pair) for pair in zip(ranked["feature"], ranked["value"], strict=True)]
    top, rest = ranked.head(MOST)[["label", "contribution", "standard_error"]], ranked.iloc[MOST:]
    if rest.empty:
        return top
    label = f"the other {len(rest)} features" if len(rest) > 1 else "the other feature"
    others = pd.DataFrame({"label": [label], "contribution": [rest["contribution"].sum()], "standard_error": np.nan})
    return pd.concat([top, others], ignore_index=True)


def _ranked(part: pd.DataFrame) -> pd.DataFrame:
    return part.sort_values("contribution", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def _name(feature: str, value: str) -> str:
    return " ".join(f"{plotting.cut(str(feature), 32)} = {plotting.cut(value, 24)}".split())


def _change(contribution: float, problem: Problem) -> str:
    return f"{100 * contribution:+.1f} points" if problem.is_class else decisions.number(contribution, "+")
