"""Sentences of stage 05: how the outcome is distributed, where it differs, which column may be a leak."""

from functools import partial

import pandas as pd
from scipy import stats

from ninefold import display, labels, plotting
from ninefold.exploration.leakage import score_name
from ninefold.exploration.stage import Exploration, decided, strongest
from ninefold.metrics import cluster_name
from ninefold.problem import Problem, decisions
from ninefold.sentences import render


def describe_overall(whole: dict[str, float], explore: Exploration) -> str:
    """Return the overall level with its interval."""
    shown = _say("overall", **whole, confidence=explore.level, problem=explore.problem)
    return _say("level", level=shown, name=display.code(decisions.level_name(explore.problem)), problem=explore.problem)


def describe_course(along: pd.DataFrame, explore: Exploration) -> str:
    """Return how the level moves along time, or the order of the rows, and whether that is more than chance."""
    means, period = along.set_index(along["group"].astype(str))["mean"], along["period"].min()
    mean = explore.overall()["mean"]
    off = int(((along["low"] > mean) | (along["high"] < mean)).sum())
    chance = stats.binom.ppf(0.99, len(along), 1 - explore.level)
    return _say("course", means=means, period=period, off=off, chance=chance, problem=explore.problem)


def describe_groups(table: pd.DataFrame, explore: Exploration) -> str:
    """Return the extremes of every column, and what was omitted."""
    columns = table.set_index("group").groupby("column", sort=False)
    means, omitted = {name: rows["mean"] for name, rows in columns}, 1 - columns["rows"].sum().min() / len(explore.df)
    return _say("groups", means=means, omitted=omitted, least=explore.least, problem=explore.problem)


def describe_gaps(table: pd.DataFrame, explore: Exploration) -> str:
    """Return the most significant row of `gaps`, or of `missing_effects`, and how many are significant, in words."""
    facts = {"rows": table, "missing": "outcome" in table, "confidence": explore.level}
    return _say("gaps", gap=_gap, problem=explore.problem, **facts)


def largest_gaps(ranked: pd.DataFrame, explore: Exploration) -> list[str]:
    """Return a sentence for each of the four most significant differences between groups."""
    rows = ranked[ranked["low"] > 0].head(4)
    return [f"{_gap(row, explore.problem, explore.level)}." for _, row in rows.iterrows()]


def describe_scores(scores: pd.DataFrame, problem: Problem) -> str:
    """Return the strongest column that is known in advance, and the suspicious, kept and dropped ones, in words."""
    return _say("scores", scores=scores, best=strongest(scores), decided=decided(scores), problem=problem)


def headline(whole: dict[str, float], table: pd.DataFrame, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    best = strongest(table)
    score = "" if best is None else f" ({score_name(problem)} {best['learned']:.2f})"
    name = "none" if best is None else labels.parts(best["column"])[0] + score
    return {decisions.level_name(problem): decisions.show_level(whole["mean"], problem), "strongest column": name}


def conclusion(whole: dict[str, float], table: pd.DataFrame, problem: Problem) -> str:
    """Return the bottom line."""
    level, best = headline(whole, table, problem).values()
    level = _say("level", level=level, name=decisions.level_name(problem), problem=problem)
    return _say("conclusion", level=level, best=best, table=table)


def _ends(means: pd.Series, problem: Problem) -> str:
    """Return the lowest and the highest of means, with the names of their groups, in Markdown."""
    low, high = means.index[int(means.argmin())], means.index[int(means.argmax())]
    return _say("ends", means=means, low=plotting.cut(low, 60), high=plotting.cut(high, 60), problem=problem)


def _gap(row: pd.Series, problem: Problem, level: float) -> str:
    """Return the two means of a row of `gaps`, or of `missing_effects`, and their difference, in Markdown."""
    means = pd.Series([row.get("mean of highest"), row.get("mean of lowest")], [row.get("highest"), row.get("lowest")])
    if missing := "outcome" in row:
        problem = problem.changed(focus=row["outcome"])
        means = pd.Series([row["if missing"], row["if present"]], ["missing", "present"])
    gap, low, high = row[["gap", "low", "high"]]
    if problem.is_class:
        gap = means.iloc[0].round(3) - means.iloc[1].round(3)  # of the levels as they are shown
    facts = {"column": row["column"], "missing": missing, "means": means, "differences": [gap, low, high]}
    return _say("gap", **facts, confidence=level, problem=problem)


_say = partial(
    render, "exploration", ends=_ends, show=decisions.show_level, one=decisions.one, level_name=decisions.level_name,
    cluster_name=cluster_name, score_name=score_name,
)  # fmt: skip
