"""No feature sees the future, and serving sees the same values."""

import re
from collections.abc import Callable
from typing import Any

import bundles
import feature_tables as data
import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement

from ninefold import artifacts, engine, features
from ninefold.errors import ParamsError
from ninefold.problem.statement import Problem

EARLY, KNOWN = (tuple(ibis.interval(hours=end) for end in ends) for ends in ((26, 2), (50, 26)))  # before an order


def test_without_history_and_time_there_is_nothing_to_prove_and_nothing_kept() -> None:
    problem, plain = statement(time=None, horizon="0h"), features.Params(numeric=["amount"])
    frame = data.compute(data.orders(), plain, problem)
    assert frame.columns.tolist() == ["id", "returned", "amount"]
    assert data.prove(data.orders(), plain, problem) == (0, 0)


def test_the_proofs_notice_a_feature_that_peeks() -> None:
    peeking = data.compute(data.orders()).assign(**{data.NAME: lambda table: table["returned"].fillna(0)})
    assert min(data.prove(data.orders(), table=peeking)) > 0
    nothing = peeking.assign(**{data.NAME: np.nan})  # of both only one has a value
    assert data.prove(data.orders(), table=nothing)[0] == float("inf")


def test_values_of_one_column_may_be_known_after_different_times() -> None:
    late = {**data.HISTORY, "known_after": "96h", "prefix": "late"}
    for both in ([data.HISTORY, late], [late, data.HISTORY]):
        params = features.Params(numeric=["amount"], history=both)
        assert data.prove(data.orders(), params) == (0, 0)
        built = data.compute(data.orders(), params)
        unknown = built.assign(late_by_shop_2d=built[data.NAME])  # which draws on what is known after 24 hours only
        assert data.prove(data.orders(), params, table=unknown)[1] > 0


def test_the_size_of_sums_is_no_difference() -> None:
    large = data.orders().assign(amount=lambda table: table["amount"] * 1e9)
    history = {**data.HISTORY, "of": "amount", "how": "sum", "over": ["10d"]}
    params = features.Params(numeric=["amount"], history=[history])
    assert data.prove(large, params) == (pytest.approx(0, abs=1e-12), 0)
    built = data.compute(large, params)
    other = built.assign(returned_by_shop_10d=built["returned_by_shop_10d"] * (1 + 1e-6))
    assert data.prove(large, params, table=other)[0] == pytest.approx(1e-6, rel=1e-3)


def test_the_online_values_hold_for_the_first_midnight_after_the_events(project: Project) -> None:
    for last, midnight in (("2020-02-10 23:59", "2020-02-11"), ("2020-02-11 00:00", "2020-02-12")):
        frame = data.changed(data.orders(), 399, "placed", pd.Timestamp(last))
        data.write(project, frame, data.PARAMS, data.PROBLEM)
        assert features.moment_of(data.PROBLEM) == pd.Timestamp(midnight)
        assert artifacts.read_json("data/online/online.json")["moment"] == f"{midnight}T00:00:00"


def test_feature_files_have_names_of_their_own_that_any_system_takes(project: Project) -> None:
    history = [{**data.HISTORY, "prefix": prefix} for prefix in ("a/b", "a b", "../x", "a_b")]
    data.write(project, data.orders(), features.Params(numeric=["amount"], history=history), data.PROBLEM)
    names = [name.removeprefix("data/online/") for name in project.bytes("data/online")]
    assert len(names) == len({name.casefold() for name in names}) == 5
    assert "a_b_by_shop_2d.parquet" in names
    assert all(re.fullmatch(r"[a-z0-9_-][a-z0-9_.-]*", name) for name in names)


@pytest.mark.parametrize(
    ("how", "prior", "absent"),
    [("mean", 0.25, 0.25), ("mean", None, np.nan), ("count", None, 0.0), ("count", 3, 3.0), ("std", 0.5, 0.5)],
)
def test_the_bundle_answers_as_the_stage_would(project: Project, how: str, prior: float | None, absent: float) -> None:
    parts, problem = bundles.lay_out(), bundles.problem_of("binary").changed(label_delay="24h")
    frame = bundles.rows("binary").drop(columns="rate_by_customer_7d")
    frame.loc[frame["placed"] > "2020-02-05", "customer"] = "bob"  # so that no one else has a row in the window
    frame.loc[frame["placed"] == "2020-02-15", "customer"] = "ann"
    history = {"of": "returned", "prefix": "rate", "known_after": "24h", "over": ["7d"], "by": [["customer"]]}
    own = {"numeric": ["amount", "items"], "categorical": ["customer", "channel"]}
    params = features.Params(**own, history=[{**history, "how": how, "prior": prior}])
    data.lay(project, orders=frame)
    events, moment = data.run(params, problem), features.moment_of(problem)
    data.save(events, params, problem)
    name, names = "rate_by_customer_7d", ["ann", "bob", "eve", "nobody"]
    served = bundles.pack(parts).complete([{"customer": who} for who in names])[name].tolist()
    pasts = [data.past_of(frame, {"customer": who}, moment, "7d")["returned"] for who in names[:2]]
    wanted = [data.plainly(past, how, prior) for past in pasts]
    np.testing.assert_allclose(served, [*wanted, absent, absent], rtol=1e-12, atol=1e-12)
    # As for an order placed at that moment, which the stage would give its history offline.
    later = frame.iloc[[0, 0, 0, 0]].assign(id=range(1000, 1004), placed=moment, customer=names)
    offline = data.compute(pd.concat([frame, later], ignore_index=True), params, problem).set_index("id")[name]
    np.testing.assert_allclose(served, offline.loc[later["id"]], rtol=1e-12, atol=1e-12)


