"""What is a prediction worth before its outcomes are known? Estimated from predictions and their errors on the holdout."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ninefold.exploration import MOST_CLUSTERS
from ninefold.metrics import EvaluationPlan, cluster_sums, ranked_auc, subsample
from ninefold.monitoring import period
from ninefold.monitoring.period import Rows
from ninefold.problem import Problem, decisions

DECILES = 10
MOST_ROWS = 20_000  # of a period, and of the errors remembered
FLOOR = 1e-4  # of the probability of an outcome
ENDS = (0.025, 0.975)  # of the percentile intervals
Worth = Callable[[np.ndarray, np.ndarray, np.random.Generator], dict[str, float]]


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
    rows = period.sample(rows, MOST_ROWS)
    if not len(rows.block):
        return {}
    if len(np.unique(holdout.block)) > MOST_CLUSTERS:  # rows or entities; of days all rows count
        holdout = period.sample(holdout, MOST_ROWS)
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

    def outcomes(days: np.ndarray) -> np.ndarray:
        mean_errors = np.tensordot(days, errors, 1) / np.maximum(np.tensordot(days, size, 1), 1)
        true = np.clip(p[:, first:], FLOOR, 1 - FLOOR) + mean_errors[np.arange(decile.shape[1]), decile]
        true = np.clip(true, FLOOR, 1 - FLOOR)
        return np.column_stack([1 - true, true]) if two else true / true.sum(axis=1, keepdims=True)

    def mean(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
        return weight @ values / weight.sum()

    best = policies[(policies @ mean(np.ones(len(p)), outcomes(np.ones(len(errors))))).argmax()]

    def worth(days: np.ndarray, weight: np.ndarray, random: np.random.Generator) -> dict[str, float]:
        true = outcomes(days)
        events = zip(ranked, true.T[first:], strict=True)
        auc = float(np.mean([ranked_auc(rank, weight * each, weight * (1 - each)) for rank, each in events]))
        total = mean(weight, true)
        log_loss, brier, payoff = (float(mean(weight, (true * each).sum(axis=1))) for each in (surprise, square, paid))
        scores = {"log_loss": log_loss, "brier": brier, "roc_auc": auc, "payoff": payoff}
        return scores | {"gain": payoff - float(best @ total), "outcome": float(total[problem.focus_index])}

    return worth


def _quantities(rows: Rows, holdout: Rows, problem: Problem, plan: EvaluationPlan) -> Worth:
    """Return the function from weights to figures of outcomes simulated around predictions with errors of the holdout."""
    sample = subsample(len(holdout.block), MOST_ROWS)
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
