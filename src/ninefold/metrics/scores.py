"""How good a forecast is: the metrics of each task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from ninefold.problem import MEANING, Problem, decisions

FOLD = "@fold"  # the column that numbers the fold in which a row was predicted, where there are folds
OF_RANKS = ("roc_auc", "average_precision", "rank_correlation")


def task_scores(
    target: np.ndarray, predicted: pd.DataFrame, problem: Problem, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Return every metric of the task; `target` is as `decisions.outcome` has it, it and `weight` of shape (n,)."""
    return {name: one_score(name, target, predicted, problem, weight) for name in MEANING[problem.task]}


def one_score(
    metric: str, target: np.ndarray, predicted: pd.DataFrame, problem: Problem, weight: np.ndarray | None = None
) -> float:
    """Return one metric of the task: many times as fast as all of them.

    Ranks by different models do not compare: with ``@fold`` in `predicted`, a metric of `OF_RANKS` is that of each fold,
    averaged by rows (Forman and Scholz, Apples-to-apples in cross-validation studies, 2010).
    """
    if FOLD in predicted and metric in OF_RANKS:
        return _by_fold(metric, target, predicted, problem, np.ones(len(target)) if weight is None else weight)
    losses = row_losses(metric, target, predicted, problem)
    if losses is not None:
        mean = float(np.average(losses, weights=weight))
        return float(np.sqrt(mean)) if metric == "rmse" else mean
    weight = np.ones(len(target)) if weight is None else weight
    if not problem.is_class:
        score = {"r2": _r2, "rank_correlation": _rank_correlation}[metric]
        return score(np.asarray(target, dtype="float64"), predicted["prediction"].to_numpy(), weight)
    target, p = np.asarray(target).astype("int64"), decisions.probabilities(predicted, problem)
    if metric == "roc_auc":
        return _roc_auc(target, p, weight)
    if metric == "average_precision":
        known = target[weight > 0].any()
        return float(average_precision_score(target, p[:, 1], sample_weight=weight)) if known else float("nan")
    hit = (p.argmax(axis=1) == target).astype("float64")
    size, hits = np.bincount(target, weight, p.shape[1]), np.bincount(target, weight * hit, p.shape[1])
    recall = hits[size > 0] / size[size > 0]
    return float({"accuracy": np.average(hit, weights=weight), "balanced_accuracy": recall.mean()}[metric])


def row_losses(metric: str, target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> np.ndarray | None:
    """Return the loss of each row, if the metric is their mean (the RMSE: its square); else None.

    The Brier score of several classes is the sum over them (Brier, 1950).
    """
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


def _by_fold(metric: str, target: np.ndarray, predicted: pd.DataFrame, problem: Problem, weight: np.ndarray) -> float:
    target, plain = np.asarray(target), predicted.drop(columns=FOLD)
    folds = [mine for mine in predicted.groupby(FOLD).indices.values() if weight[mine].any()]
    scores = np.array([one_score(metric, target[mine], plain.iloc[mine], problem, weight[mine]) for mine in folds])
    sizes, known = np.array([weight[mine].sum() for mine in folds]), ~np.isnan(scores)  # NaN of one outcome
    return float(np.average(scores[known], weights=sizes[known])) if known.any() else float("nan")


def _r2(target: np.ndarray, prediction: np.ndarray, weight: np.ndarray) -> float:
    square = np.average((prediction - target) ** 2, weights=weight)
    spread = np.average((target - np.average(target, weights=weight)) ** 2, weights=weight)
    return float(1 - square / spread) if spread > 0 else float("nan")


def _rank_correlation(target: np.ndarray, prediction: np.ndarray, weight: np.ndarray) -> float:
    one, other = (rank - np.average(rank, weights=weight) for rank in map(stats.rankdata, (prediction, target)))
    ranks = np.average(one**2, weights=weight) * np.average(other**2, weights=weight)
    return float(np.average(one * other, weights=weight) / np.sqrt(ranks)) if ranks > 1e-12 else 0.0


def _roc_auc(target: np.ndarray, p: np.ndarray, weight: np.ndarray) -> float:
    """Return the ROC AUC of the event, or the mean over classes of each against the rest; NaN without both outcomes."""
    known = []
    for number in [1] if p.shape[1] == 2 else range(p.shape[1]):
        event = target == number
        if len(np.unique(event[weight > 0])) == 2:
            known.append(roc_auc_score(event, p[:, number], sample_weight=weight))
    return float(np.mean(known)) if known else float("nan")
