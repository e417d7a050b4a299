"""A score that is nearly perfect: the columns that carry it are leaks until they are explained."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ninefold import gate
from ninefold.exploration import question
from ninefold.metrics import one_score
from ninefold.problem import title
from ninefold.training import cross_validation, explanation
from ninefold.training.cross_validation import Task

LIMIT = 0.99  # ROC AUC, or R²; decisions that pay are seldom so predictable


def check(estimator: BaseEstimator, rows: pd.DataFrame, forecast: pd.DataFrame, task: Task) -> gate.Check:
    """Return the check that a model is not too good on rows that it had not seen (none of the holdout).

    `rows`, `forecast`: as of `cross_validation.validate`. It passes if each feature that carries the score is in
    ``training.justified``.
    """
    problem, limit = task.problem, task.params.perfect_score or LIMIT
    metric = "roc_auc" if problem.is_class else "r2"
    score = one_score(metric, rows[problem.target].to_numpy(), forecast, problem)
    what, expected = f"{title(metric)} on unseen rows, too good to be true", f"under {limit:g}"
    if not score >= limit:
        return gate.holds(what, True, score, expected)
    names = carriers(estimator, metric, limit, task)
    undecided = [name for name in names if name not in task.params.justified]
    if not undecided:
        return gate.holds(what, True, f"{score:.3f}, explained by {', '.join(names)}", f"{expected}, or explained")
    value = f"{score:.3f}, by {', '.join(undecided)}"
    return gate.holds(what, False, value, f"{expected}; {question(undecided)}")


def carriers(estimator: BaseEstimator, metric: str, limit: float, task: Task) -> list[str]:
    """Return the fewest features, the most important first, that reach the limit on the last fold while others are shuffled."""
    rows, fold, schema, params, problem = task.rows, task.folds[-1], task.schema, task.params, task.problem
    model = cross_validation.fit(estimator, rows.iloc[fold.fitted], schema, problem)
    unseen = rows.iloc[fold.unseen].reset_index(drop=True)
    order = list(explanation.importance(model, unseen, schema, problem, params)["feature"])
    random, target, shuffled = np.random.default_rng(params.seed), unseen[problem.target].to_numpy(), unseen.copy()
    for name in order:
        shuffled[name] = unseen[name].iloc[random.permutation(len(unseen))].to_numpy()
    for count, name in enumerate(order, 1):
        shuffled[name] = unseen[name]
        if one_score(metric, target, cross_validation.predict(model, shuffled, schema, problem), problem) >= limit:
            return order[:count]
    return order
