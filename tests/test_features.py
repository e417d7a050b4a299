"""Stage 06: the model sees what was known at the moment of the decision, and serving sees the same."""

from __future__ import annotations

from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from pydantic import ValidationError

from ninefold import features, metrics, training
from ninefold.core import engine, io, models
from ninefold.core.errors import DataError

STATED = statement()
HISTORY = {"of": "returned", "prefix": "returned", "known_after": "24h", "over": ["2d"], "by": [["shop"]]}
PARAMS = features.Params(numeric=["amount"], categorical=["shop"], history=[HISTORY])
NAME = "returned_by_shop_2d"
POINTS = {"by": "time", "validation": "2020-01-12", "holdout": "2020-01-16"}
ODD = ['a.b "q" it\'s', "$x$ {y} %s", "select", "ünï, [0]", "@0 a/b", " "]


def orders(count: int = 400, seed: int = 2) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    returned = pd.Series(random.integers(0, 2, count), dtype="Int64").mask(random.random(count) < 0.05)
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.sort(random.integers(0, 20 * 1440, count)), "m"),
            "shop": random.choice(["a", "b"], count),
            "amount": random.normal(10, 3, count),
            "returned": returned,
        }
    )


def compute(frame: pd.DataFrame, params: features.Params = PARAMS, stated: dict[str, Any] = STATED) -> pd.DataFrame:
    table = features.assemble(features.add_history(lazy(frame), params, stated), params, stated)
    return table.order_by(features.order(stated)).to_pandas()


def lazy(frame: pd.DataFrame) -> Any:
    return engine.connect().create_table("orders", frame)


def lake(**tables: pd.DataFrame) -> dict[str, Any]:
    connection = engine.connect()
    return {name: connection.create_table(name, frame) for name, frame in tables.items()}


def joined(join: dict[str, Any], stated: dict[str, Any] = STATED, **tables: pd.DataFrame) -> pd.DataFrame:
    params = features.Params(numeric=["id"], joins=[join])
    return features.join_related(lake(**tables), params, stated).order_by("id").to_pandas()


def stamps(*texts: str | None) -> pd.Series:
    return pd.Series(pd.to_datetime(list(texts), format="ISO8601")).astype("datetime64[us]")


