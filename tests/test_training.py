"""Stage 07: one model is chosen on validation, and judged once on days it never saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ninefold import metrics, training
from ninefold.core import io

STATED: dict[str, Any] = {
    "unit": "order",
    "units": "orders",
    "time": "placed",
    "target": "returned",
    "positive": "comes back",
    "payoff_unit": "euro",
    "break_even": 0.25,
    "actions": ["act", "wait"],
    "payoffs": {"act": {"positive": -1, "negative": -1}, "wait": {"positive": -4, "negative": 0}},
    "success": {"min_roc_auc": 0.6, "min_payoff_gain": 0.01, "confidence": 0.9},
}
AGREED: dict[str, Any] = {
    "primary": {"name": "log_loss", "better": "lower"},
    "split": {"validation": "2020-03-01", "holdout": "2020-03-20"},
    "bootstrap": {"replicates": 40, "level": 0.95, "seed": 1},
}
SIGNED = {"all": ["amount", "shop"], "numeric": ["amount"], "categorical": ["shop"]}
PARAMS = training.Params(
    seed=1,
    logistic_regression={"C": 1.0, "rare": 5},
    gradient_boosting={
        "learning_rate": 0.1,
        "max_iter": 20,
        "max_leaf_nodes": 8,
        "min_samples_leaf": 20,
        "l2_regularization": 0.0,
    },
    calibration="auto",
    importance_rows=500,
)


def orders(count: int = 3000, signal: float = 2.0, seed: int = 4) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    amount = random.normal(size=count)
    chance = 1 / (1 + np.exp(1.2 - signal * amount))
    return pd.DataFrame(
        {
            "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.sort(random.integers(0, 100, count)), "D"),
            "amount": pd.Series(amount).mask(random.random(count) < 0.05),
            "shop": random.choice(["a", "b", None], count),
            "returned": (random.random(count) < chance).astype("int64"),
        }
    )


def parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    part = metrics.part_of(frame["placed"], AGREED["split"])
    return {name: frame[part == name].reset_index(drop=True) for name in metrics.PARTS}


@pytest.fixture
def candidates(project: Any) -> dict[str, Any]:
    """Return the built-in candidates: the tiny project brings none of its own."""
    return training.candidates(PARAMS, SIGNED)


def judged(frame: pd.DataFrame, candidates: dict[str, Any]) -> tuple[dict[str, Any], pd.DataFrame, float]:
    split = parts(frame)
    fitted = training.fit(candidates, split["train"], SIGNED, STATED)
    name = training.choose(training.compare(fitted, split["validation"], SIGNED, STATED), AGREED)
    p = training.probability(fitted[name], split["holdout"], SIGNED)
    target, times = split["holdout"]["returned"].to_numpy(), split["holdout"]["placed"]
    return (
        training.evaluate(target, p, times, STATED, AGREED),
        training.policies(target, p, times, STATED, AGREED),
        training.gain_floor(target, p, times, STATED, AGREED),
    )


def test_a_signal_is_found_and_passes_the_gate(candidates: dict[str, Any]) -> None:
    results, policies, floor = judged(orders(), candidates)
    assert results["roc_auc"]["low"] > 0.7
    assert all(check.passed for check in training.checks(results, policies, floor, STATED))


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_pass_the_gate(candidates: dict[str, Any], seed: int) -> None:
    results, policies, floor = judged(orders(signal=0.0, seed=seed), candidates)
    assert not all(check.passed for check in training.checks(results, policies, floor, STATED))


def test_the_holdout_changes_neither_choice_nor_calibration(candidates: dict[str, Any]) -> None:
    frame = orders()
    split, turned = parts(frame), parts(frame)
    turned["holdout"]["returned"] = 1 - turned["holdout"]["returned"]
    answers = []
    for rooms in (split, turned):
        fitted = training.fit(candidates, rooms["train"], SIGNED, STATED)
        compared = training.compare(fitted, rooms["validation"], SIGNED, STATED)
        name = training.choose(compared, AGREED)
        method = training.choose_calibration(
            training.compare_calibrations(fitted[name], rooms["validation"], SIGNED, STATED), PARAMS
        )
        answers.append((name, method, compared))
    assert answers[0][:2] == answers[1][:2]
    pd.testing.assert_frame_equal(answers[0][2], answers[1][2])


def test_calibration_mends_probabilities_that_are_too_high(candidates: dict[str, Any]) -> None:
    split = parts(orders())
    model = training.fit(candidates, split["train"], SIGNED, STATED)["gradient_boosting"]
    rarer = split["validation"][(split["validation"]["returned"] == 0) | (np.arange(len(split["validation"])) % 3 == 0)]
    mended = training.calibrate(model, "sigmoid", rarer, SIGNED, STATED)
    raw, calibrated = (training.probability(m, rarer, SIGNED).mean() for m in (model, mended))
    assert abs(calibrated - rarer["returned"].mean()) < 0.2 * abs(raw - rarer["returned"].mean())
    assert training.calibrate(model, "none", rarer, SIGNED, STATED) is model


def test_the_gain_is_over_the_best_policy_without_a_model() -> None:
    target = np.array([1, 0, 0, 0, 1, 0, 0, 0] * 10)
    p = np.where(target == 1, 0.9, 0.1)
    times = pd.Series(np.repeat(pd.date_range("2020-01-01", periods=10), 8))
    results = training.evaluate(target, p, times, STATED, AGREED)
    # Foresight pays 1 for each of 20 events; always acting and always waiting both pay 80 for 80 rows.
    assert results["payoff"]["value"] == pytest.approx(-0.25)
    assert results["gain"]["value"] == pytest.approx(0.75)
    assert training.gain_floor(target, p, times, STATED, AGREED) == pytest.approx(0.75)  # every day is the same


def test_more_confidence_asks_for_more() -> None:
    random = np.random.default_rng(2)
    target = random.integers(0, 2, 600)
    p = np.clip(target * 0.3 + random.random(600) * 0.6, 0, 1)
    times = pd.Series(np.repeat(pd.date_range("2020-01-01", periods=30), 20))
    floors = [
        training.gain_floor(target, p, times, {**STATED, "success": {"confidence": sure}}, AGREED)
        for sure in (0.8, 0.9, 0.99)
    ]
    assert floors[0] > floors[1] > floors[2]


def test_an_unseen_category_and_a_gap_are_answered(candidates: dict[str, Any]) -> None:
    fitted = training.fit(candidates, parts(orders())["train"], SIGNED, STATED)
    strange = pd.DataFrame({"amount": [np.nan, 1.0], "shop": ["never seen", None]})
    for name, model in fitted.items():
        p = training.probability(model, strange, SIGNED)
        assert ((p > 0) & (p < 1)).all(), name


def test_the_projects_own_candidates_stand_beside_the_built_in_ones(project: Any) -> None:
    own = training.logistic_regression(PARAMS, SIGNED)
    project.functions["training", "candidates"] = lambda params, signed: {"mine": own}
    found = training.candidates(PARAMS, SIGNED)
    assert list(found) == ["share_of_events", "logistic_regression", "gradient_boosting", "mine"]


def test_what_is_saved_answers_the_same_and_repeats(project: Any, candidates: dict[str, Any]) -> None:
    split = parts(orders())
    io.write_json({"features": [{"name": "amount", "kind": "numeric"}]}, project.folder / "data/online/online.json")
    model = training.fit(candidates, split["train"], SIGNED, STATED)["gradient_boosting"]
    p = training.probability(model, split["holdout"], SIGNED)
    drawn = training.curves(split["holdout"]["returned"].to_numpy(), p, STATED)
    written = []
    for _ in range(2):
        training.save(model, "gradient_boosting", "none", drawn, {}, AGREED)
        io.publish()
        written.append({**project.bytes("models"), **project.bytes("reports")})
    assert written[0] == written[1]
    loaded, described = training.load()
    assert np.array_equal(training.probability(loaded, split["holdout"], SIGNED), p)
    assert described["trained_before"] == "2020-03-01"
