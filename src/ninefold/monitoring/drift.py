"""Has a distribution changed? The population stability index, a test for each kind of column, and their correction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

FLOOR = 1e-4  # stands in for the share of an empty bin, whose logarithm does not exist
FEW = 5  # expected rows of a category, below which a chi-square test is not to be trusted (Cochran, 1954)


def psi(reference: dict[str, Any], current: dict[str, Any]) -> float:
    """Return the population stability index of two distributions over the same bins: 0 if equal, without upper bound.

    The sum over bins of ``(current - reference) * ln(current / reference)``, where missing values and values that the
    reference did not list are bins too, and the share of an empty bin is taken as `FLOOR`. By custom less than 0.1 is
    stable and more than 0.25 a major shift (Siddiqi, Credit Risk Scorecards, 2006). Samples of ``n`` and ``m`` rows from
    one distribution give about ``(bins - 1) * (1 / n + 1 / m)`` by chance (Yurdakul and Naranjo, Statistical properties
    of the population stability index, 2020).

    Parameters
    ----------
    reference, current : dict
        ``shares``: a list by bin, or a dict by category; ``missing``; ``other`` for categories. All 0-1.
    """
    expected, observed = (np.maximum(shares, FLOOR) for shares in _aligned(reference, current))
    return float(np.sum((observed - expected) * np.log(observed / expected)))


def p_value(before: pd.Series, after: pd.Series) -> float:
    """Return how probable a difference this large is if nothing has changed; NaN where one side has no rows.

    Numbers: two-sample Kolmogorov-Smirnov test, in which a missing value lies below every number, so that a change of
    gaps shows too; ties make it cautious. Text: chi-square test of homogeneity, in which missing is a category and rare
    ones are pooled. Both take rows as independent: where rows of one day resemble each other, small values come easily.

    Parameters
    ----------
    before, after : Series
        Numbers or text, both the same; may miss values.
    """
    if before.empty or after.empty:
        return float("nan")
    if not pd.api.types.is_numeric_dtype(before):
        return _chi_square(before, after)
    samples = (column.astype("float64").fillna(-np.inf).to_numpy() for column in (before, after))
    return float(stats.ks_2samp(*samples, method="asymp").pvalue)


def adjust(p_values: np.ndarray) -> np.ndarray:
    """Return p-values corrected for being many: the false discovery rate at which each would be a discovery.

    Benjamini and Hochberg, Controlling the false discovery rate, 1995. NaN stays NaN, and does not count.
    """
    adjusted = np.array(p_values, dtype="float64")
    tested = np.isfinite(adjusted)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(adjusted[tested])
    return adjusted


def _aligned(*distributions: dict[str, Any]) -> list[np.ndarray]:
    listed = distributions[0]["shares"]
    names = list(listed) if isinstance(listed, dict) else range(len(listed))
    return [
        np.array([*(one["shares"][name] for name in names), one.get("other", 0.0), one["missing"]], dtype="float64")
        for one in distributions
    ]


def _chi_square(before: pd.Series, after: pd.Series) -> float:
    counts = pd.DataFrame({"before": before.value_counts(dropna=False), "after": after.value_counts(dropna=False)})
    observed = counts.fillna(0).to_numpy()
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()
    rare = (expected < FEW).any(axis=1)
    pooled = np.vstack([observed[~rare], observed[rare].sum(axis=0)])
    pooled = pooled[pooled.sum(axis=1) > 0]
    return float(stats.chi2_contingency(pooled).pvalue) if len(pooled) > 1 else 1.0
