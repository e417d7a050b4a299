"""Columns that are made from the outcome by groups: bands of it, and its means."""

import numpy as np
import pandas as pd
import pytest

from ninefold.exploration.bands import bands, group_means
from ninefold.exploration.univariate import as_numbers


def test_bands_of_a_quantity_do_not_overlap() -> None:
    random = np.random.default_rng(0)
    y = np.exp(random.normal(size=800))
    classes = pd.cut(pd.Series(y), [0, 0.5, 1, 2, 99], labels=list("ABCD")).astype("str")
    assert "its 4 values are bands" in bands(classes, y)
    assert "its 2 values are bands" in bands(pd.Series(y > 1), y)
    assert not bands(classes, y + random.normal(0, 0.1, 800))
    assert not any(bands(pd.Series(random.permutation(classes)), y) for _ in range(50))


@pytest.mark.parametrize("is_event", [True, False])
@pytest.mark.parametrize(("own", "spread", "rows"), [("own", 0.7, 1100), ("local day", 0.7, 1100), ("own", 0.0, 1500)])
def test_a_mean_of_the_outcome_by_group_is_told_from_others(is_event: bool, own: str, spread: float, rows: int) -> None:
    found = {own: 0, "past": 0, "size": 0}
    for seed in range(40):
        random = np.random.default_rng(seed)
        group, effect = random.integers(0, 20, 1500), spread * random.normal(size=20)
        draws = effect[group] + random.normal(size=(2, 1500))
        y, past = (draws > 0).astype("float64") if is_event else draws
        means = {name: pd.Series(each).groupby(group).transform("mean") for name, each in ((own, y), ("past", past))}
        frame = pd.DataFrame({"who": [f"k{number}" for number in group], **means, "size": effect[group]}).head(rows)
        frame, days = (frame, None) if own == "own" else (frame.drop(columns="who"), group[:rows])
        numbers = {name: as_numbers(frame[name]) for name in frame}
        for name, words in group_means(frame, numbers, y[:rows], days).items():
            found[name] += f"each {'who' if days is None else 'local day'}," in words
    assert (found[own] >= 38, found["past"] <= 2, found["size"] <= 2) == (True, True, True), found
