"""The events: what is declared of them, their joins, and history over what was known at the decision."""

from itertools import product
from typing import Any

import feature_tables as data
import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement
from pydantic import ValidationError

from ninefold import artifacts, engine, features, metrics
from ninefold.errors import DataError, ParamsError
from ninefold.features import FeatureSchema
from ninefold.problem.statement import Problem
from ninefold.training import cross_validation, models

AGAIN = ("amount", "shop", "2d", "1h")


def joined(join: dict[str, Any], problem: Problem = data.PROBLEM, **tables: pd.DataFrame) -> pd.DataFrame:
    params, connection = features.Params(numeric=["id"], joins=[join]), engine.connect()
    lake = {name: connection.create_table(name, frame) for name, frame in tables.items()}
    return features.join_related(lake, params, problem).order_by("id").to_pandas()


@pytest.mark.parametrize(("params", "changes", "message"), [
    ({"history": [{**data.HISTORY, "of": "shop"}]}, {}, "features.history: shop is string, expected a number"),
    ({"history": [data.HISTORY]}, {"time": None}, "params.yaml, features.history: needs problem.time"),
    ({"numeric": ["amuont"]}, {}, "features: the table of events .* lacks amuont; found id, placed, shop, amount"),
    ({"numeric": ["amount", "returned"]}, {}, "returned is the target itself"),
    *(({kind: ["placed"]}, {}, "placed is the time .* features.dates") for kind in ("numeric", "categorical", "text")),
    ({"numeric": ["id"], "dates": ["amount"]}, {}, "features.dates: amount is float64, expected a timestamp"),
    ({"numeric": ["amount", "amount"]}, {}, "amount stands there twice"),
    ({"categorical": ["shop"], "text": ["shop"]}, {}, "shop stands there twice"),
    ({"numeric": []}, {}, "at least one feature"),
])  # fmt: skip
def test_a_feature_that_cannot_be_made_says_why(params: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, ValidationError), match=message):
        data.compute(data.orders(), features.Params(**{"numeric": ["amount"], **params}), statement(**changes))


@pytest.mark.parametrize(("build", "message"), [
    (lambda found, _: ibis.union(*[found["orders"]] * 2), "400 rows of 2020-01 went in, 800 .*; a join drops"),
    (lambda found, _: found["orders"].filter(found["orders"].id > 0), "400 rows of 2020-01 went in, 399 came out"),
    (lambda found, _: found["orders"].limit(0), "in, 0 came out"),
    (lambda found, _: found["ordres"], "ordres.*the lake has orders: id, placed"),
    (lambda found, _: found["orders"].select("amuont"), "amuont.*lake has orders: id, placed"),
])  # fmt: skip
def test_a_build_that_changes_rows_or_gets_a_name_wrong_says_so(project: Project, build: Any, message: str) -> None:
    data.lay(project, orders=data.orders())
    project.functions["features", "build"] = build
    with pytest.raises(DataError, match=rf"project\.features\.build: .*{message}"):
        data.run()


@pytest.mark.parametrize(("horizon", "prices"), [("2h", [2, 3, 4]), ("1d", [1, 3, 3]), ("0h", [2, 4, 4])])
def test_a_join_as_of_takes_the_newest_row_known_by_the_decision(horizon: str, prices: list[float]) -> None:
    found = joined(data.NEWEST, statement(horizon=horizon), orders=data.SALES, prices=data.PRICES)["price"].tolist()
    # Decided two hours before: at midnight of the 1st the price of that midnight is known, at 23:00 and 01:00 of the
    # 4th and 5th the one before and after the change.
    assert found == pytest.approx([*prices, np.nan], nan_ok=True)


@pytest.mark.parametrize(("join", "message"), [
    ({"table": "itmes"}, "table: found 'itmes', expected a table of the lake: orders, items, prices"),
    ({"columns": ["pirce"]}, ": table items: lacks pirce; found sku, price, brand"),
    ({"by": {"sku": "code"}}, ": table items: lacks code; found"),
    ({"by": {"code": "sku"}}, "by: the table of events .* lacks code; found"),
    ({"by": {"id": "sku"}}, "by: id and items's sku: found int64 and string, expected one type"),
    ({"columns": {"price": "id"}}, "columns: the events have id already; give another name"),
    ({"columns": {"price": "ID"}}, "columns: the events have ID already"),
    ({"as_of": "price"}, "as_of: the time and items's price: found timestamp.* and float64"),
    ({**data.NEWEST, "as_of": None}, "by: code names 2 rows of prices, which has 5; .* or `as_of` for their time"),
    ({**data.NEWEST, "time": None}, "as_of: needs problem.time"),
])  # fmt: skip
def test_a_join_that_cannot_be_made_says_why(join: dict[str, Any], message: str) -> None:
    problem = statement(time=join.pop("time", "placed"))
    whole = {"table": "items", "by": ["sku"], "columns": ["price"], **join}
    with pytest.raises(DataError, match=rf"features.joins\[0\]\.?{message}"):
        joined(whole, problem, orders=data.SALES, items=data.ITEMS, prices=data.PRICES)


