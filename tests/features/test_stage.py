"""Stage 06: the model sees what was known at the moment of the decision, and serving sees the same."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import product
from typing import Any

import bundles
import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from pydantic import ValidationError

from ninefold import artifacts, engine, features, hooks, metrics
from ninefold.errors import DataError, ParamsError
from ninefold.features import FeatureSchema, online, stage
from ninefold.metrics import Split
from ninefold.problem.statement import Problem
from ninefold.serving import deployment
from ninefold.training import cross_validation, models

PROBLEM = statement()
HISTORY = {"of": "returned", "prefix": "returned", "known_after": "24h", "over": ["2d"], "by": [["shop"]]}
PARAMS = features.Params(numeric=["amount"], categorical=["shop"], history=[HISTORY])
NAME = "returned_by_shop_2d"
HOWS = ("mean", "sum", "count", "min", "max", "std")
POINTS = Split(by="time", validation="2020-01-12", holdout="2020-01-16")
ODD = ["self", 'a.b "q" it\'s', "$x$ {y} %s", "select", "ünï, [0]", "@0 a/b", " "]


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


def compute(frame: pd.DataFrame, params: features.Params = PARAMS, problem: Problem = PROBLEM) -> pd.DataFrame:
    table = features.assemble(features.add_history(lazy(frame), params, problem), params, problem)
    return table.order_by(features.order(problem)).to_pandas()


def lazy(frame: pd.DataFrame) -> Any:
    return engine.connect().create_table("orders", frame)


def lake(**tables: pd.DataFrame) -> dict[str, Any]:
    connection = engine.connect()
    return {name: connection.create_table(name, frame) for name, frame in tables.items()}


def prove(
    frame: pd.DataFrame,
    params: features.Params = PARAMS,
    problem: Problem = PROBLEM,
    table: pd.DataFrame | None = None,
) -> tuple[float, int]:
    """Return what the two proofs find, online and future, of the events and their feature table, or of another table."""
    events, made = lazy(frame), compute(frame, params, problem) if table is None else table
    stored, due_at = engine.table(events.get_backend(), made), features.sampled_moments(made, problem)
    return (
        features.online_difference(events, stored, due_at, params, problem),
        features.future_difference(events, stored, made, params, problem),
    )


def listed(frame: pd.DataFrame, params: features.Params = PARAMS, problem: Problem = PROBLEM) -> pd.DataFrame:
    """Return the dictionary of the features of some events."""
    return features.dictionary(engine.table(engine.connect(), compute(frame, params, problem)), params, problem)


def lay(project: Project, **tables: pd.DataFrame) -> None:
    """Make these tables the lake: by month of their first column of times, or in one partition if they have none."""
    artifacts.remove(project.folder / features.LAKE)
    for name, rows in tables.items():
        for period, part in by_month(rows).items():
            project.lake(name, part, period)


def by_month(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    times = rows.select_dtypes("datetime")
    if not len(times.columns):
        return {"all": rows}
    return {str(month): part for month, part in rows.groupby(times.iloc[:, 0].dt.strftime("%Y-%m"))}


def run(params: features.Params = PARAMS, problem: Problem = PROBLEM) -> Any:
    """Bring the feature table up to the lake; return the events."""
    wanted = features.declared(params, problem)
    tables = features.read(engine.connect(), problem)
    events = features.build(tables, wanted, problem)
    features.update(tables, events, wanted, problem)
    return events


def made_again(project: Project, params: features.Params = PARAMS, problem: Problem = PROBLEM) -> set[str]:
    """Run the stage and publish; return the partitions that it made again, as their files show and its note says."""
    before = files(project)
    run(params, problem)
    artifacts.publish()
    after = files(project)
    made = {period for period, found in after.items() if before.get(period) != found}
    count = f"made {len(made)} partition{'s' if len(made) != 1 else ''}, kept {len(after) - len(made)}\n"
    assert (project.folder / "reports/timings/06_features.txt").read_text() == count
    return made


def files(project: Project) -> dict[str, set[Any]]:
    """Return the files of each partition of the feature table: a file that was kept is the same one, not one like it."""
    found: dict[str, set[Any]] = {}
    for file in (project.folder / features.FEATURES).rglob("*.parquet"):
        place = (file.name, file.stat().st_ino, file.stat().st_mtime_ns)
        found.setdefault(file.parent.name.removeprefix("period="), set()).add(place)
    return found


def start_anew(project: Project) -> None:
    """Delete what the stage has made."""
    artifacts.discard()
    for name in (features.FEATURES, features.ONLINE, "data/state"):
        artifacts.remove(project.folder / name)


def joined(join: dict[str, Any], problem: Problem = PROBLEM, **tables: pd.DataFrame) -> pd.DataFrame:
    params = features.Params(numeric=["id"], joins=[join])
    return features.join_related(lake(**tables), params, problem).order_by("id").to_pandas()


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
    assert prove(orders()) == (0, 0)


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


def test_a_history_of_texts_is_refused() -> None:
    wrong = features.Params(numeric=["amount"], history=[{**HISTORY, "of": "shop"}])
    with pytest.raises(DataError, match=r"params.yaml, features.history: shop is string, expected a number"):
        compute(orders(), wrong)


def test_a_history_needs_time() -> None:
    with pytest.raises(DataError, match=r"params.yaml, features.history: needs problem.time"):
        compute(orders(), problem=statement(time=None))


def test_without_history_and_time_there_is_nothing_to_prove_and_nothing_kept() -> None:
    problem, plain = statement(time=None, horizon="0h"), features.Params(numeric=["amount"])
    frame = compute(orders(), plain, problem)
    assert features.moment_of(problem) is None
    assert features.snapshot(lazy(orders()), plain, problem, None) == {}
    assert features.sampled_moments(frame, problem) == []
    assert prove(orders(), plain, problem) == (0, 0)
    assert frame.columns.tolist() == ["id", "returned", "amount"]


def test_the_proofs_notice_a_feature_that_peeks() -> None:
    peeking = compute(orders()).assign(**{NAME: lambda table: table["returned"].fillna(0)})
    online, changed = prove(orders(), table=peeking)
    assert online > 0
    assert changed > 0


def test_the_proofs_notice_a_value_that_only_one_of_both_has() -> None:
    empty = compute(orders()).assign(**{NAME: np.nan})
    assert prove(orders(), table=empty)[0] == float("inf")


def test_values_of_one_column_may_be_known_after_different_times() -> None:
    late = {**HISTORY, "known_after": "96h", "prefix": "late"}
    for both in ([HISTORY, late], [late, HISTORY]):
        params = features.Params(numeric=["amount"], history=both)
        assert prove(orders(), params) == (0, 0)
        built = compute(orders(), params)
        unknown = built.assign(late_by_shop_2d=built[NAME])  # which draws on what is known after 24 hours only
        assert prove(orders(), params, table=unknown)[1] > 0


def test_the_size_of_sums_is_no_difference() -> None:
    large = orders().assign(amount=lambda table: table["amount"] * 1e9)
    history = [{**HISTORY, "of": "amount", "how": how, "over": ["10d"]} for how in ("sum",)]
    params = features.Params(numeric=["amount"], history=history)
    online, changed = prove(large, params)
    assert online < 1e-12
    assert changed == 0
    built = compute(large, params)
    name = "returned_by_shop_10d"
    assert prove(large, params, table=built.assign(**{name: built[name] * (1 + 1e-6)}))[0] == pytest.approx(
        1e-6, rel=1e-3
    )


def test_a_feature_known_only_later_fails_the_gate() -> None:
    assert features.known_too_late(PARAMS, {"known_later": ["amount", "other"]}) == ["amount"]
    failed = [check.name for check in features.checks(["amount"], 0, 0, 400, listed(orders())) if not check.passed]
    assert failed == ["features known only after the decision"]


def test_a_joined_column_known_only_later_is_refused_by_the_name_of_its_table() -> None:
    join = {"table": "items", "by": ["sku"], "columns": {"price": "cost"}}
    params = features.Params(numeric=["cost"], joins=[join])
    assert features.known_too_late(params, {"known_later": ["items.price"]}) == ["cost"]
    assert features.known_too_late(params, {"known_later": ["price", "cost"]}) == []


def test_a_feature_without_any_value_fails_the_gate() -> None:
    table = listed(orders().assign(amount=np.nan))
    failed = [check.name for check in features.checks([], 0, 0, 400, table) if not check.passed]
    assert failed == ["features without any value"]


def test_the_gate_fails_for_a_difference_a_change_and_no_row() -> None:
    checks = features.checks([], 1e-8, 1, 0, listed(orders()))
    assert [check.passed for check in checks] == [True, False, False, True, False]


def test_the_dictionary_counts_in_the_engine_what_pandas_counts() -> None:
    frame = orders().assign(amount=orders()["amount"].round().where(orders()["id"] % 7 > 0))
    built, table = compute(frame), listed(frame).set_index("feature")
    assert table.index.tolist() == ["amount", NAME, "shop"]
    for name in table.index:
        assert table.loc[name, "missing"] == pytest.approx(built[name].isna().mean())
        assert table.loc[name, "distinct"] == built[name].nunique()
    assert table.loc[NAME, "looks back"] == "from 3 d 2 h to 26 h before"


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a project whose user wrote nothing."""
    monkeypatch.setattr(hooks, "project", lambda module, function, absent: absent)


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


