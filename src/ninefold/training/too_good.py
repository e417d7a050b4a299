"""Scores that are too good: nearly perfect, by columns that may be leaks; or carried by rows of one thing that no column names."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.cluster import AgglomerativeClustering

from ninefold.exploration import question
from ninefold.gate import Check, holds
from ninefold.metrics import COPIES, one_score, subsample
from ninefold.problem import GUESSING, RANKING, title
from ninefold.sentences import render
from ninefold.training import cross_validation, explanation
from ninefold.training.cross_validation import Folds

LIMIT = 0.99  # ROC AUC, or R²; decisions that pay are seldom so predictable
MOST_ROWS, BLOCKS, SIZES = 1200, 30, (5, 40)  # rows that are looked at; the fewest blocks of near rows; their mean rows
LOST, LEAST = 0.5, 0.1  # share of the score above guessing; two of 96 honest public tables lose more


def check(model: BaseEstimator, predicted: pd.DataFrame, folds: Folds, holdout: pd.DataFrame | None = None) -> Check:
    """Return the check that a model is not too good on rows that it had not seen.

    `predicted`: of `folds.unseen`; or of the `holdout`, by the fitted `model`, once that is opened. It passes if each feature
    that carries the score is in ``training.justified``.
    """
    problem, limit = folds.problem, folds.params.perfect_score or LIMIT
    metric, rows = "roc_auc" if problem.is_class else "r2", folds.unseen if holdout is None else holdout
    score = one_score(metric, rows[problem.target].to_numpy(), predicted, problem)
    where = "unseen rows" if holdout is None else "the holdout"
    what, expected = f"NF707 {title(metric)} on {where}, too good to be true", f"under {limit:g}"
    if not score >= limit:
        return holds(what, True, score, expected)
    if holdout is None:
        fold = folds.pairs[-1]
        rows = folds.rows.iloc[fold.unseen].reset_index(drop=True)
        model = cross_validation.fit(model, folds.rows.iloc[fold.fitted], folds.schema, problem)
    names = carriers(model, rows, limit, folds)
    undecided = [name for name in names if name not in folds.params.justified]
    if not undecided:
        return holds(what, True, f"{score:.3f}, explained by {', '.join(names)}", f"{expected}, or explained")
    return holds(what, False, f"{score:.3f}, by {', '.join(undecided)}", f"{expected}; {question(undecided)}")


def carriers(model: BaseEstimator, rows: pd.DataFrame, limit: float, folds: Folds) -> list[str]:
    """Return the fewest features, the most important first, with which a fitted model reaches the limit, the others shuffled."""
    problem, order = folds.problem, list(explanation.importance(model, rows, folds)["feature"])
    random, shuffled = np.random.default_rng(folds.params.seed), rows.copy()
    target, metric = rows[problem.target].to_numpy(), "roc_auc" if problem.is_class else "r2"
    for name in order:
        shuffled[name] = rows[name].iloc[random.permutation(len(rows))].to_numpy()
    for count, name in enumerate(order, 1):
        shuffled[name] = rows[name]
        predicted = cross_validation.predict(model, shuffled, folds.schema, problem)
        if one_score(metric, target, predicted, problem) >= limit:
            return order[:count]
    return order


def near_rows(model: BaseEstimator, importance: pd.DataFrame, folds: Folds) -> list[Check]:
    """Return the check that a model predicts blocks of near rows that it has not seen; none where time or entities split rows.

    `importance`: of `explanation.importance`. Near are rows by the ranks of their numbers, weighted by it; there is no check
    if columns of few values carry most of the score. Blocks are Ward's clusters, each in one fold (Roberts et al., Ecography
    40, 2017). A smooth function of features is predicted from the blocks around; the outcome of a thing whose rows are alike,
    and that shares it, is not. Of many rows an even sample is looked at, so that a thing needs the more rows to be noticed.
    """
    problem, rows = folds.problem, folds.rows.iloc[subsample(len(folds.rows), MOST_ROWS)].reset_index(drop=True)
    numeric = [name for name in folds.schema.numeric if rows[name].nunique() > BLOCKS]
    weights = importance.set_index("feature")["loss"].clip(0)
    if problem.time or problem.group is not None or weights[numeric].sum() <= weights.sum() / 2:
        return []
    places = rows[numeric].rank(pct=True).fillna(0) * weights[numeric]
    blocks = len(rows) // int(np.clip(len(rows) // BLOCKS, *SIZES))
    block = AgglomerativeClustering(max(blocks, 2)).fit_predict(places)
    score, apart = _score(model, rows, folds), _score(model, rows.assign(**{COPIES: block}), folds)
    guess, name = GUESSING[problem.task], title(RANKING[problem.task])
    passed = not score - max(apart, guess) > max(LEAST, LOST * (score - guess))
    remedy = render("training", "near_rows", score=score, names=[*weights.nlargest(3).index])
    return [holds(f"NF708 {name} with near rows in one fold", passed, apart, remedy)]


def _score(model: BaseEstimator, rows: pd.DataFrame, folds: Folds) -> float:
    """Return the ranking score of rows that a model has not seen; those of one ``@copies`` lie in one fold."""
    pairs = cross_validation.at_random(rows, 5, folds.params.seed, folds.problem)
    unseen = cross_validation.forecast(model, rows, pairs, folds.schema, folds.problem)
    target = rows[folds.problem.target].to_numpy()[np.concatenate([pair.unseen for pair in pairs])]
    return one_score(RANKING[folds.problem.task], target, unseen, folds.problem)
