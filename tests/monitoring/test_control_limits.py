"""Natural variation: a stable stream stays inside its bounds, a shift does not, and few windows make them wide."""

import numpy as np
import pandas as pd

from ninefold.monitoring import period
from ninefold.monitoring.reference import Shape, bounds, outside


def windows(count: int, seed: int = 1) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(5, 1, (count, 20))
    return pd.DataFrame(values, columns=[f"f{number}" for number in range(20)])


def false_alarms(periods: pd.DataFrame, bounded: pd.DataFrame) -> float:
    return float(np.mean([bool(outside(figures, bounded)) for figures in periods.to_dict("records")]))


def test_fewer_stable_periods_alert_than_was_asked_for() -> None:
    alarms = [false_alarms(windows(20, 100 + seed), bounds(windows(12, seed), {}, 0.05)) for seed in range(30)]
    assert 0.01 < np.mean(alarms) < 0.06  # neither too many, nor bounds that nothing ever leaves


def test_a_figure_that_moved_to_the_side_that_matters_is_outside_and_the_farthest_comes_first() -> None:
    figures = {"f1": 5.0, "f2": 12.0, "f3": -20.0, "unknown": 99.0, "f4": np.nan}
    assert outside(figures, bounds(windows(30), {}, 0.05)) == ["f3", "f2"]
    bounded = bounds(windows(30), {"f1": Shape("high"), "f2": Shape("low")}, 0.05)
    assert outside({"f1": -99.0, "f2": 99.0}, bounded) == []
    assert outside({"f1": 99.0, "f2": -99.0}, bounded) == ["f1", "f2"]


def test_few_windows_make_bounds_wide_fewer_make_none_and_what_never_varied_needs_a_change_that_matters() -> None:
    few, many = (bounds(pd.concat([windows(5)] * times), {}, 0.05) for times in (1, 6))
    assert ((few["high"] - few["usual"]) > 2 * (many["high"] - many["usual"])).all()
    assert np.isinf(bounds(windows(3), {}, 0.05)["high"]).all()
    bounded = bounds(pd.DataFrame({"missing: a": np.zeros(20)}), {"missing": Shape("high", "plain", 0.01)}, 0.05)
    assert [outside({"missing: a": share}, bounded) for share in (0.009, 0.02)] == [[], ["missing: a"]]


def test_a_long_tail_is_tested_where_it_is_normal() -> None:
    samples = pd.DataFrame({"one": np.exp(np.random.default_rng(1).normal(2, 0.4, 440))})
    assert false_alarms(samples[40:], bounds(samples[:40], {"one": Shape("high", "log")}, 0.05)) < 0.1


def test_windows_of_months_hold_whole_ones() -> None:
    days = pd.date_range("2019-01-01", periods=24, freq="MS").to_numpy("datetime64[D]").astype("int64")
    for length, sizes in ((30.4375, {1}), (91.3125, {3})):
        assert {int(window.sum()) for window in period.windows(days, length, True, 30.4375)} == sizes
