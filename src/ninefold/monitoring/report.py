"""The monitoring report of a period: its figures with control limits, estimated performance, and causes by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ninefold.monitoring import causes, control_limits, data_quality, performance_estimation, period, shift_tests
from ninefold.monitoring.period import Rows
from ninefold.monitoring.reference import MOST_ROWS, Reference, figures

INPUTS = ("missing", "unseen", "psi", "joint auc")


def period_report(
    reference: Reference, rows: Rows, days: float | None = None, alpha: float = 0.01, explain: bool = True
) -> dict[str, Any]:
    """Return what is unusual in a period, and why, as plain values.

    Parameters
    ----------
    reference : Reference
    rows : Rows
        All that arrived in the period, with predictions; outcomes where they are known. No row is silence.
    days : float, optional
        Length of the period; needed to find silence where there is time.
    alpha : float
        Significance level of the tests behind the causes, corrected for their number.
    explain : bool
        Whether causes are looked for, which takes longer; those that need no comparison are found anyway.

    Returns
    -------
    dict
        ``rows`` and ``labelled``; ``figures``: name -> ``value``, ``low`` and ``high`` (the control limits, infinite where
        there is none) and ``usual``; ``outside``: names of those beyond, farthest first; ``estimated``: see
        `performance_estimation.estimate`; ``findings``, ``decomposition`` and ``auc``: see `causes.causes`, of a period in
        which anything is outside.
    """
    count = len(rows.block)
    silence = data_quality.silence(count, reference.per_day, days, len(np.unique(rows.block)))
    report: dict[str, Any] = {
        "rows": count,
        "labelled": int(np.isfinite(rows.target).sum()),
        "figures": {},
        "outside": ["rows per day"] if silence else [],
        "estimated": {},
        "findings": silence,
        "decomposition": None,
        "auc": None,
    }
    if count < data_quality.FEWEST:
        return report
    problem, plan, seed = reference.problem, reference.plan, reference.seed
    rows = period.sample(rows, MOST_ROWS)
    values = figures(reference, rows, days, count)
    for name in control_limits.outside(values, reference.bounds):
        if name not in report["outside"]:
            report["outside"].append(name)
    report["figures"] = _with_limits(values, reference.bounds)
    report["estimated"] = performance_estimation.estimate(rows, reference.learned, problem, plan, seed=seed)
    if not explain or not report["outside"]:
        return report
    natural = float(reference.bounds["high"].get("joint auc", 1.0))
    holdout = period.known(reference.holdout)
    moved = any(name.split(":")[0] in INPUTS and not name.endswith(shift_tests.FORECAST) for name in report["outside"])
    why = causes.causes(reference.known, holdout, rows, reference.kinds, problem, natural, moved, alpha, seed)
    return {**report, **why, "findings": [*silence, *why["findings"]]}


def _with_limits(values: Mapping[str, float], limits: pd.DataFrame) -> dict[str, dict[str, float]]:
    unlimited = {"low": -np.inf, "high": np.inf, "usual": float("nan")}
    known = limits[["low", "high", "usual"]].to_dict("index")
    return {name: {"value": float(value), **{**unlimited, **known.get(name, {})}} for name, value in values.items()}
