"""The rules of stage 09: each figure beyond its limit alerts alone, luck does not, and the decision follows."""

from __future__ import annotations

from typing import Any

import pytest

from ninefold import alerts

RULE = {"limit": 0.25, "severity": "medium"}
LIMITS = {
    "quarantined": {"limit": 0.01, "severity": "medium"},
    "volume": RULE,
    "inputs": {"limit": 0.25, "severity": "low"},
    "predictions": RULE,
    "outcomes": {"limit": 0.05, "severity": "medium"},
    "ranking": {"limit": 0.05, "severity": "high"},
    "error": {"limit": 0.02, "severity": "high"},
    "calibration": {"limit": 0.05, "severity": "high"},
    "gain": {"limit": 0.0, "severity": "medium"},
}
RULES, DECIDE = alerts.Rules(**LIMITS), alerts.Decide(roll_back=0, retrain_high=1, retrain_drifted=0.5)
STATED: dict[str, dict[str, Any]] = {
    "binary": {"task": "binary", "target": "returned", "classes": ["0", "1"], "focus": "1"},
    "multiclass": {"task": "multiclass", "target": "size", "classes": ["s", "m", "l"], "focus": "m"},
    "regression": {"task": "regression", "target": "price", "classes": None, "focus": None},
}


def figure(value: float, width: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


LEVELS = {
    "binary": {"share of events": figure(0.2)},
    "multiclass": {'share of "s"': figure(0.5), 'share of "m"': figure(0.3), 'share of "l"': figure(0.2)},
    "regression": {"mean price": figure(0.2)},
}


def promise(task: str = "binary") -> dict[str, Any]:
    figures = {"roc_auc": 0.75, "brier": 0.13, "rank_correlation": 0.75, "rmse": 0.13, "observed": 0.2, "skill": 0.1}
    held = {name: figure(value) for name, value in figures.items()}
    return {"figures": held, "levels": LEVELS[task], "per_day": 100.0}


def record(drifted: int = 0, psi: float = 0.01, task: str = "binary", **changed: dict[str, float]) -> dict[str, Any]:
    """Return the record of a quiet period, with some figures or levels changed."""
    quiet = {"roc_auc": 0.74, "brier": 0.135, "rank_correlation": 0.74, "rmse": 0.135, "gap": 0.005, "gain": 0.1}
    levels = {name: changed.pop(name, level) for name, level in LEVELS[task].items()}
    return {
        "period": "2020-03",
        "raw": 3100,
        "quarantined": 0,
        "predictions": 3100,
        "days": 31.0,
        "features": 4,
        "drifted": {f"feature_{number}": 0.4 for number in range(drifted)},
        "prediction_psi": psi,
        "predictions_drifted": psi > 0.25,
        "figures": {name: figure(value) for name, value in quiet.items()} | changed,
        "levels": levels,
    }


def raised(found: dict[str, Any], task: str = "binary") -> list[dict[str, Any]]:
    return alerts.raised(found, promise(task), RULES, STATED[task])


def names(found: dict[str, Any], task: str = "binary") -> list[str]:
    return [alert["alert"] for alert in raised(found, task)]


def decided(found: dict[str, Any]) -> dict[str, Any]:
    return alerts.decide({**found, "alerts": raised(found)}, DECIDE)


@pytest.mark.parametrize("task", list(STATED))
def test_a_quiet_period_raises_no_alert(task: str) -> None:
    assert names(record(task=task), task) == []


@pytest.mark.parametrize(
    ("task", "changed", "alert"),
    [
        ("binary", {"drifted": 1}, "inputs"),
        ("binary", {"psi": 0.3}, "predictions"),
        ("binary", {"share of events": figure(0.3)}, "outcomes"),
        ("multiclass", {'share of "l"': figure(0.3)}, "outcomes"),
        ("regression", {"mean price": figure(0.3)}, "outcomes"),
        ("binary", {"roc_auc": figure(0.65)}, "ranking"),
        ("regression", {"rank_correlation": figure(0.65)}, "ranking"),
        ("multiclass", {"brier": figure(0.19)}, "error"),
        ("regression", {"rmse": figure(0.19)}, "error"),
        ("binary", {"gap": figure(-0.08)}, "calibration"),
        ("regression", {"gain": figure(0.005)}, "gain"),
    ],
)
def test_each_figure_beyond_its_limit_raises_its_alert_alone(task: str, changed: dict[str, Any], alert: str) -> None:
    assert names(record(task=task, **changed), task) == [alert]


@pytest.mark.parametrize(
    "changed",
    [
        {"roc_auc": figure(0.65, 0.06)},
        {"brier": figure(0.19, 0.05)},
        {"gap": figure(-0.08, 0.09)},
        {"share of events": figure(0.3, 0.11)},
        {"roc_auc": figure(0.85), "brier": figure(0.05)},
    ],
)
def test_what_a_few_unlucky_days_could_do_and_what_is_better_raise_no_alert(changed: dict[str, Any]) -> None:
    assert names(record(**changed)) == []


def test_of_several_classes_the_one_that_moved_most_is_named() -> None:
    moved = record(task="multiclass", **{'share of "s"': figure(0.43), 'share of "l"': figure(0.31)})
    assert '"l"' in raised(moved, "multiclass")[0]["sentence"]


def test_broken_rows_and_a_change_of_volume_raise_alerts() -> None:
    assert names({**record(), "quarantined": 62}) == ["quarantined"]
    assert names({**record(), "predictions": 1860}) == ["volume"]
    assert names({**record(), "predictions": 4340}) == ["volume"]


def test_a_handful_of_rows_more_or_less_is_no_change_of_volume() -> None:
    rare = {**promise(), "per_day": 0.2}
    assert alerts.raised({**record(), "raw": 9, "predictions": 9}, rare, RULES, STATED["binary"]) == []
    assert alerts.raised({**record(), "raw": 30, "predictions": 30}, rare, RULES, STATED["binary"]) != []


def test_inputs_alert_before_any_label_is_known() -> None:
    assert names({**record(drifted=2), "figures": {}, "levels": {}}) == ["inputs"]


def test_what_could_not_be_measured_raises_no_alert() -> None:
    bare = record()
    assert names({**bare, "figures": {"gain": figure(0.1)}, "levels": {}}) == []


def test_a_quiet_model_is_kept() -> None:
    assert decided(record())["decision"] == "keep"
    assert decided(record(drifted=1, **{"share of events": figure(0.3)}))["decision"] == "keep", "no alert is high"


def test_a_high_alert_retrains() -> None:
    found = decided(record(brier=figure(0.19)))
    assert found["decision"] == "retrain"
    assert "0.190" in found["reasons"][0]


def test_enough_drifted_features_retrain() -> None:
    found = decided(record(drifted=2))
    assert found["decision"] == "retrain"
    assert "2 of 4 features drifted" in found["reasons"][0]


def test_a_model_that_does_harm_is_rolled_back_whatever_else_alerts() -> None:
    found = decided(record(drifted=4, brier=figure(0.19), gain=figure(-0.05)))
    assert found["decision"] == "roll back"
    assert decided(record(gain=figure(-0.005)))["decision"] == "keep", "harm is not certain"
