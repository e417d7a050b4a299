"""What is a forecast worth before its outcomes are known? Estimated from the forecasts and what the holdout taught."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold.exploration import MOST_CLUSTERS
from ninefold.metrics import EvaluationPlan
from ninefold.monitoring import period, two_sample
from ninefold.monitoring.period import Rows
from ninefold.problem import Problem, decisions

DECILES = 10
MOST_ROWS = 20_000  # of a period, and of the errors remembered
FLOOR = 1e-4  # no outcome is taken for surer


class Learned(NamedTuple):
    """How far the holdout's outcomes were from its forecasts, by block and decile of the forecast."""

    edges: list[np.ndarray]  # of the deciles, a list entry per class (of two: the event), or one of predictions
    sums: np.ndarray  # of outcome less forecast; float64, shape (blocks, classes, deciles)
    size: np.ndarray  # rows, the same shape
    errors: np.ndarray  # of quantities, row by row, float64, with their decile and block; empty of classes
    decile: np.ndarray
    block: np.ndarray


def learn(holdout: Rows, problem: Problem) -> Learned:
    """Return what `estimate` needs of a holdout whose outcomes are known and whose forecasts were made before."""
    labelled = period.known(holdout)
    if len(np.unique(labelled.block)) > MOST_CLUSTERS:  # rows or entities; of days all rows count
        labelled = period.sample(labelled, MOST_ROWS)
    block, count = pd.factorize(labelled.block)[0], len(np.unique(labelled.block))
    said, happened = _said(labelled.predicted, problem), _happened(labelled.target, problem)
    edges = [np.unique(np.quantile(each, np.linspace(0, 1, DECILES + 1)[1:-1])) for each in said.T]
    decile = _deciles(said, edges)
    shape = (count, said.shape[1], DECILES)
    sums, size = np.zeros(shape), np.zeros(shape)
    for number, error in enumerate((happened - said).T):
        cell = block * DECILES + decile[:, number]
        sums[:, number] = np.bincount(cell, error, count * DECILES).reshape(count, DECILES)
        size[:, number] = np.bincount(cell, minlength=count * DECILES).reshape(count, DECILES)
    if problem.is_class:
        return Learned(edges, sums, size, np.array([]), np.array([]), np.array([], dtype="int64"))
    positions = two_sample.thin(len(block), MOST_ROWS)
    return Learned(edges, sums, size, (happened - said)[positions, 0], decile[positions, 0], block[positions])


