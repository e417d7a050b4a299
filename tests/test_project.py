"""The contract of ``src/project``: whatever stands there keeps what the machinery relies on, shown on rows of the source.

A function that is absent has a default, and its test is skipped; so are all where the source is not on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from ibis.expr.types import Table
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ninefold import collection, features, problem, processing
from ninefold.core import decisions, engine, hooks
from ninefold.core.errors import DataError
from ninefold.core.params import load

MOST_ROWS = 20_000
PLACE = (engine.ROW, engine.PERIOD)


def own(module: str, function: str) -> Callable[..., Any]:
    """Return a function of the project, or skip the test."""
    found = hooks.project(module, function, lambda *_: None)
    if found.__module__ != f"project.{module}":
        pytest.skip(f"src/project/{module}.py has no function {function}; the default holds")
    return found


@pytest.fixture(scope="module")
def stated() -> dict[str, Any]:
    return problem.statement(load("problem"))


@pytest.fixture(scope="module")
def raw() -> dict[str, pd.DataFrame]:
    """Return the raw tables: their last month, or all where they have no time."""
    params = load("collection")
    read = hooks.project("collection", "read", collection.read_file)
    last = collection.periods(params).tail(1)
    rows = {}
    for name, table in params.tables.items():
        span = (last["start"].iloc[0], last["end"].iloc[0]) if table.time else (None, None)
        try:
            rows[name] = read(name, *span)
        except DataError as error:
            pytest.skip(f"the source of {name} cannot be read here: {error}")
    return rows


@pytest.fixture(scope="module")
def typed(raw: dict[str, pd.DataFrame], stated: dict[str, Any]) -> dict[str, Table]:
    """Return the lake's tables as `features.read` does: sound rows, the one decided on not longer than needed, with its place."""
    params, connection = load("processing"), engine.connect()
    head = {name: rows.head(MOST_ROWS) if name == stated["table"] else rows for name, rows in raw.items()}
    tables = {name: engine.table(connection, head[name].astype("str"), period="all") for name in params.tables}
    judged = processing.judge(processing.convert(tables, params), params)
    sound = {name: table.filter(table[processing.RULE].isnull()) for name, table in judged.items()}
    aside = {name: [processing.RULE, *PLACE[: 1 if name == stated["table"] else 2]] for name in sound}
    return {name: engine.keep(table.drop(*aside[name])) for name, table in sound.items()}


def test_read_returns_the_tables_as_text(raw: dict[str, pd.DataFrame]) -> None:
    own("collection", "read")
    for name, table in load("collection").tables.items():
        assert len(raw[name]), name
        assert table.time is None or table.time in raw[name]
        kinds = {column: pd.api.types.infer_dtype(raw[name][column], skipna=True) for column in raw[name]}
        assert set(kinds.values()) <= {"string", "empty"}, kinds


def test_refine_keeps_every_row_and_makes_what_the_contract_names(raw: dict[str, pd.DataFrame]) -> None:
    own("processing", "refine")
    params, connection = load("processing"), engine.connect()
    tables = {name: engine.table(connection, raw[name].astype("str"), period="all") for name in params.tables}
    refined = processing.convert(tables, params)
    for name, contract in params.tables.items():
        places = refined[name].select(*PLACE).to_pandas()
        assert sorted(places[engine.ROW]) == list(range(len(raw[name]))), name
        for column, promise in contract.columns.items():
            found = refined[name].schema()[column]
            kind = {"int64": found.is_integer, "float64": found.is_numeric, "timestamp": found.is_timestamp}
            assert kind.get(promise.type, found.is_string)(), f"{name}.{column} is {found}, not {promise.type}"


def test_the_source_gives_rows_that_keep_their_contract(raw: dict[str, pd.DataFrame], typed: dict[str, Table]) -> None:
    for name, table in typed.items():
        assert table.count().execute() > 0, f"every row of {name} breaks its contract"


def test_define_returns_declarations_that_stand_beside_the_params(stated: dict[str, Any]) -> None:
    more = own("features", "define")(stated)
    params = load("features")
    both = features.declared(params, stated)
    assert len(both.joins) + len(both.history) == len(params.joins) + len(params.history) + len(more)


def test_build_returns_a_row_for_every_row(typed: dict[str, Table], stated: dict[str, Any]) -> None:
    build = own("features", "build")
    joined = features.join_related(typed, features.declared(load("features"), stated), stated)
    built = build({**typed, stated["table"]: joined}, stated)
    before = joined.select(*stated["key"]).to_pandas()
    after = built.select(*stated["key"]).to_pandas()
    assert len(after) == len(before)
    order = stated["key"]
    pd.testing.assert_frame_equal(
        after.sort_values(order, ignore_index=True), before.sort_values(order, ignore_index=True)
    )


def test_build_keeps_key_time_and_target_and_makes_every_feature(
    typed: dict[str, Table], stated: dict[str, Any]
) -> None:
    own("features", "build")
    params = features.declared(load("features"), stated)
    built = features.build(typed, params, stated)
    kept = [*stated["key"], stated["time"], *(stated["group"] or []), stated["target"]]
    made = [*params.numeric, *params.categorical, *params.text, *params.dates]
    assert [name for name in [*kept, *made] if name and name not in built.columns] == []


def test_candidates_are_unfitted_estimators_of_the_right_kind(stated: dict[str, Any]) -> None:
    candidates = own("training", "candidates")
    params = features.declared(load("features"), stated)
    kinds = features.kinds(params, stated["horizon"])
    of = {"numeric": ("numeric", "history"), "categorical": ("categorical",), "text": ("text",), "dates": ("date",)}
    signed = {name: [each for each, kind in kinds.items() if kind in those] for name, those in of.items()}
    found = candidates(load("training"), {"all": list(kinds), **signed, "wide": []}, stated)
    assert found, "no estimator; delete the function if there is none to add"
    for name, model in found.items():
        assert isinstance(model, BaseEstimator), name
        assert (is_classifier if decisions.is_class(stated) else is_regressor)(model), name
        assert not decisions.is_class(stated) or hasattr(model, "predict_proba"), name
        clone(model)
        with pytest.raises(NotFittedError):
            check_is_fitted(model)
