"""How good a forecast is: the metrics of each task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from ninefold.problem import Problem, decisions


def task_scores(
    target: np.ndarray, predicted: pd.DataFrame, problem: Problem, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Return every metric of the task; `target` is as `decisions.outcome` has it, it and `weight` of shape (n,)."""
    if not problem.is_class:
        return _quantity(np.asarray(target, dtype="float64"), predicted["prediction"].to_numpy(), weight)
    target, p = np.asarray(target).astype("int64"), decisions.probabilities(predicted, problem)
    values = {name: one_score(name, target, predicted, problem, weight) for name in ("log_loss", "brier", "roc_auc")}
    if problem.task == "binary":
        events = target.any() if weight is None else target[weight > 0].any()
        average = average_precision_score(target, p[:, 1], sample_weight=weight) if events else np.nan
        return {**values, "average_precision": float(average)}
    hit = (p.argmax(axis=1) == target).astype("float64")
    weight = np.ones(len(target)) if weight is None else weight
    size, hits = np.bincount(target, weight, p.shape[1]), np.bincount(target, weight * hit, p.shape[1])
    recall = hits[size > 0] / size[size > 0]
    return {**values, "accuracy": float(np.average(hit, weights=weight)), "balanced_accuracy": float(recall.mean())}


def one_score(
    metric: str, target: np.ndarray, predicted: pd.DataFrame, problem: Problem, weight: np.ndarray | None = None
) -> float:
    """Return one metric of the task: many times as fast as all of them."""
    losses = row_losses(metric, target, predicted, problem)
    if losses is not None:
        mean = float(np.average(losses, weights=weight))
        return float(np.sqrt(mean)) if metric == "rmse" else mean
    if metric == "roc_auc":
        return _roc_auc(np.asarray(target).astype("int64"), decisions.probabilities(predicted, problem), weight)
    return task_scores(target, predicted, problem, weight)[metric]


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


def _quantity(target: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> dict[str, float]:
    weight = np.ones(len(target)) if weight is None else weight
    error = prediction - target
    square = np.average(error**2, weights=weight)
    spread = np.average((target - np.average(target, weights=weight)) ** 2, weights=weight)
    one, other = (rank - np.average(rank, weights=weight) for rank in map(stats.rankdata, (prediction, target)))
    ranks = np.average(one**2, weights=weight) * np.average(other**2, weights=weight)
    return {
        "rmse": float(np.sqrt(square)),
        "mae": float(np.average(np.abs(error), weights=weight)),
        "r2": float(1 - square / spread) if spread > 0 else float("nan"),
        "rank_correlation": float(np.average(one * other, weights=weight) / np.sqrt(ranks)) if ranks > 1e-12 else 0.0,
    }


def _roc_auc(target: np.ndarray, p: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the ROC AUC of the event, or the mean over classes of each against the rest; NaN without both outcomes."""
    known = []
    for number in [1] if p.shape[1] == 2 else range(p.shape[1]):
        event = target == number
        if len(np.unique(event if weight is None else event[weight > 0])) == 2:
            known.append(roc_auc_score(event, p[:, number], sample_weight=weight))
    return float(np.mean(known)) if known else float("nan")
