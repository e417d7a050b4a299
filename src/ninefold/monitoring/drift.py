"""Has a distribution changed? Drift of each feature, and of the predictions, per period: the PSI and a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.monitoring.answers import HOLDOUT, PERIOD
from ninefold.monitoring.params import Params
from ninefold.problem import Problem, decisions
from ninefold.serving import FEATURE_KINDS, Bundle
from ninefold.serving import bundle as packing

FLOOR = 1e-4  # stands in for the share of an empty bin, whose logarithm does not exist
FEW = 5  # expected rows of a category, below which a chi-square test is not to be trusted (Cochran, 1954)
SAMPLE = 10_000  # rows of the reference in a test


def feature_kinds(bundle: Bundle) -> dict[str, str]:
    """Return the features and their kinds, without the time of the event, which always moves."""
    kinds = {field["name"]: field["kind"] for field in bundle.signature if field["kind"] in FEATURE_KINDS}
    return {name: kind for name, kind in kinds.items() if name != bundle.problem.time}


def compare_inputs(
    frame: pd.DataFrame, parts: dict[str, pd.DataFrame], bundle: Bundle, params: Params, holdout: bool = True
) -> pd.DataFrame:
    """Return how far each feature (of text the length) moved from the rows fitted on, per period, and on the `holdout`.

    The columns are ``period``, ``feature``, ``missing`` (share, 0-1), ``psi`` against the bundle's reference, ``p`` of a
    test against the rows fitted on, ``q``, its false discovery rate (Benjamini and Hochberg, 1995), and ``drifted``: psi
    over its limit *and* q under `params.alpha`.
    """
    before = packing.sample(pd.concat([parts["train"], parts["validation"]], ignore_index=True), SAMPLE)
    periods = [*([(HOLDOUT, parts[HOLDOUT])] if holdout else []), *frame.groupby(PERIOD)]
    reference = {name: (kind, bundle.reference["features"][name]) for name, kind in feature_kinds(bundle).items()}
    return _compare(periods, before, reference, params.alerts.inputs.limit, params.alpha)


def compare_predictions(frame: pd.DataFrame, holdout: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Return how far the predictions of each period moved from those for the holdout, as `compare_inputs` does."""
    names = decisions.forecast_columns(problem) if problem.is_class else ["prediction"]
    reference = {f"@{name}": ("numeric", packing.distribution(holdout[f"@{name}"])) for name in names}
    before, limit = packing.sample(holdout, SAMPLE), params.alerts.predictions.limit
    return _compare([*frame.groupby(PERIOD)], before, reference, limit, params.alpha)


def _compare(
    periods: list[tuple[Any, pd.DataFrame]], before: pd.DataFrame, reference: dict[str, Any], limit: float, alpha: float
) -> pd.DataFrame:
    """Compare columns; `reference` holds the kind and the distribution of each."""
    rows = []
    measured = {name: packing.measured(before[name], kind) for name, (kind, _) in reference.items()}
    for period, part in periods:
        for name, (kind, distribution) in reference.items():
            index = psi(distribution, packing.distribution(part[name], distribution))
            p = p_value(measured[name], packing.measured(part[name], kind))
            rows.append((period, name, part[name].isna().mean(), index, p))
    table = pd.DataFrame(rows, columns=["period", "feature", "missing", "psi", "p"])
    table = table.astype({"missing": "float64", "psi": "float64", "p": "float64"})
    tested = table.dropna(subset="p").groupby("period")["p"]
    table["q"] = tested.transform(stats.false_discovery_control).astype("float64")
    return table.assign(drifted=(table["psi"] > limit) & (table["q"] < alpha))


def psi(reference: dict[str, Any], current: dict[str, Any]) -> float:
    """Return the population stability index of two distributions over the same bins: 0 if equal, without upper bound.

    Each has ``shares`` (a list by bin, or a dict by category), ``missing`` and of categories ``other``, all 0-1. By custom
    less than 0.1 is stable and more than 0.25 a major shift (Siddiqi, Credit Risk Scorecards, 2006).
    """
    listed = reference["shares"]
    names = list(listed) if isinstance(listed, dict) else range(len(listed))

    def shares(of: dict[str, Any]) -> np.ndarray:
        return np.array([*(of["shares"][name] for name in names), of.get("other", 0.0), of["missing"]])

    return stability(shares(reference), shares(current))


def stability(expected: np.ndarray, observed: np.ndarray) -> float:
    """Return the sum over bins of ``(observed - expected) * ln(observed / expected)`` of shares of at least `FLOOR`."""
    expected, observed = np.maximum(expected, FLOOR), np.maximum(observed, FLOOR)
    return float(np.sum((observed - expected) * np.log(observed / expected)))


def p_value(before: pd.Series, after: pd.Series) -> float:
    """Return how probable a difference this large is if nothing has changed; NaN where one side has no rows.

    Numbers: Kolmogorov-Smirnov test, in which a missing value lies below every number. Text: chi-square test, in which
    missing is a category and rare ones are pooled. Both take rows as independent: of correlated rows p is too small.
    """
    if before.empty or after.empty:
        return float("nan")
    if pd.api.types.is_numeric_dtype(before):
        samples = (column.astype("float64").fillna(-np.inf).to_numpy() for column in (before, after))
        return float(stats.ks_2samp(*samples, method="asymp").pvalue)
    counts = pd.DataFrame({"before": before.value_counts(dropna=False), "after": after.value_counts(dropna=False)})
    observed = counts.fillna(0).to_numpy()
    rare = (stats.contingency.expected_freq(observed) < FEW).any(axis=1)
    pooled = np.vstack([observed[~rare], observed[rare].sum(axis=0)])
    pooled = pooled[pooled.sum(axis=1) > 0]
    return float(stats.chi2_contingency(pooled).pvalue) if len(pooled) > 1 else 1.0