def by_shop(found: dict[str, Any], value: Callable[[Any], Any], **window: Any) -> Any:
    events = found["orders"]
    return events.mutate(made=value(events).over(ibis.window(group_by="shop", **window)).cast("float64"))


def proven(project: Project, build: Callable[..., Any], problem: Problem, shops: int = 0, **kept: Any) -> int:
    """Return how many values change when the future is taken away from a project with this `build`."""
    params = features.Params(**{"numeric": ["amount", "made"], "categorical": ["shop"], **kept})
    orders = data.orders() if problem.time else data.orders().drop(columns="placed")
    seen = pd.DataFrame({"code": orders["id"], "seen": data.orders()["placed"] + pd.Timedelta("9D"), "fee": 1.0})
    some = np.random.default_rng(0).integers(0, shops or 1, len(orders)).astype("str")
    orders = orders.assign(shop=some) if shops else orders
    data.lay(project, orders=orders, returns=seen[orders["returned"].eq(1).fillna(False)])
    project.functions["features", "build"] = build
    events = data.run(params, problem)
    artifacts.publish()
    table = engine.read(events.get_backend(), features.FEATURES)
    return features.PointInTime(events, table, params, problem).future_difference(features.sample())


@pytest.mark.parametrize(("build", "late", "sees"), [
    (lambda found, _: by_shop(found, lambda events: events.returned.mean()), [], True),
    (lambda found, _: by_shop(found, lambda events: events.returned.sum(), order_by="placed", following=(0, None)), [], True),
    (lambda found, _: by_shop(found, lambda events: events.count()), [], True),
    (lambda found, _: by_shop(found, lambda events: events.amount.lead(), order_by="placed"), [], True),
    (lambda found, _: found["orders"].mutate(made=found["orders"].returned.cast("float64") * 2), [], True),
    (lambda found, _: found["orders"].mutate(made=found["orders"].amount + 1), ["amount"], True),
    (lambda found, _: found["orders"].mutate(made=found["orders"].amount + 1), [], False),
    (lambda found, _: by_shop(found, lambda events: events.returned.mean(), order_by="placed", preceding=EARLY), [], True),
    (lambda found, _: by_shop(found, lambda events: events.returned.mean(), order_by="placed", preceding=KNOWN), [], False),
    (lambda found, _: by_shop(found, lambda events: events.amount.mean(), order_by="placed", preceding=EARLY), ["amount"], True),
    (lambda found, _: by_shop(found, lambda events: events.amount.mean(), order_by="placed", preceding=(None, 0)), [], False),
    (lambda found, _: by_shop(found, lambda events: events.count(), order_by="placed", preceding=(None, 1)), [], False),
])  # fmt: skip
def test_a_built_feature_that_sees_the_future_is_noticed(project: Project, build: Any, late: Any, sees: bool) -> None:
    artifacts.write_json({"known_later": late}, project.folder / "data/exploration.json")
    assert (proven(project, build, data.PROBLEM, history=[data.HISTORY]) > 0) == sees


def test_one_row_in_ten_that_sees_an_outcome_too_early_is_noticed(project: Project) -> None:
    lag = lambda found, _: by_shop(found, lambda events: events.returned.lag(), order_by="placed")  # noqa: E731
    assert proven(project, lag, data.PROBLEM, shops=149) > 0


@pytest.mark.parametrize(("time", "sees"), [("seen", True), (None, False)])
def test_later_rows_of_other_tables_are_hidden_where_their_time_is_named(project: Any, time: Any, sees: bool) -> None:
    def build(found: dict[str, Any], _: Problem) -> Any:
        orders, returns = found["orders"], found["returns"]
        return orders.left_join(returns, orders.id == returns.code).select(orders, made=returns.fee)

    tables = {"orders": {"source": "x.csv", "min_rows": 1}, "returns": {"source": "y.csv", "min_rows": 1, "time": time}}
    project.set("collection.tables", tables)
    assert (proven(project, build, data.PROBLEM) > 0) == sees


def test_a_history_sees_no_copy_of_the_outcome_and_says_what_is_known_sooner(project: Project) -> None:
    history = features.history
    copy = lambda found, _: found["orders"].mutate(copy=found["orders"].returned)  # noqa: E731
    mean = lambda found, _: by_shop(found, lambda events: events.amount.mean(), order_by="placed", preceding=EARLY)  # noqa: E731
    assert proven(project, copy, data.PROBLEM, numeric=["amount"], history=[history("copy", "shop", "2d", "0h")]) > 0
    artifacts.write_json({"known_later": ["amount"]}, project.folder / "data/exploration.json")
    assert proven(project, mean, data.PROBLEM, numeric=["made"], history=[history("amount", "shop", "2d", "0h")]) == 0
    with pytest.raises(ParamsError, match=r"the target: found 2h, .* problem.label_delay \(24h\) .* leave it out"):
        features.declared(features.Params(history=[history("returned", "shop", "2d", "2h")]), data.PROBLEM)


@pytest.mark.parametrize(("column", "knows"), [("returned", True), ("amount", False)])
def test_without_time_a_built_feature_may_know_no_outcome(project: Project, column: str, knows: bool) -> None:
    build = lambda found, _: by_shop(found, lambda events: events[column].mean())  # noqa: E731
    assert (proven(project, build, statement(time=None, horizon="0h")) > 0) == knows
