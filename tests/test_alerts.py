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


def natural(outside: list[str], **figures: tuple[float, float]) -> dict[str, Any]:
    """Return what a record holds of natural variation: names outside, and of some figures value and usual value."""
    told = {
        name: {"value": value, "usual": usual, "low": None, "high": None} for name, (value, usual) in figures.items()
    }
    return {"outside": outside, "natural": told, "findings": []}


@pytest.mark.parametrize(
    ("changed", "alert", "figure_outside"),
    [
        ({"roc_auc": figure(0.6)}, "ranking", "ranking"),
        ({"brier": figure(0.19)}, "error", "loss"),
        ({"gap": figure(-0.08)}, "calibration", "gap"),
        ({"share of events": figure(0.3)}, "outcomes", "outcome"),
        ({"gain": figure(0.01, 0.02)}, "gain", "gain"),
    ],
)
def test_a_figure_that_stays_within_its_natural_variation_does_not_alert(
    changed: dict[str, Any], alert: str, figure_outside: str
) -> None:
    assert names(record(**changed)) == [alert]
    assert names({**record(**changed), **natural([])}) == []
    assert names({**record(**changed), **natural([figure_outside])}) == [alert]


def test_of_the_features_that_drifted_those_beyond_their_variation_alert() -> None:
    moved = record(drifted=2)
    name = next(iter(moved["drifted"]))
    assert names({**moved, **natural([])}) == []
    (alert,) = raised({**moved, **natural([f"psi: {name}"])})
    assert alert["sentence"].startswith("1 of 4 features drifted")
    assert decided({**moved, **natural([f"psi: {name}"])})["decision"] == "keep", "one of four is not half"


def test_a_column_that_is_missing_more_than_ever_and_a_new_category_alert_by_name() -> None:
    strange = natural(
        ["missing: temp", "unseen: origin", "missing: seats"],
        **{"missing: temp": (0.4, 0.01), "unseen: origin": (0.2, 0.0), "missing: seats": (0.03, 0.01)},
    )
    found = raised({**record(), **strange})
    assert [(each["alert"], each["subject"]) for each in found] == [("missing", "temp"), ("categories", "origin")]
    assert "temp is missing in 40.0% of the rows; usual are 1.0%." in found[0]["sentence"]


def test_a_classifier_that_tells_the_rows_apart_alerts() -> None:
    assert names({**record(), **natural(["joint auc"], **{"joint auc": (0.8, 0.5)})}) == ["joint"]
    assert names({**record(), **natural(["joint auc"], **{"joint auc": (0.55, 0.5)})}) == []


def test_an_error_to_be_expected_alerts_as_long_as_outcomes_are_unknown() -> None:
    waiting = {**record(), "figures": {}, "levels": {}, "estimated": {"brier": figure(0.19)}}
    assert names(waiting) == ["expected"]
    assert names({**waiting, "estimated": {"brier": figure(0.19, 0.05)}}) == [], "it may be by chance"
    assert names({**record(), "estimated": {"brier": figure(0.19)}}) == [], "what came is known by now"


def test_what_the_service_did_alerts() -> None:
    def served(**counts: int) -> list[str]:
        return names({**record(), "service": {"requests": 1000, "errors": 0, "slow": 0, "refused": 0, **counts}})

    assert served() == []
    assert served(errors=20) == ["failures"]
    assert served(slow=60) == ["latency"]
    skewed = {**record(), "skew": [{"feature": "temp", "rows": 10, "share": 0.2}]}
    assert [(each["alert"], each["subject"]) for each in raised(skewed)] == [("skew", "temp")]


def test_parts_that_worsened_are_one_alert_that_names_the_worst() -> None:
    parts = [{"subject": f"origin is {name}", "rows": 500, "gap": 0.2, "held": 0.01, "worse": 0.15} for name in "abcd"]
    (found,) = raised({**record(), "slices": parts})
    assert found["alert"] == "slices"
    assert found["sentence"].startswith("In 4 parts forecasts are farther off")
    assert "origin is a (+0.20, was +0.01)" in found["sentence"]
    assert names({**record(), "slices": [{**parts[0], "worse": 0.01}]}) == []


def test_who_owns_a_rule_is_told() -> None:
    rules = RULES.model_copy(update={"error": RULES.error.model_copy(update={"owner": "the modellers"})})
    (found,) = alerts.raised(record(brier=figure(0.19)), promise(), rules, STATED["binary"])
    assert found["owner"] == "the modellers"


def test_on_broken_columns_nothing_is_decided_and_nothing_learned() -> None:
    evidence = {"explains": 0.9}
    broken = {"cause": "broken column", "subject": "temp", "evidence": evidence, "sentence": "temp is missing."}
    strange = {**natural(["missing: temp"], **{"missing: temp": (0.9, 0.0)}), "findings": [broken]}
    found = decided({**record(brier=figure(0.19)), **strange})
    assert found == {"decision": "stop acting", "reasons": ["temp is missing."]}
    few = {**strange, "findings": [{**broken, "evidence": {"explains": 0.1}}]}
    assert decided({**record(), **few})["decision"] == "retrain", "the alert is high, the column still there"
    usual = {**strange, "outside": []}
    assert decided({**record(), **usual})["decision"] == "keep", "columns that look alike were so before"


def test_harm_within_natural_variation_rolls_nothing_back() -> None:
    harm = record(gain=figure(-0.05))
    assert decided({**harm, **natural([])})["decision"] == "keep"
    assert decided({**harm, **natural(["gain"])})["decision"] == "roll back"


def test_without_time_nothing_is_usual_in_a_day_and_the_volume_raises_no_alert() -> None:
    timeless = {**promise(), "per_day": None}
    assert alerts.raised({**record(), "predictions": 5}, timeless, RULES, STATED["binary"]) == []