def test_a_missing_key_names_no_row_however_many_lack_it() -> None:
    items = pd.concat([data.ITEMS, data.ITEMS.assign(sku=None), data.ITEMS.assign(sku=None)], ignore_index=True)
    found = joined({"table": "items", "by": ["sku"], "columns": ["price"]}, orders=data.SALES, items=items)
    assert found["price"].isna().tolist() == [False, False, False, True]


def test_dates_are_given_as_days() -> None:
    frame = data.SALES.assign(signup=data.stamps("1970-01-02", "2020-02-29 12:00", None, "1969-12-31 18:00"))
    found = data.compute(frame, features.Params(dates=["signup"]))["signup"]
    assert found.dtype == "float64"
    assert found.tolist() == pytest.approx([1, 18321.5, np.nan, -0.25], nan_ok=True)


def test_the_time_of_the_events_may_be_a_date_feature() -> None:
    found = data.compute(data.orders(), features.Params(dates=["placed"]))
    assert pd.api.types.is_datetime64_any_dtype(found["placed"])  # by which rows are split
    schema, rows = FeatureSchema(all=["placed"], dates=["placed"]), found.dropna(subset="returned")
    rows["returned"] = (rows["placed"].dt.hour > 12).astype("int64")
    trees = models.BUILDERS["extra_trees"]({"n_estimators": 10}, 1, schema, data.PROBLEM)
    model = cross_validation.fit(trees, rows, schema, data.PROBLEM)
    days = rows.assign(placed=(rows["placed"] - pd.Timestamp(0)) / pd.Timedelta(days=1))  # as the service sends it
    predicted, served = (cross_validation.predict(model, each, schema, data.PROBLEM) for each in (rows, days))
    assert predicted["probability"].nunique() > 1
    assert predicted["probability"].equals(served["probability"])


def test_kinds_have_the_types_that_the_model_takes() -> None:
    frame = data.orders().assign(flag=True, code=7, note="a b", signup=data.orders()["placed"])
    own = {"numeric": ["amount", "flag"], "categorical": ["code"], "text": ["note"], "dates": ["signup"]}
    params = features.Params(**own, history=[data.HISTORY])
    found, kinds = data.compute(frame, params), features.kinds(params, "2h")
    assert list(kinds) == ["amount", "flag", data.NAME, "signup", "code", "note"]
    assert found.columns.tolist() == ["id", "placed", "shop", "returned", *kinds], "shop is kept, and no feature"
    for name, kind in kinds.items():
        assert found[name].dtype == ("str" if kind in ("categorical", "text") else "float64"), name
    assert found["code"].unique().tolist() == ["7"]


