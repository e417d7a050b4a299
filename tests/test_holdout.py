"""The holdout stays sealed until one model is finished, and opens for no other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement
from sklearn.linear_model import LogisticRegression
from test_training import agree, orders, parted

from ninefold import training
from ninefold.core import io
from ninefold.core.estimators import Blend, Calibrated
from ninefold.core.holdout import HoldoutError, Sealed

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [0, 1, 0, 1], "at": pd.date_range("2020-01-01", periods=4)})


def fitted(penalty: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=penalty).fit(ROWS[["x"]], ROWS["y"])


def test_it_tells_its_size_and_period_and_nothing_else() -> None:
    sealed = Sealed(ROWS, "at")
    assert len(sealed) == 4
    assert sealed.period == (pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-04"))
    assert "1.0" not in repr(sealed)
    assert not any(isinstance(value, pd.DataFrame) for name, value in vars(sealed).items() if "__" not in name)
    assert Sealed(ROWS).period is None


def test_it_opens_for_a_fitted_model_alone() -> None:
    with pytest.raises(HoldoutError, match="opened without a fitted model"):
        Sealed(ROWS).open(LogisticRegression())
    with pytest.raises(HoldoutError, match="opened without a fitted model"):
        Sealed(ROWS).open(Calibrated(LogisticRegression()))
    with pytest.raises(HoldoutError, match="opened without a fitted model"):
        Sealed(ROWS).open(Blend([fitted(), LogisticRegression()], [0.5, 0.5]))
    with pytest.raises(HoldoutError, match="opened without a fitted model"):
        Sealed(ROWS).open("the best one")
    assert len(Sealed(ROWS).open(Blend([fitted(), fitted(2.0)], [0.5, 0.5]))) == 4
    pd.testing.assert_frame_equal(Sealed(ROWS).open(fitted()), ROWS)


def test_it_opens_again_for_the_same_model_and_for_no_other() -> None:
    sealed = Sealed(ROWS)
    sealed.open(fitted())
    sealed.open(fitted())  # the cell was run once more
    with pytest.raises(HoldoutError, match="was opened for another model already"):
        sealed.open(fitted(9.0))


def test_a_calibrated_model_is_as_good_as_its_parts() -> None:
    model = Calibrated(fitted()).fit_map(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 0]))
    assert len(Sealed(ROWS).open(model)) == 4


def test_stage_07_gets_the_open_rows_and_a_sealed_holdout(project: Project) -> None:
    stated, frame = statement(), orders("binary", 300)
    agreed = agree(frame, stated)
    io.write_table(frame, project.folder / "data/features/period=all/part-0.parquet")
    parts, sealed = training.read_sealed(stated, agreed)
    expected = parted(frame, stated, agreed)
    assert {name: len(rows) for name, rows in parts.items()} == {name: len(expected[name]) for name in parts}
    assert list(parts) == ["train", "validation"]
    assert len(sealed) == len(expected["holdout"])
