"""Has a distribution changed? Drift of each feature, and of the predictions, per period: the PSI, and a permutation test."""

import math
from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd

from ninefold.metrics import cluster_sums, count_clusters, merged
from ninefold.monitoring import period as period_rows
from ninefold.monitoring.answers import PERIOD
from ninefold.monitoring.params import Params
from ninefold.monitoring.period import Bins
from ninefold.problem import Problem, decisions
from ninefold.serving import FEATURE_KINDS, Bundle

FLOOR = 1e-4  # stands in for the share of an empty bin, whose logarithm does not exist
EMPTY = 0.5  # rows of an empty bin, where that is more than the floor: few rows leave bins empty
RARE = 0.01  # of the rows; rarer bins are one
LEAST = 0.01  # a PSI that is no difference: smaller ones are alike
LEAST_SPREAD = 0.5  # of the logarithm of a PSI: steadier features are alike
MOST_CLUSTERS = 400  # where there is no time; more are merged at random
PERMUTATIONS = 999
LEAST_RUNS = 6  # of neighbouring days before the period; with fewer, no permutation is unlike it


def feature_kinds(bundle: Bundle) -> dict[str, str]:
    """Return the features and their kinds, without the time of the event, which always moves, and those that are redacted."""
    kinds = {field["name"]: field["kind"] for field in bundle.signature if field["kind"] in FEATURE_KINDS}
    omitted = {bundle.problem.time, *bundle.described["log"]["redact"]}
    return {name: kind for name, kind in kinds.items() if name not in omitted}


def compare_inputs(frame: pd.DataFrame, parts: dict[str, pd.DataFrame], bundle: Bundle, params: Params) -> pd.DataFrame:
    """Return how far each feature (of text the length) moved from all rows known before, those of `parts`, per period.

    The columns are ``period``, ``feature``, ``missing`` (share, 0-1), ``psi``, ``p`` (`corrected_p`; NaN where there are too
    few days or entities to tell), and ``drifted``: psi is over `params.alerts.inputs.limit` *and* p is at most
    `params.false_alarms`; no other rule says so.
    """
    known, limit = pd.concat(parts.values(), ignore_index=True), params.alerts.inputs.limit
    return _compare(frame, known, feature_kinds(bundle), limit, params, bundle.problem)


