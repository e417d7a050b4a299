from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import Project
from matplotlib.figure import Figure
from pydantic import ValidationError

from ninefold import exploration, problem
from ninefold.core import gate, io
from ninefold.core.errors import DataError, GateFailed

LEVEL = 0.95
AGREED = {"split": {"validation": "2020-02-01", "holdout": "2020-02-20"}, "bootstrap": {"level": LEVEL}}


def params(**values: Any) -> exploration.Params:
    return exploration.Params(**{"min_rows": 20, "known_later": {}, **values})


def stated(project: Project) -> dict[str, Any]:
    return problem.statement(problem.Params(**project.params["problem"]))


def events(**columns: Any) -> pd.DataFrame:
    """Two months of 20 orders a day; the target is luck, except that large amounts come back more often."""
    random = np.random.default_rng(7)
    placed = pd.date_range("2020-01-01", "2020-02-29", freq="D").repeat(20)
    placed += pd.to_timedelta(np.tile(np.arange(20), 60), unit="h")
    amount = random.uniform(0, 100, len(placed)).round(2)
    frame = pd.DataFrame(
        {
            "id": np.arange(len(placed)),
            "placed": placed.astype("datetime64[us]"),
            "customer": random.choice(["ann", "bob", "eve"], len(placed)),
            "amount": amount,
            "returned": (random.uniform(0, 1, len(placed)) < 0.1 + amount / 250).astype("float64"),
        }
    )
    return frame.assign(**{name: make(frame) for name, make in columns.items()})


def lake(project: Project, frame: pd.DataFrame, table: str = "orders") -> None:
    io.write_table(frame, project.folder / f"data/lake/{table}/part.parquet")


def explore(project: Project, p: exploration.Params) -> dict[str, Any]:
    """Take the notebook's steps."""
    s, frame = stated(project), exploration.read(p, stated(project), AGREED)
    whole, weeks = exploration.overall(frame, LEVEL), exploration.by_week(frame, p, LEVEL)
    compared = exploration.compared(frame, p)
    ranked = exploration.gaps(frame, [*compared["ordered"], *compared["nominal"], *compared["related"]], p, LEVEL)
    missing = exploration.missing_effects(frame, p, LEVEL)
    scores = exploration.one_column_scores(frame, missing, p)
    found = exploration.findings(
        whole=whole, weeks=weeks, ranked=ranked, missing=missing, scores=scores, stated=s, level=LEVEL
    )
    checks = exploration.checks(frame, scores, p, s, AGREED)
    return {"frame": frame, "whole": whole, "weeks": weeks, "compared": compared, "ranked": ranked,
            "missing": missing, "scores": scores, "found": found, "checks": checks}  # fmt: skip


def failed(result: dict[str, Any]) -> list[gate.Check]:
    return [check for check in result["checks"] if not check.passed]


def days(*cells: tuple[int, int]) -> pd.DataFrame:
    """Make rows of a group from (events, rows) of one day after the other."""
    label = [[1] * ones + [0] * (rows - ones) for ones, rows in cells]
    day = np.repeat(pd.date_range("2020-01-01", periods=len(cells)), [rows for _, rows in cells])
    return pd.DataFrame({exploration.DAY: day, exploration.LABEL: np.concatenate(label)})


# Leaks.


def test_a_column_that_gives_the_outcome_away_is_named_and_fails_the_gate(project: Project, shown: list[Any]) -> None:
    lake(project, events(refund=lambda frame: 5 + frame["returned"]))
    result = explore(project, params())
    with pytest.raises(GateFailed, match=r"refund \(ROC AUC 1\.000.*exploration\.known_later"):
        gate.close("exploration", result["checks"], {}, "")
    assert "refund" in exploration.describe_scores(result["scores"])
    assert "refund" in exploration.verdict(result["whole"], result["scores"], stated(project))


def test_a_declared_leak_passes_and_is_handed_to_the_features(project: Project) -> None:
    lake(project, events(refund=lambda frame: 5 + frame["returned"]))
    p = params(known_later={"refund": "paid after the return"})
    result = explore(project, p)
    assert failed(result) == []
    exploration.save(result["found"], result["scores"], p)
    assert exploration.load()["known_later"] == ["refund"]
    assert exploration.load()["findings"] == result["found"]
    assert exploration.load()["one_column_auc"]["refund"] == 1.0
    assert exploration.strongest(result["scores"])["column"] == "amount"


