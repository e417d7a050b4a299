"""Two tables told apart: days are no drift, and what moved is named."""

import numpy as np
import pytest
from monitoring_rows import KINDS, rows, table

from ninefold.monitoring import period, two_sample


@pytest.mark.parametrize(("name", "value"), {"width": None, "shop": "b", "note": "ordered", "weight": np.nan}.items())
def test_numbers_categories_words_and_gaps_that_moved_are_named(name: str, value: object) -> None:
    now = table(inputs=0.8 if value is None else 0.0)
    now[name] = now[name].mask((value is not None) & (np.arange(len(now)) % 3 == 0), value)
    found = two_sample.compare(rows(table(days=40, seed=1)), rows(now), KINDS)
    assert (found.p <= 0.005, found.low > 0.5) == (True, True)
    (first, most), (_, second), *_ = found.importance.items()
    assert (first, most > 3 * second) == (name, True)


def test_days_that_differ_are_no_drift_if_they_are_held_out_whole() -> None:
    before, now = rows(table("binary", 60, 0, 40, 0.7)), rows(table("binary", 10, 104, 60, 0.7))
    assert two_sample.compare(before, now, KINDS, explain=False).p > 0.01
    single = (each._replace(block=np.arange(len(each.block))) for each in (before, now))
    # Rows of a day, taken as independent, look like a shift.
    assert two_sample.compare(*single, KINDS, explain=False).p < 0.001


def test_one_day_has_no_p_value_and_without_rows_nothing_is_known() -> None:
    before, now = rows(table(days=40, seed=1)), rows(table(days=1))
    assert np.isnan(two_sample.compare(before, now, KINDS, explain=False).p)
    empty = two_sample.compare(before, period.take(now, np.arange(0)), KINDS)
    assert (empty.auc, np.isnan(empty.p)) == (0.5, True)


def test_columns_without_any_value_are_no_drift() -> None:
    before, now = (rows(table(days=days, seed=days).assign(weight=np.nan, shop=None)) for days in (40, 14))
    found = two_sample.compare(before, now, KINDS)
    assert (found.p > 0.01, found.importance["weight"], found.importance["shop"]) == (True, 0, 0)
