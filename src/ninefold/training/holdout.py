"""The locked holdout: it opens for one fitted model, since comparing models on it would choose by it."""

from __future__ import annotations

from typing import Any

import joblib
import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ninefold.errors import NinefoldError


class HoldoutError(NinefoldError):
    """The holdout was opened too early, or for a second model."""


class LockedHoldout:
    """Rows that nothing may be fitted to or chosen by, until one model is finished.

    Parameters
    ----------
    rows : DataFrame
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.__rows, self.__model = rows, ""

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.__rows)

    def __repr__(self) -> str:
        """Return the number of rows."""
        return f"{len(self):,} locked rows; `open(model)` returns them for one fitted model"

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
        digest = joblib.hash(model)
        if self.__model not in ("", digest):
            raise HoldoutError(
                "the holdout: was opened for another model already, and choosing the better of two on it would bias its "
                "scores; compare models on validation, or restart the kernel to evaluate another one alone"
            )
        self.__model = digest
        return self.__rows
