"""The events: what is declared of them, their joins, and history over what was known at the decision."""

from __future__ import annotations

from itertools import product
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement
from feature_tables import (
    HISTORY,
    ITEMS,
    NAME,
    NEWEST,
    PARAMS,
    PRICES,
    PROBLEM,
    SALES,
    compute,
    lay,
    lazy,
    orders,
    past_of,
    plainly,
    prove,
    run,
    stamps,
)
from pydantic import ValidationError

from ninefold import artifacts, engine, features, hooks, metrics
from ninefold.errors import DataError, ParamsError
from ninefold.features import FeatureSchema
from ninefold.problem.statement import Problem
from ninefold.training import cross_validation, models

AMOUNT = {"numeric": ["amount"]}


def joined(join: dict[str, Any], problem: Problem = PROBLEM, **tables: pd.DataFrame) -> pd.DataFrame:
    params, connection = features.Params(numeric=["id"], joins=[join]), engine.connect()
    lake = {name: connection.create_table(name, frame) for name, frame in tables.items()}
    return features.join_related(lake, params, problem).order_by("id").to_pandas()


@pytest.mark.parametrize(
    ("params", "changes", "message"),
    [
        (AMOUNT | {"history": [{**HISTORY, "of": "shop"}]}, {}, "features.history: shop is string, expected a number"),
        (AMOUNT | {"history": [HISTORY]}, {"time": None}, "params.yaml, features.history: needs problem.time"),
        ({"numeric": ["amuont"]}, {}, "amuont is no column .* found id, placed, shop, amount"),
        ({"numeric": ["amount", "returned"]}, {}, "returned is the target itself"),
        *(
            ({kind: ["placed"]}, {}, "placed is the time .* features.dates")
            for kind in ("numeric", "categorical", "text")
        ),
        ({"dates": ["amount"]}, {}, "features.dates: amount is float64, expected a timestamp"),
    ],
)
def test_a_feature_that_cannot_be_made_says_why(params: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute(orders(), features.Params(**params), statement(**changes))


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda found, _: ibis.union(*[found["orders"]] * 2), 800),
        (lambda found, _: found["orders"].filter(found["orders"].id > 0), 399),
        (lambda found, _: found["orders"].select("id", "placed", "shop", "amount", "returned").limit(0), 0),
    ],
)
def test_a_join_that_repeats_or_drops_rows_is_refused(project: Project, build: Any, count: int) -> None:
    lay(project, orders=orders())
    project.functions["features", "build"] = build
    message = rf"project\.features\.build: 400 rows of 2020-01 went in, {count} came out; a join drops or repeats"
    with pytest.raises(DataError, match=message):
        run()


@pytest.mark.parametrize("build", [lambda found, _: found["ordres"], lambda found, _: found["orders"].select("amuont")])
def test_a_name_that_the_projects_own_code_gets_wrong_is_named(monkeypatch: pytest.MonkeyPatch, build: Any) -> None:
    monkeypatch.setattr(hooks, "project", lambda *_: build)
    with pytest.raises(
        DataError, match=r"project\.features\.build: .*(ordres|amuont).*the lake has orders: id, placed"
    ):
        features.build({"orders": lazy(orders())}, PARAMS, PROBLEM)


def test_a_join_as_of_takes_the_newest_row_known_by_the_decision() -> None:
    found = joined(NEWEST, orders=SALES, prices=PRICES).set_index("id")["price"]
    # Decided two hours before: at midnight of the 1st the price of that midnight is known, at 23:00 and 01:00 of the
    # 4th and 5th the one before and after the change.
    assert found.loc[[1, 2, 3]].tolist() == [2.0, 3.0, 4.0]
    assert np.isnan(found[4])
    assert joined(NEWEST, statement(horizon="1d"), orders=SALES, prices=PRICES)["price"].tolist()[:3] == [1, 3, 3]
    assert joined(NEWEST, statement(horizon="0h"), orders=SALES, prices=PRICES)["price"].tolist()[:3] == [2, 4, 4]


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"table": "itmes"}, "table: found 'itmes', expected a table of the lake: orders, items, prices"),
        ({"columns": ["pirce"]}, ": pirce is no column of items; found sku, price, brand"),
        ({"by": {"sku": "code"}}, ": code is no column of items"),
        ({"by": {"code": "sku"}}, "by: code is no column of the events"),
        ({"by": {"id": "sku"}}, "by: id and items's sku: found int64 and string, expected one type"),
        ({"columns": {"price": "id"}}, "columns: the events have id already; give another name"),
        ({"columns": {"price": "ID"}}, "columns: the events have ID already"),
        ({"as_of": "price"}, "as_of: the time and items's price: found timestamp.* and float64"),
        ({**NEWEST, "as_of": None}, "by: code names 2 rows of prices, which has 5; .* or `as_of` for their time"),
        ({**NEWEST, "time": None}, "as_of: needs problem.time"),
    ],
)
def test_a_join_that_cannot_be_made_says_why(join: dict[str, Any], message: str) -> None:
    problem = statement(time=join.pop("time", "placed"))
    whole = {"table": "items", "by": ["sku"], "columns": ["price"], **join}
    with pytest.raises(DataError, match=rf"features.joins\[0\]\.?{message}"):
        joined(whole, problem, orders=SALES, items=ITEMS, prices=PRICES)


