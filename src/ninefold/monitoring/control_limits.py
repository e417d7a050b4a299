"""How much does a figure vary by itself? Bounds that a stable stream stays in, from earlier windows of that length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

FEWEST = 4  # windows without which the spread of a figure is not known, and nothing is called unusual
BOUNDS = ["low", "high", "usual", "windows"]

_SCALES: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "plain": (lambda values: values, lambda values: values),
    # Distances and losses have a long tail; their roots and logarithms are near enough to normal.
    "root": (lambda values: np.sqrt(np.maximum(values, 0)), lambda values: np.maximum(values, 0) ** 2),
    "log": (lambda values: np.log(np.maximum(values, 1e-12)), np.exp),
}


class Shape(NamedTuple):
    """How a figure is judged."""

    side: str = "both"  # which way is unusual: high, low or both
    scale: str = "plain"  # plain, root or log: where it is nearly normal
    least: float = 0.0  # a change from the usual that is smaller does not matter, however stable the figure was


def bounds(table: pd.DataFrame, shapes: Mapping[str, Shape], alpha: float) -> pd.DataFrame:
    """Return the bounds of every figure that all figures of a new period keep to together, but for a share `alpha`.

    Student's prediction interval of one more window (Hahn and Meeker, Statistical Intervals, 1991), from the spread
    *between* windows, as days of one week resemble each other more than days of a year. `alpha` is divided by the number of
    kinds of figures (before the colon of their names), and among those of a kind (Bonferroni): a model of many features
    shall not be blind to its loss. It takes windows as independent and a figure as normal on its scale.

    Parameters
    ----------
    table : DataFrame
        A row per window of a stable stream, a column per figure; NaN where one could not be told.
    shapes : mapping
        Figure -> how it is judged; those of `table` without one are judged plainly.
    alpha : float
        The share of stable periods in which any figure may lie outside, 0-1.

    Returns
    -------
    DataFrame
        By figure: ``low``, ``high`` (infinite where that side is not unusual, or where there are fewer than `FEWEST`
        windows), ``usual``, the mean on its scale, and ``windows``.
    """
    kinds = Counter(_kind(name) for name in table if table[name].notna().sum() >= FEWEST)
    each = {name: alpha / max(len(kinds), 1) / max(kinds[_kind(name)], 1) for name in table}
    limits = {name: _bounds(table[name], shapes.get(name, Shape()), each[name]) for name in table}
    return pd.DataFrame.from_dict(limits, orient="index", columns=BOUNDS).astype({"windows": "int64"})


def outside(figures: Mapping[str, float], bounded: pd.DataFrame) -> list[str]:
    """Return the figures beyond their bounds, farthest first, in widths of the way from the usual to the bound."""
    low, high, usual = (bounded[name].to_numpy("float64") for name in BOUNDS[:3])
    value = np.array([figures.get(name, np.nan) for name in bounded.index], dtype="float64")
    with np.errstate(invalid="ignore"):
        width = np.where(value > high, high - usual, usual - low)
        beyond = np.flatnonzero((value > high) | (value < low))
        far = {bounded.index[place]: abs(value - usual)[place] / max(width[place], 1e-12) for place in beyond}
    return sorted(far, key=lambda name: (-far[name], name))


def measure(windows: Sequence[np.ndarray], figures: Callable[[np.ndarray], Mapping[str, float]]) -> pd.DataFrame:
    """Return the figures of each window, given as masks of a reference: a row per window."""
    return pd.DataFrame([dict(figures(window)) for window in windows], dtype="float64")


def false_alarms(periods: Sequence[Mapping[str, float]], bounded: pd.DataFrame) -> float:
    """Return the share of stable periods in which any figure is outside its bounds, 0-1."""
    return float(np.mean([bool(outside(figures, bounded)) for figures in periods])) if len(periods) else float("nan")


def _kind(name: str) -> str:
    return name.split(":", maxsplit=1)[0]


def _bounds(values: pd.Series, shape: Shape, alpha: float) -> tuple[float, float, float, int]:
    there, back = _SCALES[shape.scale]
    scaled = there(values.dropna().to_numpy("float64"))
    if len(scaled) < FEWEST:
        return -np.inf, np.inf, float("nan"), len(scaled)
    tail = alpha / 2 if shape.side == "both" else alpha
    reach = stats.t.ppf(1 - tail, len(scaled) - 1) * scaled.std(ddof=1) * np.sqrt(1 + 1 / len(scaled))
    usual = float(back(scaled.mean()))
    least = max(shape.least, 1e-9 * abs(usual))  # what never varied may differ in its last digits
    low = min(float(back(scaled.mean() - reach)), usual - least)
    high = max(float(back(scaled.mean() + reach)), usual + least)
    return (
        low if shape.side in ("low", "both") else -np.inf,
        high if shape.side in ("high", "both") else np.inf,
        usual,
        len(scaled),
    )
