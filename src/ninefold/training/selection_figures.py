"""Figures and sentences on the choice of a model: candidates, search, folds, calibration, learning curve."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan
from ninefold.problem import Problem, decisions, title
from ninefold.training.cross_validation import FOLD
from ninefold.training.params import Params
from ninefold.training.selection import NAIVE
from ninefold.training.stage import LockedHoldout
from ninefold.training.tuning import as_text


def plot_learning(curve: pd.DataFrame, plan: EvaluationPlan) -> Figure:
    """Draw the primary metric on unseen rows by how many rows the model is fitted on."""
    fig, axes = plotting.canvas("Would more rows help?", height=2.8)
    axes.plot(curve["rows"], curve["score"], marker="o", color=plotting.BLUE, lw=2)
    axes.set(xlabel="rows that the model is fitted on", ylabel=title(plan.primary.name))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    return fig


def options_table(tuned: Params) -> pd.DataFrame:
    """Return the options of the candidates: ``candidate``, ``model``, ``options`` as text."""
    rows = [(name, one.model, as_text(one.options())) for name, one in tuned.candidates.items()]
    return pd.DataFrame(rows, columns=["candidate", "model", "options"])


def describe_parts(
    parts: dict[str, pd.DataFrame], holdout: LockedHoldout, schema: FeatureSchema, problem: Problem
) -> str:
    """Return how many rows are in each part, as a sentence."""
    sizes = ", ".join(f"**{len(rows):,}** for {name}" for name, rows in parts.items())
    share = len(holdout) / (len(holdout) + sum(map(len, parts.values())))
    where = f"in the locked holdout, {share:.0%} of all{', the newest' if problem.time else ''}"
    return f"{len(schema.all)} features; rows: {sizes}; **{len(holdout):,}** are {where}."


def describe_search(trials: pd.DataFrame, tuned: Params, plan: EvaluationPlan) -> str:
    """Return what the search tried and its best result, as a sentence."""
    if trials.empty:
        return "No search: every candidate keeps the options of params; see `training.search.budget`."
    whole, metric = trials.dropna(subset=["score"]), title(plan.primary.name)
    best = whole.loc[whole["score"] == whole["best"].iloc[-1]].iloc[0]
    first = decisions.number(whole["best"].iloc[len(tuned.candidates) - 1])
    return (
        f"**{len(trials)} trials**, {len(whole)} of them on all rows. The best {metric} is "
        f"{decisions.number(best['score'])}, by {display.code(best['candidate'])} with {best['options']}; with the options "
        f"of params it is {first}. The best of many trials is biased upwards; the holdout is not."
    )


def describe_folds(rows: pd.DataFrame, problem: Problem) -> str:
    """Return in which folds models were compared, as a sentence."""
    span = ""
    if problem.time:
        first, last = rows[problem.time].agg(["min", "max"])
        span = f" of {first:%Y-%m-%d} to {last:%Y-%m-%d}, each predicted from the rows before its fold"
    return f"Compared on {len(rows):,} rows{span}; folds: {rows[FOLD].nunique()}."


def describe_choice(compared: pd.DataFrame, name: str, plan: EvaluationPlan) -> str:
    """Return which model was chosen, and why, as a sentence."""
    table, number, metric = compared.set_index("model"), decisions.number, title(plan.primary.name)
    score, rest = number(table.loc[name, plan.primary.name]), table.drop([name, NAIVE], errors="ignore")
    if name == NAIVE:
        return f"By {metric} **no candidate is better than the prediction without features** ({score})."
    why, other = "the simplest of those less than a standard error behind the best", name
    if name == table["behind"].idxmin():
        why, other = "the best", rest["behind"].idxmin() if len(rest) else name
    behind, error = (number(table.loc[other, column]) for column in ("behind", "standard error"))
    return (
        f"By {metric} **{name.replace('_', ' ')}** is chosen, with {score}: {why}; {str(other).replace('_', ' ')} is {behind} "
        f"behind the best (standard error {error})."
    )


def describe_calibration(table: pd.DataFrame, method: str, params: Params, problem: Problem) -> str:
    """Return which calibration was chosen, and what it does, as a sentence."""
    if not problem.is_class:
        interval = table.set_index("interval").loc["conformal"]
        return (
            f"An interval of {params.interval:.0%} holds {interval['holds']:.1%} of the outcomes of the other half; its mean "
            f"width is {decisions.number(interval['width'])}. The model's intervals come from the errors of both halves."
        )
    raw, chosen = (table.set_index("calibration").loc[each] for each in ("none", method))
    return (
        f"On the second half the raw probabilities average {raw['mean']:.1%}, the observed share is {raw['observed']:.1%}. "
        f"Calibration: **{method}**, with a log loss of {chosen['log_loss']:.4f}; of raw probabilities it is {raw['log_loss']:.4f}."
    )


def describe_learning(curve: pd.DataFrame, plan: EvaluationPlan) -> str:
    """Return what more rows change, as a sentence; also an alt text."""
    scores = " to ".join(decisions.number(score) for score in curve["score"].tail(2))
    rows = " to ".join(f"{count:,}" for count in curve["rows"].tail(2))
    return f"With {rows} rows {title(plan.primary.name)} is {scores} ({plan.primary.better} is better), on one part of the data."
