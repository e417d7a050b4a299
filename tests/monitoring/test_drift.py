"""Drift: nothing on equal distributions, more with every shift, whatever the columns hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from monitoring_data import problem_of
from monitoring_params import PARAMS

from ninefold.monitoring.drift import compare_inputs, p_value, psi
from ninefold.serving import bundle as packing


def shares(values: Any, missing: float = 0.0, other: float = 0.0) -> dict[str, Any]:
    return {"shares": values, "missing": missing, "other": other}


def test_psi_is_what_one_computes_by_hand_and_missing_or_unseen_values_are_drift() -> None:
    # (0.25 - 0.5) ln(0.25 / 0.5) + (0.75 - 0.5) ln(0.75 / 0.5) = 0.25 ln 2 + 0.25 ln 1.5
    assert psi(shares([0.5, 0.5]), shares([0.25, 0.75])) == pytest.approx(0.25 * np.log(3))
    assert psi(shares({"a": 0.6, "b": 0.4}), shares({"b": 0.4, "a": 0.6})) == 0
    assert np.isfinite(psi(shares([0.5, 0.5]), shares([0.0, 1.0])))
    assert psi(shares([0.5, 0.5]), shares([0.3, 0.3], missing=0.4)) > 0.25
    assert psi(shares({"a": 0.6, "b": 0.4}), shares({"a": 0.4, "b": 0.3}, other=0.3)) > 0.25


def test_rare_categories_a_constant_column_and_an_empty_one_are_no_drift() -> None:
    common = ["a"] * 500 + ["b"] * 500
    assert p_value(pd.Series([*common, "c", "d"]), pd.Series([*common, "e", "f"])) > 0.5
    assert p_value(pd.Series(["a"] * 20), pd.Series(["a"] * 30)) == 1
    assert np.isnan(p_value(pd.Series([1.0, 2.0]), pd.Series([], dtype="float64")))


def test_many_features_are_corrected_for_being_many() -> None:
    random = np.random.default_rng(5)
    train, now = (pd.DataFrame(random.normal(size=(300, 60))).add_prefix("f") for _ in range(2))
    signature = [{"name": name, "kind": "numeric"} for name in train]
    reference = {"features": {name: packing.distribution(train[name]) for name in train}}
    bundle: Any = SimpleNamespace(signature=signature, problem=problem_of(), reference=reference)
    now["@period"] = "2020-03"
    table = compare_inputs(now, {"train": train, "validation": train[:0]}, bundle, PARAMS, holdout=False)
    assert (table["p"] < 0.05).any()
    assert (table["q"] > 0.05).all()
