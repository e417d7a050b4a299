"""Drift of each feature, and of the predictions, per period: population stability index and a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ninefold.monitoring import drift
from ninefold.monitoring.answers import HOLDOUT, PERIOD
from ninefold.monitoring.params import Params
from ninefold.problem import Problem, decisions
from ninefold.serving import FEATURE_KINDS, Bundle
from ninefold.serving import bundle as packing

SAMPLE = 10_000  # rows of the reference in a test


def feature_kinds(bundle: Bundle) -> dict[str, str]:
    """Return the features and their kinds, without the time of the event, which always moves."""
    kinds = {field["name"]: field["kind"] for field in bundle.signature if field["kind"] in FEATURE_KINDS}
    kinds.pop(bundle.problem.time, None)
    return kinds


def compare_inputs(
    frame: pd.DataFrame, parts: dict[str, pd.DataFrame], bundle: Bundle, params: Params, holdout: bool = True
) -> pd.DataFrame:
    """Return how far each feature moved from the rows fitted on, per period, and with `holdout` there too.

    Of free text the length is compared.

    Returns
    -------
    DataFrame
        ``period``, ``feature``, ``missing`` (share, 0-1), ``psi`` against the bundle's reference, ``p`` of a test
        against the rows fitted on, ``q``, which is p corrected for the number of features, and ``drifted``: psi over its
        limit *and* q under `params.alpha`. With many rows almost every difference is significant, and with few rows
        psi is large by chance.
    """
    before = packing.sample(pd.concat([parts["train"], parts["validation"]], ignore_index=True), SAMPLE)
    periods = [*([(HOLDOUT, parts[HOLDOUT])] if holdout else []), *frame.groupby(PERIOD)]
    reference = {name: (kind, bundle.reference["features"][name]) for name, kind in feature_kinds(bundle).items()}
    return _compare(periods, before, reference, params.alerts.inputs.limit, params.alpha)


def compare_predictions(frame: pd.DataFrame, holdout: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Return how far the predictions of each period moved from those for the holdout: as `compare_inputs` does.

    The baseline metrics hold for predictions like those of the holdout. Of several classes each is compared.
    """
    names = decisions.forecast_columns(problem) if problem.is_class else ["prediction"]
    reference = {f"@{name}": ("numeric", packing.distribution(holdout[f"@{name}"])) for name in names}
    before, limit = packing.sample(holdout, SAMPLE), params.alerts.predictions.limit
    return _compare(frame.groupby(PERIOD), before, reference, limit, params.alpha)


def _compare(
    periods: Iterable[tuple[Any, pd.DataFrame]],
    before: pd.DataFrame,
    reference: Mapping[str, tuple[str, dict[str, Any]]],
    limit: float,
    alpha: float,
) -> pd.DataFrame:
    """Compare columns; `reference` holds the kind and the distribution of each."""
    rows = []
    measured = {name: packing.measured(before[name], kind) for name, (kind, _) in reference.items()}
    for period, part in periods:
        for name, (kind, distribution) in reference.items():
            psi = drift.psi(distribution, packing.distribution(part[name], distribution))
            p = drift.p_value(measured[name], packing.measured(part[name], kind))
            rows.append((period, name, part[name].isna().mean(), psi, p))
    table = pd.DataFrame(rows, columns=["period", "feature", "missing", "psi", "p"])
    table = table.astype({"missing": "float64", "psi": "float64", "p": "float64"})
    table["q"] = table.groupby("period")["p"].transform(lambda p: drift.adjust(p.to_numpy())).astype("float64")
    return table.assign(drifted=(table["psi"] > limit) & (table["q"] < alpha))