@pytest.mark.usefixtures("default")
def test_events_are_built_with_their_joins() -> None:
    params = features.Params(numeric=["price"], joins=[{"table": "items", "by": ["sku"], "columns": ["price"]}])
    events = features.build(lake(orders=SALES, items=ITEMS), params, PROBLEM)
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
    found = features.join_related(lake(orders=SALES, items=ITEMS, prices=PRICES), params, PROBLEM).to_pandas()
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
    schema = FeatureSchema(all=["placed"], dates=["placed"])
    rows = found[found["returned"].notna()].astype({"returned": "int64"})
    hour = rows["placed"].dt.hour
    rows["returned"] = (hour > 12).astype("int64")
    model = cross_validation.fit(models.extra_trees({"n_estimators": 10}, 1, schema, PROBLEM), rows, schema, PROBLEM)
    days = rows.assign(placed=(rows["placed"] - pd.Timestamp(0)) / pd.Timedelta(days=1))
    said = cross_validation.predict(model, rows, schema, PROBLEM)["probability"]
    assert (said[hour.to_numpy() > 12] > 0.9).all()
    assert said.equals(cross_validation.predict(model, days, schema, PROBLEM)["probability"])  # as the service sends it


@pytest.mark.parametrize("task", TASKS)
def test_the_feature_table_holds_the_target_as_it_is_learned(task: str) -> None:
    problem = statement(task)
    values = {
        "binary": [0, 1, 0, None],
        "multiclass": ["small", 'the "l"', "huge", None],
        "regression": [1, 2.5, 0, None],
    }
    expected = {"binary": [0, 1, 0, None], "multiclass": [0, 2, None, None], "regression": [1, 2.5, 0, None]}
    frame = SALES.drop(columns="returned").assign(**{problem.target: values[task]})
    found = compute(frame, features.Params(categorical=["sku"]), problem)
    assert found.columns.tolist() == ["id", "placed", problem.target, "sku"]
    assert found[problem.target].astype(object).where(found[problem.target].notna(), None).tolist() == expected[task]


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
    for problem in (statement(time=None, key=["id"], group=["owner"]), statement(time=None, key=["id", "owner"])):
        settings = {
            "split": {"validation": 0.2, "holdout": 0.2},
            "bootstrap": {"replicates": 20, "level": 0.9, "seed": 1},
        }
        points = metrics.split(known, metrics.Params(primary="log_loss", **settings), problem)
        found = compute(known, features.Params(**{kind: ["owner"]}), problem).sort_values("id", ignore_index=True)
        assert metrics.part_of(found, points, problem).tolist() == metrics.part_of(known, points, problem).tolist()


def test_a_category_of_many_values_is_flagged(project: Project) -> None:
    frame = orders(900).assign(wide=[f"w{number % 300}" for number in range(900)])
    params = features.Params(categorical=["shop", "wide"], text=[])
    points = Split(by="time", validation="2020-01-15", holdout="2020-01-18")
    lay(project, orders=frame)
    run(params)
    table = listed(frame, params)
    assert features.high_cardinality(table, PROBLEM, points) == ["wide"]
    early = points.model_copy(update={"validation": "2020-01-02"})  # what only later rows hold is not looked at
    assert features.high_cardinality(table, PROBLEM, early) == []
    assert features.high_cardinality(table.assign(distinct=stage.MAX_CATEGORIES), PROBLEM, points) == []
    assert online.model_columns(params, PROBLEM, ["wide"]) == [
        {"name": "shop", "kind": "categorical"},
        {"name": "wide", "kind": "categorical", "wide": True},
    ]


def test_the_strongest_features_are_ranked_on_training_rows_alone() -> None:
    frame = orders().assign(other=orders(seed=3)["amount"])
    frame["returned"] = (frame["amount"] > 10).astype("int64")
    params = features.Params(numeric=["other", "amount"], categorical=["shop"])
    built = compute(frame, params)
    ranked = features.strongest(built, params, PROBLEM, POINTS)
    assert ranked["feature"].tolist() == ["amount", "other"]
    assert ranked.loc[0, ["lowest", "highest", "range"]].tolist() == [0, 1, 1]
    later = metrics.part_of(built, POINTS, PROBLEM) != "train"
    turned = built.assign(amount=built["amount"].mask(later, 0))
    pd.testing.assert_frame_equal(features.strongest(turned, params, PROBLEM, POINTS), ranked)


