"""Models are written as skops files that repeat byte for byte and run no code when they are read."""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ninefold.errors import DataError
from ninefold.training import model_file
from ninefold.training.estimators import Blend


def fitted() -> tuple[object, np.ndarray]:
    random = np.random.default_rng(1)
    rows = random.normal(size=(200, 3))
    return make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=5, random_state=0)).fit(
        rows, rows[:, 0] > 0
    ), rows


def test_a_model_answers_the_same_after_loading(tmp_path: Path) -> None:
    model, rows = fitted()
    model_file.dump(model, tmp_path / "model.skops")
    again = model_file.load(tmp_path / "model.skops")
    assert np.array_equal(model.predict_proba(rows), again.predict_proba(rows))


def test_the_numbers_of_a_model_are_written_as_they_are(tmp_path: Path) -> None:
    model = Blend([Ridge(alpha=0.25).fit(np.eye(3), [1, 2, 3])], [0.5])
    model.names = ["12.npy", "1.5", "7"]  # what looks like the name of a file, or a number
    model_file.dump(model, tmp_path / "model.skops")
    again = model_file.load(tmp_path / "model.skops")
    assert (again.weights, again.names, again.models[0].alpha) == ([0.5], ["12.npy", "1.5", "7"], 0.25)
    assert np.array_equal(again.predict(np.eye(3)), model.predict(np.eye(3)))


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    (first, _), (second, _) = fitted(), fitted()
    model_file.dump(first, tmp_path / "first.skops")
    model_file.dump(second, tmp_path / "second.skops")
    assert (tmp_path / "first.skops").read_bytes() == (tmp_path / "second.skops").read_bytes()


def test_a_type_that_is_not_trusted_is_refused_by_name(tmp_path: Path) -> None:
    skops.io.dump(FunctionTransformer(pd.read_csv), tmp_path / "model.skops")
    with pytest.raises(DataError, match=r"model\.skops: asks for types that are not trusted: pandas\..*read_csv"):
        model_file.load(tmp_path / "model.skops")


def test_every_type_that_is_trusted_is_one_that_the_library_still_has() -> None:
    for name in model_file.TRUSTED:
        module, _, kind = name.rpartition(".")
        assert hasattr(import_module(module), kind), name


@pytest.mark.parametrize("run", [exec, os.system, getattr], ids=lambda run: run.__name__)
def test_no_function_that_runs_what_it_is_given_is_trusted(tmp_path: Path, run: Any) -> None:
    skops.io.dump(FunctionTransformer(partial(run, "x")), tmp_path / "model.skops")
    with pytest.raises(DataError, match=rf"not trusted: .*{run.__name__}"):
        model_file.load(tmp_path / "model.skops")


def test_a_missing_or_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found; run stage 07"):
        model_file.load(tmp_path / "model.skops")
    (tmp_path / "model.skops").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"damaged .*dvc checkout"):
        model_file.load(tmp_path / "model.skops")
