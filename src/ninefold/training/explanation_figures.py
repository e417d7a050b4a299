"""Figures and sentences on single predictions: what made each differ from the average one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.problem import Problem, decisions

MOST = 6  # features that are shown one by one
IN_WORDS = 3  # of them, in the sentence
LONGEST = 44  # characters of a label
NORMAL = 1.96  # standard errors on either side of a 95 % interval


def plot_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> Figure:
    """Draw how features move each prediction of `explanation.explain` from the average, with the error of sampling."""
    rows = [_ranked(part) for _, part in table.groupby("row")]
    heights = [min(len(ranked), MOST + 1) + 1.6 for ranked in rows]
    grid: dict[str, Any] = {"nrows": len(rows), "sharex": True, "squeeze": False, "height_ratios": heights}
    question = "What made these predictions differ from the average one?"
    fig, panels = plotting.canvas(question, height=0.3 * sum(heights) + 0.7, **grid)
    for axes, ranked, title in zip(panels[:, 0], rows, titles, strict=True):
        top, rest, base = ranked.head(MOST), ranked.iloc[MOST:], ranked["base"].iloc[0]
        change, names = top["contribution"].to_numpy(), top["name"].to_list()
        if len(rest):
            change = np.append(change, rest["contribution"].sum())
            names.append(f"other features: {len(rest)}")
        errors = np.append(NORMAL * top["standard_error"], [np.nan] * (len(change) - len(top)))
        colors = [plotting.ORANGE if each > 0 else plotting.BLUE for each in change]
        axes.barh(range(len(change)), change, left=base, xerr=errors, color=colors, error_kw={"lw": 1.2, "capsize": 2})
        axes.axvline(base, color=plotting.GREY, lw=1)
        axes.set_yticks(range(len(change)), [plotting.label(name, LONGEST) for name in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        level, average = (decisions.show_level(value, problem) for value in (base + change.sum(), base))
        axes.set_title(plotting.label(f"{title}: {level}, average {average}", 90), loc="left")
        if problem.is_class:
            plotting.as_share(axes, "x")
    predicted = f"probability that the {problem.unit} {problem.positive}" if problem.is_class else problem.target
    axes.set(xlabel=plotting.label(f"predicted {predicted}", 70))
    return fig


def describe_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> str:
    """Return what moved each prediction most, and what a contribution means."""
    sentences = []
    for (_, part), title in zip(table.groupby("row"), titles, strict=True):
        base, largest = part["base"].iloc[0], _ranked(part).head(IN_WORDS).itertuples(index=False)
        top = ", ".join(f"{display.code(row.name)} ({_change(row.contribution, problem)})" for row in largest)
        level, average = (decisions.show_level(value, problem) for value in (base + part["contribution"].sum(), base))
        sentences.append(f"{display.code(title)}: {level} against {average} on average, most of all by {top}.")
    return (
        f"{' '.join(sentences)} A contribution is what a value adds to this prediction, compared with background rows. It "
        "shows what the model relied on, not what causes the outcome."
    )


def _ranked(part: pd.DataFrame) -> pd.DataFrame:
    """Return the contributions to one prediction, the largest first, with the ``name`` of each."""
    pairs = zip(part["feature"].astype(str), part["value"], strict=True)
    names = [" ".join(f"{plotting.cut(name, 32)} = {plotting.cut(value, 24)}".split()) for name, value in pairs]
    return part.assign(name=names).sort_values("contribution", key=np.abs, ascending=False, kind="stable")


def _change(contribution: float, problem: Problem) -> str:
    return f"{100 * contribution:+.1f} points" if problem.is_class else decisions.number(contribution, "+")
