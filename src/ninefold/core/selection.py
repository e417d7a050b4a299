"""Choose a model by forecasts of rows that it had not seen: the simplest of those that are about as good as the best."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ninefold.core import decisions
from ninefold.core.estimators import Blend
from ninefold.core.scores import PRIMARY, blocks, one_score, replicates, scores

NAIVE = "no_features"  # the candidate that sees none: whoever does not beat it has learned nothing
BLEND = "blend"  # the mean of the candidates, weighed so that it is best
STEPS = 25  # of the search for its weights: each is a multiple of 1 / STEPS
REPLICATES = 100  # of which a standard error is made


def blend(
    estimators: dict[str, BaseEstimator],
    rows: pd.DataFrame,
    forecasts: dict[str, pd.DataFrame],
    wanted: bool,
    stated: dict[str, Any],
) -> tuple[dict[str, BaseEstimator], dict[str, pd.DataFrame]]:
    """Return the candidates, and their forecasts, with their best weighted mean added as one more: ``blend``.

    Forward selection with replacement (Caruana et al., Ensemble Selection from Libraries of Models, 2004) by the proper
    score on the rows that choose: models are added, the best one first, as long as the mean gets better.
    """
    names = [name for name in forecasts if name != NAIVE]
    target, columns = rows[stated["target"]].to_numpy(), decisions.forecast_columns(stated)
    values = {name: forecasts[name].to_numpy("float64") for name in names}
    taken: list[str] = []
    least = np.inf
    while wanted and len(taken) < STEPS and len(names) > 1:
        tried = {
            name: one_score(
                PRIMARY[stated["task"]],
                target,
                pd.DataFrame(sum(values[one] for one in [*taken, name]) / (len(taken) + 1), columns=columns),
                stated,
            )
            for name in names
        }
        best = min(tried, key=lambda name: tried[name])
        if tried[best] >= least:
            break
        taken, least = [*taken, best], tried[best]
    weights = {name: taken.count(name) / len(taken) for name in names if name in taken}
    if len(weights) < 2:
        return estimators, forecasts
    mean = sum(weight * values[name] for name, weight in weights.items())
    mixed = Blend([estimators[name] for name in weights], list(weights.values()))
    return {**estimators, BLEND: mixed}, {**forecasts, BLEND: pd.DataFrame(mean, columns=columns)}


def compare(
    rows: pd.DataFrame, forecasts: dict[str, pd.DataFrame], stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    """Return how every candidate does on rows it had not seen, in the order of the candidates.

    Returns
    -------
    DataFrame
        ``model``; a column per metric; ``payoff`` per row; ``behind``, by how much it is worse than the best candidate
        by the agreed metric (0 of the best), and the ``standard error`` of that difference. Both are compared on the
        same resampled blocks (days, entities or rows), so that what is hard for all does not count.
    """
    target, primary = rows[stated["target"]].to_numpy(), agreed["primary"]
    table = []
    for name, predicted in forecasts.items():
        paid = decisions.payoff(decisions.decide(predicted, stated)["action"], target, stated).mean()
        table.append({"model": name, **scores(target, predicted, stated), "payoff": paid})
    found = pd.DataFrame(table)
    sign = 1 if primary["better"] == "lower" else -1
    best = found["model"][(sign * found[primary["name"]]).idxmin()]
    seed = agreed["bootstrap"]["seed"]
    drawn = replicates(primary["name"], target, forecasts, blocks(rows, stated), stated, REPLICATES, seed)
    scored = sign * found[primary["name"]]
    errors = drawn.sub(drawn[best], axis=0).std(ddof=1)
    return found.assign(behind=scored - scored.min(), **{"standard error": errors.to_numpy()})


def choose(compared: pd.DataFrame) -> str:
    """Return the first candidate that is less than a standard error behind the best (Breiman et al., CART, 1984).

    Candidates are listed from simple to complex, and a blend stands last, so a difference that chance may have made
    does not buy complexity. The candidate without features is chosen only if it is the best.
    """
    best = compared["model"][compared["behind"].idxmin()]
    close = compared[compared["behind"] <= compared["standard error"]]
    return str(best if best == NAIVE else close.loc[close["model"] != NAIVE, "model"].iloc[0])
