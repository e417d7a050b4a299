from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn import datasets
from sklearn.metrics import roc_auc_score

from ninefold import gate, metrics
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.exploration import figures, group_rates, univariate
from ninefold.exploration import stage as exploration
from ninefold.metrics.plan import EvaluationPlan
from ninefold.params import parse
from ninefold.problem import Params as ProblemParams
from ninefold.problem import Problem

LEVEL = 0.95
SUCCESS = {"scores": {}, "min_payoff_gain": 0, "confidence": 0.9}


def planned(split: dict[str, Any] | metrics.Split) -> EvaluationPlan:
    bootstrap = {"replicates": 20, "level": LEVEL, "seed": 1}
    primary = {"name": "log_loss", "better": "lower"}
    return EvaluationPlan(primary=primary, thresholds=SUCCESS, split=split, bootstrap=bootstrap)


PLAN = planned({"by": "time", "validation": "2020-02-01", "holdout": "2020-02-20"})
YES_NO = statement()


def params(**values: Any) -> exploration.Params:
    return exploration.Params(**{"min_rows": 20, "known_later": {}, **values})


def problem(project: Project) -> Problem:
    return Problem.of(ProblemParams(**project.params["problem"]))


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
    project.lake(table, frame)


def explore(project: Project, p: exploration.Params) -> dict[str, Any]:
    """Take the notebook's steps on the shop's orders."""
    return steps(p, problem(project), PLAN)


def steps(p: exploration.Params, s: Problem, plan: EvaluationPlan) -> dict[str, Any]:
    frame = exploration.read(p, s, plan)
    whole, along = exploration.overall(frame, s, LEVEL), exploration.course(frame, p, s, LEVEL)
    compared = exploration.compared(frame, p, s, LEVEL)
    ranked = exploration.gaps(frame, [*compared["ordered"], *compared["nominal"]], p, s, LEVEL)
    missing = exploration.missing_effects(frame, p, s, LEVEL)
    scores = exploration.univariate_scores(frame, missing, p, s)
    found = figures.findings(whole, along, ranked, missing, scores, s, LEVEL)
    checks = exploration.checks(frame, scores, p, s, plan)
    return {"frame": frame, "whole": whole, "along": along, "compared": compared, "ranked": ranked,
            "missing": missing, "scores": scores, "found": found, "checks": checks}  # fmt: skip


def failed(result: dict[str, Any]) -> list[gate.Check]:
    return [check for check in result["checks"] if not check.passed]


def days(*cells: tuple[int, int]) -> pd.DataFrame:
    """Make rows of a group from (events, rows) of one day after the other."""
    label = [[1.0] * ones + [0.0] * (rows - ones) for ones, rows in cells]
    day = np.repeat(np.arange(len(cells)), [rows for _, rows in cells])
    return pd.DataFrame({group_rates.CLUSTER: day, group_rates.LABEL: np.concatenate(label)})


# Leaks.


def test_a_column_that_gives_the_outcome_away_is_named_and_fails_the_gate(project: Project, shown: list[Any]) -> None:
    lake(project, events(refund=lambda frame: 5 + frame["returned"]))
    result = explore(project, params())
    with pytest.raises(
        GateFailed,
        match=r"(?s)refund \(ROC AUC 1\.000.*exploration\.known_later and take it out of .*features.*exploration\.justified",
    ):
        gate.close("exploration", result["checks"], {}, "")
    assert "refund" in figures.describe_scores(result["scores"], problem(project))
    assert "refund" in figures.conclusion(result["whole"], result["scores"], problem(project))


def test_a_declared_leak_passes_and_is_handed_to_the_features(project: Project) -> None:
    lake(project, events(refund=lambda frame: 5 + frame["returned"]))
    p = params(known_later={"refund": "paid after the return"})
    result = explore(project, p)
    assert failed(result) == []
    exploration.save(result["found"], result["scores"], p)
    assert exploration.load()["known_later"] == ["refund"]
    assert exploration.load()["findings"] == result["found"]
    assert exploration.load()["univariate_score"]["refund"] == 1.0
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
    (check,) = failed(explore(project, params(leak_score=0.95)))
    assert str(check.value).startswith("reason")
    assert "where it is missing the share of events changes by -0." in str(check.value)


