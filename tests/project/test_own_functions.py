"""The functions in ``src/project`` do what the stages expect of them, on rows of the source.

A function that does not exist has a default, and its test is skipped.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from ibis.expr.types import Table
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ninefold import engine, features, hooks, processing, testing
from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.params import load
from ninefold.problem import Problem


def own(module: str, function: str) -> Callable[..., Any]:
    """Return a function of the project, or skip the test."""
    own_function = hooks.project(module, function, lambda *_: None)
    if own_function.__module__ != f"project.{module}":
        pytest.skip(f"src/project/{module}.py has no function {function}; the default applies")
    return own_function


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem.of(load("problem"))


@pytest.fixture(scope="module")
def raw() -> dict[str, pd.DataFrame]:
    """Return the newest rows of the raw tables, as text."""
    try:
        return testing.read_rows()
    except (DataError, OSError) as error:
        pytest.skip(f"the source cannot be read on this machine: {error}")


@pytest.fixture(scope="module")
def tables(raw: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory, problem: Problem) -> Iterator[Any]:
    """Return these rows as the tables of a lake: typed, without those that break their contract."""
    with testing.lake(tmp_path_factory.mktemp("lake"), raw):
        yield features.read(engine.connect(), problem)


def test_read_returns_the_tables_as_text(raw: dict[str, pd.DataFrame]) -> None:
    own("collection", "read")
    for name, table in load("collection").tables.items():
        assert len(raw[name]), f"{name} has no rows"
        assert table.time is None or table.time in raw[name], f"{name} has no column {table.time}"
        kinds = {column: pd.api.types.infer_dtype(raw[name][column], skipna=True) for column in raw[name]}
        assert {column: kind for column, kind in kinds.items() if kind not in ("string", "empty")} == {}


def test_refine_keeps_every_row_and_makes_what_the_contract_names(raw: dict[str, pd.DataFrame]) -> None:
    own("processing", "refine")
    params, connection = load("processing"), engine.connect()
    typed = {name: engine.table(connection, raw[name].astype("str"), period="all") for name in params.tables}
    refined = processing.convert(typed, params)
    for name, contract in params.tables.items():
        rows = sorted(refined[name].select(engine.ROW).to_pandas()[engine.ROW])
        assert rows == list(range(len(raw[name]))), f"{len(raw[name])} rows of {name} went in, {len(rows)} came out"
        for column, baseline in contract.columns.items():
            dtype = refined[name].schema()[column]
            is_kind = {"int64": dtype.is_integer, "float64": dtype.is_numeric, "timestamp": dtype.is_timestamp}
            assert is_kind.get(baseline.type, dtype.is_string)(), f"{name}.{column} is {dtype}, not {baseline.type}"


def test_rows_of_the_source_keep_their_contract(tables: dict[str, Table]) -> None:
    for name, table in tables.items():
        assert table.count().execute() > 0, f"every row of {name} breaks its contract"


def test_define_returns_declarations_that_fit_the_params(problem: Problem) -> None:
    more = own("features", "define")(problem)
    params = load("features")
    both = features.declared(params, problem)
    assert len(both.joins) + len(both.history) == len(params.joins) + len(params.history) + len(more)


def test_build_returns_every_row_once(tables: dict[str, Table], problem: Problem) -> None:
    build, key = own("features", "build"), problem.key
    joined = features.join_related(tables, features.declared(load("features"), problem), problem)
    built = build({**tables, problem.table: joined}, problem)
    before, after = (table.select(*key).to_pandas().sort_values(key, ignore_index=True) for table in (joined, built))
    assert len(after) == len(before), f"{len(before)} rows went in, {len(after)} came out"
    pd.testing.assert_frame_equal(after, before)


def test_build_keeps_key_time_and_target_and_makes_every_feature(tables: dict[str, Table], problem: Problem) -> None:
    own("features", "build")
    params = features.declared(load("features"), problem)
    built = features.build(tables, params, problem)
    kept = [*problem.key, problem.time, *(problem.group or []), problem.target]
    made = [*params.numeric, *params.categorical, *params.text, *params.dates]
    assert [name for name in [*kept, *made] if name and name not in built.columns] == []


def test_candidates_are_unfitted_estimators_of_the_right_kind(problem: Problem) -> None:
    candidates = own("training", "candidates")
    kinds = features.kinds(features.declared(load("features"), problem), problem.horizon)
    schema = FeatureSchema.of({"name": name, "kind": kind} for name, kind in kinds.items())
    estimators = candidates(load("training"), schema, problem)
    assert estimators, "no estimator; delete the function if there is none to add"
    for name, model in estimators.items():
        assert isinstance(model, BaseEstimator), name
        assert (is_classifier if problem.is_class else is_regressor)(model), name
        assert not problem.is_class or hasattr(model, "predict_proba"), name
        clone(model)
        with pytest.raises(NotFittedError):
            check_is_fitted(model)
