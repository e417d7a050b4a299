"""Did outcomes change for the same inputs, or inputs for the same outcomes? Tests that know that days are correlated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.exploration import MOST_CLUSTERS
from ninefold.monitoring import period, two_sample
from ninefold.monitoring.period import Rows
from ninefold.problem import Problem, decisions

MOST_PLACES = 20  # of categories, the most frequent ones; the others are one
FEWEST = 30  # rows of a place on either side, with which it is judged
OUTCOME_BINS, FINE_BINS = 10, 50  # of a quantity: to tell its shares, and to compare rows of the same outcome
EVERYTHING, FORECAST = "all rows", "the forecast"


class Moved(NamedTuple):
    """How far means of the period are from those of the holdout, place by place: shape (places,) each."""

    difference: np.ndarray
    error: np.ndarray
    p: np.ndarray  # NaN where there are too few rows
    share: np.ndarray  # of the period's rows


def moved(
    values: tuple[np.ndarray, np.ndarray],
    blocks: tuple[np.ndarray, np.ndarray],
    places: tuple[np.ndarray, np.ndarray] | None = None,
    weight: np.ndarray | None = None,
) -> Moved:
    """Return how far the mean of each place moved from the holdout to the period, with Student's test of each.

    A period has few blocks, too few to tell how these vary. If nothing changed they vary as those of the holdout do: so
    the spread of the sums of the holdout's blocks stands for both, never below that of independent rows of the period.
    Ratio means by Taylor linearisation (Wolter, Introduction to Variance Estimation, 2007).

    Parameters
    ----------
    values, blocks : two ndarrays each
        Of the rows of the holdout, and of the period.
    places : two ndarrays of int, optional
        From 0; without, all rows are one place.
    weight : ndarray of float, optional
        Of the rows of the holdout, which makes their inputs like the period's.
    """
    if places is None:
        places = (np.zeros(len(values[0]), dtype="int64"), np.zeros(len(values[1]), dtype="int64"))
    size = int(max(places[0].max(initial=0), places[1].max(initial=0))) + 1
    code, one = pd.factorize(blocks[0])[0], np.ones(len(values[0]))
    count = int(code.max(initial=0)) + 1
    fuller = max(len(values[1]) / max(len(np.unique(blocks[1])), 1) / (len(values[0]) / count), 1.0)
    if count > MOST_CLUSTERS:
        code, count = code % MOST_CLUSTERS, MOST_CLUSTERS
    weight = one if weight is None else weight

    def cells(each: np.ndarray) -> np.ndarray:
        return np.bincount(code * size + places[0], each, count * size).reshape(count, size)

    rows = np.bincount(places[1], minlength=size).astype("float64")
    with np.errstate(divide="ignore", invalid="ignore"):
        sums, total = cells(weight * values[0]), cells(weight)
        mean = sums.sum(axis=0) / total.sum(axis=0)
        spread = (sums - mean * total).var(axis=0, ddof=min(count - 1, 1)) * count / total.sum(axis=0) ** 2
        plain, number = cells(values[0]), cells(one)
        a_row = ((plain - plain.sum(axis=0) / number.sum(axis=0) * number) ** 2).sum(axis=0) / number.sum(axis=0)
        level = np.bincount(places[1], values[1], size) / rows
        own = np.bincount(places[1], (values[1] - level[places[1]]) ** 2, size) / rows**2
        error = np.sqrt(spread + np.maximum(a_row * fuller / rows, own))
        freedom = np.maximum(number.sum(axis=0) ** 2 / (number**2).sum(axis=0) - 1, 1)
        p = 2 * stats.t.sf(np.abs(level - mean) / error, freedom)
    few = (rows < FEWEST) | (number.sum(axis=0) < FEWEST)
    return Moved(level - mean, error, np.where(few, np.nan, p), rows / max(rows.sum(), 1))


def smallest(tests: list[Moved]) -> float:
    """Return the smallest p-value, corrected for the number of places (Bonferroni); 1 where there is none."""
    p = np.concatenate([each.p for each in tests]) if tests else np.array([])
    p = p[np.isfinite(p)]
    return float(min(p.min() * len(p), 1.0)) if len(p) else 1.0


def residuals(rows: Rows, problem: Problem) -> np.ndarray:
    """Return outcome less forecast: of the event, of each class, or of the quantity; float64, shape (n, k)."""
    if problem.task != "multiclass":
        return (decisions.event(rows.target, problem) - decisions.expected(rows.predicted, problem))[:, None]
    return (rows.target[:, None] == np.arange(len(problem.classes))) - said(rows, problem)


def said(rows: Rows, problem: Problem) -> np.ndarray:
    """Return the forecast: of the event, of each class, or of the quantity; float64, shape (n, k)."""
    if problem.task == "multiclass":
        return decisions.probabilities(rows.predicted, problem)
    return np.asarray(decisions.expected(rows.predicted, problem), dtype="float64")[:, None]


def relations(
    holdout: Rows, now: Rows, kinds: Mapping[str, str], weight: np.ndarray | None, problem: Problem
) -> pd.DataFrame:
    """Return where outcomes are no longer what they were beside the forecast, the smallest p-value first.

    The test of a recalibration of the outcome on the forecast that differs between the two tables, by its score
    (outcome less forecast): on all rows; by decile of the forecast, and along it; by decile or category of each feature, and
    along it. The holdout is weighted to the inputs of the period.

    Parameters
    ----------
    holdout, now : Rows
        With outcomes.
    kinds : mapping
        The features to look at.
    weight : ndarray of float, optional
        Of the rows of the holdout; needed where inputs moved.
    problem : dict
        The problem.

    Returns
    -------
    DataFrame
        ``where`` (`EVERYTHING`, `FORECAST` or a feature), ``p`` (corrected for its places), ``q`` (Holm's, for all rows of
        the table), ``difference`` (the largest, period less holdout), and ``strength``, the mean square of differences
        without what noise adds.
    """
    both = residuals(holdout, problem), residuals(now, problem)
    blocks, table = (holdout.block, now.block), []
    for where in (EVERYTHING, FORECAST, *kinds):
        places = None if where == EVERYTHING else _places(where, holdout, now, kinds, problem)
        pairs = list(zip(*(each.T for each in both), strict=True))
        tests = [moved(pair, blocks, places, weight) for pair in pairs]
        p = smallest(tests)
        if places is not None and kinds.get(where) != "categorical":
            middle = float(np.median(places[0]))
            along = [np.where(each > 0, each - middle, 0.0) for each in places]
            slopes = [moved((one * along[0], two * along[1]), blocks, None, weight) for one, two in pairs]
            p = min(1.0, 2 * min(p, smallest(slopes)))
        testable = [np.isfinite(each.p) for each in tests]
        far = [np.where(ok, np.abs(each.difference), 0) for each, ok in zip(tests, testable, strict=True)]
        first = int(np.argmax([each.max() for each in far]))
        strength = sum(
            float((each.share * (each.difference**2 - each.error**2))[ok].sum())
            for each, ok in zip(tests, testable, strict=True)
        )
        table.append((where, p, float(tests[first].difference[far[first].argmax()]), max(strength, 0.0)))
    result = pd.DataFrame(table, columns=["where", "p", "difference", "strength"])
    result["q"] = holm(result["p"].to_numpy())
    return result.sort_values(["p", "strength"], ascending=[True, False], ignore_index=True, kind="stable")


def outcomes(
    holdout: Rows, now: Rows, kinds: Mapping[str, str], problem: Problem, seed: int, most: int
) -> dict[str, Any]:
    """Return how far outcomes and forecasts moved, and whether inputs of the same outcome stayed what they were.

    Under label shift the forecasts of a class are what they were, and their mean moves as the shares of the classes say
    (the relation that Lipton, Wang and Smola, Detecting and correcting for label shift, 2018, solve for the shares);
    here the shares are known. And no classifier tells the period from rows of the holdout with the same shares. Deciles
    stand for classes of a quantity.

    Returns
    -------
    dict
        P-values: ``outcomes`` and ``forecasts`` (of having moved), ``forecasts of a class`` and ``inputs of a class`` (of
        being other than label shift leaves them), with the ``auc of a class`` of at most `most` rows a side, missing
        where either had not moved; and ``shares``, before and after, by class or decile.
    """
    label, size = _classes(holdout.target, now.target, problem, OUTCOME_BINS)
    same, fine = _classes(holdout.target, now.target, problem, FINE_BINS)
    blocks, both = (holdout.block, now.block), (said(holdout, problem), said(now, problem))
    shares = [np.bincount(each, minlength=size) / max(len(each), 1) for each in label]
    hits = [moved((label[0] == number, label[1] == number), blocks) for number in range(size)]
    forecasts, inside = [], []
    for mine, theirs in zip(both[0].T, both[1].T, strict=True):
        usual = np.bincount(same[0], mine, fine) / np.maximum(np.bincount(same[0], minlength=fine), 1)
        forecasts.append(moved((mine, theirs), blocks))
        inside.append(moved((mine - usual[same[0]], theirs - usual[same[1]]), blocks))
    p = {
        "outcomes": smallest(hits),
        "forecasts": smallest(forecasts),
        "forecasts of a class": smallest(inside),
        "inputs of a class": float("nan"),
        "auc of a class": float("nan"),
    }
    if p["outcomes"] < 0.05 and p["forecasts"] < 0.05:
        alike = matched(label[0], label[1], seed)
        compared = two_sample.compare(
            holdout.features.iloc[alike],
            now.features,
            kinds,
            (holdout.block[alike], now.block),
            seed,
            most,
            explain=False,
        )
        p |= {"inputs of a class": compared.p, "auc of a class": compared.auc}
    return {**p, "shares": [each.tolist() for each in shares]}


def matched(before: np.ndarray, after: np.ndarray, seed: int) -> np.ndarray:
    """Return positions of as many rows as can be taken from the first so that each label is as frequent as in the second."""
    size = int(max(before.max(), after.max())) + 1
    there, target = (np.bincount(each, minlength=size).astype("float64") for each in (before, after))
    needed = target > 0
    most = np.min(there[needed] / target[needed])
    random, positions = np.random.default_rng(seed), []
    for number in np.flatnonzero(needed):
        rows = np.flatnonzero(before == number)
        positions.append(random.permutation(rows)[: int(most * target[number])])
    return np.sort(np.concatenate(positions))


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number, so that one false among them is as rare as a level says (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def _places(
    where: str, holdout: Rows, now: Rows, kinds: Mapping[str, str], problem: Problem
) -> tuple[np.ndarray, np.ndarray]:
    if where == FORECAST:
        before, after = (decisions.expected(rows.predicted, problem) for rows in (holdout, now))
        edges = np.unique(np.quantile(before, np.linspace(0, 1, 11)[1:-1]))
        return np.searchsorted(edges, before, side="right"), np.searchsorted(edges, after, side="right")
    bins = period.learn_bins(holdout.features[where], kinds[where])
    before, after = (period.places(rows.features[where], kinds[where], bins) + 1 for rows in (holdout, now))
    often = np.argsort(-np.bincount(before, minlength=bins.size + 1), kind="stable")[:MOST_PLACES]
    if bins.size <= MOST_PLACES:
        return before, after
    place = np.full(bins.size + 1, len(often))
    place[often] = np.arange(len(often))
    return place[before], place[after]


def _classes(before: np.ndarray, after: np.ndarray, problem: Problem, bins: int) -> tuple[list[np.ndarray], int]:
    if problem.is_class:
        return [before.astype("int64"), after.astype("int64")], len(problem.classes)
    edges = np.unique(np.quantile(before, np.linspace(0, 1, bins + 1)[1:-1]))
    return [np.searchsorted(edges, each, side="right") for each in (before, after)], len(edges) + 1
