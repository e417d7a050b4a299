"""Models are written as skops files that repeat byte for byte and run no code when they are read."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer

from ninefold.errors import DataError
from ninefold.training import model_file
from ninefold.training.estimators import Blend


def test_the_numbers_of_a_model_are_written_as_they_are(tmp_path: Path) -> None:
    model = Blend([Ridge(alpha=0.25).fit(np.eye(3), [1, 2, 3])], [0.5])
    model.names = ["12.npy", "1.5", "7"]  # what looks like the name of a file, or a number
    model_file.dump(model, tmp_path / "model.skops")
    again = model_file.load(tmp_path / "model.skops")
    assert (again.weights, again.names, again.models[0].alpha) == ([0.5], ["12.npy", "1.5", "7"], 0.25)
    assert np.array_equal(again.predict(np.eye(3)), model.predict(np.eye(3)))


@pytest.mark.parametrize(
    ("run", "name"),
    [(pd.read_csv, r"pandas\..*read_csv"), (partial(exec, "x"), "exec"), (partial(os.system, "x"), "system")],
)
def test_a_type_that_is_not_trusted_is_refused_by_name(tmp_path: Path, run: Any, name: str) -> None:
    skops.io.dump(FunctionTransformer(run), tmp_path / "model.skops")
    with pytest.raises(DataError, match=rf"model\.skops: asks for types that are not trusted: .*{name}"):
        model_file.load(tmp_path / "model.skops")


def test_a_missing_or_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found; run stage 07"):
        model_file.load(tmp_path / "model.skops")
    (tmp_path / "model.skops").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"damaged .*dvc checkout"):
        model_file.load(tmp_path / "model.skops")