@pytest.mark.parametrize(
    "leak",
    [
        lambda frame: frame["returned"].map({1.0: "came back", 0.0: "kept"}),
        lambda frame: np.where(frame["returned"] == 1, 50.0, frame["id"] % 2 * 100.0),
        lambda frame: pd.Timestamp("2021-01-01") - pd.to_timedelta(frame["returned"], unit="D"),
        lambda frame: -frame["returned"] - frame["amount"] / 1000,
        lambda frame: frame["returned"] == 1,
    ],
    ids=["text", "neither rising nor falling", "time", "falling", "yes or no"],
)
def test_a_leak_is_found_in_any_guise(project: Project, leak: Any) -> None:
    lake(project, events(leak=leak))
    assert [str(check.value).split(" ")[0] for check in failed(explore(project, params()))] == ["leak"]


def test_a_value_that_is_missing_only_without_the_event_is_a_leak(project: Project) -> None:
    frame = events()
    filled = (frame["returned"] == 1) & (frame["id"] % 3 == 0)
    lake(project, frame.assign(reason=np.where(filled, "too small", None)))
    (check,) = failed(explore(project, params(leak_auc=0.95)))
    assert str(check.value).startswith("reason")
    assert "missing gap -0." in str(check.value)


def test_a_few_missing_values_are_no_leak(project: Project) -> None:
    lake(project, events(note=lambda frame: frame["amount"].where(frame["id"] > 3)))
    result = explore(project, params())
    assert failed(result) == []
    assert result["missing"].empty


def test_luck_and_honest_predictors_pass(project: Project) -> None:
    lake(project, events(noise=lambda frame: np.random.default_rng(1).normal(size=len(frame))))
    result = explore(project, params())
    assert failed(result) == []
    assert set(result["scores"]["status"]) == {"in advance"}
    assert set(result["scores"]["column"]) == {"id", "placed", "customer", "amount", "noise", "weekday", "hour"}


def test_nothing_left_to_learn_from_is_said(project: Project) -> None:
    lake(project, events())
    every = dict.fromkeys(["id", "placed", "customer", "amount", "weekday", "hour"], "too late")
    with pytest.raises(DataError, match="known_later"):
        explore(project, params(known_later=every))


# The holdout.


def test_nothing_of_the_holdout_is_used(project: Project) -> None:
    frame, p = events(), params(by=["customer", "amount"])
    lake(project, frame)
    before = explore(project, p)
    closed = frame["placed"] >= "2020-02-20"
    changed = frame.assign(
        returned=frame["returned"].where(~closed, 1.0),
        amount=frame["amount"].where(~closed, 9999.0),
        customer=frame["customer"].where(~closed, "new"),
    )
    lake(project, changed)
    after = explore(project, p)
    assert before["found"] == after["found"]
    for name in ("frame", "weeks", "ranked", "missing", "scores"):
        pd.testing.assert_frame_equal(before[name], after[name])


def test_rows_without_an_outcome_are_left_out(project: Project) -> None:
    lake(project, events(returned=lambda frame: frame["returned"].where(frame["id"] % 2 == 0)))
    frame = exploration.read(params(), stated(project), AGREED)
    assert len(frame) == 50 * 10
    assert (frame["id"] % 2 == 0).all()
    assert "returned" not in frame


# Shares and intervals.


def test_days_that_are_all_alike_give_the_interval_of_rows() -> None:
    frame = days((5, 10), (5, 10), (5, 10), (5, 10))
    row = exploration.rates(frame, pd.Series("a", frame.index), LEVEL, 0).iloc[0]
    assert (row["rows"], row["days"], row["share"]) == (40, 4, 0.5)
    # Wilson at a half: t / 2 / sqrt(n + t²), with 40 rows and t = 3.1824 (3 degrees of freedom).
    assert [row["low"], row["high"]] == pytest.approx([0.5 - 0.22475, 0.5 + 0.22475], abs=1e-4)


