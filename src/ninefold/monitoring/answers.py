"""Answers of the deployed model, row by row: period, label status, prediction, and the outcome where it is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ninefold.monitoring import production
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle

HOLDOUT = "holdout"
PERIOD, STATUS = "@period", "@status"  # beside the user's columns, of which none may start with @
STATES = ("at close", "later", "never", "open")  # of a label: known at the close of its period, later, never, not yet
AT_CLOSE, LATER, NEVER, OPEN = STATES
DIGITS = 6  # significant ones of a saved float; further ones are not reproducible


def predict(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Add the deployed model's prediction, action and expected payoff of each row, with an ``@`` before each name."""
    if frame.empty:
        names = [*decisions.forecast_columns(bundle.problem), "action", "expected_payoff"]
        return frame.assign(**{f"@{name}": pd.Series(dtype="float64") for name in names})
    return frame.assign(**{f"@{name}": column.to_numpy() for name, column in bundle.decide(frame).items()})


def predict_holdout(rows: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Return the holdout as a period of its own with the deployed model's answers; all its outcomes are known."""
    return predict(rows.assign(**{PERIOD: HOLDOUT, STATUS: AT_CLOSE}), bundle)


def with_holdout(holdout: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the holdout and the later periods as one table."""
    return pd.concat([holdout, frame], ignore_index=True) if len(frame) else holdout


def predictions(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return the columns that `decisions.forecast_columns` names, without the ``@``."""
    names = decisions.forecast_columns(problem)
    return frame[[f"@{name}" for name in names]].set_axis(names, axis=1).reset_index(drop=True)


def outcomes(rows: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the targets of rows with a known label: int64 for classes, else float64."""
    return rows[problem.target].to_numpy(dtype="int64" if problem.is_class else "float64")


def answer_table(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Return the predictions beside the outcomes received, for queries: ``answers.parquet``.

    Returns
    -------
    DataFrame
        Key, time and target of the problem; ``period``, ``status`` of the label, the prediction, ``action``,
        ``expected_payoff``; a name that the problem has too keeps its ``@``. Floats have six significant digits.
    """
    problem = bundle.problem
    own = list(dict.fromkeys([*production.identity(problem), problem.target]))
    added = [PERIOD, STATUS, *(f"@{name}" for name in bundle.answers)]
    table = frame[[*own, *added]].rename(columns={name: name[1:] for name in added if name[1:] not in own})
    for name in table.columns[len(own) :]:
        if pd.api.types.is_float_dtype(table[name]):
            table[name] = _rounded(table[name].to_numpy())
    return table


def _rounded(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        places = DIGITS - 1 - np.floor(np.log10(np.abs(values)))
        scale = 10.0 ** np.clip(np.where(np.isfinite(places), places, 0), -300, 300)
        return np.where(np.isfinite(values), np.round(values * scale) / scale, values)
