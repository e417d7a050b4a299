"""How good a forecast is: the metrics of each task, and their intervals by resampling whole blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from ninefold.core import decisions
from ninefold.core.params import Section

LEAST_BLOCKS = 8  # of fewer days or entities no spread can be told; of days, rows are resampled then

_PROBABILITY = {
    "log_loss": ("lower", "surprise at the outcomes; a proper score, which only true probabilities make best"),
    "brier": ("lower", "squared error of the probabilities; a proper score"),
}
MEANING: dict[str, dict[str, tuple[str, str]]] = {
    "binary": {
        **_PROBABILITY,
        "roc_auc": ("higher", "chance that a random event is ranked above a random non-event"),
        "average_precision": ("higher", "mean precision over all recalls"),
    },
    "multiclass": {
        **_PROBABILITY,
        "roc_auc": ("higher", "chance that a random row of a class is ranked above one of another; mean over classes"),
        "accuracy": ("higher", "share of rows whose most probable class is the true one"),
        "balanced_accuracy": ("higher", "the same for each class by itself, then the mean over classes"),
    },
    "regression": {
        "rmse": ("lower", "root of the mean squared error, in the target's unit; large errors weigh most"),
        "mae": ("lower", "mean absolute error, in the target's unit"),
        "r2": ("higher", "share of the variance that is foreseen; 0 is no better than the mean"),
        "rank_correlation": ("higher", "Spearman's correlation of prediction and outcome"),
    },
}
PRIMARY = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
RANKING = {"binary": "roc_auc", "multiclass": "roc_auc", "regression": "rank_correlation"}
GUESSING = {"binary": 0.5, "multiclass": 0.5, "regression": 0.0}
ERROR = {"binary": "brier", "multiclass": "brier", "regression": "rmse"}


class Bootstrap(Section):
    """Intervals by resampling whole blocks: days where there is time, else entities, else rows."""

    replicates: int = Field(ge=20, le=10_000)
    level: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)


def scores(
    target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any], weight: np.ndarray | None = None
) -> dict[str, float]:
    """Return every metric of the task.

    Parameters
    ----------
    target : ndarray, shape (n,)
        As `decisions.outcome` has it: int for classes, float for quantities.
    predicted : DataFrame
        The forecast.
    stated : dict
        The problem.
    weight : ndarray of float, shape (n,), optional
    """
    if not decisions.is_class(stated):
        return _quantity(np.asarray(target, dtype="float64"), predicted["prediction"].to_numpy(), weight)
    target, p = np.asarray(target).astype("int64"), decisions.probabilities(predicted, stated)
    found = {
        "log_loss": one_score("log_loss", target, predicted, stated, weight),
        "brier": one_score("brier", target, predicted, stated, weight),
        "roc_auc": _roc_auc(target, p, weight),
    }
    if stated["task"] == "binary":
        happened = target.any() if weight is None else target[weight > 0].any()
        average = average_precision_score(target, p[:, 1], sample_weight=weight) if happened else np.nan
        return {**found, "average_precision": float(average)}
    hit = (p.argmax(axis=1) == target).astype("float64")
    weight = np.ones(len(target)) if weight is None else weight
    size, hits = np.bincount(target, weight, p.shape[1]), np.bincount(target, weight * hit, p.shape[1])
    recall = hits[size > 0] / size[size > 0]
    return {**found, "accuracy": float(np.average(hit, weights=weight)), "balanced_accuracy": float(recall.mean())}


def one_score(
    metric: str, target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any], weight: np.ndarray | None = None
) -> float:
    """Return one metric of the task, where it is all that is asked for: many times as fast as all of them."""
    found = row_losses(metric, target, predicted, stated)
    if found is not None:
        mean = float(np.average(found, weights=weight))
        return float(np.sqrt(mean)) if metric == "rmse" else mean
    if metric == "roc_auc":
        return _roc_auc(np.asarray(target).astype("int64"), decisions.probabilities(predicted, stated), weight)
    return scores(target, predicted, stated, weight)[metric]


def row_losses(metric: str, target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any]) -> np.ndarray | None:
    """Return what each row adds to a metric that is a mean over rows (of the RMSE, to its square); else None.

    The Brier score of several classes is the sum over them (Brier, 1950).
    """
    if not decisions.is_class(stated):
        error = predicted["prediction"].to_numpy() - np.asarray(target, dtype="float64")
        return {"rmse": error**2, "mae": np.abs(error)}.get(metric)
    p, target = decisions.probabilities(predicted, stated), np.asarray(target).astype("int64")
    if metric == "log_loss":
        return -np.log(np.clip(p[np.arange(len(p)), target], np.finfo("float64").eps, 1))
    if metric == "brier":
        error = p - (np.arange(p.shape[1]) == target[:, None])
        return error[:, 1] ** 2 if p.shape[1] == 2 else (error**2).sum(axis=1)
    return None


def replicates(
    metric: str,
    target: np.ndarray,
    forecasts: dict[str, pd.DataFrame],
    block: np.ndarray,
    stated: dict[str, Any],
    count: int,
    seed: int,
) -> pd.DataFrame:
    """Return a metric of several forecasts over the same resampled blocks: a row per draw, a column per forecast.

    As in `intervals`; the differences between columns are paired.
    """
    size = int(block.max(initial=-1)) + 1
    drawn, rows = np.array(list(draws(size, count, seed))), np.bincount(block, minlength=size)
    found: dict[str, Any] = {}
    for name, predicted in forecasts.items():
        losses = row_losses(metric, target, predicted, stated)
        if losses is None:
            found[name] = [
                one_score(metric, target, predicted, stated, each[block].astype("float64")) for each in drawn
            ]
        else:
            mean = (drawn @ np.bincount(block, losses, size)) / (drawn @ rows)
            found[name] = np.sqrt(mean) if metric == "rmse" else mean
    return pd.DataFrame(found)


def draws(blocks: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each of so many blocks is drawn, with replacement: int64, shape (blocks,), a draw at a time."""
    random = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(random.integers(0, blocks, blocks), minlength=blocks)


