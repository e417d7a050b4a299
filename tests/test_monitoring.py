"""Stage 09: what changed is found, what did not is left alone, and the decision follows the rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from ninefold import collection, deployment, features, monitoring, problem, processing
from ninefold.core import engine, io

DAYS = ("2020-03-01", "2020-04-01", "2020-05-01")
RULE = {"limit": 0.25, "severity": "medium"}
LIMITS = {
    "quarantined": {"limit": 0.01, "severity": "medium"},
    "volume": RULE,
    "inputs": {"limit": 0.25, "severity": "low"},
    "predictions": RULE,
    "share": {"limit": 0.05, "severity": "medium"},
    "ranking": {"limit": 0.05, "severity": "high"},
    "brier": {"limit": 0.02, "severity": "high"},
    "calibration": {"limit": 0.05, "severity": "high"},
    "gain": {"limit": 0.0, "severity": "medium"},
}
PARAMS = monitoring.Params(
    source="replay",
    replay_until="2020-04-30",
    label_delay="24h",
    alpha=0.01,
    alerts=LIMITS,
    decide={"roll_back": 0, "retrain_high": 1, "retrain_drifted": 0.5},
)
STATED: dict[str, Any] = {
    "table": "orders",
    "unit": "order",
    "units": "orders",
    "key": ["id"],
    "time": "placed",
    "target": "returned",
    "horizon": "2h",
    "payoff_unit": "euro",
    "actions": ["act", "wait"],
    "payoffs": {"act": {"positive": -1, "negative": -1}, "wait": {"positive": -4, "negative": 0}},
}
AGREED: dict[str, Any] = {
    "best_baseline": "always wait",
    "bootstrap": {"replicates": 40, "level": 0.95, "seed": 1},
}
FEATURES = features.Params(
    numeric=["amount"],
    categorical=["customer"],
    history=[{"of": "returned", "prefix": "back", "known_after": "24h", "over": ["7d"], "by": [["customer"]]}],
)


@dataclass
class Deployed:
    """Stands in for a bundle: what it says of a row is its amount."""

    reference: dict[str, Any]
    features: list[str] = field(default_factory=lambda: ["amount", "customer"])

    def probability(self, frame: pd.DataFrame) -> np.ndarray:
        return frame["amount"].fillna(0.2).clip(0.01, 0.99).to_numpy()

    def decide(self, frame: pd.DataFrame) -> pd.DataFrame:
        p = self.probability(frame)
        best = problem.expected_payoff(p, STATED["payoffs"]).max(axis=1)
        return pd.DataFrame(
            {"probability": p, "action": problem.best_action(p, STATED["payoffs"]), "expected_payoff": best}
        )


def rows(month: str = "2020-03", count: int = 3000, shift: float = 0.0, seed: int = 1) -> pd.DataFrame:
    """Return orders of a month whose amount is the probability of their return."""
    random = np.random.default_rng(seed)
    amount = np.clip(random.beta(2, 6, count) + shift, 0, 0.99)
    start = pd.Timestamp(f"{month}-01")
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "placed": start + pd.to_timedelta(np.sort(random.integers(0, 30 * 1440, count)), "m"),
            "amount": amount,
            "customer": random.choice(["ann", "bob", "eve"], count),
            "returned": pd.Series((random.random(count) < amount).astype("int64"), dtype="Int64"),
        }
    )


def deployed(train: pd.DataFrame) -> Any:
    known = {name: deployment.distribution(train[name]) for name in ("amount", "customer")}
    return Deployed({"features": known})


def calendar(count: int = 2) -> pd.DataFrame:
    starts = pd.to_datetime(DAYS[:count])
    return pd.DataFrame(
        {"period": starts.strftime("%Y-%m"), "start": starts, "end": pd.to_datetime(DAYS[1 : count + 1])}
    )


def stream(*months: pd.DataFrame) -> pd.DataFrame:
    frame = pd.concat(months, ignore_index=True)
    frame["period"] = frame["placed"].dt.strftime("%Y-%m")
    return monitoring.wait(monitoring.predict(frame, deployed(rows())), calendar(), PARAMS, STATED)


def compared(now: pd.DataFrame) -> pd.DataFrame:
    train = rows("2020-01", seed=7)
    parts = {"train": train, "holdout": rows("2020-02", seed=8)}
    return monitoring.compare_inputs(now.assign(period="2020-03"), parts, deployed(train), PARAMS)


def figure(value: float, width: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


PROMISE = {
    "figures": {"roc_auc": figure(0.75), "brier": figure(0.13), "observed": figure(0.2)},
    "per_day": 100.0,
}


def record(drifted: int = 0, psi: float = 0.01, **changed: dict[str, float]) -> dict[str, Any]:
    """Return the record of a quiet period, with some figures changed."""
    quiet = {"roc_auc": 0.74, "brier": 0.135, "observed": 0.21, "gap": 0.005, "gain": 0.1}
    return {
        "period": "2020-03",
        "raw": 3100,
        "quarantined": 0,
        "per_day": 103.0,
        "features": 4,
        "drifted": {f"feature_{number}": 0.4 for number in range(drifted)},
        "prediction_psi": psi,
        "figures": {name: figure(value) for name, value in quiet.items()} | changed,
    }


def alerting(found: dict[str, Any]) -> list[str]:
    return [alert["alert"] for alert in monitoring.alerts(found, PROMISE, PARAMS)]


def decided(found: dict[str, Any]) -> dict[str, Any]:
    return monitoring.judge([found], PROMISE, PARAMS)[0]


def test_the_months_after_the_last_day_are_replayed() -> None:
    tables = {"orders": {"time": "placed"}, "customers": {}}
    collected = collection.Params(start="2020-01-01", as_of="2020-02-29", tables=tables, datasheet={"a": "b"})
    found = monitoring.periods(PARAMS, collected, STATED)
    assert found["period"].tolist() == ["2020-03", "2020-04"]
    assert found["end"].tolist() == [pd.Timestamp("2020-04-01"), pd.Timestamp("2020-05-01")]
    middle = monitoring.periods(
        PARAMS, collected.model_copy(update={"as_of": pd.Timestamp("2020-04-10").date()}), STATED
    )
    assert middle["start"].tolist() == [pd.Timestamp("2020-04-11")]


@pytest.mark.parametrize(("as_of", "time"), [("2020-04-30", "placed"), ("2020-06-30", "placed"), ("2020-02-29", None)])
def test_where_nothing_can_follow_there_is_nothing_to_replay(as_of: str, time: str | None) -> None:
    collected = collection.Params(
        start="2020-01-01", as_of=as_of, tables={"orders": {"time": time}}, datasheet={"a": "b"}
    )
    assert monitoring.periods(PARAMS, collected, STATED).empty


@pytest.fixture
def shop(project: Any, orders: pd.DataFrame) -> dict[str, Any]:
    """Put the orders up to February into the lake, and let the source hold those of March too, one of them broken."""
    later = orders.assign(
        id=["7", "8", "9", "10", "11", "12"],
        placed=[f"2020-03-{day:02d}T12:00:00" for day in (2, 4, 9, 16, 20, 31)],
        amount=["5", "6", "-1", "NA", "8", "9"],
    )
    source = {
        "orders": pd.concat([orders, later]),
        "customers": pd.DataFrame({"customer": ["ann", "bob"], "city": "x"}),
    }

    def read(table: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
        found = source[table]
        if start is None:
            return found
        return found[(found["placed"] >= start.isoformat()) & (found["placed"] < end.isoformat())]

    project.functions["collection", "read"] = read
    contract = processing.Params(**project.params["processing"])
    project.raw("orders", "2020-02", orders)
    project.raw("customers", "all", source["customers"])
    connection = engine.connect()
    judged = processing.judge(processing.convert(processing.read(contract, connection), contract), contract)
    processing.write(judged, contract, {"orders": "placed", "customers": None})
    io.publish()
    return {
        "collection": collection.Params(**project.params["collection"]),
        "processing": contract,
        "features": FEATURES,
    }


def test_later_rows_get_the_features_that_training_would_give_them(shop: dict[str, Any]) -> None:
    frame, volume = monitoring.replay(calendar(), shop, STATED)
    tables = engine.tables(engine.connect(), features.LAKE)
    assert len(tables["orders"].execute()) == 6, "the lake is left alone"
    assert frame["id"].tolist() == [7, 8, 10, 11, 12]
    # Of bob's order 6, on 29 February, the outcome is in the lake; for ann's order 7 the windows hold nothing.
    back = frame.set_index("id")["back_by_customer_7d"]
    assert back[8] == 0.0
    assert back.drop(8).isna().all()
    assert volume.to_dict("records")[0] | {"start": 0, "end": 0} == {
        "period": "2020-03", "start": 0, "end": 0, "raw": 6, "quarantined": 1, "ready": 5,
    }  # fmt: skip


def test_months_in_which_nothing_arrived_any_more_are_not_monitored(shop: dict[str, Any]) -> None:
    _, volume = monitoring.replay(calendar(2), shop, STATED)
    assert volume["period"].tolist() == ["2020-03"]


def test_a_label_that_comes_after_the_close_is_not_used_at_it() -> None:
    march = rows("2020-03", 400)
    march.loc[0, "returned"] = pd.NA
    late = march.loc[[1]].assign(placed=pd.Timestamp("2020-03-31 12:00"), id=9001)
    last = march.loc[[2]].assign(placed=pd.Timestamp("2020-04-30 12:00"), id=9002)
    frame = stream(march, late, last).set_index("id")["outcome"]
    assert frame[0] == "never"
    assert frame[1] == "at close"
    assert frame[9001] == "later"
    assert frame[9002] == "open"


def test_the_score_of_a_period_does_not_change_when_late_labels_do() -> None:
    frame = stream(rows("2020-03", 600))
    late = frame["placed"] > pd.Timestamp("2020-03-30")
    frame.loc[late, "outcome"] = "later"
    flipped = frame.assign(returned=frame["returned"].where(~late, 1 - frame["returned"]))
    assert monitoring.performance(frame, STATED, AGREED) == monitoring.performance(flipped, STATED, AGREED)


def test_every_label_is_accounted_for() -> None:
    frame = stream(rows("2020-03"), rows("2020-04", 500, seed=2))
    table = monitoring.arrivals(frame, calendar().assign(raw=[3000, 500], quarantined=0), STATED)
    assert table["predictions"].tolist() == [3000, 500]
    assert table[list(monitoring.LABELS)].sum(axis=1).tolist() == [3000, 500]


def test_a_stable_stream_does_not_drift() -> None:
    assert not compared(rows(seed=21))["drifted"].any()


def test_a_planted_shift_is_found_where_it_was_planted() -> None:
    table = compared(rows(seed=21, shift=0.2)).set_index(["period", "feature"])["drifted"]
    assert table["2020-03", "amount"]
    assert not table["2020-03", "customer"]
    assert not table["holdout"].any()


def test_a_customer_never_seen_and_values_that_vanish_are_drift() -> None:
    new, gone = rows(seed=3), rows(seed=3)
    new.loc[::3, "customer"] = "zoe"
    gone.loc[::3, "amount"] = np.nan
    assert compared(new).set_index(["period", "feature"]).loc[("2020-03", "customer"), "drifted"]
    assert compared(gone).set_index(["period", "feature"]).loc[("2020-03", "amount"), "drifted"]


def test_a_few_rows_do_not_alert_by_luck() -> None:
    table = compared(rows(count=12, seed=5))
    assert (table.loc[table["period"] == "2020-03", "psi"] > 0.25).any(), "twelve rows fill no ten bins evenly"
    assert not table["drifted"].any()


def test_the_skill_does_not_fall_because_events_are_more_frequent() -> None:
    p = np.repeat([0.0, 1.0], [80, 20])
    harder = np.repeat([0.0, 1.0], [60, 40])
    scores = [{"brier": {"value": 0.0}, "observed": {"value": one.mean()}} for one in (p, harder)]
    assert [monitoring.skill(score)["value"] for score in scores] == [1, 1]
    plain = {"brier": {"value": 0.3 * 0.7}, "observed": {"value": 0.3}}
    assert monitoring.skill(plain)["value"] == pytest.approx(0)


def test_a_calibrated_model_has_no_gap_and_an_overstating_one_has() -> None:
    frame = stream(rows("2020-03"))
    target, p = frame["returned"].to_numpy("int64"), frame["probability"].to_numpy()
    fair = monitoring.gap(target, p, frame["placed"], AGREED)
    high = monitoring.gap(target, p + 0.1, frame["placed"], AGREED)
    assert fair["low"] < 0 < fair["high"]
    assert high["low"] > 0
    assert high["value"] == pytest.approx(fair["value"] + 0.1)


def test_a_quiet_period_raises_no_alert() -> None:
    assert alerting(record()) == []


@pytest.mark.parametrize(
    ("changed", "alert"),
    [
        ({"drifted": 1}, "inputs"),
        ({"psi": 0.3}, "predictions"),
        ({"observed": figure(0.3)}, "share"),
        ({"roc_auc": figure(0.65)}, "ranking"),
        ({"brier": figure(0.19)}, "brier"),
        ({"gap": figure(-0.08)}, "calibration"),
        ({"gain": figure(0.005)}, "gain"),
    ],
)
def test_each_figure_beyond_its_limit_raises_its_alert_alone(changed: dict[str, Any], alert: str) -> None:
    assert alerting(record(**changed)) == [alert]


@pytest.mark.parametrize(
    "changed",
    [
        {"roc_auc": figure(0.65, 0.06)},
        {"brier": figure(0.19, 0.05)},
        {"gap": figure(-0.08, 0.09)},
        {"observed": figure(0.3, 0.11)},
    ],
)
def test_what_a_few_unlucky_days_could_do_raises_no_alert(changed: dict[str, Any]) -> None:
    assert alerting(record(**changed)) == []


def test_broken_rows_and_a_change_of_volume_raise_alerts() -> None:
    assert alerting({**record(), "quarantined": 62}) == ["quarantined"]
    assert alerting({**record(), "per_day": 60.0}) == ["volume"]
    assert alerting({**record(), "per_day": 140.0}) == ["volume"]


def test_inputs_alert_before_any_label_is_known() -> None:
    assert alerting({**record(drifted=2), "figures": {}}) == ["inputs"]


def test_a_quiet_model_is_kept() -> None:
    assert decided(record())["decision"] == "keep"
    assert decided(record(drifted=1, observed=figure(0.3)))["decision"] == "keep", "no alert is high"


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


def test_the_last_period_decides_and_every_period_is_evidence() -> None:
    judged = monitoring.judge([record(brier=figure(0.19)), record()], PROMISE, PARAMS)
    decision = monitoring.conclude(judged, AGREED, "abc")
    assert decision["decision"] == "keep"
    assert [one["decision"] for one in decision["periods"]] == ["retrain", "keep"]


def test_without_periods_there_is_nothing_to_monitor_and_the_gate_passes() -> None:
    empty, none = rows().iloc[:0].assign(period=""), calendar().iloc[:0].assign(raw=0, quarantined=0, ready=0)
    train = rows()
    frame = monitoring.wait(monitoring.predict(empty, deployed(train)), none, PARAMS, STATED)
    table = monitoring.arrivals(frame, none, STATED)
    drifts = monitoring.compare_inputs(frame, {"train": train, "holdout": train}, deployed(train), PARAMS)
    shifted = monitoring.compare_predictions(frame, train, deployed(train))
    results = monitoring.performance(frame, STATED, AGREED)
    judged = monitoring.judge(monitoring.records(none, table, drifts, shifted, results), PROMISE, PARAMS)
    decision = monitoring.conclude(judged, AGREED, "abc")
    assert decision["decision"] == "keep"
    assert monitoring.verdict(judged, decision) == monitoring.NOTHING
    assert monitoring.metrics(judged, decision)["periods"] == []
    assert all(check.passed for check in monitoring.checks(frame, none, judged, decision))
    weeks, curves = monitoring.weekly(frame, STATED), monitoring.calibration(frame, STATED, AGREED)
    monitoring.plot_weeks(weeks, none, STATED), monitoring.plot_calibration(curves)
    monitoring.plot_drift(drifts, PARAMS), monitoring.plot_performance(judged, PROMISE)
    monitoring.plot_policies(monitoring.policies(frame, STATED, AGREED), STATED)
    said = [
        monitoring.describe_arrivals(table, PARAMS),
        monitoring.describe_drift(drifts, frame, train, STATED),
        monitoring.describe_performance(judged, PROMISE),
        monitoring.describe_calibration(judged),
        monitoring.describe_weeks(weeks),
        monitoring.describe_alerts(judged),
    ]
    assert set(said) == {monitoring.NOTHING}


def test_a_row_lost_on_the_way_fails_the_gate() -> None:
    frame = stream(rows("2020-03"))
    volume = calendar(1).assign(raw=3001, quarantined=0, ready=3000)
    table = monitoring.arrivals(frame, volume, STATED)
    judged = monitoring.judge(
        monitoring.records(volume, table, compared(frame), pd.Series(dtype="float64"), {}), PROMISE, PARAMS
    )
    checks = monitoring.checks(frame, volume, judged, monitoring.conclude(judged, AGREED, "abc"))
    assert [check.name for check in checks if not check.passed] == ["rows neither quarantined nor predicted"]


def test_figures_are_kept_for_programs_and_for_dvc() -> None:
    judged = [{**decided(record(brier=figure(0.19))), "predictions": 3100, "at close": 3000}]
    found = monitoring.metrics(judged, monitoring.conclude(judged, AGREED, "abc"))
    assert found["periods"][0]["alerts"] == ["brier"]
    assert found["by_period"]["2020-03"]["alerts"] == 1
    assert not [value for value in found["by_period"]["2020-03"].values() if isinstance(value, list | dict)]


def test_a_wrong_severity_or_source_is_refused() -> None:
    plain = yaml.safe_load(PARAMS.model_dump_json())
    for wrong in (
        {"source": "stream"},
        {"alerts": {**LIMITS, "gain": {"limit": 0, "severity": "awful"}}},
        {"until": 1},
    ):
        with pytest.raises(ValidationError):
            monitoring.Params(**{**plain, **wrong})
