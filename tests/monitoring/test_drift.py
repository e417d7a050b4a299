"""The ground floor's drift: nothing on equal distributions, more with every shift, whatever the columns hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ninefold.monitoring import drift


def numbers(*shares: float, missing: float = 0.0) -> dict[str, object]:
    return {"shares": list(shares), "missing": missing}


def test_equal_distributions_have_no_psi() -> None:
    assert drift.psi(numbers(0.2, 0.3, 0.4, missing=0.1), numbers(0.2, 0.3, 0.4, missing=0.1)) == 0


def test_psi_is_what_one_computes_by_hand() -> None:
    # (0.25 - 0.5) ln(0.25 / 0.5) + (0.75 - 0.5) ln(0.75 / 0.5) = 0.25 ln 2 + 0.25 ln 1.5
    assert drift.psi(numbers(0.5, 0.5), numbers(0.25, 0.75)) == pytest.approx(0.25 * np.log(3))


def test_psi_grows_with_the_shift() -> None:
    found = [drift.psi(numbers(0.5, 0.5), numbers(0.5 - step, 0.5 + step)) for step in (0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    assert found == sorted(found)
    assert np.isfinite(found).all()


def test_values_that_go_missing_are_drift() -> None:
    assert drift.psi(numbers(0.5, 0.5), numbers(0.3, 0.3, missing=0.4)) > 0.25


def test_categories_are_matched_by_name_and_unseen_ones_are_drift() -> None:
    before = {"shares": {"a": 0.6, "b": 0.4}, "other": 0.0, "missing": 0.0}
    assert drift.psi(before, {"shares": {"b": 0.4, "a": 0.6}, "other": 0.0, "missing": 0.0}) == 0
    assert drift.psi(before, {"shares": {"a": 0.4, "b": 0.3}, "other": 0.3, "missing": 0.0}) > 0.25


@pytest.mark.parametrize("kind", ["number", "text"])
def test_a_test_finds_a_planted_shift_and_no_other(kind: str) -> None:
    random = np.random.default_rng(3)
    draw = {
        "number": lambda shift: pd.Series(random.normal(shift, 1, 2000)),
        "text": lambda shift: pd.Series(
            random.choice(["a", "b", "c"], 2000, p=[0.5 - shift / 4, 0.3, 0.2 + shift / 4])
        ),
    }[kind]
    before = draw(0)
    assert drift.p_value(before, draw(0)) > 0.01
    assert drift.p_value(before, draw(0.5)) < 1e-6


def test_a_test_sees_gaps_that_widen() -> None:
    values = pd.Series(np.random.default_rng(1).normal(size=2000))
    assert drift.p_value(values, values.mask(values.index % 5 == 0)) < 1e-6
    assert drift.p_value(values.mask(values.index % 5 == 0), values.mask(values.index % 5 == 1)) > 0.01
    letters = pd.Series(["a", "b"] * 1000)
    assert drift.p_value(letters, letters.mask(letters.index % 5 == 0)) < 1e-6


def test_rare_categories_alone_prove_nothing() -> None:
    common = ["a"] * 500 + ["b"] * 500
    assert drift.p_value(pd.Series([*common, "c", "d"]), pd.Series([*common, "e", "f"])) > 0.5


def test_a_constant_column_and_an_empty_one_are_no_drift() -> None:
    assert drift.p_value(pd.Series(["a"] * 20), pd.Series(["a"] * 30)) == 1
    assert np.isnan(drift.p_value(pd.Series([1.0, 2.0]), pd.Series([], dtype="float64")))


def test_many_tests_are_corrected_for_being_many() -> None:
    # Benjamini and Hochberg by hand: p * m / rank, made monotone from the largest down.
    assert drift.adjust(np.array([0.01, 0.04, 0.03, 0.5])) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    luck = np.random.default_rng(5).uniform(size=(200, 100))
    assert (luck < 0.05).any(axis=1).mean() > 0.95, "uncorrected, nearly every hundred tests find something"
    assert np.mean([(drift.adjust(tests) < 0.05).any() for tests in luck]) < 0.1


def test_a_feature_that_could_not_be_tested_does_not_count() -> None:
    corrected = drift.adjust(np.array([0.01, np.nan, 0.02]))
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.02])
    assert np.isnan(corrected[1])
    assert np.isnan(drift.adjust(np.array([np.nan]))).all()