def write(project: Project, frame: pd.DataFrame, params: features.Params, problem: Problem) -> dict[str, bytes]:
    """Run the stage anew on some orders; return the bytes of what it writes."""
    start_anew(project)
    lay(project, orders=frame)
    events, moment = run(params, problem), features.moment_of(problem)
    features.save_online(features.snapshot(events, params, problem, moment), [], params, problem, moment)
    artifacts.publish()
    return {**project.bytes("data/features"), **project.bytes("data/online")}


def test_the_same_events_give_the_same_bytes(project: Project) -> None:
    assert write(project, orders(), PARAMS, PROBLEM) == write(project, orders(), PARAMS, PROBLEM)
    assert len(features.load()) == 400


def test_the_stored_table_is_that_of_all_rows_at_once(project: Project) -> None:
    frame = orders(900).assign(placed=lambda table: table["placed"] + pd.to_timedelta(table["id"] // 10, "D"))
    write(project, frame.sample(frac=1, random_state=1), PARAMS, PROBLEM)
    assert engine.periods(features.FEATURES) == ["2020-01", "2020-02", "2020-03", "2020-04"]
    pd.testing.assert_frame_equal(features.load(), compute(frame), check_dtype=False, check_exact=True)
    assert engine.count(features.FEATURES) == 900


def test_the_online_values_hold_for_the_first_midnight_after_the_events(project: Project) -> None:
    for last, midnight in (("2020-02-10 23:59", "2020-02-11"), ("2020-02-11 00:00", "2020-02-12")):
        frame = orders().assign(
            placed=lambda table, last=last: table["placed"].where(table["id"] < 399, pd.Timestamp(last))
        )
        write(project, frame, PARAMS, PROBLEM)
        assert features.moment_of(PROBLEM) == pd.Timestamp(midnight)
        assert artifacts.read_json("data/online/online.json")["moment"] == f"{midnight}T00:00:00"


def test_a_sample_is_spread_over_all_partitions(project: Project) -> None:
    frame = orders(900).assign(placed=lambda table: table["placed"] + pd.to_timedelta(table["id"] // 10, "D"))
    write(project, frame, PARAMS, PROBLEM)
    whole = features.load()
    pd.testing.assert_frame_equal(features.sample(), whole)
    taken = features.sample(100)
    assert len(taken) <= 104
    assert set(taken["placed"].dt.month) == {1, 2, 3, 4}
    assert taken["id"].is_monotonic_increasing
    assert set(taken["id"]) < set(whole["id"])


@pytest.mark.parametrize("task", TASKS)
def test_a_table_without_time_is_written_in_one_piece(project: Project, task: str) -> None:
    problem = statement(task, time=None, target="returned")
    files = write(project, orders().drop(columns="placed"), features.Params(numeric=["amount"]), problem)
    assert sorted(files) == ["data/features/period=all/part-0.parquet", "data/online/online.json"]
    assert artifacts.read_json("data/online/online.json")["moment"] is None
    assert features.load()["id"].tolist() == list(range(400))


def test_a_column_may_be_called_anything(project: Project) -> None:
    problem, first = statement(key=["id", ODD[0]]), ODD[0]
    frame = orders(200)
    for name in ODD:
        frame[name] = frame["shop"]
    history = {**HISTORY, "prefix": first, "by": [[name] for name in ODD]}
    others = {f"{name}3": f"{name}4" for name in ODD}
    join = {"table": "items", "by": {first: f"{first}2"}, "columns": others}
    params = features.Params(numeric=[*others.values()], categorical=ODD, history=[history], joins=[join])
    items = pd.DataFrame({f"{first}2": ["a", "b"], **{name: [1.0, 2.0] for name in others}})
    lay(project, orders=frame, items=items)
    events, found = run(params, problem), features.load()
    expected = compute(orders(200))[NAME]
    for name in ODD:
        assert (found[f"{name}4"] == found[name].map({"a": 1.0, "b": 2.0})).all()
        assert found[f"{first}_by_{name}_2d"].rename(NAME).equals(expected)
    table, due_at = engine.read(events.get_backend(), features.FEATURES), features.sampled_moments(found, problem, 3)
    assert features.online_difference(events, table, due_at, params, problem) == 0
    assert features.future_difference(events, table, found, params, problem) == 0
    moment = features.moment_of(problem)
    features.save_online(features.snapshot(events, params, problem, moment), [], params, problem, moment)
    artifacts.publish()
    assert made_again(project, params, problem) == set(), "what a partition is made of is found by those names too"
    stores = artifacts.read_json("data/online/online.json")["stores"]
    assert [store["by"] for store in stores] == [[name] for name in ODD]
    assert all(len(artifacts.read_table(f"data/online/{store['file']}")) == 2 for store in stores)


def test_feature_files_have_names_of_their_own_that_any_system_takes(project: Project) -> None:
    history = [{**HISTORY, "prefix": prefix} for prefix in ("a/b", "a b", "../x", "a_b")]
    files = write(project, orders(), features.Params(numeric=["amount"], history=history), PROBLEM)
    names = [name.removeprefix("data/online/") for name in files if name.startswith("data/online/")]
    assert len(set(names)) == 5
    assert "a_b_by_shop_2d.parquet" in names
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.") for name in names)
    assert not any(name.startswith(".") for name in names)


def past_of(frame: pd.DataFrame, keys: dict[str, Any], moment: pd.Timestamp, over: str) -> pd.DataFrame:
    """Return the rows of these keys in a window of this length before a moment that the tests' histories draw on."""
    end = moment - pd.Timedelta("26h")  # 24 h until an outcome is known, 2 h from decision to event
    same = np.logical_and.reduce([frame[name] == value for name, value in keys.items()])
    return frame[same & frame["placed"].between(end - pd.Timedelta(over), end)]


def plainly(column: pd.Series, how: str, prior: float | None) -> float:
    """Return what `how` takes of some values, by pandas."""
    values = column.dropna().astype("float64")
    if len(values) < (2 if how == "std" else 1):
        return {"count": 0.0}.get(how, np.nan) if prior is None else prior
    return float(getattr(values, how)())


def kept_by_shop(how: str, prior: float | None) -> features.Params:
    common = {**HISTORY, "how": how, "prior": prior, "over": ["6h", "2d"], "by": [["shop"], ["shop", "size"]]}
    return features.Params(
        numeric=["id"], history=[{**common, "of": of, "prefix": of} for of in ("amount", "returned")]
    )


def sized(count: int = 150) -> pd.DataFrame:
    """Return orders with a second key, and gaps in what is looked back on."""
    random, frame = np.random.default_rng(4), orders(count)
    gaps = random.random(count) < 0.2
    return frame.assign(size=random.choice(["s", "m", "l"], count), amount=frame["amount"].mask(gaps))


@pytest.mark.parametrize("prior", [None, 7.25])
@pytest.mark.parametrize("how", HOWS)
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


@pytest.mark.parametrize("prior", [None, 7.25])
@pytest.mark.parametrize("how", HOWS)
def test_a_snapshot_holds_the_same_of_every_key_with_a_row_in_the_window(how: str, prior: float | None) -> None:
    frame, params = sized(), kept_by_shop(how, prior)
    moments = [frame["placed"].iloc[row] for row in (0, 20, 75)] + [
        pd.Timestamp("2020-01-21"),
        pd.Timestamp("2020-03-01"),
    ]
    found = online.snapshots(lazy(frame), params, PROBLEM, moments)
    gaps = 0
    for of, by, over in product(["amount", "returned"], [["shop"], ["shop", "size"]], ["6h", "2d"]):
        wanted = {}
        for moment, values in product(moments, frame[by].drop_duplicates().itertuples(index=False, name=None)):
            past = past_of(frame, dict(zip(by, values, strict=True)), moment, over)[of]
            if len(past):
                wanted[moment, *values] = plainly(past, how, prior)
                gaps += int(past.isna().all())
        table = found[f"{of}_by_{'_'.join(by)}_{over}"].set_index([online.MOMENT, *by])["value"]
        assert sorted(table.index) == sorted(wanted)
        np.testing.assert_allclose(table, [wanted[key] for key in table.index], rtol=1e-12, atol=1e-12)
    assert gaps, "somewhere the rows of a window have no value"


@pytest.mark.parametrize(
    ("how", "prior", "absent"),
    [("mean", 0.25, 0.25), ("mean", None, np.nan), ("count", None, 0.0), ("count", 3, 3.0), ("std", 0.5, 0.5)],
)
def test_the_bundle_answers_with_what_the_stage_would_give(
    project: Project, how: str, prior: float | None, absent: float
) -> None:
    parts, problem = bundles.lay_out(), bundles.problem_of("binary")
    frame = bundles.rows("binary").drop(columns="rate_by_customer_7d")
    frame.loc[frame["placed"] > "2020-02-05", "customer"] = "bob"  # so that no one else has a row in the window
    frame.loc[frame["placed"] == "2020-02-15", "customer"] = "ann"
    history = {"of": "returned", "prefix": "rate", "known_after": "24h", "over": ["7d"], "by": [["customer"]]}
    params = features.Params(
        numeric=["amount", "items"],
        categorical=["customer", "channel"],
        history=[{**history, "how": how, "prior": prior}],
    )
    lay(project, orders=frame)
    events, moment = run(params, problem), features.moment_of(problem)
    features.save_online(features.snapshot(events, params, problem, moment), [], params, problem, moment)
    artifacts.publish()
    bundle, name = bundles.pack(parts), "rate_by_customer_7d"
    served = bundle.complete([{"customer": who} for who in ("ann", "bob", "eve", "nobody")])[name].tolist()
    wanted = [
        plainly(past_of(frame, {"customer": who}, moment, "7d")["returned"], how, prior) for who in ("ann", "bob")
    ]
    np.testing.assert_allclose(served, [*wanted, absent, absent], rtol=1e-12, atol=1e-12)
    # As for an order placed at that moment, which the stage would give its history offline.
    later = frame.iloc[[0, 0, 0, 0]].assign(
        id=range(1000, 1004), placed=moment, customer=["ann", "bob", "eve", "nobody"]
    )
    offline = compute(pd.concat([frame, later], ignore_index=True), params, problem).set_index("id")[name]
    np.testing.assert_allclose(served, offline.loc[later["id"]], rtol=1e-12, atol=1e-12)
    by_join = deployment.with_online(later.assign(**{name: np.nan}))[name]
    assert by_join.tolist() == served or np.isnan(absent)


def many() -> pd.DataFrame:
    """Return twenty thousand orders of two months, many at the same moment, of several keys and with gaps."""
    random, count = np.random.default_rng(5), 20_000
    returned = pd.Series(random.integers(0, 9, count), dtype="Int64").mask(random.random(count) < 0.05)
    hours = 2 * np.sort(random.integers(0, 60 * 12, count))
    return pd.DataFrame(
        {
            "id": random.permutation(count),
            "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(hours, "h"),
            "shop": random.choice([*"abcdefgh"], count),
            "sku": random.integers(0, 60, count),
            "size": pd.array(random.choice(["s", "m", None], count), dtype="str"),
            "amount": np.where(random.random(count) < 0.05, np.nan, random.gamma(2, 30, count)),
            "returned": returned,
        }
    )


@pytest.mark.parametrize(("of", "hows", "limit"), [("returned", HOWS[:5], 0.0), ("amount", HOWS, 1e-12)])
def test_online_equals_offline_for_ten_thousand_rows(of: str, hows: tuple[str, ...], limit: float) -> None:
    frame, problem = many(), statement(target="other")
    common = {"of": of, "known_after": "36h", "by": [["shop"], ["sku"], ["shop", "size"]]}
    history = [
        {**common, "how": how, "prefix": how, "over": ["12h", "7d"], "prior": {"mean": 0.5}.get(how)} for how in hows
    ]
    params = features.Params(numeric=["amount"], history=history)
    frame["other"] = frame["id"] % 2
    events = lazy(frame)
    table = engine.table(events.get_backend(), compute(frame, params, problem))
    rows = table.to_pandas().sample(10_000, random_state=0)
    moments = [moment.to_pydatetime() for moment in rows["placed"].unique()]
    assert features.online_difference(events, table, moments, params, problem) <= limit
    assert table.filter(table["placed"].isin(moments)).count().execute() >= 10_000


def test_the_user_declares_joins_and_histories_beside_those_of_the_params(project: Project) -> None:
    frame = orders().assign(sku=np.where(orders()["id"] % 2, "x", "y"))
    lay(project, orders=frame, items=ITEMS, prices=PRICES)
    given: list[Any] = []

    def define(problem: Problem) -> list[Any]:
        given.append(problem)
        return [
            features.join("items", by="sku", columns=["brand"]),
            features.join("prices", by={"sku": "code"}, columns={"price": "now"}, as_of="since"),
            features.history("amount", by=["shop", "sku"], over=["1d", "2d"], known_after="1h", how="max", prior=0),
            features.history("now", by="shop", over="3d", known_after="0h", prefix="level"),
        ]

    project.functions["features", "define"] = define
    params = features.Params(numeric=["amount", "now"], categorical=["shop", "brand"], history=[HISTORY])
    wanted = features.declared(params, PROBLEM)
    assert given == [PROBLEM]
    names = ["amount_by_shop_sku_1d", "amount_by_shop_sku_2d", "level_by_shop_3d"]
    assert [name for name, kind in features.kinds(wanted, "2h").items() if kind == "history"] == [NAME, *names]
    run(params)
    artifacts.publish()
    by_code = project.bytes(features.FEATURES)
    del project.functions["features", "define"]
    in_params = features.Params(
        numeric=["amount", "now"],
        categorical=["shop", "brand"],
        joins=[
            {"table": "items", "by": ["sku"], "columns": ["brand"]},
            {**NEWEST, "columns": {"price": "now"}},
        ],
        history=[
            HISTORY,
            {"of": "amount", "prefix": "amount", "known_after": "1h", "over": ["1d", "2d"], "by": [["shop", "sku"]]}
            | {"how": "max", "prior": 0},
            {"of": "now", "prefix": "level", "known_after": "0h", "over": ["3d"], "by": [["shop"]]},
        ],
    )
    assert in_params == wanted
    start_anew(project)
    run(in_params)
    artifacts.publish()
    assert project.bytes(features.FEATURES) == by_code
    assert features.load()[["brand", "now", *names]].notna().any().all()


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda _: None, "found None, expected a list of what `join` and `history` return"),
        (lambda _: features.history("amount", "shop", "2d", "1h"), r"found History\(.*, expected a list"),
        (lambda _: {"history": []}, r"found \{'history': \[\]\}, expected a list"),
        (lambda _: "history", "found 'history', expected a list"),
        (lambda _: [HISTORY], r"found \[\{'of': 'returned'.*, expected a list of what"),
        (
            lambda _: [features.history("returned", "shop", "2d", "24h")],
            f"every feature once; {NAME} stands there twice",
        ),
        (lambda _: [features.history("amount", "shop", "2d", "1h")] * 2, "amount_by_shop_2d stands there twice"),
        (lambda _: [features.history("amount", "shop", "2 days", "1h")], "over.0: found '2 days', expected .*pattern"),
        (
            lambda _: [features.history("amount", "shop", "2d", "1h", how="median")],
            "how: found 'median', expected .*'mean'",
        ),
        (
            lambda _: [features.history("amount", "shop", "2d", "1h", prior=np.inf)],
            "prior: found inf, expected .*finite",
        ),
        (lambda _: [features.history("amount", "shop", [], "1h")], r"over: found \[\], expected .*at least 1"),
        (lambda _: [features.join("items", [], ["price"])], r"by.*: found \[\], expected .*at least 1"),
        (lambda _: [features.join("items", "sku", {"a": "x", "b": "X"})], "every column once; x stands there twice"),
    ],
)
def test_a_declaration_that_is_none_or_wrong_is_refused(project: Project, define: Any, message: str) -> None:
    project.functions["features", "define"] = define
    with pytest.raises(ParamsError, match=rf"project\.features\.define: .*{message}"):
        features.declared(PARAMS, PROBLEM)


def test_a_column_that_a_declaration_joins_under_a_taken_name_is_refused(project: Project) -> None:
    lay(project, orders=orders().assign(sku="x"), items=ITEMS)
    project.functions["features", "define"] = lambda _: [features.join("items", "sku", {"price": "amount"})]
    with pytest.raises(DataError, match="the events have amount already; give another name"):
        run()


# --- increments: what a change concerns is made again, and nothing else

REACH = pd.Timedelta("21d 2h")
GROWING = features.Params(
    numeric=["amount", "price", "weight"],
    categorical=["shop"],
    joins=[NEWEST, {"table": "parcels", "by": {"parcel": "number"}, "columns": ["weight"]}],
    history=[
        {"of": "returned", "prefix": "back", "known_after": "24h", "over": ["20d"], "by": [["shop"]]},
        {"of": "weight", "prefix": "spread", "known_after": "1h", "over": ["3d"], "by": [["shop"]], "how": "std"}
        | {"prior": -1},
    ],
)


def trade(seed: int = 3, months: int = 4, count: int = 25) -> dict[str, pd.DataFrame]:
    """Return orders of some months from January, so many in each; parcels, sent in the months from November; and prices."""
    random, rows = np.random.default_rng(seed), months * count
    sent = stamps("2019-11-05", "2019-12-05", "2020-01-05", "2020-02-05", "2020-03-05")
    parcels = pd.DataFrame({"number": range(20), "sent": sent.repeat(4).to_numpy(), "weight": random.gamma(2, 3, 20)})
    days = [f"{month}-{day:02d}" for month in ("2019-12", "2020-01", "2020-02", "2020-03") for day in (3, 13, 29)]
    prices = pd.DataFrame({"code": ["x", "y"] * 6, "since": stamps(*days), "price": random.normal(5, 1, 12)})
    month = np.repeat(np.arange(months), count)
    minutes = random.integers(0, 28 * 1440, rows)
    frame = pd.DataFrame(
        {
            "id": np.arange(rows),
            "placed": [
                begin(number) + pd.Timedelta(minutes=int(add)) for number, add in zip(month, minutes, strict=True)
            ],
            "shop": random.choice(["a", "b"], rows),
            "sku": random.choice(["x", "y"], rows),
            "parcel": np.minimum(month * 4 + random.integers(0, 8, rows), 19),  # sent two months before, or one
            "amount": random.gamma(2, 30, rows),
            "returned": random.integers(0, 2, rows),
        }
    )
    return {"orders": frame.astype({"placed": "datetime64[us]"}), "parcels": parcels, "prices": prices}


def begin(number: int) -> pd.Timestamp:
    return pd.Timestamp("2020-01-01") + pd.DateOffset(months=int(number))


def changed(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    found = frame.copy()
    found.loc[row, column] = value
    return found


def made_by(tables: dict[str, pd.DataFrame], before: dict[str, Any] | None = None) -> tuple[set[str], dict[str, Any]]:
    """Return the partitions that have to be made after another state of the tables, and what each is made of.

    A month is made of its orders and those to which their windows reach back; of the parcels that any of these are in; and
    of the prices that begin before their last moment.
    """
    parts = {name: by_month(rows) for name, rows in tables.items()}
    needs = {}
    for month, own in parts["orders"].items():
        first, last = own["placed"].min() - REACH, own["placed"].max()
        near = {
            one: part
            for one, part in parts["orders"].items()
            if one == month or (part["placed"].max() >= first and part["placed"].min() <= last)
        }
        sent = {one: part for one, part in parts["parcels"].items() for other in near.values() if shares(part, other)}
        known = {one: part for one, part in parts["prices"].items() if part["since"].min() <= last}
        needs[month] = [{one: part.to_csv(index=False) for one, part in each.items()} for each in (near, sent, known)]
    return {month for month, need in needs.items() if (before or {}).get(month) != need}, needs


def shares(parcels: pd.DataFrame, orders: pd.DataFrame) -> bool:
    return bool(parcels["number"].isin(orders["parcel"]).any())


def made_after(project: Project, params: features.Params = GROWING, **tables: pd.DataFrame) -> set[str]:
    """Put these tables into the lake; return what is made again."""
    lay(project, **tables)
    return made_again(project, params)


def show_as_anew(project: Project, params: features.Params = GROWING) -> None:
    """Demand that all is, byte for byte, as a run from nothing makes it."""
    result = {**project.bytes(features.FEATURES), **project.bytes("data/state")}
    start_anew(project)
    assert made_again(project, params) == set(engine.periods(f"{features.LAKE}/orders"))
    assert {**project.bytes(features.FEATURES), **project.bytes("data/state")} == result


MONTHS = ["2020-01", "2020-02", "2020-03", "2020-04"]


def test_at_first_all_is_made_and_then_nothing_while_nothing_changes(project: Project) -> None:
    tables = trade()
    assert made_after(project, **tables) == set(MONTHS)
    assert made_after(project, **tables) == set()
    table = features.load()
    assert table[[name for name in features.kinds(GROWING, "2h") if name != "spread_by_shop_3d"]].notna().any().all()
    assert table["spread_by_shop_3d"].eq(-1).mean() < 0.9
    show_as_anew(project)


def test_a_month_that_arrives_is_made_and_no_other(project: Project) -> None:
    tables = trade(months=5)
    early = tables["orders"]["placed"] < "2020-05-01"
    made_after(project, **{**tables, "orders": tables["orders"][early]})
    assert made_after(project, **tables) == {"2020-05"}
    show_as_anew(project)


def test_a_month_that_arrives_late_is_made_with_those_that_look_back_on_it(project: Project) -> None:
    tables = trade()
    late = tables["orders"]["placed"].dt.month == 2
    assert made_after(project, **{**tables, "orders": tables["orders"][~late]}) == {"2020-01", "2020-03", "2020-04"}
    assert made_after(project, **tables) == {"2020-02", "2020-03"}
    assert made_after(project, **{**tables, "orders": tables["orders"][~late]}) == {"2020-03"}
    show_as_anew(project)


def test_a_corrected_month_is_made_again_with_those_that_look_back_on_it(project: Project) -> None:
    tables = trade()
    made_after(project, **tables)
    for number, made in enumerate(
        [{"2020-01", "2020-02"}, {"2020-02", "2020-03"}, {"2020-03", "2020-04"}, {"2020-04"}]
    ):
        row = tables["orders"].index[tables["orders"]["placed"].dt.month == number + 1][-1]
        tables["orders"] = changed(tables["orders"], row, "returned", 1 - tables["orders"]["returned"][row])
        assert made_after(project, **tables) == made
    show_as_anew(project)


def test_without_a_history_a_corrected_month_is_made_alone(project: Project) -> None:
    plain = features.Params(numeric=["amount"])
    tables = trade()
    made_after(project, plain, **tables)
    tables["orders"] = changed(tables["orders"], 30, "amount", 1)
    assert made_after(project, plain, **tables) == {"2020-02"}
    show_as_anew(project, plain)


def test_a_row_beyond_the_windows_leaves_later_months_alone_and_one_within_does_not(project: Project) -> None:
    tables = trade()
    frame, first = tables["orders"], pd.Timestamp("2020-03-01 12:00")
    months = frame["placed"].dt.month
    frame.loc[months == 2, "placed"] = pd.Timestamp("2020-02-02 12:00")
    frame.loc[months == 3, "placed"] += first - frame.loc[months == 3, "placed"].min()
    frame[["shop", "sku"]] = ["a", "x"]
    last, minute, row = first - REACH, pd.Timedelta(minutes=1), frame.index[months == 2][-1]
    made_after(project, **tables)
    for moment, made, differ in (
        (last - minute, {"2020-02"}, {"2020-02"}),  # beyond: no window of March begins so early
        (last - 2 * minute, {"2020-02"}, {"2020-02"}),
        (last, {"2020-02", "2020-03"}, {"2020-02", "2020-03"}),  # within
        (last + minute, {"2020-02", "2020-03"}, {"2020-02"}),
        (last - minute, {"2020-02", "2020-03"}, {"2020-02", "2020-03"}),  # no longer within, so that March loses it
        (last - 2 * minute, {"2020-02"}, {"2020-02"}),
    ):
        before = by_month(features.load())
        tables["orders"] = changed(tables["orders"], row, "placed", moment)
        assert made_after(project, **tables) == made
        after = by_month(features.load())
        assert {month for month in after if not after[month].equals(before[month])} == differ
    show_as_anew(project)


def test_a_corrected_month_of_a_joined_table_concerns_those_whose_rows_it_has(project: Project) -> None:
    tables = trade()
    made_after(project, **tables)
    tables["parcels"] = changed(tables["parcels"], 0, "weight", 9.5)
    assert made_after(project, **tables) == {"2020-01", "2020-02"}, "February looks back on the weights of January"
    tables["parcels"] = changed(tables["parcels"], 19, "weight", 8.5)
    assert made_after(project, **tables) == {"2020-04"}
    more = pd.DataFrame({"number": [99], "sent": stamps("2020-03-07"), "weight": [1.0]})
    tables["parcels"] = pd.concat([tables["parcels"], more], ignore_index=True)
    assert made_after(project, **tables) == {"2020-04"}, "a partition is looked at as a whole"
    tables["parcels"] = pd.concat(
        [tables["parcels"], more.assign(number=98, sent=stamps("2020-07-07"))], ignore_index=True
    )
    assert made_after(project, **tables) == set(), "no order is in that parcel"
    tables["parcels"] = tables["parcels"][tables["parcels"]["number"] != 19]
    assert made_after(project, **tables) == {"2020-04"}, "an order has lost its parcel"
    show_as_anew(project)


def test_a_corrected_month_of_an_as_of_table_concerns_all_that_come_after(project: Project) -> None:
    tables = trade()
    made_after(project, **tables)
    for row, made in ((0, MONTHS), (4, MONTHS), (7, MONTHS[1:]), (11, MONTHS[2:])):
        tables["prices"] = changed(tables["prices"], row, "price", 100 + row)
        assert made_after(project, **tables) == set(made)
    more = pd.DataFrame({"code": ["x"], "since": stamps("2020-04-02"), "price": [3.0]})
    tables["prices"] = pd.concat([tables["prices"], more], ignore_index=True)
    assert made_after(project, **tables) == {"2020-04"}
    tables["prices"] = pd.concat([tables["prices"], more.assign(since=stamps("2020-09-02"))], ignore_index=True)
    assert made_after(project, **tables) == set(), "no order comes after it"
    show_as_anew(project)


def alter(random: np.random.Generator, tables: dict[str, pd.DataFrame]) -> tuple[str, dict[str, pd.DataFrame]]:
    """Return the tables after one change such as may come, and what it was."""
    orders, parcels, prices = (tables[name] for name in ("orders", "parcels", "prices"))
    months = sorted(by_month(orders))
    row, parcel, price = (int(random.choice(rows.index)) for rows in (orders, parcels, prices))
    placed = orders["placed"][row].to_period("M").start_time + pd.Timedelta(minutes=int(random.integers(0, 28 * 1440)))
    free = stamps(f"2020-{random.integers(1, 6):02d}-{random.integers(1, 28):02d} 00:{random.integers(1, 59):02d}")
    later = orders[orders["placed"].dt.strftime("%Y-%m") == months[-1]]
    next_month = later.assign(id=later["id"] + 1000, placed=later["placed"] + pd.Timedelta(days=31))
    twin = orders.loc[[row]].assign(id=5000 + random.integers(1_000_000), placed=placed)
    changes: dict[str, Callable[[], dict[str, pd.DataFrame]]] = {
        "nothing": dict,
        "an order": lambda: {"orders": changed(orders, row, "amount", random.gamma(2, 30))},
        "its outcome": lambda: {"orders": changed(orders, row, "returned", 1 - orders["returned"][row])},
        "its time": lambda: {"orders": changed(orders, row, "placed", placed)},
        "its parcel": lambda: {"orders": changed(orders, row, "parcel", int(random.integers(0, 25)))},
        "one more": lambda: {"orders": pd.concat([orders, twin], ignore_index=True)},
        "one less": lambda: {"orders": orders.drop(index=row).reset_index(drop=True)},
        "a new month": lambda: {"orders": pd.concat([orders, next_month], ignore_index=True)},
        "a month less": lambda: {
            "orders": orders[orders["placed"].dt.strftime("%Y-%m") != random.choice(months)].reset_index(drop=True)
        },
        "a parcel": lambda: {"parcels": changed(parcels, parcel, "weight", random.gamma(2, 3))},
        "a parcel's month": lambda: {"parcels": changed(parcels, parcel, "sent", parcels["sent"][(parcel + 7) % 20])},
        "a price": lambda: {"prices": changed(prices, price, "price", random.normal(5, 1))},
        "a new price": lambda: {
            "prices": pd.concat([prices, prices.loc[[price]].assign(since=free.to_numpy())]).drop_duplicates(
                ["code", "since"], ignore_index=True
            )
        },
    }
    names = [name for name in changes if name != "a month less" or len(months) > 2]
    what = str(random.choice(names))
    return what, {**tables, **changes[what]()}


@pytest.mark.parametrize("seed", range(20))
def test_any_changes_make_what_they_concern_and_give_what_a_run_anew_gives(project: Project, seed: int) -> None:
    random, tables = np.random.default_rng(seed), trade(seed)
    lay(project, **tables)
    made, needs = made_by(tables)
    assert made_again(project, GROWING) == made == set(MONTHS)
    history = []
    for _ in range(3):
        what, tables = alter(random, tables)
        history.append(what)
        lay(project, **tables)
        made, needs = made_by(tables, needs)
        assert made_again(project, GROWING) == made, history
    show_as_anew(project)


def ranked(tables: dict[str, Any], problem: Problem) -> Any:
    events = tables["orders"]
    return events.mutate(other=ibis.row_number().over(group_by="shop", order_by=["amount", "id"]))


def against_others(tables: dict[str, Any], problem: Problem) -> Any:
    events = tables["orders"]
    large = events.group_by("shop").agg(large=(events["amount"] > 50).sum())
    return events.left_join(large, "shop").drop("shop_right").mutate(other=lambda both: both["amount"] * both["large"])


def against_largest(tables: dict[str, Any], problem: Problem) -> Any:
    events = tables["orders"]
    return events.mutate(other=events["amount"] / events["amount"].max().as_scalar())


def by_value(tables: dict[str, Any], problem: Problem) -> Any:
    events = tables["orders"]
    return events.mutate(other=events["amount"] / float(events["amount"].max().execute()))


@pytest.mark.parametrize("build", [ranked, against_others, against_largest, by_value])
def test_a_build_that_looks_at_other_rows_makes_all_months_again(project: Project, build: Any) -> None:
    tables, params = trade(), GROWING.model_copy(update={"numeric": [*GROWING.numeric, "other"]})
    project.functions["features", "build"] = build
    made_after(project, params, **tables)
    assert made_after(project, params, **tables) == set()
    tables["orders"] = changed(tables["orders"], 30, "amount", 1e4)
    assert made_after(project, params, **tables) == set(MONTHS)
    show_as_anew(project, params)


def test_a_build_of_each_row_by_itself_makes_only_what_a_change_concerns(project: Project) -> None:
    tables, params = trade(), GROWING.model_copy(update={"numeric": [*GROWING.numeric, "other"]})
    project.functions["features", "build"] = lambda found, _: found["orders"].mutate(
        other=found["orders"].placed.hour() * found["orders"].price
    )
    made_after(project, params, **tables)
    tables["orders"] = changed(tables["orders"], 30, "amount", 1e4)
    assert made_after(project, params, **tables) == {"2020-02", "2020-03"}
    show_as_anew(project, params)


def test_a_table_that_a_build_reads_itself_concerns_all_months_and_one_that_it_does_not_none(project: Project) -> None:
    tables, params = trade(), features.Params(numeric=["amount", "sent_weight"])

    def weighed(found: dict[str, Any], problem: Problem) -> Any:
        events, parcels = found["orders"], found["parcels"]
        narrow = parcels.select(parcel_number=parcels["number"], sent_weight=parcels["weight"])
        both = events.left_join(narrow, events["parcel"] == narrow["parcel_number"])
        return both.select("id", "placed", "amount", "returned", "sent_weight")  # where the rows lie is found again

    project.functions["features", "build"] = weighed
    made_after(project, params, **tables)
    tables["prices"] = changed(tables["prices"], 0, "price", 77)
    assert made_after(project, params, **tables) == set()
    tables["orders"] = changed(tables["orders"], 30, "amount", 1)
    assert made_after(project, params, **tables) == {"2020-02"}
    tables["parcels"] = changed(tables["parcels"], 0, "weight", 77)
    assert made_after(project, params, **tables) == set(MONTHS)
    show_as_anew(project, params)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "doubled"])
