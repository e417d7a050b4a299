"""Choose a model by predictions for rows that it had not seen: the simplest of those about as good as the best."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ninefold.metrics import EvaluationPlan, estimate, one_score, scorer, task_scores
from ninefold.problem import PRIMARY, Problem, decisions
from ninefold.training.estimators import Blend

NAIVE = "no_features"  # the candidate that sees no features
BLEND = "blend"  # the weighted mean of the candidates
STEPS = 25  # of the search for its weights, which are multiples of 1 / STEPS or more
Forecasts = dict[str, pd.DataFrame]
Models = dict[str, BaseEstimator]


def blend(
    estimators: Models, rows: pd.DataFrame, forecasts: Forecasts, problem: Problem, enabled: bool = True
) -> tuple[Models, Forecasts]:
    """Return the candidates, and their predictions, with their best weighted mean added as one more: ``blend``.

    Forward selection with replacement (Caruana et al., Ensemble Selection from Libraries of Models, 2004) by the proper
    score on the rows: models are added, the best one first, the same one again where that is best; the best of the means
    is taken. (To stop at the first that is no better would miss a model that helps by a third, but not by half.)
    """
    names = [name for name in forecasts if name not in (NAIVE, BLEND)]
    target, columns = rows[problem.target].to_numpy(), decisions.forecast_columns(problem)
    values = {name: forecasts[name][columns].to_numpy("float64") for name in names}

    def loss(members: list[str]) -> float:
        mean = pd.DataFrame(sum(values[name] for name in members) / len(members), columns=columns)
        return one_score(PRIMARY[problem.task], target, mean, problem)

    members, chosen, least = list[str](), list[str](), np.inf
    for _ in range(STEPS if enabled and len(names) > 1 else 0):
        losses = {name: loss([*members, name]) for name in names}
        members.append(min(losses, key=lambda name: losses[name]))
        if losses[members[-1]] < least:
            chosen, least = members.copy(), losses[members[-1]]
    if len(set(chosen)) < 2:
        return estimators, forecasts
    weights = {name: chosen.count(name) / len(chosen) for name in names if name in chosen}
    mean = pd.DataFrame(sum(weight * values[name] for name, weight in weights.items()), columns=columns)
    mean = pd.concat([mean, forecasts[names[0]].drop(columns=columns)], axis=1)
    mixed = Blend([estimators[name] for name in weights], list(weights.values()))
    return {**estimators, BLEND: mixed}, {**forecasts, BLEND: mean}


def compare(rows: pd.DataFrame, forecasts: Forecasts, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return the scores of every candidate on rows it had not seen; those of ranks are means over folds (`one_score`).

    The columns are ``model``, one per metric, ``payoff`` per row, ``behind``: by how much it is worse than the best one by
    the primary metric, and the ``standard error`` of that difference, on the same rows (0 if `metrics.estimate` has none).
    """
    target, primary = rows[problem.target].to_numpy(), plan.primary
    table = []
    for name, predicted in forecasts.items():
        paid = decisions.payoff(decisions.decide(predicted, problem)["action"], target, problem).mean()
        table.append({"model": name, **task_scores(target, predicted, problem), "payoff": paid})
    compared = pd.DataFrame(table)
    scores = compared[primary.name] * (1 if primary.better == "lower" else -1)
    best = compared["model"][scores.idxmin()]
    scorers = {name: scorer(primary.name, target, predicted, problem) for name, predicted in forecasts.items()}

    def differences(weight: np.ndarray) -> dict[str, float]:
        values = {name: score(weight) for name, score in scorers.items()}
        return {name: value - values[best] for name, value in values.items()}

    compared["behind"] = scores - scores.min()
    compared["standard error"] = estimate(differences, rows, problem)[0]["error"].fillna(0.0).to_numpy()
    return compared


def choose(compared: pd.DataFrame) -> str:
    """Return the first, simplest candidate less than a standard error behind the best (Breiman et al., CART, 1984)."""
    best = compared["model"][compared["behind"].idxmin()]
    close = compared[compared["behind"] <= compared["standard error"]]
    return str(best if best == NAIVE else close.loc[close["model"] != NAIVE, "model"].iloc[0])
