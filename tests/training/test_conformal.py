"""Intervals hold the share of outcomes that they name, and the quantile acted on costs least."""

import numpy as np
import pandas as pd
import pytest
from training_data import ONE

from ninefold.training import Calibrator, WithInterval


def spread(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions, and outcomes whose errors grow with them and lean to one side."""
    random = np.random.default_rng(seed)
    prediction = random.uniform(1, 10, rows)
    return prediction, prediction * (1 + 0.3 * (random.gamma(2, 1, rows) - 2))


def inside(model: WithInterval, prediction: np.ndarray, outcome: np.ndarray) -> pd.Series:
    ends = model.around(prediction)
    assert (ends["low"] <= ends["high"]).all()
    return (ends["low"] <= outcome) & (outcome <= ends["high"])


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_an_interval_holds_the_share_it_names(level: float) -> None:
    model, (prediction, outcome) = WithInterval(None, level).fit_errors(*spread(3000, 1)), spread(20_000, 2)
    covered = inside(model, prediction, outcome)
    assert covered.mean() == pytest.approx(level, abs=0.025)
    # Within bins of the prediction, not only on average: errors grow with it, and so do the intervals.
    by_size = covered.groupby(pd.qcut(prediction, 4, labels=False)).mean()
    assert by_size.between(level - 0.05, level + 0.05).all()
    models = [WithInterval(None, level).fit_errors(*spread(30, seed)) for seed in range(200)]
    few = [inside(model, *spread(200, 1000 + seed)).mean() for seed, model in enumerate(models)]
    assert np.mean(few) == pytest.approx(level, abs=0.04)  # of few errors, on average


def test_the_quantile_acted_on_costs_less_than_any_shift_of_it() -> None:
    model, (prediction, outcome) = WithInterval(None, 0.9, 1, 4).fit_errors(*spread(4000, 3)), spread(20_000, 4)
    ends = model.around(prediction)

    def cost(quantity: np.ndarray) -> float:
        return float(np.where(quantity > outcome, quantity - outcome, 4 * (outcome - quantity)).mean())

    least = cost(ends["quantile"].to_numpy())
    assert least < cost(prediction)
    assert all(least < cost(ends["quantile"].to_numpy() * factor) for factor in (0.9, 1.1))
    assert ends["loss"].mean() == pytest.approx(least, rel=0.05)  # the expected cost is the mean cost


def test_one_prediction_for_all_rows_or_a_single_error_gives_an_interval() -> None:
    error = np.random.default_rng(1).normal(size=1000)
    ends = WithInterval(None, 0.9).fit_errors(np.full(1000, 5.0), 5 + error).around(np.array([4.0, 5.0, 6.0]))
    assert np.isfinite(ends.to_numpy()).all()
    assert ends["high"].sub(ends["low"]).nunique() <= 2
    ends = WithInterval(None, 0.9).fit_errors(np.array([1.0]), np.array([3.0])).around(np.array([10.0]))
    assert ends.loc[0, ["low", "high", "quantile"]].tolist() == [12, 12, 12]


def test_the_comparison_follows_the_errors_of_the_model() -> None:
    prediction, price = spread(2000, 1)
    predicted = pd.DataFrame(dict.fromkeys(["prediction", "low", "high"], prediction))
    table = Calibrator(predicted, pd.DataFrame({"price": price}), ONE["regression"]).compare().set_index("interval")
    assert table.loc["conformal", "holds"] == pytest.approx(0.9, abs=0.04)
    assert table.loc["none", "width"] == 0
