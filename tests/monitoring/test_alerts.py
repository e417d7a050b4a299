"""The rules of stage 09: each figure beyond its limit alerts alone, sampling noise does not, and the decision follows."""

from typing import Any

import pytest
from conftest import statement
from monitoring_data import LIMITS, PARAMS, baseline, figure, record

from ninefold.monitoring.alerts import Rules, alerts
from ninefold.monitoring.decision import decide


def raised(period: dict[str, Any], task: str = "binary", **before: Any) -> list[dict[str, Any]]:
    return alerts(period, {**baseline(task), **before}, PARAMS.alerts, statement(task))


def names(period: dict[str, Any], task: str = "binary", **before: Any) -> list[str]:
    return [alert["alert"] for alert in raised(period, task, **before)]


def decided(period: dict[str, Any]) -> dict[str, Any]:
    return decide({**period, "alerts": raised(period)}, PARAMS.decide)


def natural(**figures: tuple[float, float]) -> dict[str, Any]:
    """Return the value and the usual value of figures, as a record holds them."""
    return {name: {"value": value, "usual": usual} for name, (value, usual) in figures.items()}


@pytest.mark.parametrize(("task", "changed", "value", "alert", "outside"), [
    ("binary", "event rate", 0.3, "outcomes", "outcome"),
    ("multiclass", 'share of "mid size"', 0.3, "outcomes", "outcome: mid size"),
    ("regression", "mean price", 0.3, "outcomes", "outcome"),
    ("binary", "roc_auc", 0.65, "ranking", "ranking"), ("regression", "rank_correlation", 0.65, "ranking", "ranking"),
    ("multiclass", "brier", 0.19, "error", "loss"), ("regression", "rmse", 0.19, "error", "loss"),
    ("binary", "gap", -0.08, "calibration", "gap"), ("regression", "gain", 0.005, "gain", "gain"),
])  # fmt: skip
def test_a_figure_beyond_its_limit_and_its_natural_variation_raises_its_alert_alone(
    task: str, changed: str, value: float, alert: str, outside: str
) -> None:
    period = record(task=task, **{changed: figure(value)})
    assert names(period, task) == []
    assert names({**period, "outside": [outside]}, task) == [alert]


def test_what_is_better_or_not_measured_raises_no_alert() -> None:
    better = record(roc_auc=figure(0.85), brier=figure(0.05))
    for period in (record(), better, {**record(), "figures": {"gain": figure(0.1)}, "levels": {}}):
        assert names({**period, "outside": ["outcome", "ranking", "loss", "gap", "gain"]}) == []


def test_the_class_that_moved_most_is_named_and_the_owner_of_the_rule() -> None:
    classes = {'share of "small"': figure(0.43), 'share of "mid size"': figure(0.31)}
    rules = Rules(**{**LIMITS, "outcomes": {**LIMITS["outcomes"], "owner": "the modellers"}})
    moved = record(task="multiclass", outside=["outcome: mid size"], **classes)
    (alert,) = alerts(moved, baseline("multiclass"), rules, statement("multiclass"))
    assert (alert["owner"], '"mid size"' in alert["sentence"]) == ("the modellers", True)


def test_broken_rows_and_a_change_of_volume_raise_alerts() -> None:
    def volume(rows: int, per_day: float | None = 100.0) -> list[str]:
        return names({**record(outside=["rows per day"]), "predictions": rows}, per_day=per_day)

    assert names({**record(), "quarantined": 62}) == ["quarantined"]
    assert volume(1860) == volume(4340) == volume(30, 0.2) == ["volume"]
    assert volume(9, 0.2) == [], "a handful of rows more or less is noise"
    assert volume(5, None) == [], "without time nothing is usual in a day"


@pytest.mark.parametrize(("period", "decision", "reason"), [
    (record(), "keep", "0 alerts of severity high"),
    (record(drifted=1, outside=["outcome"], **{"event rate": figure(0.3)}), "keep", "1 of 4 features drifted"),
    (record(outside=["loss"], brier=figure(0.19)), "retrain", "0.190"),
    (record(drifted=2), "retrain", "2 of 4 features drifted"),
    (record(drifted=4, outside=["loss"], brier=figure(0.19), gain=figure(-0.05)), "roll back", "-0.050"),
    (record(gain=figure(-0.005)), "keep", "-0.005 (-0.015 to 0.005), not distinguishable from zero"),
    ({**record(outside=["loss"], brier=figure(0.19)), "quarantined": 62}, "repair", "2.00% of the rows violate the contract"),
    ({**record(outside=["loss", "rows per day"], brier=figure(0.19)), "predictions": 900}, "repair", "rows a day, -71%"),
    ({**record(outside=["rows per day"]), "predictions": 4340}, "keep", "0 alerts of severity high"),
])  # fmt: skip
def test_the_decision_follows_from_the_alerts(period: dict[str, Any], decision: str, reason: str) -> None:
    result = decided(period)
    assert (result["decision"], reason in result["reasons"][0]) == (decision, True)


def test_inputs_beyond_their_control_limits_alert_by_name() -> None:
    shares = {"missing: temp": (0.4, 0.01), "unseen: origin": (0.2, 0.0), "missing: seats": (0.03, 0.01)}
    found = raised({**record(outside=[*shares]), "natural": natural(**shares)})
    assert [(each["alert"], each["subject"]) for each in found] == [("missing", "temp"), ("categories", "origin")]
    assert found[0]["sentence"] == "Column temperature (°F) is missing in 40.0% of the rows (1.0% is usual)."
    for auc, expected in ((0.8, ["joint"]), (0.55, [])):
        assert names({**record(outside=["joint auc"]), "natural": natural(**{"joint auc": (auc, 0.5)})}) == expected


