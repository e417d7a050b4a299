"""Stage 06: its table, its gate and its files, for names of any kind."""

from typing import Any

import feature_tables as data
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from odd_names import ALL, drawn, rows
from odd_names import ODD as NAMES

from ninefold import artifacts, engine, features, labels
from ninefold.features import FeatureSchema, stage
from ninefold.metrics import Split
from ninefold.problem.statement import Problem
from project.figures.features import plot_windows

POINTS = Split(by="time", validation="2020-01-12", holdout="2020-01-16")
ODD = ["self", 'a.b "q" it\'s', "$x$ {y} %s", "select", "ünï, [0]", "@0 a/b", " "]


def listed(frame: pd.DataFrame, params: features.Params = data.PARAMS, problem: Problem = data.PROBLEM) -> pd.DataFrame:
    return features.dictionary(engine.table(engine.connect(), data.compute(frame, params, problem)), params, problem)


@pytest.mark.parametrize(("known", "failed"), [
    ({}, []),
    ({"late": ["amount"]}, ["features known only after the decision"]),
    ({"online": 1e-8}, ["largest difference between online and offline"]),
    ({"changed": 1}, ["values that change when the future is removed"]),
    ({"rows": 0}, ["rows"]),
    ({"table": pd.DataFrame({"feature": ["amount"], "missing": [1]})}, ["features without any value"]),
    ({"labels": "amuont"}, ["labels of no column"]),
])  # fmt: skip
def test_the_gate_names_what_fails(monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], failed: list[str]) -> None:
    monkeypatch.setattr(labels, "misspelt", lambda names: known.get("labels", ""))
    sound = {"late": [], "online": 0, "changed": 0, "table": pd.DataFrame({"feature": ["a"], "missing": [0]})}
    monkeypatch.setattr(engine, "count", lambda name: known.get("rows", 400))
    facts = {name: known.get(name, fact) for name, fact in sound.items()}
    assert [check.name for check in features.checks(**facts) if not check.passed] == failed


def test_features_that_stage_05_declares_known_later_are_named_joined_ones_by_their_table() -> None:
    assert features.known_too_late(data.PARAMS, {"known_later": ["amount", "other"]}) == ["amount"]
    join = {"table": "items", "by": ["sku"], "columns": {"price": "cost"}}
    params = features.Params(numeric=["cost"], joins=[join])
    assert features.known_too_late(params, {"known_later": ["items.price"]}) == ["cost"]
    assert features.known_too_late(params, {"known_later": ["price", "cost"]}) == []


def test_the_dictionary_counts_in_the_engine_what_pandas_counts() -> None:
    frame = data.orders().assign(amount=data.orders()["amount"].round().where(data.orders()["id"] % 7 > 0))
    table = listed(frame).set_index("feature")
    assert table.index.tolist() == ["amount", data.NAME, "shop"]
    built = data.compute(frame)[table.index]
    assert table["missing"].tolist() == pytest.approx(built.isna().mean().tolist())
    assert table["distinct"].tolist() == built.nunique().tolist()
    assert table.loc[data.NAME, "looks back"] == "from 3 d 2 h to 26 h before"


def test_a_category_of_many_values_is_flagged(project: Project) -> None:
    frame = data.orders(900).assign(wide=[f"w{number % 300}" for number in range(900)])
    params = features.Params(categorical=["shop", "wide"], text=[])
    points = Split(by="time", validation="2020-01-15", holdout="2020-01-18")
    data.lay(project, orders=frame)
    events, table = data.run(params), listed(frame, params)
    assert features.high_cardinality(table, data.PROBLEM, points) == ["wide"]
    early = points.model_copy(update={"validation": "2020-01-02"})  # what only later rows hold is not looked at
    assert features.high_cardinality(table, data.PROBLEM, early) == []
    assert features.high_cardinality(table.assign(distinct=stage.MAX_CATEGORIES), data.PROBLEM, points) == []
    features.PointInTime(events, engine.read(engine.connect(), features.FEATURES), params, data.PROBLEM).save(["wide"])
    artifacts.publish()
    schema = FeatureSchema.load()
    assert (schema.categorical, schema.high_cardinality) == (["shop", "wide"], ["wide"])


def test_training_rows_have_an_outcome_and_lie_before_validation() -> None:
    built = data.compute(data.orders())
    rows = features.training_rows(built, data.PROBLEM, POINTS)
    assert rows["returned"].notna().all()
    assert rows["placed"].max() < pd.Timestamp(POINTS.validation)
    pd.testing.assert_frame_equal(rows, built.loc[rows.index])


