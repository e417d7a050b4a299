"""Columns that are made from the outcome by groups: bands of a quantity, and its mean over the rows of a group."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.exploration.univariate import FEWEST

MOST_BANDS, FEWEST_GROUPS = 50, 8
STRAY = 0.005  # share of a band's rows at each end that may lie in another one
NEAR = 0.75  # root mean square of the distances in standard errors; means of other rows as many have 1.4


def bands(values: pd.Series, outcome: np.ndarray) -> str:
    """Return whether the values split a quantity into ranges that hardly overlap, as bands of it do, in words."""
    groups = pd.Series(outcome).groupby(values.to_numpy(), observed=True)
    sizes = groups.size()
    if not 2 <= len(sizes) <= MOST_BANDS or sizes.min() < FEWEST or len(np.unique(outcome)) <= 2 * len(sizes):
        return ""
    ends = groups.quantile([STRAY, 1 - STRAY]).unstack().sort_values(STRAY).to_numpy()
    overlap = ends[1:, 0] < ends[:-1, 1]
    return "" if overlap.any() else f"its {len(sizes)} values are bands of the outcome, which do not overlap"


def group_means(
    frame: pd.DataFrame, numbers: Mapping[str, pd.Series | None], outcome: np.ndarray, days: np.ndarray | None = None
) -> dict[str, str]:
    """Return the columns that hold the mean outcome of each group of another column, the row's own outcome included.

    `days`: the local day of each row, int64 from 0, if rows have a time; these are groups too.
    `numbers`: the columns to look at, as numbers (`univariate.as_numbers`), None for those that hold none.
    The distances between both, in standard errors, tell: means over these rows have almost none, means over as many other
    rows, such as earlier ones, have a root mean square of 1.4, and what is measured otherwise has far larger ones.
    """
    codes: dict[str | None, np.ndarray] = {} if days is None else {None: days}
    codes |= {name: pd.factorize(frame[name])[0] for name in numbers}
    groups = {name: code for name, code in codes.items() if FEWEST_GROUPS <= code.max() + 1 <= len(frame) / FEWEST}
    firsts = {name: np.unique(code, return_index=True)[1] for name, code in groups.items() if code.min() >= 0}
    evidence: dict[str, str] = {}
    for name, values in numbers.items():
        own = groups.get(name)
        if own is None or values is None or values.isna().any():
            continue
        for group, first in firsts.items():
            code = groups[group]
            is_constant = group != name and own.max() <= code.max() and (own[first][code] == own).all()
            if is_constant and _are_means(values.to_numpy("float64")[first], outcome, code):
                evidence[name] = f"it is the mean outcome of each {group or 'local day'}, the row's own included"
                break
    return evidence


def _are_means(values: np.ndarray, outcome: np.ndarray, code: np.ndarray) -> bool:
    """Return whether values are the means of groups: those differ significantly, or both are nearer than chance allows."""
    table = pd.Series(outcome).groupby(code).agg(["mean", "std", "size"]).to_numpy()
    large = (table[:, 2] >= FEWEST) & (table[:, 1] > 0)
    mean, spread, size = table[large].T
    distance = ((values[large] - mean) / spread) ** 2 * size
    if large.sum() < FEWEST_GROUPS or distance.mean() > NEAR**2:
        return False
    too_near = stats.chi2.cdf(distance.sum(), large.sum()) < 1e-5
    return bool(too_near or stats.f_oneway(*(outcome[code == place] for place in np.flatnonzero(large))).pvalue < 0.001)
