"""Stage 04: metrics, split and baselines are agreed on before there is a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ninefold import metrics

STATED: dict[str, Any] = {
    "table": "orders",
    "unit": "order",
    "units": "orders",
    "time": "placed",
    "target": "returned",
    "payoff_unit": "euro",
    "actions": ["act", "wait"],
    "payoffs": {"act": {"positive": -1, "negative": -1}, "wait": {"positive": -4, "negative": 0}},
    "success": {"min_roc_auc": 0.6, "min_payoff_gain": 0.01, "confidence": 0.9},
}
PARAMS = metrics.Params(
    primary="log_loss",
    split={"validation": 0.2, "holdout": 0.2},
    bootstrap={"replicates": 50, "level": 0.9, "seed": 1},
)


def outcomes(days: int = 100, per_day: int = 10, share: float = 0.3) -> pd.DataFrame:
    times = pd.Series(np.repeat(pd.date_range("2020-01-01", periods=days, freq="D"), per_day)) + pd.Timedelta("7h")
    target = np.random.default_rng(3).random(len(times)) < share
    return pd.DataFrame({"time": times, "target": target.astype("int64")})


def test_the_split_is_by_time_at_day_boundaries() -> None:
    frame = outcomes()
    points = metrics.split_points(frame["time"], PARAMS)
    part = pd.Series(metrics.part_of(frame["time"], points))
    spans = frame["time"].groupby(part).agg(["min", "max"])
    assert spans.loc["train", "max"] < spans.loc["validation", "min"]
    assert spans.loc["validation", "max"] < spans.loc["holdout", "min"]
    assert part.groupby(frame["time"].dt.date).nunique().max() == 1
    assert part.value_counts(normalize=True).to_dict() == pytest.approx(
        {"train": 0.6, "validation": 0.2, "holdout": 0.2}, abs=0.02
    )


def test_a_holdout_outside_a_fifth_to_three_tenths_is_refused() -> None:
    for share in (0.1, 0.4):
        with pytest.raises(ValidationError):
            metrics.Split(validation=0.2, holdout=share)


def test_the_holdout_stays_closed() -> None:
    frame = outcomes()
    points = metrics.split_points(frame["time"], PARAMS)
    turned = frame.assign(target=frame["target"].where(metrics.part_of(frame["time"], points) != "holdout", 1))
    assert metrics.baselines(frame, points, STATED).equals(metrics.baselines(turned, points, STATED))
    assert metrics.reference_scores(frame, points).equals(metrics.reference_scores(turned, points))
    assert metrics.parts(frame, points).equals(metrics.parts(turned, points))


def test_baselines_pay_what_the_payoffs_say() -> None:
    frame = outcomes()
    points = metrics.split_points(frame["time"], PARAMS)
    valid = frame[metrics.part_of(frame["time"], points) == "validation"]["target"].mean()
    paid = metrics.baselines(frame, points, STATED).set_index("policy")["validation"]
    assert paid.to_dict() == pytest.approx({"always act": -1, "always wait": -4 * valid, "perfect foresight": -valid})


def test_the_rolling_forecast_does_not_see_its_own_day() -> None:
    frame = outcomes(share=0.0)
    frame.loc[frame["time"].dt.date == pd.Timestamp("2020-03-15").date(), "target"] = 1
    points = {"validation": "2020-03-15", "holdout": "2020-03-16"}
    scored = metrics.reference_scores(pd.concat([frame, frame.head(1)]).sort_values("time"), points)
    # Had it seen the day, on which everything happens, it would not have forecast zero.
    assert scored.set_index("forecast").loc["last four weeks", "brier"] == 1.0


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    bootstrap = metrics.Bootstrap(replicates=60, level=0.9, seed=5)
    for seed in range(60):
        random = np.random.default_rng(seed)
        times = pd.Series(np.repeat(pd.date_range("2020-01-01", periods=40), 20))
        daily = np.repeat(random.normal(0, 1, 40), 20)  # rows of a day move together
        values = daily + random.normal(0, 1, len(times))
        found = metrics.intervals(lambda w, v=values: {"mean": float(np.average(v, weights=w))}, times, bootstrap)[
            "mean"
        ]
        held += found["low"] <= 0 <= found["high"]
    assert 0.75 <= held / 60 <= 1.0


def test_intervals_repeat_with_their_seed() -> None:
    frame = outcomes()

    def share(weight: np.ndarray) -> dict[str, float]:
        return {"share": float(np.average(frame["target"], weights=weight))}

    first = metrics.intervals(share, frame["time"], PARAMS.bootstrap)
    assert first == metrics.intervals(share, frame["time"], PARAMS.bootstrap)
    assert first["share"]["low"] < first["share"]["value"] < first["share"]["high"]


def test_thresholds_out_of_reach_fail_the_gate() -> None:
    frame = outcomes()
    points = metrics.split_points(frame["time"], PARAMS)
    table = metrics.baselines(frame, points, STATED)
    greedy = {**STATED, "success": {"min_roc_auc": 0.6, "min_payoff_gain": 5.0, "confidence": 0.9}}
    assert all(check.passed for check in metrics.checks(frame, points, table, STATED))
    failed = [check.name for check in metrics.checks(frame, points, table, greedy) if not check.passed]
    assert failed == ["payoff to be won by perfect foresight"]


def test_a_part_with_one_outcome_fails_the_gate() -> None:
    frame = outcomes(share=0.0)
    points = metrics.split_points(frame["time"], PARAMS)
    table = metrics.baselines(frame, points, STATED)
    assert not metrics.checks(frame, points, table, STATED)[0].passed


def test_scores_of_a_perfect_and_of_an_ignorant_forecast() -> None:
    target = np.array([0, 1, 0, 1])
    perfect = metrics.scores(target, target.astype(float))
    ignorant = metrics.scores(target, np.full(4, 0.5))
    assert perfect["roc_auc"] == 1
    assert perfect["brier"] == 0
    assert ignorant["roc_auc"] == 0.5
    assert ignorant["log_loss"] == pytest.approx(np.log(2))
