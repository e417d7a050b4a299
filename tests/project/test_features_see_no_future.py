"""Stage 06 on the newest rows of the source: no feature uses what is not known when the decision is made."""

from collections.abc import Iterator

import ibis.expr.types as ir
import pandas as pd
import pytest

from ninefold import engine, features, testing
from ninefold.errors import DataError
from ninefold.params import load
from ninefold.problem import Problem

ROWS = 20_000
KINDS = ("numeric", "categorical", "text", "dates")


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem.of(load("problem"))


@pytest.fixture(scope="module")
def params(problem: Problem) -> features.Params:
    return features.declared(load("features"), problem)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory, problem: Problem, params: features.Params) -> Iterator[ir.Table]:
    """Return the events as `features.build` makes them, after writing their feature table to a copy of the project."""
    try:
        rows = testing.read_rows(ROWS)
    except (DataError, OSError) as error:
        pytest.skip(f"the source cannot be read on this machine: {error}")
    with testing.lake(tmp_path_factory.mktemp("features"), rows):
        tables = features.read(engine.connect(), problem)
        events = features.build(tables, params, problem)
        features.update(tables, events, params, problem)
        yield events


@pytest.fixture(scope="module")
def table(events: ir.Table) -> ir.Table:
    return engine.read(events.get_backend(), features.FEATURES)


@pytest.fixture(scope="module")
def rows(table: ir.Table) -> pd.DataFrame:
    return features.sample()


def only(params: features.Params, name: str) -> features.Params:
    """Return the params with one feature, and no history."""
    kinds = {kind: [each for each in getattr(params, kind) if each == name] for kind in KINDS}
    return params.model_copy(update={**kinds, "history": []})


def test_no_feature_is_a_column_that_is_known_later(params: features.Params) -> None:
    later = {"known_later": list(load("exploration").known_later)}
    assert features.known_too_late(params, later) == []


@pytest.mark.parametrize("share", [1.0, 0.8, 0.6])
def test_no_value_changes_when_the_future_is_removed(
    share: float, events: ir.Table, table: ir.Table, rows: pd.DataFrame, params: features.Params, problem: Problem
) -> None:
    """The future of a moment: all later rows, and the outcomes that are not known by then. Three moments per share."""
    earlier = rows.head(int(len(rows) * share))
    if changed := features.PointInTime(events, table, params, problem).future_difference(earlier):
        names = [name for kind in KINDS for name in getattr(params, kind)]
        proofs = {one: features.PointInTime(events, table, only(params, one), problem) for one in names}
        leaks = [one for one, proof in proofs.items() if proof.future_difference(earlier)]
        pytest.fail(f"{changed} values change, of {', '.join(leaks) or 'history'}: not known at prediction time", False)


def test_values_of_the_online_store_equal_those_of_training(
    events: ir.Table, table: ir.Table, rows: pd.DataFrame, params: features.Params, problem: Problem
) -> None:
    assert features.PointInTime(events, table, params, problem).online_difference(rows) <= 1e-9