@pytest.mark.parametrize("kind", ["numeric", "categorical", "dates"])
def test_a_key_that_is_a_feature_too_keeps_its_rows_in_their_part(kind: str) -> None:
    frame = data.orders().assign(owner=np.arange(400) // 2)
    if kind == "dates":
        frame["owner"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["owner"], "h")
    known = frame[frame["returned"].notna()]
    settings = metrics.Params(primary="log_loss", split={"validation": 0.2, "holdout": 0.2}, level=0.9)
    for problem in (statement(time=None, key=["id"], group=["owner"]), statement(time=None, key=["id", "owner"])):
        points = metrics.split(known, settings, problem)
        found = data.compute(known, features.Params(**{kind: ["owner"]}), problem).sort_values("id", ignore_index=True)
        assert metrics.part_of(found, points, problem).tolist() == metrics.part_of(known, points, problem).tolist()


@pytest.mark.parametrize("prior", [None, 7.25])
@pytest.mark.parametrize("how", ["mean", "sum", "count", "min", "max", "std"])
def test_a_history_takes_of_the_known_past_what_it_says(how: str, prior: float | None) -> None:
    random, frame = np.random.default_rng(4), data.orders(150)
    gaps = frame["amount"].mask(random.random(150) < 0.2)
    frame = frame.assign(size=random.choice(["s", "m", None], 150), amount=gaps)
    kept = {**data.HISTORY, "how": how, "prior": prior, "over": ["6h", "2d"], "by": [["shop"], ["shop", "size"]]}
    history = [{**kept, "of": of, "prefix": of} for of in ("amount", "returned")]
    params = features.Params(numeric=["id"], history=history)
    built = data.compute(frame, params)
    for of, by, over in product(["amount", "returned"], [["shop"], ["shop", "size"]], ["6h", "2d"]):
        name = f"{of}_by_{'_'.join(by)}_{over}"
        pasts = [data.past_of(frame, dict(row[by]), row["placed"], over)[of] for _, row in built.iterrows()]
        expected = [data.plainly(past, how, prior) for past in pasts]
        np.testing.assert_allclose(built[name], expected, rtol=1e-12, atol=1e-12)
        empty = np.array([past.notna().sum() < (2 if how == "std" else 1) for past in pasts])
        assert 0 < empty.sum() < len(frame)
        if prior is not None:
            assert (built[name] == prior).tolist() == empty.tolist(), "the prior stands there and nowhere else"
    assert data.prove(frame, params) == (pytest.approx(0, abs=1e-12), 0)


def test_the_history_of_a_target_of_classes_is_the_share_of_the_class_in_focus() -> None:
    problem, orders = statement(classes=["no", "yes"]), data.orders()
    words = orders.assign(returned=orders["returned"].map({0: "no", 1: "yes"}).astype("str"))
    pd.testing.assert_frame_equal(data.compute(words, problem=problem)[[data.NAME]], data.compute(orders)[[data.NAME]])
    assert data.prove(words, problem=problem) == (0, 0)


def test_the_user_declares_joins_and_histories_beside_those_of_the_params(project: Project) -> None:
    frame = data.orders().assign(sku=np.where(data.orders()["id"] % 2, "x", "y"))
    data.lay(project, orders=frame, items=data.ITEMS, prices=data.PRICES)
    own = {"numeric": ["amount", "now"], "categorical": ["shop", "brand"]}
    joins = [{"table": "items", "by": ["sku"], "columns": ["brand"]}, {**data.NEWEST, "columns": {"price": "now"}}]
    most = {"of": "amount", "prefix": "amount", "known_after": "1h", "over": ["1d", "2d"], "by": [["shop", "sku"]]}
    level = {"of": "now", "prefix": "level", "known_after": "0h", "over": ["3d"], "by": [["shop"]]}
    in_params = features.Params(**own, joins=joins, history=[data.HISTORY, {**most, "how": "max", "prior": 0}, level])
    project.functions["features", "define"] = lambda problem: [
        features.join("items", by="sku", columns=["brand"]),
        features.join("prices", by={"sku": "code"}, columns={"price": "now"}, as_of="since"),
        features.history("amount", by=["shop", "sku"], over=["1d", "2d"], known_after="1h", how="max", prior=0),
        features.history("now", by="shop", over="3d", known_after="0h", prefix="level"),
    ]
    params = features.Params(**own, history=[data.HISTORY])
    assert features.declared(params, data.PROBLEM) == in_params
    data.run(params)
    artifacts.publish()
    names = ["amount_by_shop_sku_1d", "amount_by_shop_sku_2d", "level_by_shop_3d"]
    assert features.load()[["brand", "now", *names]].notna().any().all()


@pytest.mark.parametrize(("define", "message"), [
    (lambda: None, "found None, expected a list of what `join` and `history` return"),
    (lambda: features.history(*AGAIN), r"found History\(.*, expected a list"),
    (lambda: [data.HISTORY], r"found \[\{'of': 'returned'.*, expected a list of what"),
    (lambda: [features.history("returned", "shop", "2d", "24h")], f"feature once; {data.NAME} stands there twice"),
    (lambda: [features.history(*AGAIN)] * 2, "amount_by_shop_2d stands there twice"),
    (lambda: [features.history("amount", "shop", "2 days", "1h")], "over.0: found '2 days', expected .*pattern"),
    (lambda: [features.history(*AGAIN, how="median")], "how: found 'median', expected .*'mean'"),
    (lambda: [features.history(*AGAIN, prior=np.inf)], "prior: found inf, expected .*finite"),
    (lambda: [features.history("amount", "shop", [], "1h")], r"over: found \[\], expected .*at least 1"),
    (lambda: [features.join("items", [], ["price"])], r"by.*: found \[\], expected .*at least 1"),
    (lambda: [features.join("items", "sku", {"a": "x", "b": "X"})], "every column once; x stands there twice"),
])  # fmt: skip
def test_a_declaration_that_is_none_or_wrong_is_refused(project: Project, define: Any, message: str) -> None:
    project.functions["features", "define"] = lambda _: define()
    with pytest.raises(ParamsError, match=rf"project\.features\.define: .*{message}"):
        features.declared(data.PARAMS, data.PROBLEM)
