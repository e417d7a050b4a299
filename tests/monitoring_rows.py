"""Simulated rows of a period, whose days differ, with the predictions of a model that knows their signal."""

from typing import Any

import numpy as np
import pandas as pd
from conftest import statement

from ninefold.monitoring import period
from ninefold.monitoring.period import Rows
from ninefold.problem import Problem, decisions

KINDS = {"width": "numeric", "weight": "numeric", "shop": "categorical", "note": "text", "since": "date"}
DAILY = 120


def table(
    task: str = "binary", days: int = 14, seed: int = 5, daily: int = DAILY, between: float = 0.08, **planted: float
) -> pd.DataFrame:
    """Return rows with their outcome and `@signal`, what a right prediction knows of it.

    `planted` moves ``inputs``, ``relations`` (of width and outcome) and ``outcomes`` (for the same inputs).
    """
    random, problem = np.random.default_rng(seed), statement(task)
    day = np.repeat(np.arange(days), daily)
    rows, level = len(day), between * random.normal(size=(days, 2))[day]
    width = random.normal(planted.get("inputs", 0.0), 1, rows) + level[:, 0]
    shop = random.choice(["a", "b", "c"], rows)
    frame = pd.DataFrame({"width": width, "weight": np.exp(3 + 0.5 * random.normal(size=rows)), "shop": shop})
    frame["placed"] = pd.Timestamp("2020-01-06") + pd.to_timedelta(day * 24 + random.integers(0, 24, rows), "h")
    frame["note"] = random.choice(["late", "all fine"], rows)
    frame["since"] = frame["placed"] - pd.to_timedelta(random.gamma(2, 20, rows), "D")
    frame["@signal"] = 1.2 * width + 0.8 * (shop == "b")
    signal = frame["@signal"] + level[:, 1] + planted.get("outcomes", 0.0) - planted.get("relations", 0.0) * 1.2 * width
    noise, share = random.normal(0, 2, rows), random.random(rows)
    target = 20 + 3 * signal + noise * (1 + (width > 0)) / 1.5  # larger quantities are less sure
    if task != "regression":
        target = (share[:, None] > probabilities(signal.to_numpy(), problem).cumsum(axis=1)).sum(axis=1)
    return frame.assign(**{problem.target: target})


def probabilities(signal: np.ndarray, problem: Problem) -> np.ndarray:
    odds = np.exp(np.column_stack([0 * signal, signal - 0.5, -signal])[:, : len(problem.classes)])
    return odds / odds.sum(axis=1, keepdims=True)


def rows(frame: pd.DataFrame, task: str = "binary", **changes: Any) -> Rows:
    """Return the rows with their predictions."""
    problem, value = statement(task, **changes), 20 + 3 * frame["@signal"]
    predicted = pd.DataFrame(
        {"prediction": value, "low": value - 4, "high": value + 4, "quantile": value + 1, "loss": 2.0}
    )
    if problem.is_class:
        predicted = decisions.forecast(probabilities(frame["@signal"].to_numpy(), problem), problem)
    return period.rows(frame, predicted, KINDS, problem)
