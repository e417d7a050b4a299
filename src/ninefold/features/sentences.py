"""Sentences of stage 06: the windows of the history, the strongest features."""

from __future__ import annotations

import pandas as pd

from ninefold import display
from ninefold.features.declarations import Params, windows
from ninefold.features.stage import short
from ninefold.problem import Problem, decisions


def describe_strongest(ranked: pd.DataFrame, problem: Problem) -> str:
    """Return what the figure of the strongest features shows, in words."""
    if ranked.empty:
        return "No number has enough different values to be ranked."
    low, high = (decisions.show_level(ranked[end].iloc[0], problem) for end in ("lowest", "highest"))
    return (
        f"Of {len(ranked)} features, the {decisions.level_name(problem)} varies most over "
        f"{display.code(ranked['feature'].iloc[0])}: from {low} to {high} between its quintiles."
    )


def describe_windows(params: Params, problem: Problem) -> str:
    """Return which hours before the event the history features use, in words."""
    every = windows(params, problem.horizon)
    if not every:
        return "The params name no history features."
    longest, nearest = max(window.start for window in every), min(window.end for window in every)
    return (
        f"The {len(every)} history features look back at most {short(longest)}, and never at the last {short(nearest)} "
        f"before the {problem.unit} is due."
    )
