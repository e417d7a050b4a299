"""Prediction intervals for quantities by split conformal prediction."""

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin

from ninefold.training.estimators import Wrapper

BINS, ROWS_PER_BIN = 10, 200  # errors are binned by the size of the prediction where there are enough of them


class WithInterval(RegressorMixin, Wrapper):
    """A fitted regressor with a prediction interval and the quantity of least expected cost, from its errors on unseen rows.

    Split conformal prediction (Lei et al., Distribution-Free Predictive Inference for Regression, 2018), within bins of
    the prediction where there are enough errors (Mondrian; Vovk et al., Algorithmic Learning in a Random World, 2005).
    `level` is the share of outcomes that the interval is to cover; `over`, `under`: the cost of a unit too high, too low.
    """

    def __init__(self, model: Any, level: float = 0.9, over: float = 1.0, under: float = 1.0) -> None:
        self.model = model
        self.level = level
        self.over = over
        self.under = under

    def fit_errors(self, prediction: np.ndarray, target: np.ndarray) -> Self:
        """Learn the errors from predictions and outcomes of unseen rows: float64, shape (n,) each."""
        error = np.asarray(target, dtype="float64") - prediction
        count = max(1, min(BINS, len(error) // ROWS_PER_BIN))
        self.edges_ = np.unique(np.quantile(prediction, np.linspace(0, 1, count + 1)[1:-1]))
        bins = np.searchsorted(self.edges_, prediction, side="right")
        summaries = [self._summary(error[bins == number], error) for number in range(len(self.edges_) + 1)]
        self.low_, self.high_, self.shift_, self.loss_ = np.array(summaries).T
        self.levels_ = np.round(np.linspace(0.02, 0.98, 49), 2)
        self.shifts_ = np.quantile(error, self.levels_)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the prediction: float64, shape (n,)."""
        return np.asarray(self.model.predict(X), dtype="float64")

    def around(self, prediction: np.ndarray) -> pd.DataFrame:
        """Return ``prediction``, ``low``, ``high``, ``quantile`` (of least expected cost) and its expected ``loss``."""
        bins = np.searchsorted(self.edges_, prediction, side="right")
        low, high, quantile = (prediction + shift[bins] for shift in (self.low_, self.high_, self.shift_))
        columns = {"prediction": prediction, "low": low, "high": high, "quantile": quantile}
        return pd.DataFrame({**columns, "loss": self.loss_[bins]})

    def _summary(self, error: np.ndarray, every: np.ndarray) -> tuple[float, float, float, float]:
        """Return the ends of the interval, the shift of least cost, and its cost, of the errors of a bin."""
        error = error if len(error) else every
        tail, size = (1 - self.level) / 2, len(error)
        # One more than the rows, because the next outcome is one too (Lei et al., section 2).
        low = np.quantile(error, max(np.floor((size + 1) * tail) / size, 0), method="lower")
        high = np.quantile(error, min(np.ceil((size + 1) * (1 - tail)) / size, 1), method="lower")
        shift = np.quantile(error, self.under / (self.under + self.over))
        loss = np.where(shift > error, self.over * (shift - error), self.under * (error - shift)).mean()
        return float(low), float(high), float(shift), float(loss)