def test_a_few_missing_values_are_no_leak(project: Project) -> None:
    lake(project, events(note=lambda frame: frame["amount"].where(frame["id"] > 3)))
    result = explore(project, params())
    assert failed(result) == []
    assert result["missing"].empty


def test_luck_and_honest_predictors_pass(project: Project) -> None:
    lake(project, events(noise=lambda frame: np.random.default_rng(1).normal(size=len(frame))))
    result = explore(project, params())
    assert failed(result) == []
    assert set(result["scores"]["status"]) == {"in advance", "identifier"}
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
    for name in ("frame", "along", "ranked", "missing", "scores"):
        pd.testing.assert_frame_equal(before[name], after[name])


def test_rows_without_an_outcome_are_left_out(project: Project) -> None:
    lake(project, events(returned=lambda frame: frame["returned"].where(frame["id"] % 2 == 0)))
    frame = exploration.read(params(), problem(project), PLAN)
    assert len(frame) == 50 * 10
    assert (frame["id"] % 2 == 0).all()
    assert "returned" not in frame


# Shares and intervals.


def test_days_that_are_all_alike_give_the_interval_of_rows() -> None:
    frame = days((5, 10), (5, 10), (5, 10), (5, 10))
    row = group_rates.rates(frame, pd.Series("a", frame.index), YES_NO, LEVEL, 0).iloc[0]
    assert (row["rows"], row["clusters"], row["mean"]) == (40, 4, 0.5)
    # Wilson at a half: t / 2 / sqrt(n + t²), with 40 rows and t = 3.1824 (3 degrees of freedom).
    assert [row["low"], row["high"]] == pytest.approx([0.5 - 0.22475, 0.5 + 0.22475], abs=1e-4)


def test_days_of_all_or_nothing_give_the_interval_of_as_many_days() -> None:
    frame = days((10, 10), (0, 10), (10, 10), (0, 10))
    row = group_rates.rates(frame, pd.Series("a", frame.index), YES_NO, LEVEL, 0).iloc[0]
    # The variance of the day sums is 4 x 5² / 40² x 4/3 = 1/12, so that 40 rows count as 0.25 / (1/12) = 3.
    assert [row["low"], row["high"]] == pytest.approx([0.5 - 0.43916, 0.5 + 0.43916], abs=1e-4)


def test_a_share_of_zero_or_one_keeps_an_interval() -> None:
    frame = pd.concat([days((0, 10), (0, 10), (0, 10)).assign(group="a"), days((8, 8), (9, 9)).assign(group="b")])
    table = group_rates.rates(frame.reset_index(drop=True), frame["group"].reset_index(drop=True), YES_NO, LEVEL, 0)
    assert table["mean"].tolist() == [0, 1]
    assert table["low"].iloc[0] == pytest.approx(0)
    assert table["high"].iloc[0] > 0.3
    assert table["low"].iloc[1] < 0.7


def test_the_gap_of_two_groups_is_that_of_days() -> None:
    frame = pd.concat([days((8, 10), (6, 10)).assign(group="a"), days((2, 10), (4, 10)).assign(group="b")])
    (row,) = exploration.gaps(frame.reset_index(drop=True), ["group"], params(min_rows=10), YES_NO, LEVEL).to_dict(
        "records"
    )
    assert (row["highest"], row["lowest"]) == ("a", "b")
    assert row["gap"] == pytest.approx(0.7 - 0.3)
    # Day by day the two move against each other by 0.05 + 0.05; t = 12.706 with one degree of freedom.
    assert row["low"] == pytest.approx(max(0.4 - 12.7062 * np.sqrt(2 * 0.1**2 * 2), -1))


