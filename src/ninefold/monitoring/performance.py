"""Performance of each period by the labels known at its close: scores, calibration, slices, payoff; estimated before.

Estimates are made from predictions and their errors on the holdout.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ninefold import labels
from ninefold.exploration import MOST_CLUSTERS
from ninefold.metrics import Evaluation, EvaluationPlan, cluster_sums, intervals, means, ranked_auc, subsample
from ninefold.monitoring import period
from ninefold.monitoring.answers import AT_CLOSE, PERIOD, STATUS, outcomes, predictions
from ninefold.monitoring.drift import feature_kinds
from ninefold.monitoring.period import Rows
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle
from ninefold.serving import bundle as packing
from ninefold.training import slices

MOST_ROWS = 50_000  # of a period, that are scored
MOST_ESTIMATED = 20_000  # rows of a period whose worth is estimated, and errors remembered
DECILES = 10
FLOOR = 1e-4  # of the probability of an outcome
ENDS = (0.025, 0.975)  # of the percentile intervals of estimates
Interval = dict[str, float]  # value, low, high
Figures = dict[str, Interval]
Periods = Iterator[tuple[str, Evaluation]]
Worth = Callable[[np.ndarray, np.ndarray, np.random.Generator], dict[str, float]]


def evaluation(rows: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> Evaluation:
    """Return the evaluation of the answers to rows whose outcomes are known."""
    return Evaluation(outcomes(rows, problem), predictions(rows, problem), rows, problem, plan)


def scores_by_period(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> dict[str, dict[str, Figures]]:
    """Return the scores of each period, see `scores_of`; periods in which all known outcomes are equal are absent."""
    return {name: scores_of(rows, rows.results()) for name, rows in _closed(frame, problem, plan, least=2)}


def scores_of(rows: Evaluation, results: Figures) -> dict[str, Figures]:
    """Return ``figures``, the results of `Evaluation.results` with ``gap`` and `skill`, and ``levels``: those that are finite.

    ``gap`` is the mean prediction minus the mean outcome; ``levels`` are the shares of the classes, or the mean of the target.
    A figure without an interval (`metrics.estimate`) has its ``value`` alone.
    """
    target, problem = rows.target, rows.problem
    columns = {"event rate" if problem.is_class else f"mean {problem.target}": rows.observed}
    if problem.task == "multiclass":
        columns = {f'share of "{name}"': target == number for number, name in enumerate(problem.classes)}
    shares = list(columns) if problem.is_class else []
    columns["gap"] = rows.expected - rows.observed
    levels = intervals(partial(means, columns), rows.frame, problem, rows.plan.level, shares)
    figures = {**results, "gap": levels.pop("gap"), "skill": skill(results, target, problem)}
    return {"figures": _finite(figures), "levels": _finite(levels)}


def skill(results: Figures, target: np.ndarray, problem: Problem) -> Interval:
    """Return the Brier skill score against a prediction that knows the class shares of these very rows, or R2."""
    if not problem.is_class:
        return results["r2"]
    shares = np.bincount(target, minlength=2) / len(target)
    error = float(np.sum(shares * (1 - shares)))  # summed over classes; of two, `brier` counts only the event
    return {"value": 1 - results["brier"]["value"] / (error / 2 if len(problem.classes) == 2 else error)}


def calibration(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per period and decile, the ``predicted`` mean and ``value``, ``low``, ``high`` of the observed mean."""
    none = pd.DataFrame(columns=["predicted", "observed", "low", "high", "period"])
    tables = [each.calibration().assign(period=name) for name, each in _closed(frame, problem, plan)]
    return pd.concat(tables or [none]).rename(columns={"observed": "value"})


