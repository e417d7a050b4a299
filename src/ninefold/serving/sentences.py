"""Sentences of stage 08, deployment."""

import numpy as np
import pandas as pd

from ninefold import display
from ninefold.problem import Problem, decisions, listed
from ninefold.sentences import render
from ninefold.serving.bundle import Bundle

ORDER = {"binary": "probability", "multiclass": "expected payoff", "regression": "prediction"}


def describe_bundle(bundle: Bundle) -> str:
    """Return what a row of the bundle must and may hold."""
    keys = listed([display.code(field["name"]) for field in bundle.signature if field["required"]])
    return render("serving", "bundle", bundle=bundle, keys=keys)


def describe_decisions(answers: pd.DataFrame, problem: Problem) -> str:
    """Return how often each action was chosen, or how far the quantity is from the prediction; also an alt text."""
    middle = decisions.show_level(float(np.median(decisions.expected(answers, problem))), problem)
    moved = "" if problem.is_class else decisions.number((answers["action"] - answers["prediction"]).mean(), sign="+")
    shares = answers["action"].value_counts(normalize=True)
    chosen = listed([f"*{action}* in {shares.get(action, 0.0):.0%}" for action in problem.actions])
    facts = {"answers": answers, "problem": problem, "middle": middle}
    return render("serving", "decisions", moved=moved, chosen=chosen, **facts)


def describe_deciles(table: pd.DataFrame, problem: Problem) -> str:
    """Return the expected and the actual payoff, and where they differ most; also an alt text."""
    worst = table.loc[(table["paid"] - table["expected"]).abs().idxmax()]
    means = {name: np.average(table[name], weights=table["rows"]) for name in ("expected", "paid")}
    figures = {**means, "worst_expected": worst["expected"], "worst_paid": worst["paid"]}
    shown = {name: decisions.number(each, sign="+") for name, each in figures.items()}
    return render("serving", "deciles", problem=problem, by=ORDER[problem.task], decile=int(worst["decile"]), **shown)