def test_a_gap_picked_among_many_groups_has_a_wider_interval() -> None:
    two = pd.concat([days(*[(6, 10), (8, 10)] * 9).assign(group="a"), days(*[(2, 10), (3, 10)] * 9).assign(group="b")])
    more = [days(*[(4, 10), (5, 10)] * 9).assign(group=name) for name in "cdef"]
    few, many = (pd.concat(frames, ignore_index=True) for frames in ([two], [two, *more]))
    narrow, wide = (exploration.gaps(frame, ["group"], params(), YES_NO, LEVEL).iloc[0] for frame in (few, many))
    assert narrow["gap"] == wide["gap"]
    assert wide["low"] < narrow["low"]


def test_small_groups_are_omitted(project: Project) -> None:
    frame = events()
    lake(project, frame.assign(customer=frame["customer"].where(frame["id"] >= 19, "rare")))
    p = params(by=["customer"])
    result = explore(project, p)
    table = exploration.by_group(result["frame"], ["customer"], p, problem(project), LEVEL)
    assert table["group"].tolist() == ["ann", "bob", "eve"]
    assert "1.9% of rows omitted" in figures.describe_groups(table, result["frame"], p, problem(project))
    assert "rare" not in {*result["ranked"]["highest"], *result["ranked"]["lowest"]}


def test_the_most_significant_gap_comes_first_and_is_told(project: Project) -> None:
    lake(project, events())
    result = explore(project, params(by=["customer", "hour", "amount"]))
    assert result["ranked"]["column"].iloc[0] == "amount"
    assert result["ranked"]["low"].is_monotonic_decreasing
    assert any(line.startswith("`amount`: ") for line in result["found"])


# Groups.


def test_a_value_that_fills_a_bin_gets_its_own() -> None:
    values = pd.Series([0.0] * 60 + list(np.linspace(-5, -1, 20)) + list(np.linspace(1, 9, 40)) + [np.nan])
    groups = group_rates.groups(values, 4)
    assert "0" in groups.cat.categories
    assert set(values[groups == "0"]) == {0.0}
    assert groups.isna().sum() == 1
    bounds = values.groupby(groups, observed=True).agg(["min", "max"])
    assert bounds["min"].is_monotonic_increasing
    assert (bounds["max"].to_numpy()[:-1] < bounds["min"].to_numpy()[1:]).all()


def test_bins_hold_about_equally_many_rows() -> None:
    counts = group_rates.groups(pd.Series(np.arange(1000.0)), 5).value_counts()
    assert counts.between(198, 202).all()


def test_bins_too_close_for_four_digits_keep_their_names_apart() -> None:
    assert group_rates.groups(pd.Series(1e9 + np.arange(100)), 5).nunique() == 5


def test_weekday_and_hour_are_those_of_the_local_clock(project: Project) -> None:
    lake(project, events())
    frame = exploration.read(params(timezone="America/New_York"), problem(project), PLAN)
    first = frame.iloc[0]  # midnight in UTC on Wednesday, 1 January
    assert (first["weekday"], first["hour"], str(first[exploration.CLOCK].date())) == ("Tue", 19, "2019-12-31")


def test_the_tables_own_column_comes_before_the_clock(project: Project) -> None:
    lake(project, events(hour=lambda frame: 99))
    assert set(exploration.read(params(), problem(project), PLAN)["hour"]) == {99}


# Related tables.


def test_related_columns_are_joined_and_compared(project: Project) -> None:
    lake(project, events())
    lake(project, pd.DataFrame({"customer": ["ann", "bob"], "age": [30, 40], "city": ["x", "y"]}), "customers")
    result = explore(project, params(related={"customers": {"key": ["customer"], "columns": ["age"]}}))
    assert len(result["frame"]) == 50 * 20
    assert "customers.age" in result["compared"]["ordered"]
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
        ({"justified": {"refnd": "typo"}}, r"exploration\.justified: lacks refnd"),
        ({"related": {"orders": {"key": ["colour"], "columns": ["id"]}}}, r"related\.orders\.key: lacks colour"),
        ({"related": {"shops": {"key": ["id"], "columns": ["size"]}}}, "data/lake/shops: not found"),
    ],
)
def test_a_name_that_the_lake_does_not_know_is_refused(project: Project, values: Problem, named: str) -> None:
    lake(project, events())
    with pytest.raises(DataError, match=named):
        exploration.read(params(**values), problem(project), PLAN)


