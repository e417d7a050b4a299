"""Natural variation: a stable stream stays inside its bounds, a shift does not, and few windows make them wide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ninefold.monitoring import control_limits, period
from ninefold.monitoring.control_limits import Shape


def windows(count: int, seed: int, figures: int = 20, scale: float = 1.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(random.normal(5, scale, (count, figures)), columns=[f"f{number}" for number in range(figures)])


def test_fewer_stable_periods_alert_than_was_asked_for() -> None:
    alarms = []
    for seed in range(30):
        bounded = control_limits.bounds(windows(12, seed), {}, 0.05)
        alarms.append(control_limits.false_alarms(windows(20, 100 + seed).to_dict("records"), bounded))
    assert 0.01 < np.mean(alarms) < 0.06  # neither too many, nor bounds that nothing ever leaves


def test_a_figure_that_moved_is_outside_and_the_farthest_comes_first() -> None:
    bounded = control_limits.bounds(windows(30, 1), {}, 0.05)
    assert control_limits.outside({"f1": 5.0, "f2": 12.0, "f3": -20.0, "unknown": 99.0, "f4": np.nan}, bounded) == [
        "f3",
        "f2",
    ]


def test_only_the_side_that_matters_alerts() -> None:
    bounded = control_limits.bounds(windows(30, 1), {"f1": Shape("high"), "f2": Shape("low")}, 0.05)
    assert control_limits.outside({"f1": -99.0, "f2": 99.0}, bounded) == []
    assert control_limits.outside({"f1": 99.0, "f2": -99.0}, bounded) == ["f1", "f2"]


def test_a_figure_that_never_varied_needs_a_change_that_matters() -> None:
    table = pd.DataFrame({"missing": np.zeros(20)})
    bounded = control_limits.bounds(table, {"missing": Shape("high", "plain", 0.01)}, 0.05)
    assert control_limits.outside({"missing": 0.009}, bounded) == []
    assert control_limits.outside({"missing": 0.02}, bounded) == ["missing"]


def test_few_windows_make_bounds_wide_and_fewer_make_none() -> None:
    table = windows(30, 1)
    few, many = (control_limits.bounds(pd.concat([table.iloc[:5]] * times), {}, 0.05) for times in (1, 6))
    assert ((few["high"] - few["usual"]) > 2 * (many["high"] - many["usual"])).all()
    assert np.isinf(control_limits.bounds(table.iloc[:3], {}, 0.05)["high"]).all()


@pytest.mark.parametrize("scale", ["root", "log"])
def test_a_long_tail_is_judged_where_it_is_normal(scale: str) -> None:
    random = np.random.default_rng(1)
    draw = {
        "root": lambda size: random.normal(3, 0.5, size) ** 2,
        "log": lambda size: np.exp(random.normal(0, 1, size)),
    }
    bounded = control_limits.bounds(pd.DataFrame({"one": draw[scale](40)}), {"one": Shape("high", scale)}, 0.05)
    assert control_limits.false_alarms([{"one": value} for value in draw[scale](400)], bounded) < 0.1


def test_windows_are_consecutive_days_of_the_length_of_a_period() -> None:
    day = np.repeat(np.arange(100, 170), 5)
    found = period.windows(day, 7, timed=True)
    assert len(found) == 10
    assert [np.ptp(day[window]) for window in found] == [6] * 10
    assert np.sum(found, axis=0).max() == 1


def test_windows_are_shortened_until_their_spread_can_be_told() -> None:
    day = np.repeat(np.arange(60), 5)
    found = period.windows(day, 30, timed=True)
    assert len(found) >= 8
    assert all(np.ptp(day[window]) == 6 for window in found[:8])


def test_without_time_windows_are_groups_of_whole_entities() -> None:
    entity = np.repeat(np.arange(200), 4)
    found = period.windows(entity, 80, timed=False)
    assert len(found) == 10
    assert all(set(np.bincount(entity[window])) <= {0, 4} for window in found)


def test_replays_draw_whole_days_and_are_the_same_again() -> None:
    day = np.repeat(np.arange(50), np.arange(50) % 4 + 1)
    first, again = (list(period.replays(day, 7, True, 5, seed=2)) for _ in range(2))
    for (rows, block), (same, _) in zip(first, again, strict=True):
        assert (rows == same).all()
        assert block.max() == 6
        for number in range(7):
            mine = rows[block == number]
            assert (day[mine] == day[mine[0]]).all()
            assert len(mine) == (day == day[mine[0]]).sum()