@pytest.mark.parametrize("how", ["mean", "sum", "count"])
def test_the_rows_in_the_window_of_a_history_give_its_value(project: Project, how: str) -> None:
    params = features.Params(numeric=["amount"], history=[{**data.HISTORY, "how": how}])
    shops = data.orders()["shop"].mask(data.orders()["id"] % 9 == 0)
    data.lay(project, orders=data.orders().assign(shop=shops))
    proof, (window,) = data.save(data.run(params), params, data.PROBLEM), features.windows(params, "2h")
    for row in (row for _, row in features.load().iloc[[200, 225, 399]].iterrows()):
        past = proof.past(window, row)
        assert past.columns.tolist() == ["shop", "placed", "returned"]
        assert past["returned"].agg(how) == pytest.approx(row[data.NAME])


def test_the_stored_table_is_that_of_all_rows_at_once_and_a_sample_is_spread_over_it(project: Project) -> None:
    frame = data.orders(900).assign(placed=lambda table: table["placed"] + pd.to_timedelta(table["id"] // 10, "D"))
    written = data.write(project, frame.sample(frac=1, random_state=1), data.PARAMS, data.PROBLEM)
    assert engine.periods(features.FEATURES) == ["2020-01", "2020-02", "2020-03", "2020-04"]
    whole = features.load()
    pd.testing.assert_frame_equal(whole, data.compute(frame), check_dtype=False, check_exact=True)
    pd.testing.assert_frame_equal(features.sample(), whole)
    taken = features.sample(100)
    assert (len(taken) <= 104, set(taken["id"]) < set(whole["id"])) == (True, True)
    assert (set(taken["placed"].dt.month), taken["id"].is_monotonic_increasing) == ({1, 2, 3, 4}, True)
    assert data.write(project, frame.sample(frac=1, random_state=1), data.PARAMS, data.PROBLEM) == written


@pytest.mark.parametrize("task", TASKS)
def test_a_table_without_time_is_written_in_one_piece(project: Project, task: str) -> None:
    problem, params = statement(task, time=None, target="returned"), features.Params(numeric=["amount"])
    frame = data.orders().drop(columns="placed")
    files = data.write(project, frame, params, problem)
    assert sorted(files) == ["data/features/period=all/part-0.parquet", "data/online/online.json"]
    assert artifacts.read_json("data/online/online.json")["moment"] is None
    assert features.load()["id"].tolist() == list(range(400))
    assert data.made_again(project, params, problem) == set()
    data.lay(project, orders=data.changed(frame, 7, "amount", 1))
    assert data.made_again(project, params, problem) == {"all"}
    assert features.load()["amount"][7] == 1


def test_a_column_may_be_called_anything(project: Project) -> None:
    first, others = ODD[0], {f"{name}3": f"{name}4" for name in ODD}
    problem = statement(key=["id", first])
    frame = data.orders(200)
    for name in ODD:
        frame[name] = frame["shop"]
    history = {**data.HISTORY, "prefix": first, "by": [[name] for name in ODD]}
    join = {"table": "items", "by": {first: f"{first}2"}, "columns": others}
    params = features.Params(numeric=[*others.values()], categorical=ODD, history=[history], joins=[join])
    items = pd.DataFrame({f"{first}2": ["a", "b"], **{name: [1.0, 2.0] for name in others}})
    data.lay(project, orders=frame, items=items)
    events, found = data.run(params, problem), features.load()
    expected = data.compute(data.orders(200))[data.NAME]
    for name in ODD:
        assert (found[f"{name}4"] == found[name].map({"a": 1.0, "b": 2.0})).all()
        assert found[f"{first}_by_{name}_2d"].rename(data.NAME).equals(expected)
    proof = data.save(events, params, problem)
    assert (proof.online_difference(found, 3), proof.future_difference(found)) == (0, 0)
    assert data.made_again(project, params, problem) == set(), "what a partition is made of is found by those names too"
    stores = artifacts.read_json("data/online/online.json")["stores"]
    assert [store["by"] for store in stores] == [[name] for name in ODD]
    assert all(len(artifacts.read_table(f"data/online/{store['file']}")) == 2 for store in stores)


@pytest.mark.parametrize(("task", "time"), ALL)
def test_the_features_are_drawn_and_told(project: Project, task: str, time: str | None) -> None:
    frame, problem, _ = rows(task, time)
    project.lake("orders", frame)
    history = {"of": problem.target, "prefix": "$h$", "known_after": "1h", "over": ["2d"], "by": [[NAMES["shop"]]]}
    kept = [history] if time and task == "regression" else []
    params = features.Params(numeric=[NAMES["amount"]], categorical=[NAMES["shop"]], history=kept)
    events = features.build(features.read(engine.connect(), problem), params, problem)
    drawn(plot_windows(params, problem))
    assert set(engine.columns(events)) == set(frame.columns)
