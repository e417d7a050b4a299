"""The rules of stage 09: each figure beyond its limit alerts alone, sampling noise does not, and the decision follows."""

from __future__ import annotations

from typing import Any

import pytest
from monitoring_data import LIMITS, TASKS, baseline, figure, problem_of, record

from ninefold.monitoring.alerts import Rules, alerts
from ninefold.monitoring.decision import Decide, decide

RULES, DECIDE = Rules(**LIMITS), Decide(roll_back=0, retrain_high=1, retrain_drifted=0.5)


def raised(found: dict[str, Any], task: str = "binary") -> list[dict[str, Any]]:
    return alerts(found, baseline(task), RULES, problem_of(task))


def names(found: dict[str, Any], task: str = "binary") -> list[str]:
    return [alert["alert"] for alert in raised(found, task)]


def decided(found: dict[str, Any]) -> dict[str, Any]:
    return decide({**found, "alerts": raised(found)}, DECIDE)


@pytest.mark.parametrize("task", TASKS)
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
def test_sampling_noise_and_what_is_better_raise_no_alert(changed: dict[str, Any]) -> None:
    assert names(record(**changed)) == []


def test_of_several_classes_the_one_that_moved_most_is_named() -> None:
    moved = record(task="multiclass", **{'share of "s"': figure(0.43), 'share of "l"': figure(0.31)})
    assert '"l"' in raised(moved, "multiclass")[0]["sentence"]


def test_broken_rows_and_a_change_of_volume_raise_alerts() -> None:
    assert names({**record(), "quarantined": 62}) == ["quarantined"]
    assert names({**record(), "predictions": 1860}) == ["volume"]
    assert names({**record(), "predictions": 4340}) == ["volume"]


def test_a_handful_of_rows_more_or_less_is_no_change_of_volume() -> None:
    rare = {**baseline(), "per_day": 0.2}
    assert alerts({**record(), "raw": 9, "predictions": 9}, rare, RULES, problem_of()) == []
    assert alerts({**record(), "raw": 30, "predictions": 30}, rare, RULES, problem_of()) != []


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
    assert "temp is missing in 40.0% of the rows; 1.0% is usual." in found[0]["sentence"]


def test_a_classifier_that_tells_the_rows_apart_alerts() -> None:
    assert names({**record(), **natural(["joint auc"], **{"joint auc": (0.8, 0.5)})}) == ["joint"]
    assert names({**record(), **natural(["joint auc"], **{"joint auc": (0.55, 0.5)})}) == []


def test_an_error_to_be_expected_alerts_as_long_as_outcomes_are_unknown() -> None:
    waiting = {**record(), "figures": {}, "levels": {}, "estimated": {"brier": figure(0.19)}}
    assert names(waiting) == ["expected"]
    assert names({**waiting, "estimated": {"brier": figure(0.19, 0.05)}}) == [], "it may be by chance"
    assert names({**record(), "estimated": {"brier": figure(0.19)}}) == [], "outcomes are known by now"


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
    assert found["sentence"].startswith("In 4 slices predicted less observed is larger")
    assert "origin is a (+0.20, was +0.01)" in found["sentence"]
    assert names({**record(), "slices": [{**parts[0], "worse": 0.01}]}) == []


def test_who_owns_a_rule_is_told() -> None:
    rules = RULES.model_copy(update={"error": RULES.error.model_copy(update={"owner": "the modellers"})})
    (found,) = alerts(record(brier=figure(0.19)), baseline(), rules, problem_of())
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
    timeless = {**baseline(), "per_day": None}
    assert alerts({**record(), "predictions": 5}, timeless, RULES, problem_of()) == []
