"""Sentences of stage 08, deployment."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ninefold import display
from ninefold.problem import Problem, decisions, listed
from ninefold.serving.bundle import Bundle

ORDER = {"binary": "probability", "multiclass": "expected payoff", "regression": "prediction"}


def describe_bundle(bundle: Bundle) -> str:
    """Return what a row of the bundle must and may hold."""
    keys = listed([display.code(field["name"]) for field in bundle.signature if field["required"]])
    return (
        f"Bundle **{bundle.version}** has {len(bundle.features)} features; {len(bundle.online)} of them are history, which is "
        f"looked up where a row lacks it (as of {bundle.moment or 'no time'}). A row must hold the keys of its history: "
        f"{keys or 'none'}. All other fields may be left out."
    )


def describe_decisions(answers: pd.DataFrame, problem: Problem) -> str:
    """Return how often each action was chosen, or how far the quantity is from the prediction; also an alt text."""
    middle = decisions.show_level(float(np.median(decisions.expected(answers, problem))), problem)
    if not problem.is_class:
        moved = decisions.number((answers["action"] - answers["prediction"]).mean(), sign="+")
        chose = f"the quantity acted on less the prediction is {moved} on average"
    else:
        shares = answers["action"].value_counts(normalize=True)
        actions = [f"*{action}* in {shares.get(action, 0.0):.0%}" for action in problem.actions]
        chose = f"the service chose {listed(actions)}"
    forecasts = "probabilities" if problem.is_class else "predictions"
    of = f" of {display.code(problem.focus)}" if problem.task == "multiclass" else ""
    return f"Over {len(answers):,} answers {chose}; half of the {forecasts}{of} are below {middle}."


def describe_deciles(table: pd.DataFrame, problem: Problem) -> str:
    """Return the expected and the actual payoff, and where they differ most; also an alt text."""
    worst = table.loc[(table["paid"] - table["expected"]).abs().idxmax()]
    means = (np.average(table[name], weights=table["rows"]) for name in ("expected", "paid"))
    expected, paid, *at_worst = (
        decisions.number(each, sign="+") for each in (*means, worst["expected"], worst["paid"])
    )
    return (
        f"The decisions were expected to pay {expected} per {problem.unit} and paid {paid}. The two differ most in decile "
        f"{worst['decile']:.0f} by {ORDER[problem.task]}: {at_worst[0]} expected, {at_worst[1]} paid."
    )