@pytest.mark.parametrize(
    "values",
    [
        {"timezone": "Mars/Base"},
        {"timezone": ""},
        {"leak_score": 1.2},
        {"leak_gap": 0},
        {"justified": {"refund": ""}},
        {"justified": ["refund"]},
        {"byy": []},
        {"bins": 1},
        {"min_rows": 0},
    ],
)
def test_wrong_params_are_refused(values: Problem) -> None:
    with pytest.raises(ValidationError):
        exploration.Params(**values)


def test_guessing_is_no_limit(project: Project) -> None:
    lake(project, events())
    with pytest.raises(ParamsError, match=r"exploration\.leak_score: found 0\.4"):
        explore(project, params(leak_score=0.4))


# Any task, with and without time.

PETALS = ["petal length (cm)", "petal width (cm)"]


def stating(task: str, classes: list[str] | None = None, **keys: Any) -> Problem:
    """State a problem on the table ``t`` whose target is ``y`` and whose key is ``id``."""
    own = {"table": "t", "key": ["id"], "time": None, "group": None, "target": "y", "classes": classes}
    own |= {"unit": "case", "units": "cases", "positive": "happens" if classes else None}
    return statement(task).changed(**own, **{"focus": classes[-1] if classes else None, **keys})


def agreeing(s: Problem) -> EvaluationPlan:
    values = {"primary": "log_loss", "split": {"validation": 0.15, "holdout": 0.2}, "bootstrap": PLAN.bootstrap}
    return planned(metrics.split(metrics.labelled(s, []), metrics.Params.model_validate(values), s))


def go(project: Project, table: pd.DataFrame, s: Problem, **values: Any) -> dict[str, Any]:
    """Write the lake and take the notebook's steps, as `ninefold init` would set them."""
    lake(project, table, "t")
    return steps(exploration.Params(**values), s, agreeing(s))


def suspicious(result: dict[str, Any]) -> list[str]:
    return sorted(result["scores"].loc[result["scores"]["status"] == "suspicious", "column"])


