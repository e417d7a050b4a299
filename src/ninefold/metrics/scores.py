"""How good a forecast is: the metrics of each task."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.problem import MEANING, Problem, decisions

FOLD = "@fold"  # the column that numbers the fold in which a row was predicted, where there are folds
OF_RANKS = ("roc_auc", "average_precision", "rank_correlation")
SHARES = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy")  # metrics from 0 to 1


def task_scores(target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> dict[str, float]:
    """Return every metric of the task; `target`, of shape (n,), is as `decisions.outcome` has it."""
    return {name: one_score(name, target, predicted, problem) for name in MEANING[problem.task]}


def one_score(metric: str, target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> float:
    """Return one metric of the task: many times as fast as all of them; with weights of the rows, see `scorer`."""
    return scorer(metric, target, predicted, problem)(np.ones(len(target)))


def scorer(metric: str, target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> Callable[[np.ndarray], float]:
    """Return the function from the weights of rows to a metric of the task, for many weights of the same rows.

    Ranks by different models do not compare: with ``@fold`` in `predicted`, a metric of `OF_RANKS` is that of each fold,
    averaged by rows (Forman and Scholz, Apples-to-apples in cross-validation studies, 2010).
    """
    target = np.asarray(target)
    if FOLD in predicted and metric in OF_RANKS:
        folds, plain = predicted.groupby(FOLD).indices.values(), predicted.drop(columns=FOLD)
        return partial(_by_fold, [(mine, scorer(metric, target[mine], plain.iloc[mine], problem)) for mine in folds])
    losses = row_losses(metric, target, predicted, problem)
    if losses is not None:
        return partial(_mean_loss, losses, 0.5 if metric == "rmse" else 1)
    if not problem.is_class:
        pair = target.astype("float64"), predicted["prediction"].to_numpy()
        return partial(_r2, *pair) if metric == "r2" else partial(_correlation, *map(stats.rankdata, pair))
    target, p = target.astype("int64"), decisions.probabilities(predicted, problem)
    if metric in ("roc_auc", "average_precision"):
        numbers = [1] if p.shape[1] == 2 else range(p.shape[1])
        ranked = [(np.unique(p[:, number], return_inverse=True)[1], target == number) for number in numbers]
        return partial(_mean_of_ranked, ranked_auc if metric == "roc_auc" else _average_precision, ranked)
    hit = (p.argmax(axis=1) == target).astype("float64")
    return {"accuracy": partial(_mean_loss, hit, 1), "balanced_accuracy": partial(_mean_recall, hit, target)}[metric]


def row_losses(metric: str, target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> np.ndarray | None:
    """Return the loss of each row (Brier's: summed over classes), if the metric is their mean (RMSE: its square), else None."""
    if not problem.is_class:
        error = predicted["prediction"].to_numpy() - np.asarray(target, dtype="float64")
        return {"rmse": error**2, "mae": np.abs(error)}.get(metric)
    p, target = decisions.probabilities(predicted, problem), np.asarray(target).astype("int64")
    if metric == "log_loss":
        return -np.log(np.clip(p[np.arange(len(p)), target], np.finfo("float64").eps, 1))
    if metric == "brier":
        error = p - (np.arange(p.shape[1]) == target[:, None])
        return error[:, 1] ** 2 if p.shape[1] == 2 else (error**2).sum(axis=1)
    return None


def _by_fold(folds: list[tuple[np.ndarray, Callable[[np.ndarray], float]]], weight: np.ndarray) -> float:
    folds = [(mine, score) for mine, score in folds if weight[mine].any()]
    scores = np.array([score(weight[mine]) for mine, score in folds])
    sizes, known = np.array([weight[mine].sum() for mine, _ in folds]), ~np.isnan(scores)  # NaN of one outcome
    return float(np.average(scores[known], weights=sizes[known])) if known.any() else float("nan")


def ranked_auc(rank: np.ndarray, event: np.ndarray, rest: np.ndarray) -> float:
    """Return the ROC AUC by the rank of the score (int64 from 0) and the weights of a row as event and non-event, or NaN."""
    events, others = np.bincount(rank, event), np.bincount(rank, rest)
    total = events.sum() * others.sum()
    return float((events * (np.cumsum(others) - others / 2)).sum() / total) if total > 0 else float("nan")


def _average_precision(rank: np.ndarray, event: np.ndarray, rest: np.ndarray) -> float:
    events, others = (np.bincount(rank, weight)[::-1] for weight in (event, rest))
    above, total = np.cumsum(events), events.sum()
    precision = above / np.maximum(above + np.cumsum(others), np.finfo("float64").tiny)
    return float((events * precision).sum() / total) if total > 0 else float("nan")


def _mean_of_ranked(score: Callable[..., float], ranked: list[tuple[Any, Any]], weight: np.ndarray) -> float:
    """Return the mean of a score over the classes of which it is known, each against the rest."""
    return float(pd.Series([score(rank, weight * event, weight * ~event) for rank, event in ranked]).mean())


def _mean_loss(losses: np.ndarray, power: float, weight: np.ndarray) -> float:
    return float(np.average(losses, weights=weight) ** power)


def _mean_recall(hit: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    size, hits = np.bincount(target, weight), np.bincount(target, weight * hit)
    return float((hits[size > 0] / size[size > 0]).mean())


def _r2(target: np.ndarray, prediction: np.ndarray, weight: np.ndarray) -> float:
    square = np.average((prediction - target) ** 2, weights=weight)
    spread = np.average((target - np.average(target, weights=weight)) ** 2, weights=weight)
    return float(1 - square / spread) if spread > 0 else float("nan")


def _correlation(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    one, other = (values - np.average(values, weights=weight) for values in (one, other))
    squares = np.average(one**2, weights=weight) * np.average(other**2, weights=weight)
    return float(np.average(one * other, weights=weight) / np.sqrt(squares)) if squares > 1e-12 else 0.0