def test_a_missing_key_names_no_row_however_many_lack_it() -> None:
    items = pd.concat([ITEMS, ITEMS.assign(sku=None), ITEMS.assign(sku=None)], ignore_index=True)
    found = joined({"table": "items", "by": ["sku"], "columns": ["price"]}, orders=SALES, items=items)
    assert found["price"].isna().tolist() == [False, False, False, True]


def test_dates_are_given_as_days() -> None:
    frame = SALES.assign(signup=stamps("1970-01-02", "2020-02-29 12:00", None, "1969-12-31 18:00"))
    found = compute(frame, features.Params(dates=["signup"]))["signup"]
    assert found.dtype == "float64"
    assert found.tolist()[:2] == [1, 18321.5]
    assert np.isnan(found[2])
    assert found[3] == -0.25


def test_the_time_of_the_events_may_be_a_date_feature() -> None:
    params = features.Params(dates=["placed"])
    found = compute(orders(), params)
    assert pd.api.types.is_datetime64_any_dtype(found["placed"])  # by which rows are split
    schema, rows = FeatureSchema(all=["placed"], dates=["placed"]), found.dropna(subset="returned")
    rows["returned"] = (rows["placed"].dt.hour > 12).astype("int64")
    model = cross_validation.fit(models.extra_trees({"n_estimators": 10}, 1, schema, PROBLEM), rows, schema, PROBLEM)
    days = rows.assign(placed=(rows["placed"] - pd.Timestamp(0)) / pd.Timedelta(days=1))  # as the service sends it
    predicted, served = (cross_validation.predict(model, each, schema, PROBLEM)["probability"] for each in (rows, days))
    assert predicted.nunique() > 1
    assert predicted.equals(served)


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
    shares, bootstrap = {"validation": 0.2, "holdout": 0.2}, {"replicates": 20, "level": 0.9, "seed": 1}
    settings = metrics.Params(primary="log_loss", split=shares, bootstrap=bootstrap)
    for problem in (statement(time=None, key=["id"], group=["owner"]), statement(time=None, key=["id", "owner"])):
        points = metrics.split(known, settings, problem)
        found = compute(known, features.Params(**{kind: ["owner"]}), problem).sort_values("id", ignore_index=True)
        assert metrics.part_of(found, points, problem).tolist() == metrics.part_of(known, points, problem).tolist()


def kept_by_shop(how: str, prior: float | None) -> features.Params:
    common = {**HISTORY, "how": how, "prior": prior, "over": ["6h", "2d"], "by": [["shop"], ["shop", "size"]]}
    return features.Params(
        numeric=["id"], history=[{**common, "of": of, "prefix": of} for of in ("amount", "returned")]
    )


def sized(count: int = 150) -> pd.DataFrame:
    """Return orders with a second key, and gaps in what is looked back on."""
    random, frame = np.random.default_rng(4), orders(count)
    gaps = random.random(count) < 0.2
    return frame.assign(size=random.choice(["s", "m", None], count), amount=frame["amount"].mask(gaps))


@pytest.mark.parametrize("prior", [None, 7.25])
@pytest.mark.parametrize("how", ["mean", "sum", "count", "min", "max", "std"])
def test_a_history_takes_of_the_known_past_what_it_says(how: str, prior: float | None) -> None:
    frame, params = sized(), kept_by_shop(how, prior)
    built = compute(frame, params)
    for of, by, over in product(["amount", "returned"], [["shop"], ["shop", "size"]], ["6h", "2d"]):
        name = f"{of}_by_{'_'.join(by)}_{over}"
        pasts = [past_of(frame, {key: row[key] for key in by}, row["placed"], over)[of] for _, row in built.iterrows()]
        expected = [plainly(past, how, prior) for past in pasts]
        np.testing.assert_allclose(built[name], expected, rtol=1e-12, atol=1e-12)
        empty = np.array([past.notna().sum() < (2 if how == "std" else 1) for past in pasts])
        assert 0 < empty.sum() < len(frame)
        if prior is not None:
            assert (built[name] == prior).tolist() == empty.tolist(), "the prior stands there and nowhere else"
    assert prove(frame, params) == (pytest.approx(0, abs=1e-12), 0)


