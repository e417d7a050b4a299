"""Did outcomes change for the same inputs, or inputs for the same outcomes? Tests, and a decomposition of the loss."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.metrics import cluster_sums, influence, merged, student
from ninefold.monitoring import period, two_sample
from ninefold.monitoring.period import FORECAST, Bins, Rows
from ninefold.monitoring.two_sample import Compared
from ninefold.problem import Problem, decisions

Pair = tuple[np.ndarray, np.ndarray]  # of the rows of the holdout, and of those of the period
MOST_PLACES = 20  # of categories, the most frequent ones; the others are one
MOST_CLUSTERS = 4_000  # more are merged at random; days are fewer, and stay in order
NEIGHBOURS = 7  # days that may be correlated
OVERLAP = 1.5  # degrees of freedom of overlapping runs, as a multiple of those that do not
FEWEST = 30  # rows of a place on either side, with which it is tested
OUTCOME_BINS, FINE_BINS = 10, 50  # of a quantity: to compare its shares, and rows of the same outcome
LEAST_SHARED = 0.1  # of the rows that are likely on both sides; with fewer, inputs and relations cannot be separated
LEVEL = 0.95  # of the intervals
EVERYTHING = "all rows"


def moved(values: Pair, blocks: Pair, places: Pair | None = None, weight: np.ndarray | None = None) -> pd.DataFrame:
    """Return how far the mean of each place (default: of all rows) moved, with Student's test of each.

    The spread of the sums of the holdout's blocks stands for both sides, as a period has too few, but it is at least that
    of independent rows of the period; neighbouring days may be correlated, see `_variance`. `weight` of the holdout's rows
    makes their inputs like the period's. By place: ``difference``, ``error``, ``p`` (NaN of too few rows), ``share`` of the rows.
    """
    places = places or (np.zeros(len(values[0]), dtype="int64"), np.zeros(len(values[1]), dtype="int64"))
    size = int(max(each.max(initial=0) for each in places)) + 1
    names, code = np.unique(blocks[0], return_inverse=True)
    fuller = max(len(values[1]) / max(len(np.unique(blocks[1])), 1) / (len(values[0]) / len(names)), 1.0)
    code = merged(code, MOST_CLUSTERS)
    weight = np.ones(len(code)) if weight is None else weight
    cells = partial(cluster_sums, cluster=code, group=places[0], groups=size)
    rows = np.bincount(places[1], minlength=size).astype("float64")
    with np.errstate(divide="ignore", invalid="ignore"):
        sums, total, number = cells(weight * values[0]), cells(weight), cells(None)
        known = number.sum(axis=0)
        a_row = _variance(influence(cells(values[0]), number)) * known
        level = np.bincount(places[1], values[1], size) / rows
        own = np.bincount(places[1], (values[1] - level[places[1]]) ** 2, size) / rows**2
        difference = level - sums.sum(axis=0) / total.sum(axis=0)
        error = np.sqrt(_variance(influence(sums, total)) + np.maximum(a_row * fuller / rows, own))
        effective = known**2 / (number**2).sum(axis=0) / _neighbours(len(number))
        p = 2 * stats.t.sf(np.abs(difference) / error, np.maximum(OVERLAP * effective - 1, 1))
    p, share = np.where((rows < FEWEST) | (known < FEWEST), np.nan, p), rows / max(rows.sum(), 1)
    return pd.DataFrame({"difference": difference, "error": error, "p": p, "share": share})


def _neighbours(clusters: int) -> int:
    """Return how many neighbouring clusters may be correlated: `NEIGHBOURS` days, but at most a fifth of the clusters."""
    return max(min(NEIGHBOURS, clusters // 5), 1)


def _variance(moves: np.ndarray) -> np.ndarray:
    """Return the variance of the mean of each group (column) from what each cluster (line, in order) adds to it.

    Overlapping runs of neighbours (Meketon and Schmeiser, 1984); at least as if clusters were independent.
    """
    count, run = len(moves), _neighbours(len(moves))
    sums = np.cumsum(np.vstack([np.zeros_like(moves[:1]), moves, moves[: run - 1]]), axis=0)
    both = (moves**2).sum(axis=0), ((sums[run:] - sums[:-run]) ** 2).sum(axis=0) / run
    return np.maximum(*both) * count / max(count - run, 1)


def smallest(tests: list[pd.DataFrame]) -> float:
    """Return the smallest p-value, corrected for the number of places (Bonferroni); 1 where there is none."""
    p = pd.concat(tests)["p"].dropna()
    return float(np.nanmin([p.min() * len(p), 1.0]))


def relations(
    holdout: Rows, now: Rows, kinds: Mapping[str, str], weight: np.ndarray | None, problem: Problem
) -> pd.DataFrame:
    """Return where outcomes are no longer what they were beside the prediction, the smallest p-value first.

    Tests of outcome minus prediction on all rows, by and along the decile of the prediction, and the decile or category of
    each feature: ``where`` (`EVERYTHING`, `FORECAST` or a feature), ``p`` (corrected for its places), the largest
    ``difference`` (period minus holdout), ``strength`` (mean square of differences minus noise), ``q`` (Holm's).
    """
    residuals = [period.residuals(rows, problem).T for rows in (holdout, now)]
    pairs, blocks, table = list(zip(*residuals, strict=True)), (holdout.block, now.block), []
    for where in (EVERYTHING, FORECAST, *kinds):
        places = None if where == EVERYTHING else _places(where, holdout, now, kinds, problem)
        tests = [moved(pair, blocks, places, weight) for pair in pairs]
        least = smallest(tests)
        if places is not None and kinds.get(where) != "categorical":
            middle = float(np.median(places[0][places[0] > 0])) if places[0].any() else 0.0
            along = [np.where(each > 0, each - middle, 0.0) for each in places]
            slopes = [moved((one * along[0], two * along[1]), blocks, None, weight) for one, two in pairs]
            least = min(1.0, 2 * min(least, smallest(slopes)))
        every = pd.concat(tests, ignore_index=True)
        tested = every[every["p"].notna()]
        largest = max(tested["difference"], key=abs, default=0.0)
        strength = float((tested["share"] * (tested["difference"] ** 2 - tested["error"] ** 2)).sum())
        table.append((where, least, largest, max(strength, 0.0)))
    result = pd.DataFrame(table, columns=["where", "p", "difference", "strength"])
    result["q"] = holm(result["p"])
    return result.sort_values(["p", "strength"], ascending=[True, False], ignore_index=True, kind="stable")


def outcomes(holdout: Rows, now: Rows, kinds: Mapping[str, str], problem: Problem) -> dict[str, Any]:
    """Return how far outcomes and predictions moved, and whether inputs of the same outcome stayed what they were.

    Label shift: Lipton, Wang and Smola, 2018; deciles stand for classes of a quantity. P-values: ``outcomes`` and
    ``forecasts`` (of having moved), ``forecasts of a class`` and ``inputs of a class`` (of being other than label shift leaves
    them), the latter with ``auc of a class`` where both moved; and ``shares``, before and after, by class or decile.
    """
    label, same = (_labels(holdout, now, problem, bins) for bins in (OUTCOME_BINS, FINE_BINS))
    size = len(problem.classes) if problem.is_class else int(max(each.max() for each in label)) + 1
    blocks = holdout.block, now.block
    pairs = list(zip(*(period.expected(rows, problem).T for rows in (holdout, now)), strict=True))
    rows, inside = np.bincount(same[0], minlength=same[1].max() + 1), []
    for mine, theirs in pairs:
        usual = np.bincount(same[0], mine, len(rows)) / np.maximum(rows, 1)
        inside.append(moved((mine - usual[same[0]], theirs - usual[same[1]]), blocks))
    hits = [moved((label[0] == number, label[1] == number), blocks) for number in range(size)]
    forecasts = [moved(pair, blocks) for pair in pairs]
    result: dict[str, Any] = {"outcomes": smallest(hits), "forecasts": smallest(forecasts)}
    p = auc = np.nan
    if max(result.values()) < 0.05:
        auc, _, _, p, *_ = two_sample.compare(period.take(holdout, matched(*label)), now, kinds, explain=False)
    result |= {"forecasts of a class": smallest(inside), "inputs of a class": p, "auc of a class": auc}
    return result | {"shares": [(np.bincount(each, minlength=size) / max(len(each), 1)).tolist() for each in label]}


def decompose(loss: Pair, compared: Compared, blocks: Pair) -> dict[str, Any]:
    """Return the change of the mean loss from the holdout to a period as a part of the inputs and one of the relations.

    Cai, Namkoong and Yadlowsky, 2023 (DISDE): both tables are weighted to the inputs that they share. What differs there is
    ``concept``; the way there is ``covariate``. `loss` and `blocks` are of the rows that `compared` names. Where the share of
    likely shared inputs is under `LEAST_SHARED`, the parts are not ``separable``.
    """
    weights = compared.before_probability, 1 - compared.after_probability
    (before, was), (after, now) = (_means(*side) for side in zip(loss, weights, blocks, strict=True))
    shared = float(min(2 * weight.mean() for weight in weights))
    way = before[1] - before[0] + after[0] - after[1]
    total = _figure(after[0] - before[0], was[:, 0], now[:, 0])
    covariate = _figure(way, was[:, 1] - was[:, 0], now[:, 0] - now[:, 1])
    parts = {"covariate": covariate, "concept": _figure(after[1] - before[1], was[:, 1], now[:, 1])}
    return {"total": total, **parts, "separable": shared >= LEAST_SHARED}


def matched(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return positions of as many rows as can be taken from the first so that each label is as frequent as in the second."""
    size = int(max(before.max(), after.max())) + 1
    available, target = (np.bincount(each, minlength=size) for each in (before, after))
    needed = np.flatnonzero(target)
    most = np.min(available[needed] / target[needed])
    random = np.random.default_rng(0)
    positions = [random.permutation(np.flatnonzero(before == one))[: int(most * target[one])] for one in needed]
    return np.sort(np.concatenate(positions))


def holm(p: pd.Series) -> pd.Series:
    """Return p-values corrected for their number, so that one false among them is as rare as a level says (Holm, 1979)."""
    ordered = p.sort_values(kind="stable")
    return (ordered * np.arange(len(p), 0, -1)).cummax().clip(upper=1).reindex(p.index)


def _places(where: str, holdout: Rows, now: Rows, kinds: Mapping[str, str], problem: Problem) -> Pair:
    kind, columns = kinds.get(where, "numeric"), [rows.features.get(where) for rows in (holdout, now)]
    if where == FORECAST:
        columns = [pd.Series(decisions.expected(rows.predicted, problem), dtype="float64") for rows in (holdout, now)]
    bins = Bins.of(columns[0], kind)
    before, after = map(bins.places, columns)
    if kind == "categorical" and bins.size > MOST_PLACES + 1:
        often = np.argsort(-np.bincount(before, minlength=bins.size), kind="stable")
        place = np.minimum(np.argsort(often, kind="stable"), MOST_PLACES)
        before, after = place[before], place[after]
    return before, after


def _labels(holdout: Rows, now: Rows, problem: Problem, bins: int) -> Pair:
    edges = np.arange(1, len(problem.classes)) if problem.is_class else period.quantile_edges(holdout.target, bins)
    return np.searchsorted(edges, holdout.target, side="right"), np.searchsorted(edges, now.target, side="right")


def _means(values: np.ndarray, weight: np.ndarray, block: np.ndarray) -> Pair:
    """Return the plain and the weighted mean, and by how much each block (line, in order) moves these: shape (blocks, 2)."""
    code = np.unique(block, return_inverse=True)[1]
    both = np.ones_like(weight), weight
    sums, sizes = (np.column_stack([np.bincount(code, one * each) for each in both]) for one in (values, both[0]))
    return sums.sum(axis=0) / sizes.sum(axis=0), influence(sums, sizes)


def _figure(value: float, *moves: np.ndarray) -> dict[str, float]:
    """Return a value with Student's interval, from how much the blocks of each independent sample move it."""
    error = np.sqrt(sum(_variance(each[:, None])[0] for each in moves))
    reach = float(student(LEVEL, min(len(each) / _neighbours(len(each)) for each in moves)) * error)
    return {"value": float(value), "low": float(value) - reach, "high": float(value) + reach}
