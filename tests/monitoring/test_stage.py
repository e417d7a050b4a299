"""Stage 09: what changed is found, what did not is left alone, for every task, and where nothing has arrived."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import bundles
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Project
from matplotlib.figure import Figure
from monitoring_data import LIMITS, TARGETS, baseline, figure, problem_of, record
from monitoring_params import PARAMS, VALUES
from pydantic import ValidationError

from ninefold import artifacts, display, engine, features, gate
from ninefold.collection import stage as collection
from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan, evaluation
from ninefold.monitoring import Params, arrivals, figures, labels, performance, replay, service, stage, tables
from ninefold.monitoring.answers import PERIOD, STATES, STATUS, predict, predict_holdout, with_holdout
from ninefold.monitoring.arrivals import add_label_status, from_log, label_counts
from ninefold.monitoring.decision import conclude
from ninefold.monitoring.drift_by_period import compare_inputs, compare_predictions
from ninefold.problem import decisions
from ninefold.problem.statement import Problem
from ninefold.processing import stage as processing
from ninefold.serving import bundle as packing
from ninefold.serving.log import Log

NOTEBOOK = Path(__file__).parents[2] / "notebooks/09_monitoring.ipynb"
DAYS = ("2020-03-01", "2020-04-01", "2020-05-01")
OPEN = PARAMS.model_copy(update={"replay_until": None})
TASKS = list(TARGETS)
FEATURES = features.Params(
    numeric=["amount"],
    categorical=["customer"],
    history=[{"of": "returned", "prefix": "back", "known_after": "24h", "over": ["7d"], "by": [["customer"]]}],
)


def plan_of(task: str = "binary") -> EvaluationPlan:
    problem = problem_of(task)
    target = rows("2020-01", task=task)[problem.target].to_numpy()
    naive = [target.mean()] if task == "regression" else (np.bincount(target.astype(int)) / len(target)).tolist()
    return EvaluationPlan(
        primary={"name": "log_loss", "better": "lower"},
        thresholds=problem.success,
        split={"by": "time", "validation": "2020-01-15", "holdout": "2020-02-01"},
        bootstrap={"replicates": 40, "level": 0.95, "seed": 1},
        policies=decisions.policies(target, problem),
        naive=naive,
        best_baseline="always wait",
    )


@dataclass
class Deployed:
    """Stands in for a bundle: what it says of a row follows from its amount, as the outcome does."""

    problem: Problem
    reference: dict[str, Any]
    described: dict[str, Any]
    signature: tuple[dict[str, str], ...] = (
        {"name": "amount", "kind": "numeric"},
        {"name": "customer", "kind": "categorical"},
        {"name": "note", "kind": "text"},
        {"name": "since", "kind": "date"},
    )

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        return said(frame["amount"].fillna(0.2).clip(0.01, 0.99).to_numpy(), self.problem)

    def decide(self, frame: pd.DataFrame) -> pd.DataFrame:
        predicted = self.predict(frame)
        return predicted.assign(**decisions.decide(predicted, self.problem))


def said(amount: np.ndarray, problem: Problem) -> pd.DataFrame:
    """Return the true forecast for an amount."""
    if problem.task == "binary":
        return pd.DataFrame({"probability": amount})
    if problem.task == "multiclass":
        shares = np.column_stack([1 - amount, amount / 2, amount / 2])
        return pd.DataFrame(shares, columns=decisions.forecast_columns(problem))
    table = pd.DataFrame({"prediction": amount, "low": amount - 0.2, "high": amount + 0.2, "quantile": amount + 0.05})
    return table.assign(loss=0.1)


def rows(
    month: str = "2020-03", count: int = 3000, shift: float = 0.0, seed: int = 1, task: str = "binary"
) -> pd.DataFrame:
    """Return orders of a month whose amount tells how probable their outcomes are."""
    random = np.random.default_rng(seed)
    amount = np.clip(random.beta(2, 6, count) + shift, 0, 0.99)
    start, drawn = pd.Timestamp(f"{month}-01"), random.random(count)
    placed = start + pd.to_timedelta(np.sort(random.integers(0, 30 * 1440, count)), "m")
    target = {
        "binary": (drawn < amount).astype("int64"),
        "multiclass": (drawn < amount).astype("int64") + (drawn < amount / 2),
        "regression": amount + random.normal(0, 0.1, count),
    }[task]
    known = pd.Series(target, dtype="Float64" if task == "regression" else "Int64")
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "placed": placed,
            "amount": amount,
            "customer": random.choice(["ann", "bob", "eve"], count),
            "note": pd.array([None, *random.choice(["as ordered", "too small, sorry", "no"], count - 1)], dtype="str"),
            "since": random.uniform(18_000, 18_200, count),
            "period": "a column of the user's own",
            TARGETS[task]: known,
        }
    )


def deployed(train: pd.DataFrame, task: str = "binary") -> Any:
    kinds = {field["name"]: field["kind"] for field in Deployed.signature}
    known = {name: packing.distribution(train[name], kind=kind) for name, kind in kinds.items()}
    return Deployed(problem_of(task), {"features": known}, {})


def calendar(count: int = 2) -> pd.DataFrame:
    starts = pd.to_datetime(DAYS[:count])
    return pd.DataFrame(
        {"period": starts.strftime("%Y-%m"), "start": starts, "end": pd.to_datetime(DAYS[1 : count + 1])}
    )


def stream(*months: pd.DataFrame, task: str = "binary") -> pd.DataFrame:
    frame = pd.concat(months, ignore_index=True)
    frame[PERIOD] = frame["placed"].dt.strftime("%Y-%m")
    return add_label_status(predict(frame, deployed(rows(), task)), calendar(), PARAMS, problem_of(task))


def compared(now: pd.DataFrame) -> pd.DataFrame:
    train = rows("2020-01", seed=7)
    parts = {"train": train, "validation": train[:0], "holdout": rows("2020-02", seed=8)}
    now = now.assign(**{PERIOD: "2020-03"})
    return compare_inputs(now, parts, deployed(train), PARAMS)


def collected(**values: Any) -> collection.Params:
    tables = {"orders": {"time": "placed"}, "customers": {}}
    plain = {"start": "2020-01-01", "as_of": "2020-02-29", "tables": tables, "datasheet": {"a": "b"}}
    return collection.Params(**{**plain, **values})


def test_the_months_after_the_last_day_are_replayed() -> None:
    found = replay.periods(PARAMS, collected(), problem_of())
    assert found["period"].tolist() == ["2020-03", "2020-04"]
    assert found["end"].tolist() == [pd.Timestamp("2020-04-01"), pd.Timestamp("2020-05-01")]
    middle = replay.periods(PARAMS, collected(as_of="2020-04-10"), problem_of())
    assert middle["start"].tolist() == [pd.Timestamp("2020-04-11")]


@pytest.mark.parametrize(
    ("changed", "time"),
    [
        ({"as_of": "2020-04-30"}, "placed"),
        ({"as_of": "2020-06-30"}, "placed"),
        ({"tables": {"orders": {}}}, "placed"),
        ({"start": None, "as_of": None, "tables": {"orders": {}}}, None),
        ({}, None),
    ],
)
def test_where_nothing_can_follow_there_is_nothing_to_replay(changed: dict[str, Any], time: str | None) -> None:
    found = replay.periods(PARAMS, collected(**changed), problem_of(time=time))
    assert found.empty
    assert list(found) == ["period", "start", "end"]


def test_without_a_last_day_the_replay_ends_with_the_source(project: Project, orders: pd.DataFrame) -> None:
    place = project.folder / "data/source/orders.csv"
    place.parent.mkdir(parents=True)
    orders.to_csv(place, index=False)
    found = replay.periods(OPEN, collected(as_of="2020-01-20"), problem_of())
    assert found["period"].tolist() == ["2020-01", "2020-02"]
    assert found["end"].iloc[-1] == pd.Timestamp("2020-03-01")
    assert replay.periods(OPEN, collected(as_of="2020-02-29"), problem_of()).empty


def test_a_source_that_reaches_into_another_century_is_refused_with_the_remedy(
    project: Project, orders: pd.DataFrame
) -> None:
    place = project.folder / "data/source/orders.csv"
    place.parent.mkdir(parents=True)
    orders.assign(placed=[*orders["placed"][:-1], "2199-01-01"]).to_csv(place, index=False)
    with pytest.raises(DataError, match=r"monitoring.replay_until: .* 2199-01-01 .* months"):
        replay.periods(OPEN, collected(), problem_of())


def settle(project: Project, orders: pd.DataFrame) -> dict[str, Any]:
    """Put the orders up to February into the lake; return the params of the stages before."""
    contract = processing.Params(**project.params["processing"])
    for month, rows in orders.groupby(orders["placed"].str[:7]):
        project.raw("orders", str(month), rows)
    project.raw("customers", "all", pd.DataFrame({"customer": ["ann", "bob"], "city": "x"}))
    processing.update(contract, engine.connect())
    artifacts.publish()
    return {
        "collection": collection.Params(**project.params["collection"]),
        "processing": contract,
        "features": FEATURES,
    }


def march(orders: pd.DataFrame) -> pd.DataFrame:
    """Return the orders of March too, one of them broken."""
    later = orders.assign(
        id=["7", "8", "9", "10", "11", "12"],
        placed=[f"2020-03-{day:02d}T12:00:00" for day in (2, 4, 9, 16, 20, 31)],
        amount=["5", "6", "-1", "NA", "8", "9"],
    )
    return pd.concat([orders, later])


@pytest.fixture
def shop(project: Project, orders: pd.DataFrame) -> dict[str, Any]:
    """Return a shop whose source, read by a function of the user's, holds the orders of March too."""
    source = {"orders": march(orders), "customers": pd.DataFrame({"customer": ["ann", "bob"], "city": "x"})}

    def read(table: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
        found = source[table]
        if start is None:
            return found
        return found[(found["placed"] >= start.isoformat()) & (found["placed"] < end.isoformat())]

    project.functions["collection", "read"] = read
    return settle(project, orders)


@pytest.fixture
def files(project: Project, orders: pd.DataFrame) -> dict[str, Any]:
    """Return a shop whose source are files, read by the default reader."""
    place = project.folder / "data/source"
    place.mkdir(parents=True)
    march(orders).to_csv(place / "orders.csv", index=False)
    (place / "customers.csv").write_text("customer,city\nann,x\nbob,x\n")
    return settle(project, orders)


@pytest.mark.parametrize("kind", ["shop", "files"])
def test_later_rows_get_the_features_that_training_would_give_them(kind: str, request: pytest.FixtureRequest) -> None:
    earlier = request.getfixturevalue(kind)
    span = replay.periods(OPEN, earlier["collection"], problem_of())
    frame, volume = replay.replay(span, earlier, problem_of())
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
    _, volume = replay.replay(calendar(2), shop, problem_of())
    assert volume["period"].tolist() == ["2020-03"]


def test_a_replay_in_which_nothing_arrives_is_empty(shop: dict[str, Any]) -> None:
    april = calendar(2)[1:].reset_index(drop=True)
    frame, volume = replay.replay(april, shop, problem_of())
    assert frame.empty
    assert volume.empty


def test_a_row_that_the_lake_holds_already_is_held_back_as_a_copy(files: dict[str, Any], project: Project) -> None:
    place = project.folder / "data/source/orders.csv"
    place.write_text(place.read_text() + "6,2020-03-25T12:00:00,bob,60,paid,0\n")
    frame, volume = replay.replay(calendar(1), files, problem_of())
    assert 6 not in frame["id"].tolist()
    assert volume["quarantined"].tolist() == [2]
    assert (volume["raw"] - volume["quarantined"] - volume["ready"]).tolist() == [0]


def test_rows_whose_key_is_partly_missing_are_not_lost(files: dict[str, Any]) -> None:
    contract = files["processing"].model_dump()
    contract["tables"]["orders"]["unique"] = ["id", "amount"]
    files["processing"] = processing.Params(**contract)
    frame, volume = replay.replay(calendar(1), files, problem_of(key=["id", "amount"]))
    assert 10 in frame["id"].tolist(), "its amount is missing"
    assert volume["ready"].tolist() == [5]


def test_rows_that_only_their_number_identifies_are_told_apart(project: Project, orders: pd.DataFrame) -> None:
    place = project.folder / "data/source"
    place.mkdir(parents=True)
    march(orders).drop(columns="id").to_csv(place / "orders.csv", index=False)
    (place / "customers.csv").write_text("customer,city\nann,x\nbob,x\n")
    project.set("collection.tables.orders", {"time": "placed", "number": "id"})
    frame, volume = replay.replay(calendar(1), settle(project, orders), problem_of())
    assert frame["id"].tolist() == [7, 8, 10, 11, 12]
    assert volume["ready"].tolist() == [5]


def test_declared_joins_are_made_for_later_rows_too(files: dict[str, Any]) -> None:
    join = {"table": "customers", "by": ["customer"], "columns": ["city"]}
    plain = {"numeric": ["amount"], "categorical": ["city"], "joins": [join]}
    frame, _ = replay.replay(calendar(1), {**files, "features": features.Params(**plain)}, problem_of())
    assert frame["city"].tolist() == ["x"] * 5


def test_what_the_user_declares_is_made_for_later_rows_too(files: dict[str, Any], project: Project) -> None:
    paid = {"of": "amount", "by": "customer", "over": "30d", "known_after": "0h", "how": "count"}
    mean = {**paid, "over": "7d", "how": "mean", "prior": -1, "prefix": "mean"}
    project.functions["features", "define"] = lambda _: [
        features.join("customers", by="customer", columns={"city": "town"}),
        features.history(**paid),
        features.history(**mean),
    ]
    wanted = FEATURES.model_copy(update={"categorical": ["customer", "town"]})
    frame, _ = replay.replay(calendar(1), {**files, "features": wanted}, problem_of())
    assert frame["id"].tolist() == [7, 8, 10, 11, 12]
    assert frame["town"].tolist() == ["x"] * 5
    # Known of ann by 7: order 5, by 11: order 7; of bob by 8: order 6, by 10: 6 and 8, by 12: 8 (10 has no amount).
    assert frame["amount_by_customer_30d"].tolist() == [1, 1, 2, 1, 1]
    assert frame["mean_by_customer_7d"].tolist() == [-1, 60, -1, -1, -1]


def test_a_label_that_comes_after_the_close_is_not_used_at_it() -> None:
    first = rows("2020-03", 400)
    first.loc[0, "returned"] = pd.NA
    late = first.loc[[1]].assign(placed=pd.Timestamp("2020-03-31 12:00"), id=9001)
    last = first.loc[[2]].assign(placed=pd.Timestamp("2020-04-30 12:00"), id=9002)
    frame = stream(first, late, last).set_index("id")[STATUS]
    assert frame[0] == "never"
    assert frame[1] == "at close"
    assert frame[9001] == "later"
    assert frame[9002] == "open"


def test_the_score_of_a_period_does_not_change_when_late_labels_do() -> None:
    frame, plan = stream(rows("2020-03", 600)), plan_of()
    late = frame["placed"] > pd.Timestamp("2020-03-30")
    frame.loc[late, STATUS] = "later"
    flipped = frame.assign(returned=frame["returned"].where(~late, 1 - frame["returned"]))
    found = [performance.scores_by_period(each, problem_of(), plan) for each in (frame, flipped)]
    assert found[0] == found[1]


def test_every_label_is_accounted_for() -> None:
    frame = stream(rows("2020-03"), rows("2020-04", 500, seed=2))
    table = label_counts(frame, calendar().assign(raw=[3000, 500], quarantined=0), problem_of())
    assert table["predictions"].tolist() == [3000, 500]
    assert table[list(STATES)].sum(axis=1).tolist() == [3000, 500]
    known = frame[frame[STATUS] != "open"].groupby("@period")["returned"].mean()
    assert table["level in the end"].tolist() == pytest.approx(known.tolist())


def test_a_stable_stream_does_not_drift() -> None:
    assert not compared(rows(seed=21))["drifted"].any()


def test_a_planted_shift_is_found_where_it_was_planted() -> None:
    table = compared(rows(seed=21, shift=0.2)).set_index(["period", "feature"])["drifted"]
    assert table["2020-03"].index[table["2020-03"]].tolist() == ["amount"]
    assert not table["holdout"].any()


def test_texts_that_grow_longer_and_dates_that_move_on_are_drift() -> None:
    moved = rows(seed=21)
    moved = moved.assign(note=moved["note"] + " and so on", since=moved["since"] + 100)
    table = compared(moved).set_index(["period", "feature"])["drifted"]
    assert table["2020-03"].index[table["2020-03"]].tolist() == ["note", "since"]


def test_a_customer_never_seen_and_values_that_vanish_are_drift() -> None:
    new, gone = rows(seed=3), rows(seed=3)
    new.loc[::3, "customer"] = "zoe"
    gone.loc[::3, ["amount", "note"]] = np.nan
    assert compared(new).set_index(["period", "feature"]).loc[("2020-03", "customer"), "drifted"]
    found = compared(gone).set_index(["period", "feature"]).loc["2020-03"]
    assert found.loc[["amount", "note"], "drifted"].all()
    assert found.loc["note", "missing"] == pytest.approx(1 / 3, abs=0.01)


def test_a_few_rows_do_not_alert_by_luck() -> None:
    table = compared(rows(count=12, seed=5))
    assert (table.loc[table["period"] == "2020-03", "psi"] > 0.25).any(), "twelve rows fill no ten bins evenly"
    assert not table["drifted"].any()


@pytest.mark.parametrize("task", TASKS)
def test_forecasts_that_move_are_found_and_others_are_not(task: str) -> None:
    problem, bundle = problem_of(task), deployed(rows(), task)
    holdout = predict_holdout(rows("2020-02", seed=8, task=task), bundle)
    frame = stream(rows("2020-03", task=task), rows("2020-04", shift=0.2, seed=2, task=task), task=task)
    table = compare_predictions(frame, holdout, PARAMS, problem)
    assert set(table["feature"]) <= {f"@{name}" for name in decisions.forecast_columns(problem)}
    assert table.groupby("period")["drifted"].any().to_dict() == {"2020-03": False, "2020-04": True}


def test_the_skill_does_not_fall_because_events_are_more_frequent() -> None:
    for share in (0.2, 0.4):
        target = np.repeat([0, 1], [int(100 * (1 - share)), int(100 * share)])
        for brier, skill in ((0.0, 1.0), (share * (1 - share), 0.0)):
            found = performance.skill({"brier": {"value": brier}}, target, problem_of())
            assert found["value"] == pytest.approx(skill)


@pytest.mark.parametrize("task", TASKS)
def test_a_forecast_that_knows_the_level_and_no_more_has_no_skill(task: str) -> None:
    problem, found = problem_of(task), rows(task=task)
    target = found[problem.target].to_numpy("int64" if task != "regression" else "float64")
    if task == "regression":
        constant = said(np.full(len(target), target.mean()), problem)
    else:
        shares = np.bincount(target) / len(target)
        names = decisions.forecast_columns(problem)
        constant = pd.DataFrame(np.tile(shares[-len(names) :], (len(target), 1)), columns=names)
    results = evaluation.evaluate(target, constant, found, problem, plan_of(task))
    assert performance.skill(results, target, problem)["value"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_a_sound_model_has_no_gap_and_an_overstating_one_has(task: str) -> None:
    problem, plan = problem_of(task), plan_of(task)
    frame = stream(rows("2020-03", task=task), task=task)
    fair = performance.scores_by_period(frame, problem, plan)["2020-03"]["figures"]["gap"]
    name = {"binary": "@probability", "multiclass": "@probability_m", "regression": "@prediction"}[task]
    frame[name] += 0.1
    if task == "multiclass":
        frame["@probability_s"] -= 0.1
    high = performance.scores_by_period(frame, problem, plan)["2020-03"]["figures"]["gap"]
    assert fair["low"] < 0 < fair["high"]
    assert high["low"] > 0
    assert high["value"] == pytest.approx(fair["value"] + 0.1)


def test_a_month_of_one_outcome_or_of_a_single_row_breaks_nothing() -> None:
    alone = rows("2020-04", 1)
    frame, plan = stream(rows("2020-03", 50).assign(returned=1), alone), plan_of()
    assert performance.scores_by_period(frame, problem_of(), plan) == {}
    two = stream(rows("2020-03", 60, seed=2)[:12].assign(returned=[0] * 11 + [1]))
    found = performance.scores_by_period(two, problem_of(), plan)["2020-03"]
    plain = [value for figure in found["figures"].values() for value in figure.values()]
    assert np.isfinite(plain).all()


def whole(task: str, frame: pd.DataFrame, volume: pd.DataFrame) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Take a stream through the stage, every figure and sentence of it; return what was judged and its frame."""
    problem, plan, train = problem_of(task), plan_of(task), rows("2020-01", seed=7, task=task)
    artifacts.write_table(train, artifacts.path("data/features/period=all/part-0.parquet"))
    bundle, held = deployed(train, task), rows("2020-02", 1000, seed=8, task=task)
    parts = {"train": train, "validation": train[:0], "holdout": held}
    holdout = predict_holdout(held, bundle)
    target = held[problem.target].to_numpy("float64" if task == "regression" else "int64")
    bundle.described["holdout"] = evaluation.evaluate(target, bundle.predict(held), held, problem, plan)
    table = label_counts(frame, volume, problem)
    drifts = compare_inputs(frame, parts, bundle, PARAMS)
    shifted = compare_predictions(frame, holdout, PARAMS, problem)
    results = performance.scores_by_period(frame, problem, plan)
    found = stage.records(volume, table, drifts, shifted, results)
    baseline = stage.baseline_metrics(bundle, holdout, parts, plan)
    judged = stage.apply_rules(found, baseline, PARAMS, problem)
    decision = conclude(judged, plan, "abc")
    both = with_holdout(holdout, frame)
    curves, weeks = performance.calibration(both, problem, plan), performance.weekly(both, problem)
    paid = performance.policies(both, problem, plan)
    drawn = [
        figures.plot_drift(drifts, PARAMS),
        figures.plot_performance(found, baseline, problem),
        figures.plot_calibration(curves, problem),
        figures.plot_weeks(weeks, volume, baseline, problem),
        figures.plot_policies(paid, problem),
    ]
    shown_tables = [
        tables.arrival_table(table, holdout, problem),
        tables.scorecard(found, baseline, problem),
        tables.rule_table(judged, baseline, PARAMS, problem),
        tables.alert_table(judged),
        tables.decision_table(decision),
    ]
    told = [
        tables.describe_arrival(volume, PARAMS, problem, "abc"),
        tables.describe_arrivals(table, PARAMS, problem),
        figures.describe_drift(drifts, frame, parts, problem),
        figures.describe_performance(found, baseline, problem),
        figures.describe_calibration(found, baseline, problem),
        figures.describe_weeks(weeks, baseline, problem),
        figures.describe_policies(paid),
        tables.describe_alerts(judged, PARAMS),
        tables.describe_decision(decision),
        stage.conclusion(judged, decision),
    ]
    assert all(isinstance(each, Figure) for each in drawn)
    for each in drawn:
        each.canvas.draw()
    assert all(len(each) for each in shown_tables)
    assert not [
        text for text in told if "nan" in text or "  " in text or not text.endswith((".", "policy 'always wait'."))
    ]
    assert all(check.passed for check in stage.checks(frame, volume, judged, decision, problem))
    assert gate.tidy(stage.metrics(judged, decision))["decision"] == decision["decision"]
    assert stage.headline(judged, decision)
    return judged, drifts


@pytest.mark.parametrize("task", TASKS)
def test_what_stays_is_kept_and_what_turns_is_found_in_every_task(project: Project, task: str) -> None:
    problem = problem_of(task)
    turned = rows("2020-04", 1500, seed=2, task=task)
    target = turned[problem.target]
    # The model's order is now the wrong one.
    turned[problem.target] = (target + 1) % 3 if task == "multiclass" else target.max() - target
    frame = stream(rows("2020-03", 1500, task=task), turned, task=task)
    volume = calendar().assign(raw=1500, quarantined=0, ready=1500)
    quiet, loud = whole(task, frame, volume)[0]
    assert {alert["alert"] for alert in quiet["alerts"]} <= {"volume"}, "half as many rows a day as in training"
    assert {"outcomes", "ranking", "error", "calibration", "gain"} <= {alert["alert"] for alert in loud["alerts"]}
    assert quiet["decision"] == "keep"
    assert loud["decision"] in ("retrain", "roll back")


@pytest.mark.parametrize("task", TASKS)
def test_without_periods_the_holdout_stands_alone_and_the_gate_passes(project: Project, task: str) -> None:
    none = calendar().iloc[:0].assign(raw=0, quarantined=0, ready=0)
    empty = predict(rows(task=task).iloc[:0].assign(**{PERIOD: ""}), deployed(rows(), task))
    judged, drifts = whole(task, add_label_status(empty, none, PARAMS, problem_of(task)), none)
    assert judged == []
    assert set(drifts["period"]) == {"holdout"}


def test_a_month_without_a_row_between_others_is_judged_too(project: Project) -> None:
    frame = stream(rows("2020-04", 500))
    volume = calendar().assign(raw=[0, 500], quarantined=0, ready=[0, 500])
    silent = whole("binary", frame, volume)[0][0]
    assert [alert["alert"] for alert in silent["alerts"]] == ["volume"]


def test_the_time_of_the_event_is_no_drift_of_its_own() -> None:
    train = rows("2020-01", seed=7)
    bundle = deployed(train)
    bundle.signature = ({"name": "placed", "kind": "date"},)
    parts = {"train": train, "validation": train[:0], "holdout": rows("2020-02", seed=8)}
    table = compare_inputs(rows().assign(**{"@period": "2020-03"}), parts, bundle, PARAMS)
    assert table.empty
    assert isinstance(figures.plot_drift(table, PARAMS), Figure)
    assert "time" in figures.describe_drift(table, rows(), parts, problem_of())


def test_rows_a_day_are_counted_over_the_days_that_passed_labelled_or_not(project: Project) -> None:
    weekly = pd.DataFrame({"placed": pd.date_range("2020-01-01", periods=12, freq="7D")})
    artifacts.write_table(weekly, artifacts.path("data/features/period=all/part-0.parquet"))
    assert stage.rows_per_day(weekly[:10:3], problem_of()) == pytest.approx(10 / 64)
    assert stage.rows_per_day(weekly, problem_of(time=None)) is None


def test_the_last_period_decides_and_every_period_is_evidence() -> None:
    found = [record(brier=figure(0.19)), record()]
    judged = stage.apply_rules(found, baseline(), PARAMS, problem_of())
    decision = conclude(judged, plan_of(), "abc")
    assert decision["decision"] == "keep"
    assert [one["decision"] for one in decision["periods"]] == ["retrain", "keep"]


def test_a_row_lost_on_the_way_fails_the_gate() -> None:
    frame, problem = stream(rows("2020-03")), problem_of()
    volume = calendar(1).assign(raw=3001, quarantined=0, ready=3000)
    table = label_counts(frame, volume, problem)
    found = stage.records(volume, table, compared(frame), compared(frame), {})
    judged = stage.apply_rules(found, baseline(), PARAMS, problem)
    checks = stage.checks(frame, volume, judged, conclude(judged, plan_of(), "abc"), problem)
    assert [check.name for check in checks if not check.passed] == ["rows neither quarantined nor predicted"]


@pytest.mark.parametrize(
    ("task", "column", "value"),
    [("binary", "@probability", 1.1), ("multiclass", "@probability_l", np.nan), ("regression", "@low", np.inf)],
)
def test_a_forecast_that_is_none_fails_the_gate(task: str, column: str, value: float) -> None:
    frame = stream(rows("2020-03", task=task), task=task)
    frame.loc[5, column] = value
    judged = stage.checks(
        frame, calendar(0).assign(raw=0, quarantined=0, ready=0), [], {"reasons": ["x"]}, problem_of(task)
    )
    assert [check.value for check in judged if check.name.startswith("predictions that are no")] == [1]


def test_figures_are_kept_for_programs_and_for_dvc() -> None:
    judged = stage.apply_rules([{**record(brier=figure(0.19)), "at close": 3000}], baseline(), PARAMS, problem_of())
    found = stage.metrics(judged, conclude(judged, plan_of(), "abc"))
    assert found["periods"][0]["alerts"] == ["error"]
    assert found["by_period"]["2020-03"]["alerts"] == 1
    assert not [value for value in found["by_period"]["2020-03"].values() if isinstance(value, list | dict)]


def test_a_wrong_severity_or_source_is_refused() -> None:
    plain = yaml.safe_load(PARAMS.model_dump_json())
    for wrong in (
        {"source": "stream"},
        {"alerts": {**LIMITS, "gain": {"limit": 0, "severity": "awful"}}},
        {"alerts": {**LIMITS, "brier": RULE_OF_OLD}},
        {"until": 1},
        {"replay_until": "the end"},
    ):
        with pytest.raises(ValidationError):
            Params(**{**plain, **wrong})


RULE_OF_OLD = {"limit": 0.02, "severity": "high"}


@pytest.mark.parametrize("case", bundles.CASES)
def test_the_notebook_runs_for_every_task_where_nothing_has_arrived(
    case: str, project: Project, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real bundle, with and without time, the whole notebook but the tables of files."""
    parts = bundles.lay_out(case)
    problem = bundles.problem_of(case)
    learned = pd.concat([parts["train"], parts["validation"]])[problem.target]
    naive = (
        [learned.mean()]
        if case == "regression"
        else learned.value_counts(normalize=True, sort=False).sort_index().tolist()
    )
    bootstrap = {"replicates": 20, "level": 0.95, "seed": 1}
    changes = {"bootstrap": bootstrap, "naive": naive, "best_baseline": "always"}
    artifacts.write_json({**artifacts.read_json("data/metrics.json"), **changes}, artifacts.path("data/metrics.json"))
    plan = EvaluationPlan.load()
    held = parts["holdout"]
    results = evaluation.evaluate(held[problem.target].to_numpy(), bundles.offline(held), held, problem, plan)
    candidate = {**artifacts.read_json("models/candidate/candidate.json"), "holdout": gate.tidy(results)}
    artifacts.write_json(candidate, artifacts.path("models/candidate/candidate.json"))
    bundles.pack(parts)
    project.set("collection", {"tables": {"orders": {}}, "datasheet": {"a": "b"}})
    project.set("monitoring", {key: value for key, value in VALUES.items() if key != "replay_until"})
    project.set("features", {"numeric": ["x"]})
    split = {"validation": 0.2, "holdout": 0.2}
    project.set("metrics", {"primary": "log_loss", "split": split, "bootstrap": bootstrap})
    project.set("training", {"seed": 1, "candidates": {"a": {"model": "linear"}}, "importance_rows": 100})
    for name in ("inputs", "outputs"):
        monkeypatch.setattr(display, name, lambda _: None)
    names: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(ast.parse(cell.source), cell.id, "exec"), names)
    record = artifacts.read_json("reports/metrics/09_monitoring.json")
    assert record["gate"]["passed"]
    assert record["headline"] == {"decision": "keep", "periods": "none yet"}
    texts = re.sub('base64,[^"]*', "", " ".join(str(getattr(thing, "data", thing)) for thing in shown))
    assert "Nothing has arrived yet" in texts
    assert not re.search(r"\bnan\b|>None<|NaT", texts)
    assert artifacts.read_json("data/monitoring/decision.json")["decision"] == "keep"
    answers = artifacts.read_table("data/monitoring/answers.parquet")
    assert set(answers["period"]) == {"holdout"}
    assert list(answers[problem.target]) == list(held[problem.target])
    forecast = answers[[name for name in decisions.forecast_columns(problem) if name in answers]]
    assert {"binary": 1, "multiclass": 3, "regression": 3}[problem.task] == forecast.shape[1]
    np.testing.assert_allclose(forecast, bundles.offline(held)[forecast.columns], rtol=1e-5)
    assert {"status", "action", "expected_payoff"} <= set(answers)


def test_weeks_have_all_weekdays_and_a_rest_belongs_to_the_last() -> None:
    weekly = PARAMS.model_copy(update={"period": "week"})
    found = replay.periods(weekly, collected(), problem_of())
    assert found["period"].tolist()[:2] == ["2020-03-01", "2020-03-08"]
    lengths = (found["end"] - found["start"]).dt.days.tolist()
    assert (sum(lengths), set(lengths[:-1])) == (61, {7})
    assert 4 <= lengths[-1] <= 10
    assert found["start"].tolist()[1:] == found["end"].tolist()[:-1]
    daily = replay.cut(pd.Timestamp("2020-03-01").date(), pd.Timestamp("2020-03-03").date(), "day")
    assert daily["period"].tolist() == ["2020-03-01", "2020-03-02", "2020-03-03"]


@pytest.fixture
def production_log(project: Project, bundle: packing.Bundle) -> Iterator[Log]:
    """Return the log of a service that answered in the first days after the model was built."""
    log = Log(artifacts.path("data/predictions/log.sqlite"))
    later = bundles.rows("binary", 40)
    later["placed"] = pd.date_range("2020-02-20", periods=40, freq="6h")
    later["id"] += 1000
    answers = bundle.decide(later)
    moment = datetime(2020, 2, 20, tzinfo=UTC)
    log.record(later, answers[bundle.answers], bundle, "batch", moment=moment)
    log.record(later.head(5), answers[bundle.answers].head(5), bundle, "again", moment=moment + timedelta(hours=1))
    outcomes = later[["id", "placed", "returned"]].head(30).assign(known_at=later["placed"] + pd.Timedelta("1d"))
    outcomes.loc[29, "known_at"] = pd.Timestamp("2020-06-01")
    outcomes.to_parquet("outcomes.parquet", index=False)
    list(labels.run([str(Path("outcomes.parquet").resolve())], bundle))
    yield log
    log.close()


def test_the_log_and_late_labels_are_judged_as_a_replay_is(
    production_log: Log, bundle: packing.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Today(date):
        @classmethod
        def today(cls) -> date:
            return date(2020, 3, 20)

    monkeypatch.setattr(arrivals, "date", Today)
    problem = bundle.problem
    params = PARAMS.model_copy(update={"source": "log", "period": "week"})
    frame, volume = from_log(params, bundle)
    assert len(frame) == 40, "what was asked twice was decided once"
    assert volume["raw"].tolist()[:2] == [28, 12]
    assert volume["raw"].iloc[-1] == 0, "silence shows"
    table = label_counts(frame, volume, problem).set_index("period")
    assert table.loc["2020-02-20", ["at close", "later", "never", "open"]].tolist() == [25, 3, 0, 0]
    assert table.loc["2020-02-27", ["at close", "later", "never", "open"]].tolist() == [1, 1, 0, 10]
    assert add_label_status(frame, volume, params, problem) is frame
    known = frame[frame["@status"] != "open"]
    answers = bundle.decide(known)
    assert np.allclose(known["@probability"], answers["probability"])


def test_requests_and_skew_are_told_by_period(
    production_log: Log, bundle: packing.Bundle, parts: dict[str, pd.DataFrame]
) -> None:
    params = PARAMS.model_copy(update={"source": "log", "period": "week"})
    sent = parts["holdout"].dropna(subset=["amount"]).head(20).copy()
    sent["amount"] = sent["amount"] + (np.arange(20) < 4)
    production_log.record(sent, bundle.decide(sent)[bundle.answers], bundle, "skewed")
    frame, volume = from_log(params, bundle)
    production_log.count("/predict", 500, 0.5, True)
    told = service.service_reports(frame, volume, params, bundle)
    skewed = told[volume["period"].iloc[0]]["skew"]
    assert [(each["feature"], each["rows"], each["share"]) for each in skewed] == [("amount", 20, pytest.approx(0.2))]
    assert service.service_reports(frame, volume, PARAMS, bundle) == {}, "a replay asks no service"


def test_what_was_never_answered_is_no_period(project: Project, bundle: packing.Bundle) -> None:
    params = PARAMS.model_copy(update={"source": "log"})
    frame, volume = from_log(params, bundle)
    assert frame.empty
    assert volume.empty
    assert "Nothing was answered yet" in tables.describe_arrival(volume, params, bundle.problem, "abc")


def test_what_is_unusual_is_found_and_is_plain_json(bundle: packing.Bundle, parts: dict[str, pd.DataFrame]) -> None:
    problem, params = bundle.problem, PARAMS.model_copy(update={"period": "week"})
    plan = plan_of().model_copy(update={"policies": decisions.policies(np.array([0, 1]), problem)})
    later = bundles.rows("binary", 112)
    later["placed"] = pd.date_range("2020-02-20", periods=112, freq="3h")
    volume = replay.cut(date(2020, 2, 20), date(2020, 3, 4), "week").assign(raw=56, quarantined=0, ready=56)
    later[PERIOD] = np.repeat(volume["period"].to_numpy(), 56)
    later.loc[56:, "amount"] = np.nan  # in the second week a column is lost
    frame = add_label_status(predict(later, bundle), volume, params, problem)
    against = stage.make_reference(bundle, parts, params, plan)
    first, second = stage.monitoring_reports(frame, volume, against, params).values()
    assert first["findings"] == []
    assert second["outside"][0] in ("missing: amount", "psi: amount")
    named = [(each["cause"], each["subject"]) for each in second["findings"]]
    assert named[0] == ("broken column", "amount")
    assert {"brier", "gain"} <= set(second["estimated"])
    json.dumps(gate.tidy([first, second]), allow_nan=False)
    table = tables.cause_table({"first": first, "second": second})
    assert "broken column" in table["cause"].tolist()
    assert "**1** of 2 periods" in tables.describe_unusual(
        {"first": {**first, "outside": []}, "second": second}, params
    )
    quick = stage.monitoring_reports(frame, volume, against, params, explain=False)
    assert list(quick.values())[1]["outside"] == second["outside"]
