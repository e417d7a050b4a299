"""Two tables told apart: days are no drift, what moved is named, and ratios make one table like the other."""

from __future__ import annotations

import numpy as np
import pytest
from monitoring_rows import KINDS, rows, table

from ninefold.monitoring import period, two_sample


def test_equal_tables_are_not_told_apart() -> None:
    found = two_sample.compare(rows(table(days=40, seed=1)), rows(table(seed=6)), KINDS)
    assert abs(found.auc - 0.5) < 0.05
    assert found.low < 0.5 < found.high
    assert found.p > 0.05
    assert two_sample.ratios(found).std() < 0.25


@pytest.mark.parametrize(
    ("name", "value"), [("width", None), ("shop", "b"), ("note", "out of order"), ("weight", np.nan)]
)
def test_numbers_categories_words_and_gaps_that_moved_are_named(name: str, value: object) -> None:
    now = table(inputs=0.8 if value is None else 0.0)
    now[name] = now[name].mask((value is not None) & (np.arange(len(now)) % 3 == 0), value)
    found = two_sample.compare(rows(table(days=40, seed=1)), rows(now), KINDS)
    assert found.p <= 0.005
    assert found.low > 0.5
    importance = list(found.importance.items())
    assert importance[0][0] == name
    assert importance[0][1] > 3 * importance[1][1]


def test_days_that_differ_are_no_drift_if_they_are_held_out_whole() -> None:
    before, now = rows(table("binary", 60, 0, 40, 0.7)), rows(table("binary", 10, 104, 60, 0.7))
    assert two_sample.compare(before, now, KINDS, explain=False).p > 0.01
    before, now = (each._replace(block=np.arange(len(each.block))) for each in (before, now))
    single = two_sample.compare(before, now, KINDS, explain=False)
    assert single.p < 0.001, "rows of a day, taken as independent, look like a shift"


def test_ratios_make_the_first_table_like_the_second() -> None:
    before, now = rows(table(days=40, seed=1)), rows(table(days=40, inputs=0.7))
    found = two_sample.compare(before, now, KINDS, most=4000)
    weight, width = two_sample.ratios(found), before.features["width"].to_numpy()[found.before]
    assert weight.mean() == pytest.approx(1)
    assert weight.max() <= two_sample.HIGHEST_RATIO * 2
    assert abs(np.average(width, weights=weight) - now.features["width"].mean()) < 0.15
    assert now.features["width"].mean() - width.mean() > 0.6


def test_one_day_has_no_p_value_and_without_rows_nothing_is_known() -> None:
    before, now = rows(table(days=40, seed=1)), rows(table(days=1))
    assert np.isnan(two_sample.compare(before, now, KINDS, explain=False).p)
    empty = two_sample.compare(before, period.take(now, np.arange(0)), KINDS)
    assert empty.auc == 0.5
    assert np.isnan(empty.p)
