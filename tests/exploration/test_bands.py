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
def test_a_mean_of_the_outcome_by_group_is_told_from_a_mean_of_other_rows(is_event: bool) -> None:
    found = {"own": 0, "past": 0, "size": 0}
    for seed in range(40):
        random = np.random.default_rng(seed)
        group, effect = random.integers(0, 20, 1500), random.normal(0, 0.7, 20)

        def outcomes(random: np.random.Generator = random, mean: np.ndarray = effect[group]) -> np.ndarray:
            y = mean + random.normal(size=1500)
            return (y > 0).astype("float64") if is_event else y

        y = outcomes()
        both = (("own", y), ("past", outcomes()))
        means = {name: pd.Series(each).groupby(group).transform("mean") for name, each in both}
        frame = pd.DataFrame({"who": [f"k{number}" for number in group], **means, "size": effect[group]}).head(1100)
        for name in group_means(frame, {name: as_numbers(frame[name]) for name in frame}, y[:1100]):
            found[name] += 1
    assert (found["own"] >= 38, found["past"] <= 2, found["size"] <= 2) == (True, True, True), found
