"""Two tables told apart: days are no drift, what moved is named, and ratios make one table like the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ninefold.monitoring import two_sample

KINDS = {"size": "numeric", "load": "numeric", "shop": "categorical", "note": "text", "waited": "date"}


def table(rows: int, days: int, seed: int, shift: float = 0.0, between: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    day = np.sort(random.integers(0, days, rows))
    effect = random.normal(0, between, days)
    frame = pd.DataFrame(
        {
            "size": random.normal(size=rows) + effect[day] + shift,
            "load": np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)),
            "shop": pd.Series(random.choice(["a", "b", "c"], rows)).mask(random.random(rows) < 0.05),
            "note": pd.Series(random.choice(["late again", "all fine", "a gift"], rows)),
            "waited": random.gamma(2, 3, rows),
        }
    )
    return frame, day


def compare(after: dict[str, float], rows: int = 2000, **kwargs: object) -> two_sample.Compared:
    before, days = table(4000, 60, 1, between=after.get("between", 0.0))
    now, later = table(rows, int(after.pop("days", 14)), 2, **after)
    return two_sample.compare(before, now, KINDS, (days, later), **kwargs)  # type: ignore[arg-type]


def test_equal_tables_are_not_told_apart() -> None:
    found = compare({})
    assert abs(found.auc - 0.5) < 0.05
    assert found.low < 0.5 < found.high
    assert found.p > 0.05
    assert two_sample.effective_rows(two_sample.ratios(found)) > 0.95 * len(found.before)


def test_what_moved_is_told_apart_and_named() -> None:
    found = compare({"shift": 0.8})
    assert found.low > 0.6
    assert found.p <= 0.001
    assert next(iter(found.importance)) == "size"
    assert found.importance["size"] > 5 * max(lost for name, lost in found.importance.items() if name != "size")


@pytest.mark.parametrize("name", ["shop", "note", "load"])
def test_categories_words_and_gaps_are_seen(name: str) -> None:
    before, days = table(3000, 40, 1)
    now, later = table(2000, 14, 2)
    moved = {"shop": "b", "note": "out of order", "load": np.nan}[name]
    now[name] = now[name].mask(np.arange(len(now)) % 3 == 0, moved)
    found = two_sample.compare(before, now, KINDS, (days, later))
    assert found.p <= 0.005
    assert next(iter(found.importance)) == name


def test_days_that_differ_are_no_drift_if_they_are_held_out_whole() -> None:
    p, single = [], []
    for seed in range(3):
        before, days = table(2400, 60, seed, between=0.7)
        now, later = table(600, 10, 100 + seed, between=0.7)
        p.append(two_sample.compare(before, now, KINDS, (days, later), explain=False).p)
        single.append(two_sample.compare(before, now, KINDS, explain=False).p)
    assert min(p) > 0.01
    assert min(single) < 0.001  # rows of a day, taken as independent, look like a shift


def test_ratios_make_the_first_table_like_the_second() -> None:
    before, days = table(4000, 60, 1)
    now, later = table(4000, 60, 2, shift=0.7)
    found = two_sample.compare(before, now, KINDS, (days, later))
    weight = two_sample.ratios(found)
    assert weight.mean() == pytest.approx(1)
    assert weight.max() <= two_sample.HIGHEST_RATIO * 2
    size = before["size"].to_numpy()[found.before]
    assert abs(np.average(size, weights=weight) - now["size"].mean()) < 0.15
    assert now["size"].mean() - size.mean() > 0.6


def test_the_same_rows_give_the_same_answer_and_many_rows_are_thinned() -> None:
    one, two = (compare({"shift": 0.3}, most=1000, seed=3) for _ in range(2))
    assert one.auc == two.auc
    assert one.p == two.p
    assert one.importance == two.importance
    assert len(one.before) == len(one.after) == 1000


def test_one_day_tells_no_p_value_and_few_rows_tell_nothing() -> None:
    assert np.isnan(compare({"days": 1}, explain=False).p)
    empty = compare({}, rows=0)
    assert empty.auc == 0.5
    assert np.isnan(empty.p)
