"""Combinations that are the outcome are named with their columns; honest tables have none."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import statement

from ninefold.exploration import combinations


def table(rows: int = 900) -> pd.DataFrame:
    random = np.random.default_rng(7)
    made = pd.DataFrame({name: random.gamma(2, 30, rows) for name in "abc"})
    made["noise"], made["out {}"] = random.normal(size=rows), random.gamma(2, 30, rows)
    made["begin"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.uniform(0, 365, rows), "D")
    made["end"] = made["begin"] + pd.to_timedelta(random.gamma(2, 30, rows), "h")
    return made.mask(random.uniform(size=made.shape) < 0.02)


def found(made: pd.DataFrame, y: pd.Series, task: str) -> dict[str, str]:
    known = made[y.notna()].reset_index(drop=True)
    return combinations.evidence(known, list(known), y.dropna().to_numpy("float64"), statement(task))


@pytest.mark.parametrize(("formula", "names"), [
    (lambda t: t["a"] + t["b"], "ab"), (lambda t: 3 * t["a"] - t["b"] / 2 + 7, "ab"), (lambda t: t["a"] - t["b"] + t["c"], "abc"),
    (lambda t: t["a"] * t["b"], "ab"), (lambda t: 100 * t["a"] / (t["a"] + t["b"]), "ab"), (lambda t: t["noise"] * t["c"], ["noise", "c"]),
    (lambda t: (t["a"] - t["b"]) / t["c"], "abc"), (lambda t: t["a"] / t["b"] ** 2, "ab"), (lambda t: 3 / (t["a"] + t["b"]), "ab"),
    (lambda t: (t["end"] - t["begin"]).dt.total_seconds(), ["begin", "end"]), (lambda t: (t["a"] + t["out {}"]).round(), ["a", "out {}"]),
])  # fmt: skip
def test_a_quantity_made_of_columns_is_named_with_them_if_some_rows_err(formula: Callable, names: list[str]) -> None:
    made, random = table(), np.random.default_rng(1)
    y = formula(made)
    mostly = y.where(random.uniform(size=len(y)) > 0.05, random.permutation(y))
    assert set(found(made, mostly, "regression")) == set(names)
    assert found(made, y + y.std() / 10 * random.normal(size=len(y)), "regression") == {}


def test_a_sum_that_is_the_number_of_a_class_is_named_too() -> None:
    made, random = table(), np.random.default_rng(1)
    member = random.uniform(size=900) < 0.4
    made = made.assign(left=member & (random.uniform(size=900) < 0.5), both=1.0 * member)
    assert set(found(made, made["both"] - made["left"], "binary")) == {"left", "both"}


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_no_combination(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 9, (300, 25)) if seed % 2 else random.normal(size=(300, 25))
    made = pd.DataFrame(values).rename(columns=str)
    risk = made["0"] + made["1"] + random.logistic(size=300)
    assert found(made, risk, "regression") == found(made, (risk > risk.median()).astype("float64"), "binary") == {}
