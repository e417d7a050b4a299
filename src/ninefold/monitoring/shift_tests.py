"""Did outcomes change for the same inputs, or inputs for the same outcomes? Tests, and a decomposition of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.exploration import MOST_CLUSTERS
from ninefold.metrics import cluster_sums, clustered_variance, draws, influence, merged
from ninefold.monitoring import period, two_sample
from ninefold.monitoring.period import FORECAST, Bins, Rows
from ninefold.monitoring.two_sample import HIGHEST_RATIO, Compared
from ninefold.problem import Problem

Pair = tuple[np.ndarray, np.ndarray]  # of the rows of the holdout, and of those of the period
MOST_PLACES = 20  # of categories, the most frequent ones; the others are one
FEWEST = 30  # rows of a place on either side, with which it is tested
OUTCOME_BINS, FINE_BINS = 10, 50  # of a quantity: to compare its shares, and rows of the same outcome
LEAST_SHARED = 0.1  # of the rows that are likely on both sides; with fewer, inputs and relations cannot be separated
SMOOTHING = 0.5  # rows added to every place, so that none is empty
ENDS = (0.025, 0.975)  # of the percentile intervals over resampled blocks
REPLICATES, SHARE_REPLICATES = 500, 200
EVERYTHING = "all rows"


def moved(values: Pair, blocks: Pair, places: Pair | None = None, weight: np.ndarray | None = None) -> pd.DataFrame:
    """Return how far the mean of each place (default: of all rows) moved, with Student's test of each.

    The spread of the sums of the holdout's blocks stands for both sides, as a period has too few, but it is at least that
    of independent rows of the period. `weight`, of the rows of the holdout, makes their inputs like the period's.

    By place: ``difference``, its ``error``, ``p`` (NaN where there are too few rows), ``share`` of the period's rows.
    """
    places = places or (np.zeros(len(values[0]), dtype="int64"), np.zeros(len(values[1]), dtype="int64"))
    size = int(max(each.max(initial=0) for each in places)) + 1
    code, names = pd.factorize(blocks[0])
    fuller = max(len(values[1]) / max(len(np.unique(blocks[1])), 1) / (len(values[0]) / len(names)), 1.0)
    code, count = merged(code, MOST_CLUSTERS), min(len(names), MOST_CLUSTERS)
    weight = np.ones(len(code)) if weight is None else weight
    cells = partial(cluster_sums, cluster=code, group=places[0], groups=size)
    rows = np.bincount(places[1], minlength=size).astype("float64")
    with np.errstate(divide="ignore", invalid="ignore"):
        sums, total, number = cells(weight * values[0]), cells(weight), cells(None)
        known = number.sum(axis=0)
        a_row = (influence(cells(values[0]), number) ** 2).sum(axis=0) * known
        level = np.bincount(places[1], values[1], size) / rows
        own = np.bincount(places[1], (values[1] - level[places[1]]) ** 2, size) / rows**2
        difference = level - sums.sum(axis=0) / total.sum(axis=0)
        spread = clustered_variance(influence(sums, total), count)
        error = np.sqrt(spread + np.maximum(a_row * fuller / rows, own))
        p = 2 * stats.t.sf(np.abs(difference) / error, np.maximum(known**2 / (number**2).sum(axis=0) - 1, 1))
    p, share = np.where((rows < FEWEST) | (known < FEWEST), np.nan, p), rows / max(rows.sum(), 1)
    return pd.DataFrame({"difference": difference, "error": error, "p": p, "share": share})


def smallest(tests: list[pd.DataFrame]) -> float:
    """Return the smallest p-value, corrected for the number of places (Bonferroni); 1 where there is none."""
    p = pd.concat(tests)["p"].dropna()
    return float(np.nanmin([p.min() * len(p), 1.0]))


def relations(
    holdout: Rows, now: Rows, kinds: Mapping[str, str], weight: np.ndarray | None, problem: Problem
) -> pd.DataFrame:
    """Return where outcomes are no longer what they were beside the prediction, the smallest p-value first.

    Tests of outcome less prediction: on all rows; by decile of the prediction, and along it; by decile or category of each
    feature, and along it. Columns: ``where`` (`EVERYTHING`, `FORECAST` or a feature), ``p`` (corrected for its places),
    ``difference`` (the largest, period less holdout), ``strength``, the mean square of differences without what noise adds,
    and ``q`` (Holm's).
    """
    residuals = [period.residuals(rows, problem).T for rows in (holdout, now)]
    pairs, blocks, table = list(zip(*residuals, strict=True)), (holdout.block, now.block), []
    for where in (EVERYTHING, FORECAST, *kinds):
        places = None if where == EVERYTHING else _places(where, holdout, now, kinds, problem)
        tests = [moved(pair, blocks, places, weight) for pair in pairs]
        least = smallest(tests)
        if places is not None and kinds.get(where) != "categorical":
            middle = float(np.median(places[0]))
            along = [np.where(each > 0, each - middle, 0.0) for each in places]
            slopes = [moved((one * along[0], two * along[1]), blocks, None, weight) for one, two in pairs]
            least = min(1.0, 2 * min(least, smallest(slopes)))
        every = pd.concat(tests, ignore_index=True)
        tested, largest = every.dropna(subset="p"), every["difference"].where(every["p"].notna(), 0).abs().argmax()
        strength = float((tested["share"] * (tested["difference"] ** 2 - tested["error"] ** 2)).sum())
        table.append((where, least, float(every["difference"].iloc[largest]), max(strength, 0.0)))
    result = pd.DataFrame(table, columns=["where", "p", "difference", "strength"])
    result["q"] = holm(result["p"])
    return result.sort_values(["p", "strength"], ascending=[True, False], ignore_index=True, kind="stable")


def outcomes(holdout: Rows, now: Rows, kinds: Mapping[str, str], problem: Problem) -> dict[str, Any]:
    """Return how far outcomes and predictions moved, and whether inputs of the same outcome stayed what they were.

    Label shift: Lipton, Wang and Smola, Detecting and correcting for label shift, 2018; deciles stand for classes of a
    quantity. P-values: ``outcomes`` and ``forecasts`` (of having moved), ``forecasts of a class`` and ``inputs of a class``
    (of being other than label shift leaves them); the latter, with the ``auc of a class``, only where both moved; and
    ``shares``, before and after, by class or decile.
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
    result: dict[str, Any] = {
        "outcomes": smallest(hits),
        "forecasts": smallest([moved(pair, blocks) for pair in pairs]),
    }
    both = max(result.values()) < 0.05
    result |= {"forecasts of a class": smallest(inside), "inputs of a class": np.nan, "auc of a class": np.nan}
    if both:
        matching = period.take(holdout, matched(*label))
        compared = two_sample.compare(matching, now, kinds, explain=False)
        result |= {"inputs of a class": compared.p, "auc of a class": compared.auc}
    return result | {"shares": [(np.bincount(each, minlength=size) / max(len(each), 1)).tolist() for each in label]}


def decompose(loss: Pair, compared: Compared, blocks: Pair) -> dict[str, Any]:
    """Return the change of the mean loss from the holdout to a period as a part of the inputs and one of the relations.

    Cai, Namkoong and Yadlowsky, Diagnosing model performance under distribution shift, 2023 (DISDE): both tables are
    weighted to the inputs that they share. What differs there is ``concept``; the way there is ``covariate``. `loss` and
    `blocks` are of the rows that `compared` names. Where ``shared``, the share of likely shared inputs, is under
    `LEAST_SHARED`, the parts are not ``separable``.
    """
    weights = compared.before_probability, 1 - compared.after_probability
    seeds = np.random.default_rng(0).integers(2**31, size=2).tolist()
    sides = zip(loss, weights, blocks, (REPLICATES, REPLICATES), seeds, strict=True)
    (before, before_shared), (after, after_shared) = (_means(*side) for side in sides)
    shared = float(min(2 * weight.mean() for weight in weights))
    return {
        "holdout": float(before[0]),
        "shared, holdout": float(before_shared[0]),
        "shared, period": float(after_shared[0]),
        "period": float(after[0]),
        "total": _figure(after - before),
        "covariate": _figure(before_shared - before + after - after_shared),
        "concept": _figure(after_shared - before_shared),
        "shared": min(shared, 1.0),
        "separable": shared >= LEAST_SHARED,
    }


def shares(
    loss: np.ndarray, holdout: Rows, now: Rows, kinds: Mapping[str, str], covariate: float
) -> list[dict[str, Any]]:
    """Return how much of the covariate part each drifted feature (those of `kinds`) explains, the largest first.

    ``effect``: by how much the mean loss of the holdout changes when it is weighted to the period's distribution of that
    feature alone; ``share``, 0-1, is that of the sum of all effects of the sign of the `covariate` part.
    """
    table = []
    for name, kind in kinds.items():
        plain, weighted = _means(loss, _ratio(holdout, now, name, kind), holdout.block, SHARE_REPLICATES, 0)
        effect = _figure(weighted - plain)
        same_way = max(np.sign(covariate) * effect["value"], 0)
        table.append({"feature": name, "effect": effect.pop("value"), **effect, "share": same_way})
    total = sum(each["share"] for each in table) or 1.0
    for each in table:
        each["share"] /= total
    return sorted(table, key=lambda each: (-each["share"], each["feature"]))


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
    columns, kind = [period.column(rows, where, problem) for rows in (holdout, now)], kinds.get(where, "numeric")
    bins = Bins.of(columns[0], kind)
    before, after = (bins.places(column) - (where == FORECAST) for column in columns)
    if kind == "categorical" and bins.size > MOST_PLACES + 1:
        often = np.argsort(-np.bincount(before, minlength=bins.size), kind="stable")
        place = np.minimum(np.argsort(often, kind="stable"), MOST_PLACES)
        before, after = place[before], place[after]
    return before, after


def _labels(holdout: Rows, now: Rows, problem: Problem, bins: int) -> Pair:
    edges = np.arange(1, len(problem.classes)) if problem.is_class else period.quantile_edges(holdout.target, bins)
    return np.searchsorted(edges, holdout.target, side="right"), np.searchsorted(edges, now.target, side="right")


def _ratio(holdout: Rows, now: Rows, name: str, kind: str) -> np.ndarray:
    """Return how much likelier each row's value of one feature is in the period: float64, mean 1."""
    bins = Bins.of(holdout.features[name], kind)
    was, is_ = (bins.counts(rows.features[name]) + SMOOTHING for rows in (holdout, now))
    ratio = np.clip((is_ / is_.sum()) / (was / was.sum()), 1 / HIGHEST_RATIO, HIGHEST_RATIO)
    of_rows = ratio[bins.places(holdout.features[name])]
    return of_rows / of_rows.mean()


def _means(values: np.ndarray, weight: np.ndarray, block: np.ndarray, replicates: int, seed: int) -> Pair:
    """Return the plain and the weighted mean, as they are and then over resampled blocks: shape (1 + replicates,)."""
    code, names = pd.factorize(block)
    sums = np.column_stack(
        [np.bincount(code, each) for each in (values, np.ones_like(values), weight * values, weight)]
    )
    totals = np.array([np.ones(len(names)), *draws(len(names), replicates, seed)]) @ sums
    return totals[:, 0] / totals[:, 1], totals[:, 2] / totals[:, 3]


def _figure(samples: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(samples[1:], ENDS).tolist()
    return {"value": float(samples[0]), "low": low, "high": high}