def test_days_of_all_or_nothing_give_the_interval_of_as_many_days() -> None:
    frame = days((10, 10), (0, 10), (10, 10), (0, 10))
    row = exploration.rates(frame, pd.Series("a", frame.index), LEVEL, 0).iloc[0]
    # The variance of the day sums is 4 x 5² / 40² x 4/3 = 1/12, so that 40 rows count as 0.25 / (1/12) = 3.
    assert [row["low"], row["high"]] == pytest.approx([0.5 - 0.43916, 0.5 + 0.43916], abs=1e-4)


def test_a_share_of_zero_or_one_keeps_an_interval() -> None:
    frame = pd.concat([days((0, 10), (0, 10), (0, 10)).assign(group="a"), days((8, 8), (9, 9)).assign(group="b")])
    table = exploration.rates(frame.reset_index(drop=True), frame["group"].reset_index(drop=True), LEVEL, 0)
    assert table["share"].tolist() == [0, 1]
    assert table["low"].iloc[0] == pytest.approx(0)
    assert table["high"].iloc[0] > 0.3
    assert table["low"].iloc[1] < 0.7


def test_the_gap_of_two_groups_is_that_of_days() -> None:
    frame = pd.concat([days((8, 10), (6, 10)).assign(group="a"), days((2, 10), (4, 10)).assign(group="b")])
    (row,) = exploration.gaps(frame.reset_index(drop=True), ["group"], params(min_rows=10), LEVEL).to_dict("records")
    assert (row["highest"], row["lowest"]) == ("a", "b")
    assert row["gap"] == pytest.approx(0.7 - 0.3)
    # Day by day the two move against each other by 0.05 + 0.05; t = 12.706 with one degree of freedom.
    assert row["low"] == pytest.approx(max(0.4 - 12.7062 * np.sqrt(2 * 0.1**2 * 2), -1))


def test_a_gap_picked_among_many_groups_has_a_wider_interval() -> None:
    two = pd.concat([days(*[(6, 10), (8, 10)] * 9).assign(group="a"), days(*[(2, 10), (3, 10)] * 9).assign(group="b")])
    more = [days(*[(4, 10), (5, 10)] * 9).assign(group=name) for name in "cdef"]
    few, many = (pd.concat(frames, ignore_index=True) for frames in ([two], [two, *more]))
    narrow, wide = (exploration.gaps(frame, ["group"], params(), LEVEL).iloc[0] for frame in (few, many))
    assert narrow["gap"] == wide["gap"]
    assert wide["low"] < narrow["low"]


def test_small_groups_are_omitted(project: Project) -> None:
    frame = events()
    lake(project, frame.assign(customer=frame["customer"].where(frame["id"] >= 19, "rare")))
    p = params(by=["customer"])
    result = explore(project, p)
    table = exploration.shares(result["frame"], ["customer"], p, LEVEL)
    assert table["group"].tolist() == ["ann", "bob", "eve"]
    assert "1.9% of rows omitted" in exploration.describe_shares(table, result["frame"], p)
    assert "rare" not in {*result["ranked"]["highest"], *result["ranked"]["lowest"]}


def test_the_surest_gap_comes_first_and_is_told(project: Project) -> None:
    lake(project, events())
    result = explore(project, params(by=["customer", "hour", "amount"]))
    assert result["ranked"]["column"].iloc[0] == "amount"
    assert result["ranked"]["low"].is_monotonic_decreasing
    assert any(line.startswith("*amount*: ") for line in result["found"])


# Groups.


def test_a_value_that_fills_a_bin_gets_its_own() -> None:
    values = pd.Series([0.0] * 60 + list(np.linspace(-5, -1, 20)) + list(np.linspace(1, 9, 40)) + [np.nan])
    groups = exploration.groups(values, 4)
    assert "0" in groups.cat.categories
    assert set(values[groups == "0"]) == {0.0}
    assert groups.isna().sum() == 1
    bounds = values.groupby(groups, observed=True).agg(["min", "max"])
    assert bounds["min"].is_monotonic_increasing
    assert (bounds["max"].to_numpy()[:-1] < bounds["min"].to_numpy()[1:]).all()


def test_bins_hold_about_equally_many_rows() -> None:
    counts = exploration.groups(pd.Series(np.arange(1000.0)), 5).value_counts()
    assert counts.between(198, 202).all()


def test_bins_too_close_for_four_digits_keep_their_names_apart() -> None:
    assert exploration.groups(pd.Series(1e9 + np.arange(100)), 5).nunique() == 5


