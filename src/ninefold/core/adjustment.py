"""Set a forecast right by what came of rows that its model had not seen: probabilities calibrated, quantities with intervals."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ninefold.core import decisions
from ninefold.core.estimators import Calibrated, WithInterval
from ninefold.core.scores import scores

Method = Literal["none", "sigmoid", "isotonic"]
METHODS: tuple[Method, ...] = ("none", "sigmoid", "isotonic")
CONFORMAL = "conformal"  # what is done to quantities
LEAST_ISOTONIC = 500  # rows of the rarest class, under which no isotonic calibration is learned
NEGLIGIBLE = 0.002  # of a log loss


def compare(predicted: pd.DataFrame, rows: pd.DataFrame, level: float, stated: dict[str, Any]) -> pd.DataFrame:
    """Return how well each way to set a forecast right does: learned on the first half of the rows, scored on the second.

    Classes: ``calibration``, ``log_loss``, ``brier``, ``mean`` of the forecast and ``observed``. Regression:
    ``interval`` (as it stands, and from past errors, for a share `level`), the share of outcomes that it ``holds``, its
    mean ``width``.
    """
    half, target = len(rows) // 2, rows[stated["target"]].to_numpy()
    first, second = predicted.iloc[:half], predicted.iloc[half:]
    table = []
    if decisions.is_class(stated):
        p, later = decisions.probabilities(first, stated), target[half:]
        for method in METHODS:
            mapped = _mapped(method, p, target[:half], second, stated)
            found = scores(later, mapped, stated)
            mean = decisions.expected(mapped, stated).mean()
            table.append({"calibration": method, **{key: found[key] for key in ("log_loss", "brier")}, "mean": mean})
        return pd.DataFrame(table).assign(observed=decisions.event(later, stated).mean())
    model = WithInterval(None, level, **stated["costs"]).fit_errors(first["prediction"].to_numpy(), target[:half])
    for name, ends in {"none": second, CONFORMAL: model.around(second["prediction"].to_numpy())}.items():
        held = ((target[half:] >= ends["low"]) & (target[half:] <= ends["high"])).mean()
        table.append({"interval": name, "holds": held, "width": (ends["high"] - ends["low"]).mean()})
    return pd.DataFrame(table)


def choose(table: pd.DataFrame, rows: pd.DataFrame, asked: str, stated: dict[str, Any]) -> str:
    """Return the calibration that is asked for; of quantities ``conformal``.

    ``auto``: the simplest of those whose log loss is nearly the least; steps (isotonic) only where each class has enough
    rows.
    """
    if not decisions.is_class(stated):
        return CONFORMAL
    if asked != "auto":
        return asked
    rarest = int(rows[stated["target"]].value_counts().min())
    found = table.set_index("calibration")["log_loss"]
    # Steps follow chance where events are few, and a map that wins by a hair won by chance: the simpler one is taken.
    best = found.drop("isotonic" if rarest < LEAST_ISOTONIC else []).min()
    return next(name for name in METHODS if found[name] <= best * (1 + NEGLIGIBLE))


def adjust(
    model: BaseEstimator,
    method: str,
    predicted: pd.DataFrame,
    rows: pd.DataFrame,
    level: float,
    stated: dict[str, Any],
) -> BaseEstimator:
    """Return a fitted model, set right by forecasts of rows that it, or its like, had not seen.

    Parameters
    ----------
    model : estimator
        Fitted.
    method : str
        What `choose` returned.
    predicted, rows : DataFrame
        Forecasts of models that had not seen the rows, and the rows with their outcomes.
    level : float
        Share of outcomes that the interval of a quantity is to hold, 0-1.
    """
    target = rows[stated["target"]].to_numpy()
    if not decisions.is_class(stated):
        return WithInterval(model, level, **stated["costs"]).fit_errors(predicted["prediction"].to_numpy(), target)
    if method == "none":
        return model
    return Calibrated(model, method).fit_map(decisions.probabilities(predicted, stated), target)


def _mapped(
    method: str, p: np.ndarray, target: np.ndarray, later: pd.DataFrame, stated: dict[str, Any]
) -> pd.DataFrame:
    """Return a forecast set right by a map that was learned from `p` and `target`."""
    if method == "none" or len(np.unique(target)) < 2:  # of one class there is nothing to learn
        return later
    adjusted = Calibrated(None, method).fit_map(p, target).adjust(decisions.probabilities(later, stated))
    values = adjusted[:, 1:] if stated["task"] == "binary" else adjusted
    return pd.DataFrame(values, columns=decisions.forecast_columns(stated))