def estimate(  # noqa: PLR0913, PLR0917
    rows: Rows,
    learned: Learned,
    problem: Problem,
    plan: EvaluationPlan,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Return what the forecast of a period is probably worth, each as ``{"value", "low", "high"}``, without outcomes.

    Classes: expectations over outcomes simulated from the probabilities themselves (confidence-based performance estimation;
    Białek et al., Estimating model performance under covariate shift without labels, 2024), calibrated by the mean error
    of their decile on the holdout. Quantities: outcomes are the prediction and an error from the same decile of predictions
    on the holdout. An interval is that of what the labels will show: each replicate draws the period's blocks anew, and
    takes the errors of as many blocks of the holdout as the period has, whose mean outcomes vary for the same reasons.

    What it assumes: outcomes given the forecast are as they were on the holdout. It sees inputs that became harder or
    easier. It cannot see relations that changed (concept shift), nor fewer outcomes than the forecasts say.

    Parameters
    ----------
    rows : Rows
        Of the period; outcomes are not looked at. Of more than `MOST_ROWS` so many are taken, spread evenly.
    learned : Learned
    problem, plan : dict
        The problem, and the evaluation plan.
    replicates, seed, level

    Returns
    -------
    dict
        Classes: ``log_loss``, ``brier``, ``roc_auc``; quantities: ``rmse``, ``mae``. Both: ``payoff`` per row of the
        actions that follow the model, ``gain`` over the policy without a model that is best on these rows, and
        ``outcome``, the mean of `decisions.event`. Empty without rows.

    Notes
    -----
    NannyML 0.13 (CBPE) estimates the ROC AUC of simulated periods to the same accuracy: off by 0.007 in the mean, as this
    is. Ours is used as it knows what days do to an interval, the payoff of several actions, and quantities without a
    second model, and as theirs brings dozens of packages and sends usage data unless told not to. Evidently 0.7 does not import
    beside pandas 3.
    """
    rows = period.sample(rows, MOST_ROWS)
    if not len(rows.block):
        return {}
    decile = _deciles(_said(rows.predicted, problem), learned.edges)
    block, count = pd.factorize(rows.block)[0], len(np.unique(rows.block))
    random, holdout_blocks = np.random.default_rng(seed), learned.sums.shape[0]
    worth = (_classes if problem.is_class else _quantities)(rows, learned, decile, problem, plan)
    estimates = [worth(np.ones(holdout_blocks), np.ones(len(block)), random)]
    for _ in range(replicates):
        days = np.bincount(random.integers(0, holdout_blocks, count), minlength=holdout_blocks)
        weight = np.bincount(random.integers(0, count, count), minlength=count)[block]
        estimates.append(worth(days.astype("float64"), weight.astype("float64"), random))
    table, tail = pd.DataFrame(estimates[1:]), (1 - level) / 2
    value = estimates[0] if problem.is_class else dict(table.mean())
    low, high = table.quantile(tail), table.quantile(1 - tail)
    return {
        name: {"value": float(value[name]), "low": float(low[name]), "high": float(high[name])}
        for name in table
        if np.isfinite(value[name])
    }


def corrections(learned: Learned, days: np.ndarray) -> np.ndarray:
    """Return the mean of outcome less forecast by class and decile over blocks drawn so often; zero where there are none."""
    size = np.tensordot(days, learned.size, 1)
    return np.tensordot(days, learned.sums, 1) / np.maximum(size, 1)


def _classes(rows: Rows, learned: Learned, decile: np.ndarray, problem: Problem, plan: EvaluationPlan) -> Any:
    """Return the function that tells the figures of classes for blocks of the holdout and weights of the rows."""
    p, two = decisions.probabilities(rows.predicted, problem), decile.shape[1] == 1
    surprise = -np.log(np.clip(p, np.finfo("float64").eps, 1))
    square = (p**2).sum(axis=1)[:, None] + 1 - 2 * p  # of the Brier score, by the class that comes
    matrix = problem.payoff_matrix
    paid = matrix.to_numpy()[matrix.index.get_indexer(decisions.decide(rows.predicted, problem)["action"])]
    bars = matrix.loc[list(plan.policies.values())].to_numpy()
    ranked = [np.unique(each, return_inverse=True)[1] for each in (p.T[1:] if two else p.T)]
    focus = 1 if two else problem.classes.index(problem.focus)
    best: list[int] = []

    def worth(days: np.ndarray, weight: np.ndarray, random: np.random.Generator) -> dict[str, float]:
        moved = corrections(learned, days)
        true = np.clip(p[:, 1:] if two else p, FLOOR, 1 - FLOOR)
        true = np.clip(true + moved[np.arange(decile.shape[1]), decile], FLOOR, 1 - FLOOR)
        true = np.column_stack([1 - true[:, 0], true[:, 0]]) if two else true / true.sum(axis=1, keepdims=True)
        total = weight @ true / weight.sum()
        best[:] = best or [int((bars @ total).argmax())]  # the best on the rows as they are
        payoff = float(weight @ (true * paid).sum(axis=1) / weight.sum())
        events = true.T[1:] if two else true.T
        aucs = [_auc(rank, weight * each, weight * (1 - each)) for rank, each in zip(ranked, events, strict=True)]
        return {
            "log_loss": float(weight @ (true * surprise).sum(axis=1) / weight.sum()),
            "brier": float(weight @ (true * square).sum(axis=1) / weight.sum()) / (2 if two else 1),
            "roc_auc": float(np.mean(aucs)),
            "payoff": payoff,
            "gain": payoff - float(bars[best[0]] @ total),
            "outcome": float(total[focus]),
        }

    return worth


def _quantities(rows: Rows, learned: Learned, decile: np.ndarray, problem: Problem, plan: EvaluationPlan) -> Any:
    """Return the function that draws outcomes around predictions, with errors of blocks of the holdout, and tells figures."""
    said = rows.predicted["prediction"].to_numpy("float64")
    action = decisions.decide(rows.predicted, problem)["action"].to_numpy("float64")
    bar = float(next(iter(plan.policies.values())))
    places = [np.flatnonzero(decile[:, 0] == number) for number in range(DECILES)]
    holdout_rows = [np.flatnonzero(learned.decile == number) for number in range(DECILES)]

    def worth(days: np.ndarray, weight: np.ndarray, random: np.random.Generator) -> dict[str, float]:
        error = np.empty(len(said))
        for here, there in zip(places, holdout_rows, strict=True):
            cumulative = days[learned.block[there]].cumsum()
            if not len(there) or cumulative[-1] == 0:  # no such prediction on these days: all days stand in
                cumulative = np.arange(1.0, len(there) + 1)
            picked = np.searchsorted(
                cumulative, random.random(len(here)) * (cumulative[-1] if len(cumulative) else 0.0), side="right"
            )
            error[here] = learned.errors[there[picked]] if len(there) else random.choice(learned.errors, len(here))
        target = said + error
        payoff = decisions.payoff(action, target, problem)
        rival = decisions.payoff(np.full(len(said), bar), target, problem)
        return {
            "rmse": float(np.sqrt(np.average(error**2, weights=weight))),
            "mae": float(np.average(np.abs(error), weights=weight)),
            "payoff": float(np.average(payoff, weights=weight)),
            "gain": float(np.average(payoff - rival, weights=weight)),
            "outcome": float(np.average(target, weights=weight)),
        }

    return worth


def _auc(rank: np.ndarray, event: np.ndarray, rest: np.ndarray) -> float:
    """Return the ROC AUC of rows that are events and non-events in part, by the rank of their score; ties count half."""
    events, others = np.bincount(rank, event), np.bincount(rank, rest)
    total = events.sum() * others.sum()
    return float((events * (np.cumsum(others) - others / 2)).sum() / total) if total > 0 else float("nan")


def _said(predicted: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return what is calibrated: the event's probability, those of several classes, or the prediction; shape (n, k)."""
    if problem.task == "multiclass":
        return decisions.probabilities(predicted, problem)
    return decisions.expected(predicted, problem)[:, None]


def _happened(target: np.ndarray, problem: Problem) -> np.ndarray:
    if problem.task == "multiclass":
        return (target[:, None] == np.arange(len(problem.classes))).astype("float64")
    return target[:, None]


def _deciles(said: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """Return the decile of each forecast among those of the holdout: int64, shape (n, k)."""
    return np.column_stack([np.searchsorted(cut, each, side="right") for cut, each in zip(edges, said.T, strict=True)])