def test_drift_alerts_by_its_own_rule_whatever_the_control_limits_of_other_figures_say() -> None:
    (drift,) = raised(record(drifted=2))
    assert drift["sentence"] == "2 of 4 features drifted; largest PSI: feature_0 (0.40), feature_1 (0.40)."
    assert (drift["alert"], names(record(psi=0.3))) == ("inputs", ["predictions"])


def test_an_estimated_error_alerts_as_long_as_outcomes_are_unknown() -> None:
    waiting = {**record(), "figures": {}, "levels": {}, "estimated": {"brier": figure(0.19)}}
    assert names(waiting) == ["expected"]
    assert names({**waiting, "estimated": {"brier": figure(0.19, 0.05)}}) == [], "it may be by chance"
    assert names({**record(), "estimated": {"brier": figure(0.19)}}) == [], "outcomes are known by now"


def test_what_the_service_did_alerts() -> None:
    calm = {"requests": 1000, "errors": 0, "slow": 0, "refused": 0}
    for counts, expected in ((calm, []), ({**calm, "errors": 20}, ["failures"]), ({**calm, "slow": 60}, ["latency"])):
        assert names({**record(), "service": counts}) == expected
    skewed = {**record(), "skew": [{"feature": "temp", "rows": 10, "share": 0.2}]}
    assert [(each["alert"], each["subject"]) for each in raised(skewed)] == [("skew", "temp")]


def test_slices_that_worsened_are_one_alert_that_names_the_worst() -> None:
    parts = [{"subject": f"origin is {name}", "rows": 500, "gap": 0.2, "held": 0.01, "worse": 0.15} for name in "abcd"]
    worse = record(outside=["slices"])
    (found,) = raised({**worse, "slices": parts})
    assert found["sentence"].startswith("In 4 slices the bias")
    assert "origin is a (+0.2, was +0.01)" in found["sentence"]
    assert names({**worse, "slices": [{**parts[0], "worse": 0.01}]}) == []


def feed(share: float, *, since: str | None = "2020-03-30") -> dict[str, Any]:
    """Return a period at whose end a feed of two columns is missing, which has let one of them drift."""
    shares = {f"missing: {name}": (share, 0.01) for name in ("feature_0", "dewp")}
    ended = {name: {"since": since} for name in ("feature_0", "dewp")} if since else {}
    joined = {"feature_0": "weather", "dewp": "weather"}
    outside = ["missing: feature_0", *([] if since else ["missing: dewp"]), "loss"]
    moved = record(drifted=2, outside=outside, brier=figure(0.19))
    return {**moved, "features": 6, "ended": ended, "joined": joined, "natural": natural(**shares)}


def test_a_feed_that_ends_is_one_fault_that_asks_for_repair_and_drift_of_its_columns_is_none() -> None:
    period = {**feed(0.12), "alerts": raised(feed(0.12))}
    assert [each["alert"] for each in period["alerts"]] == ["missing", "inputs", "error"]
    fault = period["alerts"][0]
    text = "2 columns of weather are missing in all rows since 2020-03-30 (12.0% of this period's rows; at most 1.0%"
    assert (fault["subject"], fault["columns"]) == ("2 columns of weather", {"feature_0": 0.12, "dewp": 0.12})
    assert fault["sentence"] == f"{text} is usual): feature_0 and dew point (°F)."
    found = decide(period, PARAMS.decide)
    assert (found["decision"], found["reasons"]) == ("repair", [fault["sentence"]])
    assert [(each["value"], each["limit"], each["status"]) for each in found["rules"]] == [
        ("0", "at least 1", "does not hold"), ("0.100 (0.090 to 0.110)", "below 0", "does not hold"),
        ("1", "at least 1", "applies"), ("1", "at least 1", "suspended by repair"), ("0.167", "at least 0.5", "does not hold"),
    ]  # fmt: skip
    assert found["rules"][0]["why"] == ["Broken columns: 2, in at most 12.0% of the rows."]
    assert found["rules"][4]["why"] == ["2 of 6 features drifted, 1 of them in a column with a fault."]


def test_acting_stops_where_a_column_is_broken_in_half_of_the_rows_and_a_changed_unit_is_a_fault() -> None:
    found = decided(feed(0.9, since=None))
    assert found["decision"] == "stop acting"
    shown = "2 columns of weather are missing in 90.0% of the rows (at most 1.0% is usual)"
    assert [each.partition(":")[0] for each in found["reasons"][1:]] == [shown]  # one table, one cause
    for how, undrifted in (("unit", "stop acting"), ("constant", "keep")):  # a constant may be so for a week
        evidence = {"explains": 1.0, "how": how}
        broken = {"cause": "broken column", "subject": "feature_0", "evidence": evidence, "sentence": "feature_0 is."}
        changed = {**record(drifted=1), "findings": [broken]}
        assert names(changed) == ["broken"]
        assert decided(changed)["decision"] == "stop acting"
        assert decided({**changed, "drifted": {}})["decision"] == undrifted


def test_a_gain_without_an_interval_rolls_nothing_back() -> None:
    found = decided(record(outside=["gain"], gain={"value": -0.5}))
    assert (found["decision"], "-0.500" in found["reasons"][0]) == ("keep", True)