def blocks(frame: pd.DataFrame, stated: dict[str, Any]) -> np.ndarray:
    """Return the block of each row, int64 from 0: rows of a block hang together, and are drawn together.

    Its day where there is time (rows of one day share their circumstances), else its entity, else the row itself.
    """
    if stated["time"]:
        days = pd.factorize(frame[stated["time"]].dt.normalize())[0]
        if days.max(initial=-1) + 1 >= LEAST_BLOCKS:
            return days
    if stated["group"]:
        return frame.groupby(stated["group"], sort=False, dropna=False).ngroup().to_numpy()
    return np.arange(len(frame))


def block_name(stated: dict[str, Any]) -> str:
    """Return what `blocks` are, in words."""
    return "days" if stated["time"] else "entities" if stated["group"] else "rows"


def intervals(
    statistic: Callable[[np.ndarray], dict[str, float]], block: np.ndarray, bootstrap: Bootstrap
) -> dict[str, dict[str, float]]:
    """Return each figure of `statistic` as ``{"value", "low", "high"}``: a percentile interval over resampled blocks.

    Block bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 8.6.

    Parameters
    ----------
    statistic : callable
        From row weights (float64, shape (n,)) to named figures.
    block : ndarray of int, shape (n,)
        What `blocks` returned.
    bootstrap : Bootstrap
    """
    count = int(block.max(initial=-1)) + 1
    samples = [
        statistic(drawn[block].astype("float64")) for drawn in draws(count, bootstrap.replicates, bootstrap.seed)
    ]
    table, tail = pd.DataFrame(samples), (1 - bootstrap.level) / 2
    value, low, high = statistic(np.ones(len(block))), table.quantile(tail), table.quantile(1 - tail)
    return {name: {"value": value[name], "low": low[name], "high": high[name]} for name in value}


def title(metric: str) -> str:
    """Return the name of a metric for reading: ``ROC AUC``, ``log loss``."""
    named = {"roc_auc": "ROC AUC", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "brier": "Brier score"}
    return named.get(metric, metric.replace("_", " "))


def with_interval(figure: dict[str, float] | None) -> str:
    """Return a figure as text: ``0.738 (0.702 to 0.770)``; without an interval the value alone, without a figure a dash."""
    if not figure:
        return "–"
    interval = f" ({_short(figure['low'])} to {_short(figure['high'])})" if "low" in figure else ""
    return f"{_short(figure['value'])}{interval}"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _quantity(target: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> dict[str, float]:
    weight = np.ones(len(target)) if weight is None else weight
    error = prediction - target
    square = np.average(error**2, weights=weight)
    spread = np.average((target - np.average(target, weights=weight)) ** 2, weights=weight)
    return {
        "rmse": float(np.sqrt(square)),
        "mae": float(np.average(np.abs(error), weights=weight)),
        "r2": float(1 - square / spread) if spread > 0 else float("nan"),
        "rank_correlation": _correlation(stats.rankdata(prediction), stats.rankdata(target), weight),
    }


def _correlation(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    one, other = one - np.average(one, weights=weight), other - np.average(other, weights=weight)
    spread = np.average(one**2, weights=weight) * np.average(other**2, weights=weight)
    return float(np.average(one * other, weights=weight) / np.sqrt(spread)) if spread > 1e-12 else 0.0


def _roc_auc(target: np.ndarray, p: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the ROC AUC of the event, or the mean over classes of each against the rest; NaN without both outcomes."""
    if p.shape[1] == 2:
        return _auc(target == 1, p[:, 1], weight)
    found = [_auc(target == number, p[:, number], weight) for number in range(p.shape[1])]
    known = [auc for auc in found if auc == auc]
    return float(np.mean(known)) if known else float("nan")


def _auc(happened: np.ndarray, score: np.ndarray, weight: np.ndarray | None) -> float:
    seen = happened if weight is None else happened[weight > 0]
    if not seen.any() or seen.all():
        return float("nan")
    return float(roc_auc_score(happened, score, sample_weight=weight))
