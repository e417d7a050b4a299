"""Answers of the deployed model, row by row: period, label status, prediction, and the outcome where it is known."""

import numpy as np
import pandas as pd

from ninefold import gate
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle

HOLDOUT = "holdout"
PERIOD, STATUS = "@period", "@status"  # beside the user's columns, of which none may start with @
STATES = ("at close", "later", "never", "open")  # of a label: known at the close of its period, later, never, not yet
AT_CLOSE, LATER, NEVER, OPEN = STATES


def identity(problem: Problem) -> list[str]:
    """Return the columns that identify a case: the key and the time of the problem, each once."""
    return list(dict.fromkeys([*problem.key, *([problem.time] if problem.time else [])]))


def predict(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Add the deployed model's prediction, action and expected payoff of each row, with an ``@`` before each name."""
    names = [*decisions.forecast_columns(bundle.problem), "action", "expected_payoff"]
    decided = bundle.decide(frame) if len(frame) else pd.DataFrame(columns=names, dtype="float64")
    return frame.assign(**{f"@{name}": column.to_numpy() for name, column in decided.items()})


def predictions(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return the columns that `decisions.forecast_columns` names, without the ``@``."""
    names = decisions.forecast_columns(problem)
    return frame[[f"@{name}" for name in names]].set_axis(names, axis=1).reset_index(drop=True)


def outcomes(rows: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the targets of rows with a known label: int64 for classes, else float64."""
    return rows[problem.target].to_numpy(dtype="int64" if problem.is_class else "float64")


def answer_table(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Return predictions beside outcomes: ``answers.parquet``; a name that the problem has too keeps its ``@``."""
    own = list(dict.fromkeys([*identity(bundle.problem), bundle.problem.target]))
    added = [PERIOD, STATUS, *(f"@{name}" for name in bundle.answers)]
    floats = [name for name in added if pd.api.types.is_float_dtype(frame[name])]
    table = frame[[*own, *added]].copy()
    table[floats] = table[floats].map(gate.tidy).astype("float64")
    return table.rename(columns={name: name[1:] for name in added if name[1:] not in own})
