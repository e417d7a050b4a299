"""Sentences of stage 06: the windows of the history, the strongest features."""

import pandas as pd

from ninefold.features.declarations import Params, windows
from ninefold.features.stage import short
from ninefold.problem import Problem, decisions
from ninefold.sentences import render


def describe_strongest(ranked: pd.DataFrame, problem: Problem) -> str:
    """Return what the figure of the strongest features shows, in words."""
    facts = {"level": decisions.level_name(problem), "show": decisions.show_level}
    return render("features", "strongest", ranked=ranked, problem=problem, **facts)


def describe_windows(params: Params, problem: Problem) -> str:
    """Return which hours before the event the history features use, in words."""
    return render("features", "windows", windows=windows(params, problem.horizon), short=short, problem=problem)