def test_a_history_may_be_kept_by_a_column_that_is_no_feature() -> None:
    without = features.Params(numeric=["amount"], history=[HISTORY])
    assert "shop" in compute(orders(), without)
    assert "shop" not in features.kinds(without, PROBLEM.horizon)
    assert prove(orders(), without) == (0, 0)


def test_the_history_of_a_target_of_classes_is_the_share_of_the_class_in_focus() -> None:
    problem = statement(classes=["no", "yes"])
    words = orders().assign(returned=orders()["returned"].map({0: "no", 1: "yes"}).astype("str"))
    pd.testing.assert_series_equal(compute(words, problem=problem)[NAME], compute(orders())[NAME])
    assert prove(words, problem=problem) == (0, 0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"numeric": ["amount", "amount"]}, "amount stands there twice"),
        ({"categorical": ["shop"], "text": ["shop"]}, "shop stands there twice"),
        ({}, "at least one feature"),
        (
            {"numeric": ["amount"], "joins": [{"table": "t", "by": ["a"], "columns": {"b": "x", "c": "X"}}]},
            "x stands there twice",
        ),
    ],
)
def test_a_feature_named_twice_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        features.Params(**params)


def test_the_user_declares_joins_and_histories_beside_those_of_the_params(project: Project) -> None:
    frame = orders().assign(sku=np.where(orders()["id"] % 2, "x", "y"))
    lay(project, orders=frame, items=ITEMS, prices=PRICES)
    own = {"numeric": ["amount", "now"], "categorical": ["shop", "brand"]}
    joins = [{"table": "items", "by": ["sku"], "columns": ["brand"]}, {**NEWEST, "columns": {"price": "now"}}]
    most = {"of": "amount", "prefix": "amount", "known_after": "1h", "over": ["1d", "2d"], "by": [["shop", "sku"]]}
    level = {"of": "now", "prefix": "level", "known_after": "0h", "over": ["3d"], "by": [["shop"]]}
    in_params = features.Params(**own, joins=joins, history=[HISTORY, {**most, "how": "max", "prior": 0}, level])
    project.functions["features", "define"] = lambda problem: [
        features.join("items", by="sku", columns=["brand"]),
        features.join("prices", by={"sku": "code"}, columns={"price": "now"}, as_of="since"),
        features.history("amount", by=["shop", "sku"], over=["1d", "2d"], known_after="1h", how="max", prior=0),
        features.history("now", by="shop", over="3d", known_after="0h", prefix="level"),
    ]
    params = features.Params(**own, history=[HISTORY])
    assert features.declared(params, PROBLEM) == in_params
    run(params)
    artifacts.publish()
    names = ["amount_by_shop_sku_1d", "amount_by_shop_sku_2d", "level_by_shop_3d"]
    assert features.load()[["brand", "now", *names]].notna().any().all()


AGAIN = ("amount", "shop", "2d", "1h")


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: None, "found None, expected a list of what `join` and `history` return"),
        (lambda: features.history(*AGAIN), r"found History\(.*, expected a list"),
        (lambda: [HISTORY], r"found \[\{'of': 'returned'.*, expected a list of what"),
        (lambda: [features.history("returned", "shop", "2d", "24h")], f"every feature once; {NAME} stands there twice"),
        (lambda: [features.history(*AGAIN)] * 2, "amount_by_shop_2d stands there twice"),
        (lambda: [features.history("amount", "shop", "2 days", "1h")], "over.0: found '2 days', expected .*pattern"),
        (lambda: [features.history(*AGAIN, how="median")], "how: found 'median', expected .*'mean'"),
        (lambda: [features.history(*AGAIN, prior=np.inf)], "prior: found inf, expected .*finite"),
        (lambda: [features.history("amount", "shop", [], "1h")], r"over: found \[\], expected .*at least 1"),
        (lambda: [features.join("items", [], ["price"])], r"by.*: found \[\], expected .*at least 1"),
        (lambda: [features.join("items", "sku", {"a": "x", "b": "X"})], "every column once; x stands there twice"),
    ],
)
def test_a_declaration_that_is_none_or_wrong_is_refused(project: Project, define: Any, message: str) -> None:
    project.functions["features", "define"] = lambda _: define()
    with pytest.raises(ParamsError, match=rf"project\.features\.define: .*{message}"):
        features.declared(PARAMS, PROBLEM)