def test_weekday_and_hour_are_those_of_the_local_clock(project: Project) -> None:
    lake(project, events())
    frame = exploration.read(params(timezone="America/New_York"), stated(project), AGREED)
    first = frame.iloc[0]  # midnight in UTC on Wednesday, 1 January
    assert (first["weekday"], first["hour"], str(first[exploration.DAY].date())) == ("Tue", 19, "2019-12-31")


def test_the_tables_own_column_comes_before_the_clock(project: Project) -> None:
    lake(project, events(hour=lambda frame: 99))
    assert set(exploration.read(params(), stated(project), AGREED)["hour"]) == {99}


# Related tables.


def test_related_columns_are_joined_and_compared(project: Project) -> None:
    lake(project, events())
    lake(project, pd.DataFrame({"customer": ["ann", "bob"], "age": [30, 40], "city": ["x", "y"]}), "customers")
    result = explore(project, params(related={"customers": {"key": ["customer"], "columns": ["age"]}}))
    assert len(result["frame"]) == 50 * 20
    assert result["compared"]["related"] == ["customers.age"]
    assert result["frame"].loc[result["frame"]["customer"] == "bob", "customers.age"].eq(40).all()
    assert result["missing"]["column"].tolist() == ["customers.age"]
    assert "city" not in " ".join(result["frame"])


def test_a_related_table_with_two_rows_for_a_key_is_refused(project: Project) -> None:
    lake(project, events())
    lake(project, pd.DataFrame({"customer": ["ann", "ann"], "age": [30, 40]}), "customers")
    with pytest.raises(DataError, match=r"customers: has several rows.*exploration\.related\.customers\.key"):
        explore(project, params(related={"customers": {"key": ["customer"], "columns": ["age"]}}))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"by": ["colour"]}, r"exploration\.by: lacks colour"),
        ({"known_later": {"refnd": "typo"}}, r"exploration\.known_later: lacks refnd"),
        ({"related": {"orders": {"key": ["colour"], "columns": ["id"]}}}, r"related\.orders\.key: lacks colour"),
        ({"related": {"shops": {"key": ["id"], "columns": ["size"]}}}, "data/lake/shops: not found"),
    ],
)
def test_a_name_that_the_lake_does_not_know_is_refused(project: Project, values: dict[str, Any], named: str) -> None:
    lake(project, events())
    with pytest.raises(DataError, match=named):
        exploration.read(params(**values), stated(project), AGREED)


@pytest.mark.parametrize(
    "values",
    [{"timezone": "Mars/Base"}, {"timezone": ""}, {"leak_auc": 0.4}, {"byy": []}, {"bins": 1}, {"min_rows": 0}],
)
def test_wrong_params_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        exploration.Params(**values)


# Figures.


@pytest.mark.parametrize(
    "values", [{}, {"by": ["customer"]}, {"min_rows": 10_000}], ids=["defaults", "text", "too few"]
)
def test_every_figure_is_drawn_and_told_even_with_nothing_to_compare(project: Project, values: dict[str, Any]) -> None:
    lake(project, events())
    p = params(**values)
    result = explore(project, p)
    frame, whole, weeks = result["frame"], result["whole"], result["weeks"]
    ordered, nominal = (
        exploration.shares(frame, result["compared"][kind], p, LEVEL) for kind in ("ordered", "nominal")
    )
    figures = [
        exploration.plot_weeks(weeks, whole, AGREED),
        exploration.plot_clock(frame, p),
        exploration.plot_ordered(ordered, whole, "Ordered?"),
        exploration.plot_nominal(nominal, whole, "Nominal?"),
        exploration.plot_gaps(result["ranked"]),
        exploration.plot_scores(result["scores"], p),
    ]
    told = [
        exploration.describe_weeks(weeks, whole),
        exploration.describe_clock(frame, p),
        exploration.describe_shares(ordered, frame, p),
        exploration.describe_gaps(result["ranked"], LEVEL),
        exploration.describe_missing(result["missing"], LEVEL),
        *exploration.headline(whole, result["scores"]).values(),
    ]
    assert all(isinstance(figure, Figure) for figure in figures)
    assert all(told)
    for figure in figures:
        figure.draw_without_rendering()
    plt.close("all")