def test_a_damaged_file_is_made_again(project: Project, damage: str) -> None:
    lay(project, **trade())
    made_again(project, GROWING)
    sound = project.bytes(features.FEATURES)
    file = project.folder / features.FEATURES / "period=2020-02/part-0.parquet"
    content = file.read_bytes()
    file.unlink()
    if damage == "doubled":
        file.write_bytes(content)
        (file.parent / "part-1.parquet").write_bytes(content)
    elif damage != "gone":
        file.write_bytes(content[:-1] if damage == "cut" else content[:100] + b"!" + content[101:])
    assert made_again(project, GROWING) == {"2020-02"}
    assert project.bytes(features.FEATURES) == sound


def test_another_recipe_makes_all_again(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    lay(project, **trade())
    assert made_again(project, GROWING) == set(MONTHS)
    other = GROWING.model_copy(update={"numeric": ["amount", "price"]})
    assert made_again(project, other) == set(MONTHS)
    assert made_again(project, other, statement(horizon="3h")) == set(MONTHS)
    assert made_again(project, other, statement(horizon="3h", title="Another name")) == set()
    file = tmp_path_factory.mktemp("own") / "own.py"
    for text in ("tables['orders']", "tables['orders'].mutate(amount=1.0)"):
        file.write_text(f"def build(tables, problem):\n    return {text}\n")
        spec = importlib.util.spec_from_file_location("own", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        project.functions["features", "build"] = module.build
        assert made_again(project, other, statement(horizon="3h")) == set(MONTHS)
    assert features.load()["amount"].eq(1).all()


def test_what_a_failed_run_has_made_is_not_taken_for_done(project: Project) -> None:
    tables = trade()
    lay(project, **tables)
    made_again(project, GROWING)
    before = {**project.bytes(features.FEATURES), **project.bytes("data/state")}
    lay(project, **{**tables, "orders": changed(tables["orders"], 99, "amount", 1e4)})
    run(GROWING)
    artifacts.discard()
    assert {**project.bytes(features.FEATURES), **project.bytes("data/state")} == before
    assert made_again(project, GROWING) == {"2020-04"}


def test_a_month_of_which_no_row_is_sound_is_an_empty_partition(project: Project) -> None:
    tables = trade()
    lay(project, **tables)
    project.lake("orders", tables["orders"].head(0), "2020-05")
    assert made_again(project, GROWING) == {*MONTHS, "2020-05"}
    assert engine.count(features.FEATURES, "2020-05") == 0
    assert features.moment_of(PROBLEM) == tables["orders"]["placed"].max().normalize() + pd.Timedelta(days=1)
    project.lake("orders", tables["orders"].tail(1).assign(id=1000, placed=pd.Timestamp("2020-05-02")), "2020-05")
    assert made_again(project, GROWING) == {"2020-05"}
    assert len(features.load()) == len(tables["orders"]) + 1


def test_without_time_a_change_makes_the_one_partition(project: Project) -> None:
    problem, plain = statement(time=None, horizon="0h"), features.Params(numeric=["amount"])
    frame = orders().drop(columns="placed")
    lay(project, orders=frame)
    assert made_again(project, plain, problem) == {"all"}
    assert made_again(project, plain, problem) == set()
    lay(project, orders=changed(frame, 7, "amount", 1))
    assert made_again(project, plain, problem) == {"all"}
    assert features.load()["amount"][7] == 1


# What `project.features.build` makes must be known at the decision, too: it is built again without the future.


def by_shop(found: dict[str, Any], value: Callable[[Any], Any], **window: Any) -> Any:
    """Add ``made``: a value over the orders of the same shop."""
    events = found["orders"]
    return events.mutate(made=value(events).over(ibis.window(group_by="shop", **window)).cast("float64"))


def proven(project: Project, build: Callable[..., Any], problem: Problem = PROBLEM, **kept: Any) -> int:
    """Return how many values change when the future is taken away from a project with this `build`."""
    params = features.Params(numeric=["amount", "made"], categorical=["shop"], **kept)
    start_anew(project)
    lay(project, orders=orders() if problem.time else orders().drop(columns="placed"))
    project.functions["features", "build"] = build
    events = run(params, problem)
    artifacts.publish()
    table, sample = engine.read(events.get_backend(), features.FEATURES), features.sample()
    return features.future_difference(events, table, sample, params, problem)


@pytest.mark.parametrize(
    "build",
    [
        lambda found, _: by_shop(found, lambda events: events.returned.mean()),
        lambda found, _: by_shop(found, lambda events: events.returned.sum(), order_by="placed", following=(0, None)),
        lambda found, _: by_shop(found, lambda events: events.count()),
        lambda found, _: by_shop(found, lambda events: events.amount.lead(), order_by="placed"),
        lambda found, _: found["orders"].mutate(made=found["orders"].returned.cast("float64") * 2),
    ],
    ids=["mean of all outcomes", "later outcomes", "number of all rows", "next amount", "own outcome"],
)
def test_a_built_feature_that_sees_the_future_fails_the_gate(project: Project, build: Callable[..., Any]) -> None:
    changed = proven(project, build, history=[HISTORY])
    assert changed > 0
    failed = [check.name for check in features.checks([], 0, changed, 400, listed(orders())) if not check.passed]
    assert failed == ["values that change when the future is removed"]


@pytest.mark.parametrize(
    "build",
    [
        lambda found, _: found["orders"].mutate(made=found["orders"].amount + 1),
        lambda found, _: by_shop(found, lambda events: events.amount.mean(), order_by="placed", preceding=(None, 0)),
        lambda found, _: by_shop(found, lambda events: events.count(), order_by="placed", preceding=(None, 1)),
    ],
    ids=["of the row", "mean so far", "orders so far"],
)
def test_a_built_feature_of_the_past_passes(project: Project, build: Callable[..., Any]) -> None:
    assert proven(project, build, history=[HISTORY]) == 0


def test_a_built_feature_of_what_is_declared_known_later_fails(project: Project) -> None:
    def build(found: dict[str, Any], _: Any) -> Any:
        return found["orders"].mutate(made=found["orders"].amount + 1)

    artifacts.write_json({"known_later": ["amount"]}, project.folder / "data/exploration.json")
    assert proven(project, build) > 0


def test_without_time_a_built_feature_may_know_no_outcome(project: Project) -> None:
    problem = statement(time=None, horizon="0h")
    assert proven(project, lambda found, _: by_shop(found, lambda events: events.returned.mean()), problem) > 0
    assert proven(project, lambda found, _: by_shop(found, lambda events: events.amount.mean()), problem) == 0
