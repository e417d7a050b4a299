"""The holdout, sealed: it opens for one fitted model, since whoever compares models on it has chosen by it."""

from __future__ import annotations

from typing import Any

import joblib
import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ninefold.core.errors import NinefoldError


class HoldoutError(NinefoldError):
    """The holdout was to be opened too early, or once more."""


class Sealed:
    """Rows that nothing may be fitted to or chosen by, until one model is finished.

    It tells how many rows it has, and their first and last time; the rows themselves come from `open` alone.

    Parameters
    ----------
    rows : DataFrame
    time : str, optional
        The column of their time.
    """

    def __init__(self, rows: pd.DataFrame, time: str | None = None) -> None:
        self.__rows, self.__opened = rows, ""
        self.period = (rows[time].min(), rows[time].max()) if time else None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.__rows)

    def __repr__(self) -> str:
        """Return what it is, without what is in it."""
        return f"{len(self):,} sealed rows; `open(model)` shows them to one fitted model"

    def open(self, model: Any) -> pd.DataFrame:
        """Return the rows, for a fitted model; later only for the same one.

        Raises
        ------
        HoldoutError
            If the model is not fitted, or the rows were opened for another one.
        """
        try:
            check_is_fitted(getattr(model, "model", model))
        except (NotFittedError, TypeError):
            raise HoldoutError(
                "the holdout: opened without a fitted model, expected the one that was chosen on validation; finish it first"
            ) from None
        mark = joblib.hash(model)
        if self.__opened not in ("", mark):
            raise HoldoutError(
                "the holdout: was opened for another model already, and the better of two would be chosen by it; compare "
                "models on validation, or restart the kernel to judge another one alone"
            )
        self.__opened = mark
        return self.__rows