def policies(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per period, the mean payoff of each policy with its interval: ``period``, and what stage 07 returns."""
    none = pd.DataFrame(columns=["policy", "payoff", "low", "high", "period"])
    tables = [each.policies().assign(period=name) for name, each in _closed(frame, problem, plan)]
    return pd.concat(tables or [none])


def worse_slices(frame: pd.DataFrame, holdout: pd.DataFrame, bundle: Bundle, plan: EvaluationPlan) -> dict[str, Any]:
    """Return, per period, the ``slices`` with a significant bias that is larger than on the holdout.

    Each has ``subject`` ("origin is JFK"), ``rows``, ``gap`` (mean of predicted minus observed), ``held``, the gap on the
    holdout (else 0), and ``worse``, by how much the gap is larger; the most significant first.
    """
    problem = bundle.problem
    categorical = [name for name in bundle.columns.categorical if name in feature_kinds(bundle)]
    columns = replace(bundle.columns, high_cardinality=[], numeric=[], categorical=categorical)
    before = slices.slices(evaluation(holdout, problem, plan), columns).set_index(["feature", "group"])["bias"]
    result = {}
    for name, rows in _closed(frame, problem, plan, least=2):
        table = slices.slices(rows, columns).query("flagged").rename(columns={"bias": "gap"})
        usual = before.reindex(pd.MultiIndex.from_frame(table[["feature", "group"]]), fill_value=0.0)
        table["held"], named = usual.to_numpy("float64"), table["feature"].map(labels.of)
        table["subject"] = named + " is " + table["group"]
        table["worse"] = table["gap"].abs() - table["held"].abs()
        shown = table.loc[table["worse"] > 0, ["subject", "rows", "gap", "held", "worse"]]
        result[name] = {"slices": shown.to_dict("records")}
    return result


def estimate(
    rows: Rows, holdout: Rows, problem: Problem, plan: EvaluationPlan, replicates: int = 200
) -> dict[str, dict[str, float]]:
    """Return what the predictions of a period are probably worth, each as ``{"value", "low", "high"}``, without outcomes.

    Classes: confidence-based performance estimation (Białek et al., 2024), calibrated by the mean error of the decile on the
    holdout. Quantities: outcomes are the prediction and an error from its decile on the holdout. Each replicate of an
    interval (95 %) resamples the period's blocks, and takes the errors of as many blocks of the holdout. It cannot see
    relations that changed (concept shift). Classes: ``log_loss``, ``brier``, ``roc_auc``; quantities: ``rmse``, ``mae``. Both:
    ``payoff`` per row of following the model, ``gain`` over the policy without one that is best on these rows, and
    ``outcome``, the mean of `decisions.event`. Empty without rows.
    """
    rows = period.sample(rows, MOST_ESTIMATED)
    if not len(rows.block):
        return {}
    if len(np.unique(holdout.block)) > MOST_CLUSTERS:  # rows or entities; of days all rows count
        holdout = period.sample(holdout, MOST_ESTIMATED)
    (day, days), (block, blocks) = (pd.factorize(each.block) for each in (holdout, rows))
    worth = (_classes if problem.is_class else _quantities)(rows, holdout._replace(block=day), problem, plan)
    random = np.random.default_rng(0)

    def draw(size: int) -> np.ndarray:
        return np.bincount(random.integers(0, size, len(blocks)), minlength=size).astype("float64")

    value = worth(np.ones(len(days)), np.ones(len(block)), random)
    table = pd.DataFrame([worth(draw(len(days)), draw(len(blocks))[block], random) for _ in range(replicates)])
    result = pd.DataFrame({"value": pd.Series(value) if problem.is_class else table.mean()})
    result["low"], result["high"] = (table.quantile(end) for end in ENDS)
    return result[np.isfinite(result["value"])].to_dict("index")


def _closed(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan, least: int = 1) -> Periods:
    """Yield the evaluation of each period by the labels known at its close, if these are at least so many different ones."""
    for name, known in frame[frame[STATUS] == AT_CLOSE].groupby(PERIOD, sort=False):
        rows = evaluation(packing.sample(known, MOST_ROWS), problem, plan)
        if len(np.unique(rows.target)) >= least:
            yield str(name), rows


def _finite(figures: Figures) -> Figures:
    finite = {name: {end: each for end, each in ends.items() if np.isfinite(each)} for name, ends in figures.items()}
    return {name: ends for name, ends in finite.items() if "value" in ends}


def _classes(rows: Rows, holdout: Rows, problem: Problem, plan: EvaluationPlan) -> Worth:
    """Return the function from weights of the holdout's blocks and of the rows to the figures."""
    before, decile = _deciles(holdout, rows, problem)
    pairs = list(zip(period.residuals(holdout, problem).T, before.T, strict=True))
    errors = np.stack([cluster_sums(each, holdout.block, place, DECILES) for each, place in pairs], axis=1)
    size = np.stack([cluster_sums(None, holdout.block, place, DECILES) for _, place in pairs], axis=1)
    p, two = decisions.probabilities(rows.predicted, problem), decile.shape[1] == 1
    surprise = -np.log(np.clip(p, np.finfo("float64").eps, 1))
    square = ((p**2).sum(axis=1)[:, None] + 1 - 2 * p) / (2 if two else 1)  # the Brier score, by the class that comes
    matrix = problem.payoff_matrix
    paid = matrix.to_numpy()[matrix.index.get_indexer(decisions.decide(rows.predicted, problem)["action"])]
    policies = matrix.loc[list(plan.policies.values())].to_numpy()
    first = 1 if two else 0  # of two classes the event alone is calibrated and ranked
    ranked = [np.unique(each, return_inverse=True)[1] for each in p.T[first:]]

    def probable(days: np.ndarray) -> np.ndarray:
        mean_errors = np.tensordot(days, errors, 1) / np.maximum(np.tensordot(days, size, 1), 1)
        true = np.clip(p[:, first:], FLOOR, 1 - FLOOR) + mean_errors[np.arange(decile.shape[1]), decile]
        true = np.clip(true, FLOOR, 1 - FLOOR)
        return np.column_stack([1 - true, true]) if two else true / true.sum(axis=1, keepdims=True)

    def mean(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
        return weight @ values / weight.sum()

    best = policies[(policies @ mean(np.ones(len(p)), probable(np.ones(len(errors))))).argmax()]

    def worth(days: np.ndarray, weight: np.ndarray, random: np.random.Generator) -> dict[str, float]:
        true = probable(days)
        events = zip(ranked, true.T[first:], strict=True)
        auc = float(np.mean([ranked_auc(rank, weight * each, weight * (1 - each)) for rank, each in events]))
        total = mean(weight, true)
        log_loss, brier, payoff = (float(mean(weight, (true * each).sum(axis=1))) for each in (surprise, square, paid))
        scores = {"log_loss": log_loss, "brier": brier, "roc_auc": auc, "payoff": payoff}
        return scores | {"gain": payoff - float(best @ total), "outcome": float(total[problem.focus_index])}

    return worth


def _quantities(rows: Rows, holdout: Rows, problem: Problem, plan: EvaluationPlan) -> Worth:
    """Return the function from weights to figures of outcomes simulated around predictions with errors of the holdout."""
    sample = subsample(len(holdout.block), MOST_ESTIMATED)
    block, errors = holdout.block[sample], period.residuals(holdout, problem)[sample, 0]
    before, decile = (each[:, 0] for each in _deciles(holdout, rows, problem))
    predicted = rows.predicted["prediction"].to_numpy("float64")
    action = decisions.decide(rows.predicted, problem)["action"].to_numpy("float64")
    policy = np.full(len(predicted), float(next(iter(plan.policies.values()))))
    pairs = [(np.flatnonzero(decile == one), np.flatnonzero(before[sample] == one)) for one in range(DECILES)]

    def worth(days: np.ndarray, weight: np.ndarray, random: np.random.Generator) -> dict[str, float]:
        error = np.empty(len(predicted))
        for mine, theirs in pairs:
            share = random.random(len(mine))
            if not len(theirs):
                error[mine] = random.choice(errors, len(mine))
                continue
            cumulative = days[block[theirs]].cumsum()
            if cumulative[-1] == 0:  # no such prediction on these days: all days stand in
                cumulative = np.arange(1.0, len(theirs) + 1)
            error[mine] = errors[theirs[np.searchsorted(cumulative, share * cumulative[-1], side="right")]]
        target = predicted + error
        payoff = decisions.payoff(action, target, problem)
        gain = payoff - decisions.payoff(policy, target, problem)
        each = {"rmse": error**2, "mae": np.abs(error), "payoff": payoff, "gain": gain, "outcome": target}
        values = {name: float(np.average(value, weights=weight)) for name, value in each.items()}
        return {**values, "rmse": values["rmse"] ** 0.5}

    return worth


def _deciles(holdout: Rows, rows: Rows, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the decile of each prediction among those of the holdout, of the holdout and of the rows: shape (n, k)."""
    both, count = np.concatenate([period.expected(each, problem) for each in (holdout, rows)]), len(holdout.block)
    edges = [period.quantile_edges(each[:count], DECILES) for each in both.T]
    deciles = [np.searchsorted(cut, each, side="right") for cut, each in zip(edges, both.T, strict=True)]
    before, now = np.split(np.column_stack(deciles), [count])
    return before, now