def compare_predictions(frame: pd.DataFrame, holdout: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Return how far the predictions of each period moved from those for the holdout, as `compare_inputs` does."""
    columns = decisions.forecast_columns(problem) if problem.is_class else ["prediction"]
    kinds = {f"@{name}": "numeric" for name in columns}
    return _compare(frame, holdout, kinds, params.alerts.predictions.limit, params, problem)


def psi(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the population stability index of rows by bin: float64, shape (...,), NaN where a side has no rows.

    `before` and `after` are numbers of rows, shape (..., bins). The first bin holds the missing values; others that are
    rare on both sides are one. 0 if equal, without upper bound; by custom less than 0.1 is stable and more than 0.25 a
    major shift (Siddiqi, Credit Risk Scorecards, 2006).
    """
    sizes = [each.sum(axis=-1, keepdims=True) for each in (before, after)]
    with np.errstate(divide="ignore", invalid="ignore"):
        was, now = (each / size for each, size in zip((before, after), sizes, strict=True))
        often = np.maximum(was, now) >= RARE
        often[..., 0] = True
        floor = np.maximum(FLOOR, EMPTY / np.minimum(*sizes))
        rare = [np.where(often, 0, each).sum(axis=-1, keepdims=True) for each in (was, now)]
        bins = np.where(often, was, 0), np.where(often, now, 0)
        expected, observed = (np.maximum(np.concatenate(each, axis=-1), floor) for each in zip(bins, rare, strict=True))
        return np.sum((observed - expected) * np.log(observed / expected), axis=-1)


def arrangements(clusters: int, size: int, timed: bool) -> np.ndarray:
    """Return which clusters may stand for a period if nothing has changed: bool, shape (arrangements, clusters).

    The first line is the period itself, the last `size` clusters. Others, where there is no time, are random subsets. In
    time neighbouring days stay together, so that correlated days are no drift: all circular shifts of the days, or where
    fewer than `LEAST_RUNS` periods are before, shorter runs of days in random order (Politis and Romano, 1992).
    """
    places = (np.arange(clusters) + size) % clusters
    run = min(size, max((clusters - size) // LEAST_RUNS, 1)) if timed else 1
    if timed and run == size:
        return (places + np.arange(clusters)[:, None]) % clusters < size
    random = np.random.default_rng(0)
    number = (places + random.integers(run, size=PERMUTATIONS)[:, None]) % clusters // run
    order = random.random((PERMUTATIONS, clusters))[np.arange(PERMUTATIONS)[:, None], number]
    return np.vstack([places, order.argsort(axis=1, kind="stable").argsort(axis=1)]) < size


def corrected_p(index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the p-value of each feature, corrected for their number: float64, shape (features,).

    `index` is the PSI by arrangement (line; the first is the period) and feature, `rows` the number of rows that stand for
    the period. p is the share of the arrangements in which any feature deviates as much: the logarithm of its PSI from the
    median, in distances of that from the lower quartile, which a shift does not widen (maxT: Westfall and Young, 1993). The
    PSI of more rows than the period has is raised by their ratio, as sampling noise falls by it.
    """
    scaled = np.log(LEAST + index * np.maximum(rows / rows[0], 1)[:, None])
    usual, low = np.median(scaled, axis=0), np.quantile(scaled, 0.25, axis=0)
    deviation = (scaled - usual) / np.maximum(usual - low, LEAST_SPREAD)
    return np.asarray((deviation.max(axis=1)[:, None] >= deviation[0] - 1e-9).mean(axis=0))


def _compare(
    frame: pd.DataFrame, known: pd.DataFrame, kinds: Mapping[str, str], limit: float, params: Params, problem: Problem
) -> pd.DataFrame:
    """Compare each period with the rows known before by bins of both: by those of one, that side is too much alike."""
    timed, level = bool(problem.time), params.false_alarms
    table, before = list[tuple[Any, ...]](), period_rows.rows(known, known[[]], kinds, problem)
    for period, part in frame.groupby(PERIOD):
        now = period_rows.rows(part, part[[]], kinds, problem)
        cluster, size = _clusters(before.block, now.block, timed)
        count, index, features = count_clusters(cluster), [], pd.concat([before.features, now.features])
        inside = arrangements(count, size, timed).astype("float64")
        for name, kind in kinds.items():
            bins = Bins.of(features[name], kind)
            rows = cluster_sums(None, cluster, bins.places(features[name]), bins.size)
            index.append(psi(rows.sum(axis=0) - inside @ rows, inside @ rows))
        enough = (count if timed else math.comb(count, size)) * level >= 1
        p = corrected_p(np.column_stack(index), inside @ np.bincount(cluster)) if enough and index else repeat(np.nan)
        table += zip(repeat(period), kinds, now.features.isna().mean(), [each[0] for each in index], p, strict=False)
    columns = {"period": "object", "feature": "object", "missing": "float64", "psi": "float64", "p": "float64"}
    result = pd.DataFrame(table, columns=list(columns)).astype(columns)
    return result.assign(drifted=(result["psi"] > limit) & (result["p"] <= level))


def _clusters(before: np.ndarray, now: np.ndarray, timed: bool) -> tuple[np.ndarray, int]:
    """Return the cluster of each row, int64 from 0, those of the period last; and the number of these."""
    sides = [np.unique(block, return_inverse=True)[1] for block in (before, now)]
    was, size = (count_clusters(side) for side in sides)
    if not timed and was + size > MOST_CLUSTERS:
        most = max(round(MOST_CLUSTERS * size / (was + size)), 1)
        sides = [merged(side, limit) for side, limit in zip(sides, (MOST_CLUSTERS - most, most), strict=True)]
    return np.concatenate([sides[0], sides[1] + count_clusters(sides[0])]), count_clusters(sides[1])
