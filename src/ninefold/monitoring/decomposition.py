"""Why is the loss of a period not that of the holdout: other inputs, or other outcomes for the same inputs?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ninefold.metrics import draws
from ninefold.monitoring import period
from ninefold.monitoring.period import Rows
from ninefold.monitoring.two_sample import HIGHEST_RATIO, Compared

LEAST_SHARED = 0.1  # of the rows that are likely on both sides; with fewer, inputs and relations cannot be told apart
SMOOTHING = 0.5  # rows added to every place, so that none is empty


def decompose(
    loss: tuple[np.ndarray, np.ndarray],
    compared: Compared,
    blocks: tuple[np.ndarray, np.ndarray],
    replicates: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return the change of the mean loss from the holdout to a period as a part of the inputs and one of the relations.

    Cai, Namkoong and Yadlowsky, Diagnosing model performance under distribution shift, 2023 (DISDE): both tables are
    weighted to the inputs that they share, with weights that no row can dominate. What differs there is ``concept``;
    the way to the shared inputs, on either side, is ``covariate``. Intervals are percentiles over resampled blocks of
    both sides, with the weights as they are.

    Parameters
    ----------
    loss : two ndarrays of float
        Of the rows of the holdout, and of the period, that `compared` names, in its order.
    compared : Compared
        The two tables, told apart.
    blocks : two ndarrays of int
        Of these rows.
    replicates, seed, level

    Returns
    -------
    dict
        ``holdout``, ``shared, holdout``, ``shared, period``, ``period``: mean losses along the way; ``total``,
        ``covariate``, ``concept``: ``{"value", "low", "high"}``; ``shared``: the share of likely shared inputs, 0-1, and
        ``separable``: whether it is at least `LEAST_SHARED`. If not, the split is not to be trusted.
    """
    weights = [compared.before_probability, 1 - compared.after_probability]
    random = np.random.default_rng(seed)
    sides = [
        _draws(each, weight, block, replicates, int(random.integers(2**31)))
        for each, weight, block in zip(loss, weights, blocks, strict=True)
    ]
    before, before_shared, after, after_shared = (column for side in sides for column in side)
    parts = {
        "total": after - before,
        "covariate": before_shared - before + after - after_shared,
        "concept": after_shared - before_shared,
    }
    tail = (1 - level) / 2
    ends = {name: np.quantile(values[1:], [tail, 1 - tail]) for name, values in parts.items()}
    shared = float(min(2 * weight.mean() for weight in weights))
    return {
        "holdout": float(before[0]),
        "shared, holdout": float(before_shared[0]),
        "shared, period": float(after_shared[0]),
        "period": float(after[0]),
        **{name: _figure(values[0], *ends[name]) for name, values in parts.items()},
        "shared": min(shared, 1.0),
        "separable": shared >= LEAST_SHARED,
    }


def shares(  # noqa: PLR0913, PLR0917
    loss: np.ndarray,
    holdout: Rows,
    now: Rows,
    kinds: Mapping[str, str],
    names: Sequence[str],
    covariate: float,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Return how much of the covariate part each drifted feature explains, the largest first.

    One feature at a time: the holdout is weighted to the period's distribution of that feature alone, by decile or
    category, and its mean loss compared with what it was (``effect``). Features that are correlated claim the same loss:
    so their ``share`` is that of the sum of all effects which go the way of the covariate part, 0-1, not of the part.

    Parameters
    ----------
    loss : ndarray of float
        Of the rows of the holdout.
    holdout, now : Rows
    kinds : mapping
    names : sequence of str
        The drifted features.
    covariate : float
        The covariate part of `decompose`, of which only the sign counts.
    replicates, seed, level

    Returns
    -------
    list of dict
        ``feature``, ``effect`` with ``low`` and ``high``, in units of the loss, and ``share``.
    """
    block, effects, tail = pd.factorize(holdout.block)[0], [], (1 - level) / 2
    for name in names:
        weight = one_ratio(holdout, now, name, kinds[name])
        plain, weighted = _draws(loss, weight, block, replicates, seed)
        effect = weighted - plain
        low, high = np.quantile(effect[1:], [tail, 1 - tail])
        effects.append({"feature": name, "effect": float(effect[0]), "low": float(low), "high": float(high)})
    way = np.sign(covariate)
    total = sum(max(way * each["effect"], 0) for each in effects)
    explained = [{**each, "share": max(way * each["effect"], 0) / total if total > 0 else 0.0} for each in effects]
    return sorted(explained, key=lambda each: (-each["share"], each["feature"]))


def one_ratio(holdout: Rows, now: Rows, name: str, kind: str) -> np.ndarray:
    """Return how much likelier each row's value of one feature is in the period: float64, mean 1."""
    bins = period.learn_bins(holdout.features[name], kind)
    mine, theirs = (period.places(rows.features[name], kind, bins) + 1 for rows in (holdout, now))
    was, is_ = (np.bincount(each, minlength=bins.size + 1) + SMOOTHING for each in (mine, theirs))
    ratio = np.clip((is_ / is_.sum()) / (was / was.sum()), 1 / HIGHEST_RATIO, HIGHEST_RATIO)[mine]
    return ratio / ratio.mean()


def _draws(
    values: np.ndarray, weight: np.ndarray, block: np.ndarray, replicates: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the plain and the weighted mean, as they are and then over resampled blocks: shape (1 + replicates,)."""
    code = pd.factorize(block)[0]
    count = int(code.max()) + 1
    sums = np.column_stack(
        [np.bincount(code, each) for each in (values, np.ones_like(values), weight * values, weight)]
    )
    totals = np.array([np.ones(count), *draws(count, replicates, seed)]) @ sums
    return totals[:, 0] / totals[:, 1], totals[:, 2] / totals[:, 3]


def _figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": float(value), "low": float(low), "high": float(high)}