def cases(task: str, rows: int = 600, seed: int = 3) -> tuple[pd.DataFrame, Problem]:
    """Make a table whose outcome hangs on ``x`` and on luck, and state its problem."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    table = pd.DataFrame({"id": random.permutation(rows) + 1000, "x": x, "kind": random.choice(list("abcd"), rows)})
    table["code"] = [f"{value:08x}" for value in random.integers(0, 2**32, rows)]
    classes = {"binary": ["no", "yes"], "multiclass": ["low", "$mid|", "high"], "regression": None}[task]
    position = np.clip(np.round(x + random.normal(size=rows) * 0.7 + 1), 0, 1 if task == "binary" else 2).astype(int)
    table["y"] = np.array(classes)[position] if classes else 1000 * np.exp(x + random.normal(size=rows) * 0.3)
    return table, stating(task, classes)


@pytest.mark.parametrize(
    ("load", "task"),
    [
        (datasets.load_breast_cancer, "binary"),
        (datasets.load_iris, "multiclass"),
        (datasets.load_wine, "multiclass"),
        (datasets.load_diabetes, "regression"),
    ],
)
def test_honest_columns_of_real_tables_are_no_leak_by_default(project: Project, load: Any, task: str) -> None:
    bunch = load(as_frame=True)
    table = bunch.frame.drop(columns="target").assign(y=bunch.target, id=range(len(bunch.target)))
    classes = sorted(table["y"].unique().astype(str)) if task != "regression" else None
    result = go(project, table, stating(task, classes))
    assert failed(result) == []
    assert len(result["ranked"]) >= len(PETALS)
    for column in PETALS if load is datasets.load_iris else []:
        assert result["scores"].set_index("column")["score"][column] > 0.95


@pytest.mark.parametrize("rows", [160, 3000])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_planted_leaks_are_all_named_and_nothing_else(project: Project, task: str, rows: int) -> None:
    table, s = cases(task, rows)
    random, y = np.random.default_rng(1), table["y"]
    if task == "regression":
        late = {
            "copy": y, "text": y.map("{:.3f}".format), "linear": 5 - 3 * y, "monotone": np.log(y), "rounded": y.round(),
            "half": y.where(random.uniform(size=rows) < 0.5), "gaps": np.where(y > y.median(), 1.0, np.nan),
        }  # fmt: skip
    else:
        code = pd.Series(pd.factorize(y)[0])
        part = random.integers(0, rows // 20, rows)
        late = {
            "copy": y, "other labels": code.map({0: "p", 1: "q", 2: "r"}), "numbers": code.map({0: 5, 1: 1, 2: 3}),
            "noisy": code + random.uniform(0, 0.9, rows), "many": code.astype(str) + "-" + part.astype(str).astype(object),
            "codes": random.permutation(5000)[code * 1500 + part],
            "times": pd.Timestamp("2021-01-01") + pd.to_timedelta(code * 9 + random.uniform(0, 5, rows), unit="D"),
        }  # fmt: skip
    result = go(project, table.assign(**late), s)
    assert suspicious(result) == sorted(late)
    with pytest.raises(GateFailed, match=r"many|monotone"):
        gate.close("exploration", result["checks"], {}, "")
    told = figures.describe_scores(result["scores"], s)
    assert all(name in told for name in late)


def test_numbers_of_rows_are_no_leak_even_in_a_sorted_table(project: Project) -> None:
    table, s = cases("multiclass", 3000)
    table = table.sort_values("y", ignore_index=True).assign(id=np.arange(3000), line=np.arange(3000) + 7)
    result = go(project, table, s)
    status = result["scores"].set_index("column")["status"]
    assert (status["id"], status["line"], status["code"]) == ("identifier", "identifier", "in advance")
    assert suspicious(result) == []
    assert "sorted" in figures.describe_course(result["along"], result["whole"], s, LEVEL)


def test_a_mark_of_one_class_of_several_is_a_leak_and_a_range_is_not(project: Project) -> None:
    table, s = cases("multiclass", 3000)
    high = table["y"] == "high"
    random = np.random.default_rng(1)
    mark, size = np.where(high, "sent back", "open"), np.where(high, 10, 0) + random.uniform(0, 1, 3000)
    result = go(project, table.assign(mark=mark, size=size), s)
    assert suspicious(result) == ["mark"]
    assert "ROC AUC 1.000 for class high" in str(failed(result)[0].value)


def test_a_gap_that_marks_a_class_out_of_focus_is_a_leak(project: Project) -> None:
    table, s = cases("multiclass", 3000)
    result = go(project, table.assign(reason=np.where(table["y"] == "low", "damaged", None)), s)
    assert suspicious(result) == ["reason"]
    assert 'share of "low" changes by -1.00' in str(failed(result)[0].value)


def test_luck_in_a_small_table_is_no_leak(project: Project) -> None:
    table, s = cases("binary", 120)
    random = np.random.default_rng(5)
    noise = {f"noise {number}": random.normal(size=120) for number in range(60)}
    rare = {f"rare {number}": np.where(random.uniform(size=120) < 0.05, 1.0, np.nan) for number in range(20)}
    assert failed(go(project, table.assign(**noise, **rare), s)) == []


def test_what_is_truly_known_passes_when_it_is_justified(project: Project) -> None:
    table, s = cases("binary")
    table = table.assign(copy=table["y"], other=table["y"])
    assert suspicious(go(project, table, s, justified={"copy": "plan before the order"})) == ["other"]
    assert failed(go(project, table, s, justified=dict.fromkeys(["copy", "other"], "plan before the order"))) == []


def test_a_justified_column_is_repeated_with_evidence_and_reason(project: Project) -> None:
    lake(project, events(refund=lambda frame: 5 + frame["returned"]))
    p, s = params(justified={"refund": "paid in advance", "amount": "on the bill"}), problem(project)
    result = explore(project, p)
    (check, *_) = result["checks"]
    assert check.passed
    assert "refund: paid in advance" in str(check.value)
    told = figures.describe_scores(result["scores"], s)
    assert "`refund` (`ROC AUC 1.000`): `paid in advance`" in told
    assert "`amount` (`not suspicious at all`): `on the bill`" in told
    assert told in result["found"]
    assert "justified: refund, paid in advance" in figures.conclusion(result["whole"], result["scores"], s)
    assert exploration.strongest(result["scores"])["column"] == "refund"
    table = exploration.decided(result["scores"])
    assert table.to_dict("list") == {
        "column": ["refund", "amount"], "evidence": ["ROC AUC 1.000", "nothing"], "decision": ["keep", "keep"],
        "reason": ["paid in advance", "on the bill"],
    }  # fmt: skip
    assert [bar.get_label() for bar in figures.plot_scores(result["scores"], p, s).axes[0].containers][1] == "justified"
    exploration.save(result["found"], result["scores"], p)
    assert exploration.load()["justified"] == {"refund": "paid in advance", "amount": "on the bill"}


def test_a_column_cannot_be_dropped_and_kept() -> None:
    with pytest.raises(ValidationError, match="not both; take refund out of known_later or of justified"):
        params(known_later={"refund": "paid later"}, justified={"refund": "paid in advance", "amount": "billed"})


def test_the_gate_gives_lines_to_paste_whatever_a_column_is_called(project: Project) -> None:
    table, s = cases("binary")
    names = ["a.b", "no", "x: y", "12", "refund"]
    result = go(project, table.assign(**dict.fromkeys(names, table["y"])), s)
    (check,) = failed(result)
    pasted = [parse(line.strip()) for line in check.limit.splitlines()[1:]]
    assert pasted[0] == {"known_later": dict.fromkeys(names, "WHY IT IS KNOWN TOO LATE")}
    assert pasted[1] == {"justified": dict.fromkeys(names, "WHY IT IS KNOWN WHEN DECIDING")}
    assert failed(go(project, table.assign(**dict.fromkeys(names, table["y"])), s, **pasted[1])) == []
    assert exploration.decided(result["scores"])["decision"].tolist() == ["open"] * 5


def test_when_only_leaks_are_left_the_gate_still_names_them(project: Project) -> None:
    table, s = cases("binary")
    result = go(project, table[["id", "y"]].assign(copy=table["y"]), s)
    assert suspicious(result) == ["copy"]
    assert "copy may leak it" in figures.conclusion(result["whole"], result["scores"], s)


def test_the_mean_of_a_quantity_has_students_interval_of_block_means(project: Project) -> None:
    frame = pd.DataFrame({group_rates.CLUSTER: [0, 0, 1, 1, 2, 2], group_rates.LABEL: [1.0, 3, 4, 6, 7, 9]})
    row = group_rates.rates(frame, pd.Series("a", frame.index), stating("regression"), LEVEL, 0).iloc[0]
    # Blocks of equal size have the means 2, 5 and 8: 5 ± t(2) x 3 / sqrt(3), with t = 4.3027.
    assert [row["mean"], row["low"], row["high"]] == pytest.approx([5, 5 - 7.4524, 5 + 7.4524], abs=1e-3)


def test_many_blocks_are_thrown_into_random_groups_with_about_the_same_interval() -> None:
    random = np.random.default_rng(2)
    label = (random.uniform(size=20_000) < 0.3).astype("float64")
    frame = pd.DataFrame({group_rates.CLUSTER: random.permutation(20_000), group_rates.LABEL: label})
    row = group_rates.rates(frame, pd.Series("a", frame.index), YES_NO, LEVEL, 0).iloc[0]
    assert row["clusters"] == group_rates.MOST_CLUSTERS
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 20_000), rel=0.15)


def test_thousands_of_groups_keep_the_largest() -> None:
    frame = pd.DataFrame({group_rates.CLUSTER: np.arange(30_000), group_rates.LABEL: np.arange(30_000) % 2.0})
    sums, sizes = group_rates.cells(frame, pd.Series(np.arange(30_000) % 5000).astype(str), 1)
    assert sizes.shape == (group_rates.MOST_CLUSTERS, group_rates.MOST_GROUPS)
    assert (sizes.sum() == 6).all()
    assert sums.shape == sizes.shape


def test_a_gap_of_groups_without_spread_still_has_an_interval() -> None:
    frame = pd.concat([days(*[(1, 1)] * 12).assign(group="a"), days(*[(0, 1)] * 12).assign(group="b")])
    frame[group_rates.CLUSTER] = np.arange(24)
    (row,) = exploration.gaps(frame.reset_index(drop=True), ["group"], params(min_rows=5), YES_NO, LEVEL).to_dict(
        "records"
    )
    assert (row["gap"], row["high"]) == (1, 1)
    assert 0.5 < row["low"] < 0.8


def test_every_class_is_listed_and_the_focus_is_described(project: Project) -> None:
    table, s = cases("multiclass")
    s = s.changed(focus="low")
    frame = go(project, table, s)["frame"]
    shown = exploration.outcomes(frame, s, LEVEL)
    assert set(shown["class"]) == set(s.classes)
    assert shown["share"].sum() == pytest.approx(1)
    assert exploration.overall(frame, s, LEVEL)["mean"] == shown.set_index("class")["share"]["low"]


@pytest.mark.parametrize(
    ("times", "period", "scales"),
    [
        (pd.date_range("2020-01-01", periods=2400, freq="h"), "week", ("weekday", "hour")),
        (pd.date_range("2020-01-01", periods=800, freq="D").repeat(3), "week", ("weekday", "month")),
        (pd.date_range("2000-01-01", periods=120, freq="MS").repeat(20), "month", ("year", "month")),
        (pd.date_range("2000-01-31", periods=120, freq="ME").repeat(20), "month", ("year", "month")),
        (pd.date_range("1990-01-01", periods=30, freq="YS").repeat(80), "year", None),
        (pd.date_range("2020-01-01", periods=12, freq="D").repeat(200), "day", None),
    ],
    ids=["hours", "days", "months", "ends of months", "years", "twelve days"],
)
def test_periods_and_scales_follow_what_the_times_tell(times: Any, period: str, scales: Any, project: Project) -> None:
    table, s = cases("binary", 2400)
    table = table.assign(when=times.astype("datetime64[us]"), kind="a")
    lake(project, table, "t")
    s, closed = s.changed(time="when"), {"by": "time", "validation": "2090-01-01", "holdout": "2100-01-01"}
    p = exploration.Params(min_rows=10, timezone="America/New_York")
    frame = exploration.read(p, s, planned(closed))
    along = exploration.course(frame, p, s, LEVEL)
    assert set(along["period"]) == {period}
    ranked = exploration.gaps(frame, ["x"], p, s, LEVEL)
    grid = exploration.cross(frame, ranked, p, s)
    assert (grid.index.name, grid.columns.name) == scales if scales else grid.empty or grid.index.name != "weekday"
    assert ("hour" in frame) == (times.hour != 0).any()


def test_a_date_without_hours_is_the_same_day_everywhere(project: Project) -> None:
    table, s = cases("binary", 100)
    table["when"] = pd.date_range("2020-01-01", periods=100, freq="D").astype("datetime64[us]")
    lake(project, table, "t")
    closed = {"by": "time", "validation": "2090-01-01", "holdout": "2100-01-01"}
    frame = exploration.read(params(timezone="America/New_York"), s.changed(time="when"), planned(closed))
    assert frame[exploration.CLOCK].min() == pd.Timestamp("2020-01-01")
    assert "hour" not in frame


# Figures, sentences, and names of any kind.


def drawn(result: dict[str, Any], p: exploration.Params, s: Problem, plan: EvaluationPlan) -> list[str]:
    """Draw every figure and return every sentence."""
    frame, whole, along, ranked = (result[name] for name in ("frame", "whole", "along", "ranked"))
    shown, grid = exploration.outcomes(frame, s, LEVEL), exploration.cross(frame, ranked, p, s)
    ordered, nominal = (
        exploration.by_group(frame, result["compared"][kind], p, s, LEVEL) for kind in ("ordered", "nominal")
    )
    pictures = [
        figures.plot_outcomes(frame, shown, whole, s),
        figures.plot_course(along, whole, s, plan),
        figures.plot_ordered(ordered, whole, "Ordered?", s),
        figures.plot_nominal(nominal, whole, "Nominal?", s),
        figures.plot_gaps(ranked, s),
        figures.plot_cross(grid, s, p),
        figures.plot_scores(result["scores"], p, s),
    ]
    assert all(isinstance(picture, Figure) for picture in pictures)
    for picture in pictures:
        picture.draw_without_rendering()
    plt.close("all")
    return [
        figures.describe_rows(frame, s, plan),
        figures.describe_overall(whole, s, LEVEL),
        figures.describe_outcomes(shown, s),
        figures.describe_course(along, whole, s, LEVEL),
        figures.describe_groups(ordered, frame, p, s),
        figures.describe_groups(nominal, frame, p, s),
        figures.describe_gaps(ranked, s, LEVEL),
        figures.describe_cross(grid, frame, p, s),
        figures.describe_missing(result["missing"], s, LEVEL),
        figures.describe_scores(result["scores"], s),
        *result["found"],
    ]


@pytest.mark.parametrize(
    "values", [{}, {"by": ["customer"]}, {"min_rows": 10_000}], ids=["defaults", "text", "too few"]
)
def test_every_figure_is_drawn_and_told_even_with_nothing_to_compare(project: Project, values: Problem) -> None:
    lake(project, events())
    p = params(**values)
    result = explore(project, p)
    assert all(drawn(result, p, problem(project), PLAN))
    assert all(figures.headline(result["whole"], result["scores"], problem(project)).values())


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_columns_of_any_name_and_content_are_drawn_and_told(project: Project, task: str) -> None:
    table, s = cases(task, 300)
    random = np.random.default_rng(4)
    x = table["x"].to_numpy()
    odd = {
        "a.b": x, "class": random.choice(["$a$", "b|c", "*d*", "`e`", "<i>"], 300), "Größe (cm)": 1e9 + x, "x|y": x > 0,
        "$price $": random.lognormal(8, 2, 300), "_id*": [f"$k{number}$" for number in range(300)],
        "empty": np.nan, "no text": pd.Series([None] * 300, dtype="str"), "one": 1, "huge": x * 1e300,
        "sometimes": np.where(random.uniform(size=300) < 0.9, np.nan, x), "季節": random.choice(["春", "夏"], 300),
        "endless": np.where(random.uniform(size=300) < 0.3, np.inf, x), "maybe": [True, None, False] * 100,
        "old": pd.Timestamp("1700-01-01") + pd.to_timedelta(random.integers(0, 99999, 300), unit="D"),
        "lines\nof": ["a\nb", "c\td", ""] * 100, "@home": x, "free": ["lorem ipsum $ dolor " * 9 + str(v) for v in x],
    }  # fmt: skip
    table = table.assign(**odd)
    s = s.changed(target="tar$get")
    result = go(project, table.rename(columns={"y": "tar$get"}), s)
    assert failed(result) == []
    assert "@home" in set(result["scores"]["column"])
    told = " ".join(drawn(result, exploration.Params(), s, agreeing(s)))
    assert "$" not in told
    p = exploration.Params(by=list(odd), min_rows=2)
    assert all(drawn(steps(p, s, agreeing(s)), p, s, agreeing(s)))


def test_ranking_by_groups_is_that_of_rows() -> None:
    random = np.random.default_rng(6)
    hits, misses = random.integers(0, 9, 30), random.integers(0, 9, 30)
    share = random.integers(0, 12, 30) / 12
    rows = np.concatenate([np.repeat(share, hits), np.repeat(share, misses)])
    target = np.repeat([1, 0], [hits.sum(), misses.sum()])
    assert univariate.roc(hits, misses, share).auc == pytest.approx(roc_auc_score(target, rows))