SALES = pd.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "placed": stamps("2020-01-01 02:00", "2020-01-05 01:00", "2020-01-05 03:00", "2020-01-09"),
        "sku": ["x", "y", "y", None],
        "returned": [0, 1, 0, 1],
    }
)
ITEMS = pd.DataFrame({"sku": ["x", "y", "z"], "price": [1.5, 2.5, 9.0], "brand": ["u", None, "w"]})
PRICES = pd.DataFrame(
    {
        "code": ["x", "x", "y", "y", "y"],
        "since": stamps("2019-12-01", "2020-01-01 00:00", "2020-01-01", "2020-01-05", "2020-02-01"),
        "price": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
)
NEWEST = {"table": "prices", "by": {"sku": "code"}, "as_of": "since", "columns": ["price"]}


def test_history_is_the_mean_over_what_was_known() -> None:
    frame, built = orders(), compute(orders())
    for row in built.sample(30, random_state=1).itertuples():
        end = row.placed - pd.Timedelta("26h")  # 24 h until an outcome is known, 2 h from decision to event
        past = frame[(frame["shop"] == row.shop) & frame["placed"].between(end - pd.Timedelta("2d"), end)]
        assert getattr(row, NAME) == pytest.approx(past["returned"].astype("float64").mean(), nan_ok=True)


def test_features_do_not_see_the_future() -> None:
    frame, whole = orders(), compute(orders())
    for share in (0.3, 0.5, 0.8):
        moment = frame["placed"].iloc[int(share * len(frame))]
        cut = compute(frame[frame["placed"] <= moment])
        pd.testing.assert_frame_equal(cut, whole[whole["placed"] <= moment])


def test_an_outcome_is_not_used_before_it_is_known() -> None:
    frame, whole = orders(), compute(orders())
    moment = frame["placed"].iloc[300]
    unknown = frame["placed"] > moment - pd.Timedelta("26h")
    turned = frame.assign(returned=frame["returned"].mask(unknown, 1 - frame["returned"]))
    now, then = (table.loc[table["placed"] == moment, NAME] for table in (whole, compute(turned)))
    assert now.equals(then)


def test_online_values_equal_offline_ones() -> None:
    frame = orders()
    assert features.online_difference(lazy(frame), compute(frame), PARAMS, STATED) == 0
    assert features.future_difference(lazy(frame), compute(frame), PARAMS, STATED) == 0


def test_a_history_may_be_kept_by_a_column_that_is_no_feature() -> None:
    without = features.Params(numeric=["amount"], history=[HISTORY])
    events, frame = lazy(orders()), compute(orders(), without)
    assert "shop" in frame
    assert "shop" not in features.kinds(without, STATED["horizon"])
    assert features.online_difference(events, frame, without, STATED) == 0
    assert features.future_difference(events, frame, without, STATED) == 0


def test_the_history_of_a_target_of_classes_is_the_share_of_the_class_in_focus() -> None:
    stated = statement(classes=["no", "yes"])
    words = orders().assign(returned=orders()["returned"].map({0: "no", 1: "yes"}).astype("str"))
    pd.testing.assert_series_equal(compute(words, stated=stated)[NAME], compute(orders())[NAME])
    assert features.online_difference(lazy(words), compute(words, stated=stated), PARAMS, stated) == 0
    assert features.future_difference(lazy(words), compute(words, stated=stated), PARAMS, stated) == 0


def test_a_history_of_texts_is_refused() -> None:
    wrong = features.Params(numeric=["amount"], history=[{**HISTORY, "of": "shop"}])
    with pytest.raises(DataError, match=r"params.yaml, features.history: shop is string, expected a number"):
        compute(orders(), wrong)


def test_a_history_needs_time() -> None:
    with pytest.raises(DataError, match=r"params.yaml, features.history: needs problem.time"):
        compute(orders(), stated=statement(time=None))


def test_without_history_and_time_there_is_nothing_to_prove_and_nothing_kept() -> None:
    stated, plain = statement(time=None, horizon="0h"), features.Params(numeric=["amount"])
    frame = compute(orders(), plain, stated)
    assert features.moment_of(frame, stated) is None
    assert features.snapshot(lazy(orders()), plain, stated, None) == {}
    assert features.online_difference(lazy(orders()), frame, plain, stated) == 0
    assert features.future_difference(lazy(orders()), frame, plain, stated) == 0
    assert frame.columns.tolist() == ["id", "returned", "amount"]


def test_the_proofs_notice_a_feature_that_peeks() -> None:
    frame = orders()
    peeking = compute(frame).assign(**{NAME: lambda table: table["returned"].fillna(0)})
    assert features.online_difference(lazy(frame), peeking, PARAMS, STATED) > 0
    assert features.future_difference(lazy(frame), peeking, PARAMS, STATED) > 0


def test_a_feature_known_only_later_fails_the_gate() -> None:
    assert features.known_too_late(PARAMS, {"known_later": ["amount", "other"]}) == ["amount"]
    frame = compute(orders())
    table = features.dictionary(frame, PARAMS, STATED)
    failed = [check.name for check in features.checks(["amount"], 0, 0, frame, table) if not check.passed]
    assert failed == ["features known only after the decision"]


def test_a_joined_column_known_only_later_is_refused_by_the_name_of_its_table() -> None:
    join = {"table": "items", "by": ["sku"], "columns": {"price": "cost"}}
    params = features.Params(numeric=["cost"], joins=[join])
    assert features.known_too_late(params, {"known_later": ["items.price"]}) == ["cost"]
    assert features.known_too_late(params, {"known_later": ["price", "cost"]}) == []


def test_a_feature_without_any_value_fails_the_gate() -> None:
    frame = compute(orders().assign(amount=np.nan))
    table = features.dictionary(frame, PARAMS, STATED)
    failed = [check.name for check in features.checks([], 0, 0, frame, table) if not check.passed]
    assert failed == ["features without any value"]


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a project whose user wrote nothing."""
    monkeypatch.setattr(features.hooks, "project", lambda module, function, absent: absent)


def test_a_join_that_repeats_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"orders": lazy(orders())}
    monkeypatch.setattr(features.hooks, "project", lambda *_: lambda found, _: ibis.union(*[found["orders"]] * 2))
    with pytest.raises(DataError, match=r"project\.features\.build: 400 rows went in, 800 came out"):
        features.build(tables, PARAMS, STATED)


@pytest.mark.parametrize("build", [lambda found, _: found["ordres"], lambda found, _: found["orders"].select("amuont")])
def test_a_name_that_the_projects_own_code_gets_wrong_is_named(monkeypatch: pytest.MonkeyPatch, build: Any) -> None:
    monkeypatch.setattr(features.hooks, "project", lambda *_: build)
    with pytest.raises(
        DataError, match=r"project\.features\.build: .*(ordres|amuont).*the lake has orders: id, placed"
    ):
        features.build({"orders": lazy(orders())}, PARAMS, STATED)


@pytest.mark.usefixtures("default")
def test_events_are_built_with_their_joins() -> None:
    params = features.Params(numeric=["price"], joins=[{"table": "items", "by": ["sku"], "columns": ["price"]}])
    events = features.build(lake(orders=SALES, items=ITEMS), params, STATED)
    assert events.columns == (*SALES.columns, "price")
    assert events.count().execute() == len(SALES)


def test_a_join_finds_the_row_of_the_same_key_and_leaves_gaps() -> None:
    found = joined({"table": "items", "by": ["sku"], "columns": ["price", "brand"]}, orders=SALES, items=ITEMS)
    assert found.columns.tolist() == [*SALES.columns, "price", "brand"]
    assert found["price"].tolist()[:3] == [1.5, 2.5, 2.5]
    assert found["price"].isna().tolist() == [False, False, False, True]
    assert found["brand"].isna().tolist() == [False, True, True, True]


def test_a_joined_column_may_have_another_name_and_another_key() -> None:
    items = ITEMS.rename(columns={"sku": "code", "price": "id"})
    join = {"table": "items", "by": {"sku": "code"}, "columns": {"id": "cost", "code": "item"}}
    found = joined(join, orders=SALES, items=items)
    assert found.columns.tolist() == [*SALES.columns, "cost", "item"]
    assert found["cost"].tolist()[:3] == [1.5, 2.5, 2.5]


def test_a_join_as_of_takes_the_newest_row_known_by_the_decision() -> None:
    found = joined(NEWEST, orders=SALES, prices=PRICES).set_index("id")["price"]
    # Decided two hours before: at midnight of the 1st the price of that midnight is known, at 23:00 and 01:00 of the
    # 4th and 5th the one before and after the change.
    assert found.loc[[1, 2, 3]].tolist() == [2.0, 3.0, 4.0]
    assert np.isnan(found[4])
    assert joined(NEWEST, statement(horizon="1d"), orders=SALES, prices=PRICES)["price"].tolist()[:3] == [1, 3, 3]
    assert joined(NEWEST, statement(horizon="0h"), orders=SALES, prices=PRICES)["price"].tolist()[:3] == [2, 4, 4]


def test_a_join_as_of_never_takes_a_row_from_after_the_decision() -> None:
    random = np.random.default_rng(1)
    events = orders().assign(sku=random.choice(["x", "y"], 400))
    minutes = random.choice(20 * 1440, 300, replace=False)
    prices = pd.DataFrame({"code": random.choice(["x", "y"], 300), "since": minutes, "price": np.arange(300.0)})
    prices["since"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(minutes, "m")
    found = joined({**NEWEST, "columns": ["price", "since"]}, orders=events, prices=prices)
    decided = found["placed"] - pd.Timedelta("2h")
    assert (found["since"].isna() | (found["since"] <= decided)).all()
    for row, moment in zip(found.itertuples(), decided, strict=True):
        known = prices[(prices["code"] == row.sku) & (prices["since"] <= moment)].sort_values("since")
        assert row.price == (known["price"].iloc[-1] if len(known) else pytest.approx(np.nan, nan_ok=True))


def test_a_join_as_of_before_any_row_stays_missing_and_keeps_the_event() -> None:
    found = joined(NEWEST, orders=SALES, prices=PRICES.tail(1))
    assert len(found) == 4
    assert found["price"].isna().all()


def test_a_join_as_of_needs_time() -> None:
    with pytest.raises(DataError, match=r"features.joins\[0\].as_of: needs problem.time"):
        joined(NEWEST, statement(time=None), orders=SALES, prices=PRICES)


def test_several_joins_stand_side_by_side() -> None:
    joins = [
        NEWEST,
        {"table": "items", "by": ["sku"], "columns": {"price": "list"}},
        {**NEWEST, "columns": {"price": "p"}},
    ]
    params = features.Params(numeric=["price", "list", "p"], joins=joins)
    found = features.join_related(lake(orders=SALES, items=ITEMS, prices=PRICES), params, STATED).to_pandas()
    assert found["price"].equals(found["p"])
    assert found.sort_values("id")["list"].tolist()[:3] == [1.5, 2.5, 2.5]


def test_a_key_that_names_several_rows_is_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"features.joins\[0\].by: code names 2 rows of prices, which has 5; .* or `as_of` for their time",
    ):
        joined({"table": "prices", "by": {"sku": "code"}, "columns": ["price"]}, orders=SALES, prices=PRICES)


def test_a_missing_key_names_no_row_however_many_lack_it() -> None:
    items = pd.concat([ITEMS, ITEMS.assign(sku=None), ITEMS.assign(sku=None)], ignore_index=True)
    found = joined({"table": "items", "by": ["sku"], "columns": ["price"]}, orders=SALES, items=items)
    assert found["price"].isna().tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"table": "itmes"}, r"features.joins\[0\].table: found 'itmes', expected a table of the lake: orders, items"),
        ({"columns": ["pirce"]}, r"features.joins\[0\]: pirce is no column of items; found sku, price, brand"),
        ({"by": {"sku": "code"}}, r"features.joins\[0\]: code is no column of items"),
        ({"by": {"code": "sku"}}, r"features.joins\[0\].by: code is no column of the events"),
        (
            {"by": {"id": "sku"}},
            r"features.joins\[0\].by: id and items's sku: found int64 and string, expected one type",
        ),
        ({"columns": {"price": "id"}}, r"features.joins\[0\].columns: the events have id already; give another name"),
        ({"columns": {"price": "ID"}}, r"features.joins\[0\].columns: the events have ID already"),
        ({"as_of": "price"}, r"features.joins\[0\].as_of: the time and items's price: found timestamp.* and float64"),
    ],
)
def test_a_join_that_cannot_be_made_says_why(join: dict[str, Any], message: str) -> None:
    whole = {"table": "items", "by": ["sku"], "columns": ["price"], **join}
    with pytest.raises(DataError, match=message):
        joined(whole, orders=SALES, items=ITEMS)


def test_two_columns_joined_under_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="every column once; x stands there twice"):
        features.Join(table="items", by=["sku"], columns={"price": "x", "brand": "X"})


def test_a_column_that_is_not_there_is_named() -> None:
    wrong = features.Params(numeric=["amuont"], history=[HISTORY])
    with pytest.raises(DataError, match=r"amuont is no column .* found id, placed, shop, amount"):
        compute(orders(), wrong)


def test_a_feature_named_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="amount stands there twice"):
        features.Params(numeric=["amount", "amount"])
    with pytest.raises(ValidationError, match="shop stands there twice"):
        features.Params(categorical=["shop"], text=["shop"])
    with pytest.raises(ValidationError, match="at least one feature"):
        features.Params()


def test_the_target_is_no_feature() -> None:
    with pytest.raises(DataError, match="returned is the target itself"):
        compute(orders(), features.Params(numeric=["amount", "returned"]))


@pytest.mark.parametrize("kind", ["numeric", "categorical", "text"])
def test_the_time_of_the_events_is_a_date_and_nothing_else(kind: str) -> None:
    with pytest.raises(DataError, match=r"placed is the time of the events; name it in features.dates"):
        compute(orders(), features.Params(**{kind: ["placed"]}))


def test_dates_are_given_as_days() -> None:
    frame = SALES.assign(signup=stamps("1970-01-02", "2020-02-29 12:00", None, "1969-12-31 18:00"))
    found = compute(frame, features.Params(dates=["signup"]))["signup"]
    assert found.dtype == "float64"
    assert found.tolist()[:2] == [1, 18321.5]
    assert np.isnan(found[2])
    assert found[3] == -0.25


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match=r"features.dates: amount is float64, expected a timestamp"):
        compute(orders(), features.Params(dates=["amount"]))


def test_the_time_of_the_events_may_be_a_date_feature() -> None:
    params = features.Params(dates=["placed"])
    found = compute(orders(), params)
    assert pd.api.types.is_datetime64_any_dtype(found["placed"])  # by which rows are split
    signed = {"all": ["placed"], "numeric": [], "categorical": [], "wide": [], "text": [], "dates": ["placed"]}
    rows = found[found["returned"].notna()].astype({"returned": "int64"})
    hour = rows["placed"].dt.hour
    rows["returned"] = (hour > 12).astype("int64")
    model = training.fit(models.extra_trees({"n_estimators": 10}, 1, signed, STATED), rows, signed, STATED)
    days = rows.assign(placed=(rows["placed"] - pd.Timestamp(0)) / pd.Timedelta(days=1))
    said = training.predict(model, rows, signed, STATED)["probability"]
    assert (said[hour.to_numpy() > 12] > 0.9).all()
    assert said.equals(training.predict(model, days, signed, STATED)["probability"])  # as the service sends it


@pytest.mark.parametrize("task", TASKS)
def test_the_feature_table_holds_the_target_as_it_is_learned(task: str) -> None:
    stated = statement(task)
    values = {
        "binary": [0, 1, 0, None],
        "multiclass": ["small", 'the "l"', "huge", None],
        "regression": [1, 2.5, 0, None],
    }
    expected = {"binary": [0, 1, 0, None], "multiclass": [0, 2, None, None], "regression": [1, 2.5, 0, None]}
    frame = SALES.drop(columns="returned").assign(**{stated["target"]: values[task]})
    found = compute(frame, features.Params(categorical=["sku"]), stated)
    assert found.columns.tolist() == ["id", "placed", stated["target"], "sku"]
    assert (
        found[stated["target"]].astype(object).where(found[stated["target"]].notna(), None).tolist() == expected[task]
    )


def test_kinds_have_the_types_that_the_model_takes() -> None:
    frame = orders().assign(flag=True, code=7, note="a b", signup=orders()["placed"])
    params = features.Params(
        numeric=["amount", "flag"], categorical=["code"], text=["note"], dates=["signup"], history=[HISTORY]
    )
    found = compute(frame, params)
    kinds = features.kinds(params, "2h")
    assert list(kinds) == ["amount", "flag", NAME, "signup", "code", "note"]
    assert found.columns.tolist() == ["id", "placed", "shop", "returned", *kinds]
    for name, kind in kinds.items():
        assert found[name].dtype == ("str" if kind in ("categorical", "text") else "float64"), name
    assert found["code"].unique().tolist() == ["7"]


@pytest.mark.parametrize("kind", ["numeric", "categorical", "dates"])
def test_a_key_that_is_a_feature_too_keeps_its_rows_in_their_part(kind: str) -> None:
    frame = orders().assign(owner=np.arange(400) // 2)
    if kind == "dates":
        frame["owner"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["owner"], "h")
    known = frame[frame["returned"].notna()]
    for stated in (statement(time=None, key=["id"], group=["owner"]), statement(time=None, key=["id", "owner"])):
        settings = {
            "split": {"validation": 0.2, "holdout": 0.2},
            "bootstrap": {"replicates": 20, "level": 0.9, "seed": 1},
        }
        points = metrics.split(known, metrics.Params(primary="log_loss", **settings), stated)
        found = compute(known, features.Params(**{kind: ["owner"]}), stated).sort_values("id", ignore_index=True)
        assert metrics.part_of(found, points, stated).tolist() == metrics.part_of(known, points, stated).tolist()


def test_a_category_of_many_values_is_flagged() -> None:
    frame = orders(900).assign(wide=[f"w{number % 300}" for number in range(900)])
    params = features.Params(categorical=["shop", "wide"], text=[])
    points = {"by": "time", "validation": "2020-01-15", "holdout": "2020-01-18"}
    built = compute(frame, params)
    assert features.wide(built, params, STATED, points) == ["wide"]
    early = {**points, "validation": "2020-01-02"}  # what only later rows hold is not looked at
    assert features.wide(built, params, STATED, early) == []
    assert features.signature(params, STATED, ["wide"])["features"] == [
        {"name": "shop", "kind": "categorical"},
        {"name": "wide", "kind": "categorical", "wide": True},
    ]


def test_the_strongest_features_are_ranked_on_training_rows_alone() -> None:
    frame = orders().assign(other=orders(seed=3)["amount"])
    frame["returned"] = (frame["amount"] > 10).astype("int64")
    params = features.Params(numeric=["other", "amount"], categorical=["shop"])
    built = compute(frame, params)
    ranked = features.strongest(built, params, STATED, POINTS)
    assert ranked["feature"].tolist() == ["amount", "other"]
    assert ranked.loc[0, ["lowest", "highest", "range"]].tolist() == [0, 1, 1]
    later = metrics.part_of(built, POINTS, STATED) != "train"
    turned = built.assign(amount=built["amount"].mask(later, 0))
    pd.testing.assert_frame_equal(features.strongest(turned, params, STATED, POINTS), ranked)


def write(project: Project, frame: pd.DataFrame, params: features.Params, stated: dict[str, Any]) -> dict[str, bytes]:
    events = lazy(frame)
    table = features.assemble(features.add_history(events, params, stated), params, stated)
    moment = features.moment_of(compute(frame, params, stated), stated)
    features.save(table, features.snapshot(events, params, stated, moment), [], params, stated, moment)
    io.publish()
    return {**project.bytes("data/features"), **project.bytes("data/online")}


def test_the_same_events_give_the_same_bytes(project: Project) -> None:
    assert write(project, orders(), PARAMS, STATED) == write(project, orders(), PARAMS, STATED)
    assert len(features.load()) == 400


@pytest.mark.parametrize("task", TASKS)
def test_a_table_without_time_is_written_in_one_piece(project: Project, task: str) -> None:
    stated = statement(task, time=None, target="returned")
    files = write(project, orders().drop(columns="placed"), features.Params(numeric=["amount"]), stated)
    assert sorted(files) == ["data/features/part.parquet", "data/online/online.json"]
    assert io.read_json("data/online/online.json")["moment"] is None
    assert features.load()["id"].tolist() == list(range(400))


def test_a_column_may_be_called_anything(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MOMENTS", 3)
    stated, first = statement(key=["id", ODD[0]]), ODD[0]
    frame = orders(200).assign(**dict.fromkeys(ODD, orders(200)["shop"]))
    history = {**HISTORY, "prefix": first, "by": [[name] for name in ODD]}
    others = {f"{name}3": f"{name}4" for name in ODD}
    join = {"table": "items", "by": {first: f"{first}2"}, "columns": others}
    params = features.Params(numeric=[*others.values()], categorical=ODD, history=[history], joins=[join])
    items = pd.DataFrame({f"{first}2": ["a", "b"], **{name: [1.0, 2.0] for name in others}})
    events = features.join_related(lake(orders=frame, items=items), params, stated)
    table = features.assemble(features.add_history(events, params, stated), params, stated)
    found = table.order_by(features.order(stated)).to_pandas()
    expected = compute(orders(200))[NAME]
    for name in ODD:
        assert (found[f"{name}4"] == found[name].map({"a": 1.0, "b": 2.0})).all()
        assert found[f"{first}_by_{name}_2d"].rename(NAME).equals(expected)
    assert features.online_difference(events, found, params, stated) == 0
    assert features.future_difference(events, found, params, stated) == 0
    moment = features.moment_of(found, stated)
    features.save(table, features.snapshot(events, params, stated, moment), [], params, stated, moment)
    io.publish()
    pd.testing.assert_frame_equal(features.load(), found, check_dtype=False)
    stores = io.read_json("data/online/online.json")["stores"]
    assert [store["by"] for store in stores] == [[name] for name in ODD]
    assert all(len(io.read_table(f"data/online/{store['file']}")) == 2 for store in stores)


def test_feature_files_have_names_of_their_own_that_any_system_takes(project: Project) -> None:
    history = [{**HISTORY, "prefix": prefix} for prefix in ("a/b", "a b", "../x", "a_b")]
    files = write(project, orders(), features.Params(numeric=["amount"], history=history), STATED)
    names = [name.removeprefix("data/online/") for name in files if name.startswith("data/online/")]
    assert len(set(names)) == 5
    assert "a_b_by_shop_2d.parquet" in names
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.") for name in names)
    assert not any(name.startswith(".") for name in names)
