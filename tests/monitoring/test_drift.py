"""Drift: nothing on equal distributions, more with every shift, whatever the columns hold, and however days are correlated."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import statement
from monitoring_data import PARAMS

from ninefold.monitoring import sentences
from ninefold.monitoring.drift import compare_inputs, psi

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import drift_level


def index(before: list[float], after: list[float]) -> float:
    """Return the PSI of two columns of counts; the first are missing values."""
    return float(psi(np.array(before), np.array(after)))


def drifts(
    frame: pd.DataFrame, days: int, kinds: dict[str, str] | None = None, time: str | None = "placed"
) -> pd.DataFrame:
    """Return the drift of the rows of the last `days` of a table, whose days are in the column `day`."""
    features = [name for name in frame if name != "day"]
    signature = [{"name": name, "kind": (kinds or {}).get(name, "numeric")} for name in features]
    bundle: Any = SimpleNamespace(signature=signature, problem=statement(time=time), described={"log": {"redact": []}})
    frame = frame.assign(placed=pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["day"], "D"))
    late = frame["day"] > frame["day"].max() - days
    return compare_inputs(frame[late].assign(**{"@period": "2020-03"}), {"train": frame[~late]}, bundle, PARAMS)


def table(features: int = 1, days: int = 61, daily: int = 40, seed: int = 5) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(days * daily, features))
    return pd.DataFrame(values).add_prefix("f").assign(day=np.repeat(np.arange(days), daily))


def test_psi_is_what_one_computes_by_hand_and_missing_or_unseen_values_are_drift() -> None:
    # (0.25 - 0.5) ln(0.25 / 0.5) + (0.75 - 0.5) ln(0.75 / 0.5) = 0.25 ln 2 + 0.25 ln 1.5
    assert index([0, 500, 500], [0, 250, 750]) == pytest.approx(0.25 * np.log(3))
    assert index([0, 60, 40], [0, 600, 400]) == 0
    assert index([0, 500, 500], [0, 0, 1000]) == pytest.approx(0.5 * np.log(1000) + 0.5 * np.log(2), rel=0.01)
    assert index([0, 500, 500], [400, 300, 300]) > 0.25
    assert index([0, 600, 400, 0], [0, 400, 300, 300]) > 0.25
    assert index([0, 500, 500, *[2] * 50], [0, 500, 500, *[0, 4] * 25]) < 0.01, "rare categories are one"
    assert np.isnan(index([0, 1, 1], [0, 0, 0]))


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("days", [7, 30])
def test_days_that_differ_are_no_drift_even_if_neighbours_are_alike(days: int, correlation: float) -> None:
    rates = drift_level.rates(days, correlation, drift_level.MILD, replicates=150)
    assert rates["drift"][0] <= 0.05 + 0.02 + 0.03, "3 points are the noise of 150 streams"
    assert rates["moved"][0] <= 0.01 + 0.02 + 0.02
    assert min(rates["drift"][1], rates["moved"][1]) > 0.5, "a shift of 0.3 standard deviations is seen"


def test_one_of_many_features_is_named_and_all_are_corrected_for_being_many() -> None:
    frame = table(60)
    assert not (drifts(frame, 7)["p"] < 0.05).any()
    frame.loc[frame["day"] >= 54, "f7"] += 1
    for time in ("placed", None):
        found = drifts(frame, 7, time=time)
        assert found.loc[found["p"] < 0.05, "feature"].tolist() == ["f7"]


@pytest.mark.parametrize(("kind", "value"), [
    ("numeric", 2.0), ("numeric", np.nan), ("categorical", "zoe"), ("text", "x" * 20), ("date", 400.0)
])  # fmt: skip
def test_numbers_gaps_categories_and_the_length_of_a_text_that_moved_are_drift(kind: str, value: Any) -> None:
    frame, kinds = table(2), {"f1": kind}
    texts = (9 * frame["f1"].abs()).astype("int64").map("x".__mul__)
    usual = {"numeric": frame["f1"], "categorical": "ann", "text": texts, "date": 7 * frame["f1"]}[kind]
    late = (frame["day"] >= 54) & (frame.index % 3 == 0)
    found = drifts(frame.assign(f1=pd.Series(usual, frame.index).mask(late, value)), 7, kinds, time=None)
    assert found.loc[found["drifted"], "feature"].tolist() == ["f1"]


def test_with_too_few_days_there_is_no_p_value_and_the_page_says_so() -> None:
    frame = table(days=19).assign(f0=lambda rows: rows["f0"] + 9 * (rows["day"] == 18))
    assert drifts(frame.assign(day=frame["day"] + 1), 1)["psi"].iloc[0] > 0.25
    found = drifts(frame, 1)
    assert (found["p"].isna().all(), found["drifted"].any()) == (True, False)
    text = sentences.describe_drift(found.assign(period=["2020-03"]), frame[:0], {}, statement())
    assert "In 2020-03 no test is possible: too few days." in text


def test_columns_that_are_empty_or_constant_from_now_on_are_drift_and_leave_no_gap() -> None:
    frame, kinds = table(3), {"f2": "categorical"}
    frame["f2"] = pd.Series(np.where(frame["f2"] > 0, "a", "b"), dtype="object")
    late = frame["day"] >= 54
    broken = frame.assign(f0=frame["f0"].mask(late), f1=frame["f1"].mask(late, 7.0), f2=frame["f2"].mask(late, None))
    found = drifts(broken, 7, kinds)
    assert (found["drifted"].all(), found.isna().any(axis=None)) == (True, False)
    assert found["missing"].tolist() == [1, 0, 1]
    always = drifts(frame.assign(f0=np.nan, f1=7.0), 7, kinds)
    assert (always["drifted"].any(), always["psi"].isna().any()) == (False, False)
