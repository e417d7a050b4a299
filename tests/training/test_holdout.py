"""The holdout stays locked until one model is finished, and opens for no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from ninefold.training import Blend, Calibrated
from ninefold.training.holdout import HoldoutError, LockedHoldout

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [0, 1, 0, 1]})


def fitted(penalty: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=penalty).fit(ROWS[["x"]], ROWS["y"])


def test_it_shows_its_size_and_nothing_else() -> None:
    locked = LockedHoldout(ROWS)
    assert len(locked) == 4
    assert "1.0" not in repr(locked)
    assert not any(isinstance(value, pd.DataFrame) for name, value in vars(locked).items() if "__" not in name)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        Calibrated(LogisticRegression()),
        Blend([fitted(), LogisticRegression()], [0.5, 0.5]),
        "the best one",
    ],
)
def test_it_does_not_open_without_a_fitted_model(model: Any) -> None:
    with pytest.raises(HoldoutError, match="opened without a fitted model"):
        LockedHoldout(ROWS).open(model)


@pytest.mark.parametrize(
    "model",
    [
        fitted(),
        Blend([fitted(), fitted(2.0)], [0.5, 0.5]),
        Calibrated(fitted()).fit_map(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 0])),
    ],
)
def test_it_opens_again_for_the_same_model_and_for_no_other(model: Any) -> None:
    locked = LockedHoldout(ROWS)
    pd.testing.assert_frame_equal(locked.open(model), ROWS)
    locked.open(model)  # the cell was run once more
    with pytest.raises(HoldoutError, match="was opened for another model already"):
        locked.open(fitted(9.0))
